//! The order of waiting runs, and the charges to each budget.

use super::*;
use crate::ledger::BudgetShare;
use crate::run::{GlobalLimits, Lineage};

fn id(n: u8) -> RunId {
    RunId::from_bytes([0, 0, 0, 0, n])
}

fn now() -> Timestamp {
    "2026-11-23T15:00:00Z".parse().expect("time")
}

fn application(n: u8, lineage: Lineage, request: RequestIdentity) -> AdmissionRequest {
    let rules =
        GlobalLimits { slots: 1, queue: 9, tree_runs: 9, starts_per_minute: 9, server_usd: None, day_usd: None };
    let (requested, allowed) = (Cap::default(), Cap::default());
    AdmissionRequest {
        id: id(n),
        lineage,
        requested_cap: requested,
        max_cap: allowed,
        global_limits: rules,
        share: None,
        server: "s".to_owned(),
        identity: request,
    }
}

fn request(content: &str, key: Option<&str>, client: Option<&str>) -> RequestIdentity {
    RequestIdentity {
        request_hash: content.to_owned(),
        content_hash: content.to_owned(),
        key_hash: key.map(str::to_owned),
        client: client.map(str::to_owned),
    }
}

fn ledger(runs: &[(u8, Option<u8>, u64, Phase)]) -> LedgerState {
    let mut ledger = LedgerState::default();
    for (n, parent, dollars, phase) in runs {
        let lineage = match parent {
            Some(parent) => Lineage { parent: Some(id(*parent)), root: id(1), depth: 1 },
            None => Lineage::new_root(&id(*n)),
        };
        let cap = Cap { usd: Some(Usd(*dollars)), tokens: None };
        ledger.add_run(&application(*n, lineage, request("x", None, None)), cap, *phase, now());
    }
    ledger
}

fn spent(usd: u64) -> Spend {
    Spend { usd: Usd(usd), ..Spend::default() }
}

#[test]
fn slots_are_given_in_order_of_arrival() {
    let mut ledger = ledger(&[(1, None, 0, Phase::Live), (2, None, 0, Phase::Waiting), (3, None, 0, Phase::Waiting)]);
    assert_eq!(
        (ledger.try_claim_slot(&id(2), 1), ledger.try_claim_slot(&id(3), 1)),
        (SlotClaim::Waiting { ahead: 0 }, SlotClaim::Waiting { ahead: 1 })
    );
    assert_eq!(
        ledger.try_claim_slot(&id(3), 2),
        SlotClaim::Waiting { ahead: 1 },
        "one slot is free, and another comes first"
    );
    ledger.settle(&id(1), spent(0));
    assert_eq!(
        (ledger.try_claim_slot(&id(3), 1), ledger.try_claim_slot(&id(2), 1)),
        (SlotClaim::Waiting { ahead: 1 }, SlotClaim::Claimed)
    );
    assert_eq!(ledger.queue_position(&id(3)), Some((0, 1)));
}

#[test]
fn a_nested_run_takes_no_slot_and_uses_its_parents_budget() {
    let ledger = ledger(&[(1, None, 100, Phase::Live), (2, Some(1), 30, Phase::Live), (3, Some(1), 20, Phase::Over)]);
    assert_eq!((ledger.live_root_count(), ledger.live_descendant_count(&id(1))), (1, 1));
    // 30 are reserved for the live child, which has spent 5 of them; nothing is reserved for the other.
    let spent_so_far = |run: &RunId| if *run == id(1) { spent(20) } else { spent(5) };
    assert_eq!(ledger.parent_charge(&id(1), &spent_so_far).usd, Usd(20 + 30));
    assert_eq!(ledger.day_charge(now(), &spent_so_far), Usd(100), "the tree's root stands for all of it");
}

#[test]
fn unspent_amounts_are_returned() {
    let mut ledger = ledger(&[(1, None, 100, Phase::Live), (2, Some(1), 30, Phase::Live)]);
    let no_spend = |_: &RunId| Spend::default();
    ledger.settle(&id(2), spent(4));
    assert_eq!(ledger.parent_charge(&id(1), &no_spend).usd, Usd(4));
    ledger.settle(&id(1), spent(3));
    ledger.settle_finished_trees(now());
    assert_eq!((ledger.day_charge(now(), &no_spend), ledger.server_charge("s", &no_spend)), (Usd(7), Usd(7)));
    let tomorrow: Timestamp = "2026-11-24T15:00:00Z".parse().expect("time");
    assert_eq!(ledger.day_charge(tomorrow, &no_spend), Usd(0));
}

#[test]
fn live_descendants_of_a_stopped_run_are_charged_to_its_ancestors() {
    let mut ledger = LedgerState::default();
    let lineage = |parent: u8, depth| Lineage { parent: Some(id(parent)), root: id(1), depth };
    let all = [(1, Lineage::new_root(&id(1)), 100), (2, lineage(1, 1), 50), (3, lineage(2, 2), 25)];
    for (n, lineage, dollars) in all {
        let cap = Cap { usd: Some(Usd(dollars)), tokens: None };
        ledger.add_run(&application(n, lineage, request("x", None, None)), cap, Phase::Live, now());
    }
    ledger.settle(&id(2), spent(4));
    let spent_so_far = |_: &RunId| spent(1);
    assert_eq!(ledger.parent_charge(&id(1), &spent_so_far).usd, Usd(1 + 4 + 25));
    ledger.settle(&id(1), spent(1));
    ledger.settle_finished_trees(now());
    assert_eq!(ledger.day_charge(now(), &spent_so_far), Usd(1 + 4 + 25), "the tree is open while anything of it lives");
    ledger.settle(&id(3), spent(20));
    ledger.settle_finished_trees(now());
    assert_eq!((ledger.day_charge(now(), &spent_so_far), ledger.server_charge("s", &spent_so_far)), (Usd(25), Usd(25)));
}

#[test]
fn a_repeated_request_returns_the_same_run_for_a_minute_and_with_a_key_always() {
    let mut ledger = LedgerState::default();
    let identity = request("q", None, Some("c"));
    ledger.add_run(&application(1, Lineage::new_root(&id(1)), identity.clone()), Cap::default(), Phase::Live, now());
    let duplicate_of = |ledger: &mut LedgerState, identity: &RequestIdentity, at| {
        ledger.find_duplicate(identity, at, |_| true, |_| true)
    };
    assert_eq!(duplicate_of(&mut ledger, &identity, now()).expect("known"), Some(id(1)));
    assert_eq!(ledger.find_duplicate(&identity, now(), |_| true, |_| false).expect("it is over"), None);
    let other = request("q", None, Some("d"));
    assert_eq!(duplicate_of(&mut ledger, &other, now()).expect("another client"), None);
    let later: Timestamp = "2026-11-23T15:01:01Z".parse().expect("time");
    assert_eq!(duplicate_of(&mut ledger, &identity, later).expect("too late"), None);

    let with_key = request("q", Some("k"), None);
    ledger.add_run(&application(2, Lineage::new_root(&id(2)), with_key.clone()), Cap::default(), Phase::Live, now());
    ledger.settle(&id(2), spent(0));
    assert_eq!(duplicate_of(&mut ledger, &with_key, later).expect("for ever"), Some(id(2)));
    assert!(matches!(duplicate_of(&mut ledger, &request("r", Some("k"), None), later), Err(LedgerError::KeyReused(_))));
    assert_eq!(
        ledger.find_duplicate(&with_key, later, |_| false, |_| false).expect("its run was forgotten, or never began"),
        None
    );
}

#[test]
fn starts_are_limited_per_minute() {
    let two = [(1, None, 0, Phase::Live), (2, None, 0, Phase::Live)];
    let (mut ledger, mut other) = (ledger(&two), ledger(&two));
    let minute = Duration::from_secs(60);
    let soon: Timestamp = "2026-11-23T15:00:20Z".parse().expect("time");
    assert_eq!(ledger.start_delay(soon, minute, 3), None);
    assert_eq!(ledger.start_delay(soon, minute, 2), Some(Duration::from_secs(40)));
    assert_eq!(ledger.start_delay(soon, minute, 1), Some(Duration::from_secs(40)));
    let yesterday: Timestamp = "2026-11-22T15:00:00Z".parse().expect("time");
    assert_eq!(other.start_delay(yesterday, minute, 2), None, "somebody has set the clock back");
    let later: Timestamp = "2026-11-23T15:01:00Z".parse().expect("time");
    assert_eq!(ledger.start_delay(later, minute, 2), None);
}

fn ended() -> RunState {
    use crate::run::{Ending, Exit, Moment, Outcome};
    RunState::Ended(Ending {
        outcome: Outcome::Succeeded,
        exit: Exit::Code(0),
        ended_at: Moment { wall: now(), boot_ms: 0, boot_id: String::new() },
        duration: Duration::ZERO,
        answer: None,
        stop: None,
        warnings: Vec::new(),
    })
}

fn record(n: u8, parent: Option<u8>, state: &RunState, usd: u64) -> RunRecord {
    use crate::run::{ConfigChoice, Origin, RunSpec};
    let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
    let mut spec = RunSpec::new(id(n), "q", config, "/p".into(), "/m".into());
    spec.origin = Origin {
        server: "s".to_owned(),
        client: "c".to_owned(),
        project: "/p".into(),
        request_hash: "a".to_owned(),
        key_hash: Some(format!("k{n}")),
        experiment: None,
    };
    spec.allowance.cap.usd = Some(Usd(50));
    if let Some(parent) = parent {
        spec.lineage = Lineage { parent: Some(id(parent)), root: id(parent), depth: 1 };
    }
    RunRecord { state: state.clone(), spent: spent(usd), ..crate::registry::initial_record(spec) }
}

#[test]
fn the_state_is_rebuilt_from_the_records() {
    let live = RunState::Starting { leader: None };
    let records = [record(1, None, &ended(), 7), record(2, None, &live, 1), record(3, Some(2), &ended(), 60)];
    let mut ledger = LedgerState::from_records(&records);
    let spent_so_far = |_: &RunId| spent(1);
    assert_eq!(ledger.day_charge(now(), &spent_so_far), Usd(7 + 1 + 60));
    assert_eq!(ledger.server_charge("s", &spent_so_far), Usd(7 + 1 + 60));
    let again = request("a", Some("k1"), None);
    assert_eq!(ledger.find_duplicate(&again, now(), |_| true, |_| false).expect("known"), Some(id(1)));
    assert_eq!(ledger.find_duplicate(&again, now(), |_| false, |_| false).expect("the run never ran"), None);
}

fn of_experiment(n: u8) -> AdmissionRequest {
    let budget = Cap { usd: Some(Usd(1_000)), tokens: None };
    let share = BudgetShare { experiment: "e".to_owned(), budget, divisor: 1, expected_usd: None };
    AdmissionRequest { share: Some(share), ..application(n, Lineage::new_root(&id(n)), request("x", None, None)) }
}

#[test]
fn an_experiment_is_charged_for_live_runs_and_for_past_spend() {
    let mut ledger = LedgerState::default();
    let cap = |usd| Cap { usd: Some(Usd(usd)), tokens: None };
    ledger.add_run(&of_experiment(1), cap(100), Phase::Live, now());
    ledger.add_run(&of_experiment(2), cap(100), Phase::Live, now());
    let lineage = Lineage { parent: Some(id(1)), root: id(1), depth: 1 };
    ledger.add_run(&application(3, lineage, request("x", None, None)), cap(50), Phase::Live, now());
    assert_eq!(ledger.experiment_charge("e", &|_| spent(0)).usd, Usd(200), "what live ones may spend");
    ledger.settle(&id(3), spent(20));
    ledger.settle(&id(1), spent(10));
    ledger.settle_finished_trees(now());
    assert_eq!(ledger.experiment_charge("e", &|_| spent(0)).usd, Usd(130), "with what was spent below");
    assert_eq!(ledger.experiment_charge("other", &|_| spent(0)).usd, Usd(0));
    let again = LedgerState::from_json(&ledger.to_json().expect("encoded")).expect("own book");
    assert_eq!(again.experiment_charge("e", &|_| spent(0)).usd, Usd(130));
}

#[test]
fn the_daily_summary_has_ended_and_live_runs() {
    let unpriced = |tokens| Spend { tokens, is_unpriced: true, ..Spend::default() };
    let mut ledger = ledger(&[(1, None, 100, Phase::Live), (2, None, 30, Phase::Waiting), (3, None, 20, Phase::Live)]);
    ledger.settle(&id(1), Spend { tokens: 7, ..spent(10) });
    ledger.settle_finished_trees(now());
    let again = LedgerState::from_json(&ledger.to_json().expect("encoded")).expect("own book");
    let summary = again.today(now(), &|_| Spend { tokens: 1, ..spent(2) }, &|_| true);
    let total = Spend { usd: Usd(14), tokens: 9, is_unpriced: false };
    let expected = DailySummary { day: "2026-11-23".to_owned(), runs: 3, live: 2, spent: total };
    assert_eq!(summary, expected, "what was spent, and not what may be");
    ledger.settle(&id(3), unpriced(5));
    ledger.settle_finished_trees(now());
    let summary = ledger.today(now(), &|_| Spend::default(), &|run| *run != id(2));
    assert_eq!(
        (summary.runs, summary.live, summary.spent),
        (3, 0, Spend { tokens: 12, is_unpriced: true, ..spent(10) })
    );
    let tomorrow = "2026-11-24T00:00:00Z".parse().expect("time");
    let summary = ledger.today(tomorrow, &|_| Spend::default(), &|_| true);
    assert_eq!((summary.runs, summary.live, summary.spent), (1, 1, Spend::default()));
}

#[test]
fn an_older_ledger_keeps_its_daily_dollars() {
    let old = r#"{"version":1,"next_ticket":0,"entries":[],"starts":[],"days":{"2026-11-23":5},"servers":[],"requests":[],"keys":{}}"#;
    let ledger = LedgerState::from_json(old.as_bytes()).expect("a book");
    assert_eq!(ledger.today(now(), &|_| Spend::default(), &|_| true).spent, spent(5));
}

#[test]
fn a_run_is_a_descendant_of_all_its_ancestors() {
    let mut ledger = ledger(&[(1, None, 0, Phase::Live), (2, Some(1), 0, Phase::Over), (4, None, 0, Phase::Live)]);
    let lineage = Lineage { parent: Some(id(2)), root: id(1), depth: 2 };
    ledger.add_run(&application(3, lineage, request("x", None, None)), Cap::default(), Phase::Live, now());
    let is_below = |run, ancestor| ledger.is_descendant(&id(run), &id(ancestor));
    assert!(is_below(2, 1) && is_below(3, 2) && is_below(3, 1));
    assert!(!is_below(1, 1) && !is_below(1, 2) && !is_below(4, 1) && !is_below(9, 1));
}

#[test]
fn a_rebuilt_ledger_knows_which_runs_wait() {
    let starting = RunState::Starting { leader: None };
    let states = [(1, RunState::Queued), (2, starting.clone()), (3, starting)];
    let ledger = LedgerState::from_records(&states.map(|(n, state)| record(n, None, &state, 0)));
    assert_eq!((ledger.waiting_count(), ledger.live_root_count()), (1, 2));
}

#[test]
fn each_waiting_run_has_its_own_position() {
    let ledger = ledger(&[
        (1, None, 0, Phase::Live),
        (2, None, 0, Phase::Waiting),
        (3, None, 0, Phase::Waiting),
        (4, None, 0, Phase::Waiting),
    ]);
    let positions = [1, 2, 3, 4].map(|n| ledger.queue_position(&id(n)));
    assert_eq!(positions, [None, Some((0, 3)), Some((1, 3)), Some((2, 3))]);
    assert_eq!(LedgerState::default().waiting_count(), 0);
}

#[test]
fn only_unfinished_runs_below_the_root_count_as_its_descendants() {
    let ledger = ledger(&[
        (1, None, 0, Phase::Live),
        (2, Some(1), 0, Phase::Live),
        (3, Some(1), 0, Phase::Waiting),
        (4, Some(1), 0, Phase::Over),
        (5, None, 0, Phase::Live),
    ]);
    assert_eq!([1, 2, 5].map(|root| ledger.live_descendant_count(&id(root))), [2, 0, 0]);
}

#[test]
fn without_a_limit_of_slots_every_run_gets_one() {
    let mut ledger = ledger(&[(1, None, 0, Phase::Live), (2, None, 0, Phase::Waiting), (3, None, 0, Phase::Waiting)]);
    assert_eq!(ledger.try_claim_slot(&id(3), 0), SlotClaim::Claimed);
    assert_eq!((ledger.live_root_count(), ledger.waiting_count()), (2, 1));
}

/// The file is written only after a change, because each write wakes its watchers.
#[test]
fn only_a_change_marks_the_ledger_for_writing() {
    let read_again = |ledger: &LedgerState| LedgerState::from_json(&ledger.to_json().expect("encoded")).expect("own");
    let mut ledger = read_again(&ledger(&[(1, None, 9, Phase::Live), (2, None, 9, Phase::Waiting)]));
    ledger.settle_finished_trees(now());
    assert!(!ledger.is_changed, "every tree has a run that is not over");
    assert_eq!(ledger.try_claim_slot(&id(2), 1), SlotClaim::Waiting { ahead: 0 });
    ledger.settle(&id(9), spent(1));
    assert!(!ledger.is_changed, "the run waits on, and the other is unknown");

    ledger.settle(&id(1), spent(1));
    assert!(ledger.is_changed, "a run is over");
    let mut ledger = read_again(&ledger);
    ledger.settle(&id(1), spent(2));
    assert!(!ledger.is_changed, "its spend was recorded before");
    ledger.settle_finished_trees(now());
    assert!(ledger.is_changed, "its tree is dropped");
    let mut ledger = read_again(&ledger);
    assert_eq!(ledger.try_claim_slot(&id(2), 1), SlotClaim::Claimed);
    assert!(ledger.is_changed, "a run has left the queue");
}

#[test]
fn above_their_limit_request_keys_of_forgotten_runs_are_dropped() {
    let keyed = |n: usize| {
        let [high, low] = u16::try_from(n).expect("small").to_be_bytes();
        (format!("k{n}"), RunId::from_bytes([0, 0, 0, high, low]))
    };
    let forgotten = keyed(0).1;
    let mut ledger = LedgerState::default();
    let mut dropped_after = |count: usize| {
        for (key, run) in (0..count).map(keyed) {
            ledger.keys.insert(key, KeyedRequest { asked: String::new(), run: run.to_string() });
        }
        let request = request("x", None, None);
        let found = ledger.find_duplicate(&request, now(), |run| *run != forgotten, |_| true);
        assert_eq!(found.expect("no key"), None);
        (ledger.run_for_key("k0").is_none(), ledger.keys.len())
    };
    assert_eq!(dropped_after(MAX_KEYS), (false, MAX_KEYS));
    assert_eq!(dropped_after(MAX_KEYS + 1), (true, MAX_KEYS));
}

#[test]
fn the_oldest_day_is_dropped_for_a_ninth() {
    let noon = |day: usize| format!("2026-11-{day:02}T12:00:00Z").parse::<Timestamp>().expect("time");
    let nothing = |_: &RunId| Spend::default();
    let mut ledger = LedgerState::default();
    for day in 1..=MAX_DAYS {
        ledger.add_to_day(noon(day), spent(5));
    }
    let totals = |ledger: &LedgerState, day| {
        let today = ledger.today(noon(day), &nothing, &|_| true);
        (today.runs, today.spent.usd)
    };
    assert_eq!((totals(&ledger, 1), totals(&ledger, MAX_DAYS)), ((1, Usd(5)), (1, Usd(5))), "eight days are kept");
    ledger.add_to_day(noon(MAX_DAYS + 1), spent(5));
    assert_eq!((totals(&ledger, 1), totals(&ledger, 2)), ((0, Usd(0)), (1, Usd(5))), "the second is the oldest now");
    assert_eq!((ledger.days.len(), ledger.day_counts.len()), (MAX_DAYS, MAX_DAYS));
}

#[test]
fn each_experiment_has_its_own_total() {
    let total = |usd, tokens| Spend { usd: Usd(usd), tokens, is_unpriced: false };
    let mut ledger = LedgerState::default();
    for (experiment, spent) in [("e", total(1, 10)), ("f", total(2, 20)), ("e", total(4, 40))] {
        ledger.add_to_experiment(Some(experiment), spent);
    }
    ledger.add_to_experiment(None, total(8, 80));
    let charges = ["e", "f", "g"].map(|experiment| ledger.experiment_charge(experiment, &|_| Spend::default()));
    assert_eq!(charges, [total(5, 50), total(2, 20), total(0, 0)]);
}

#[test]
fn a_key_identifies_the_run_that_it_started() {
    let mut ledger = LedgerState::default();
    let keyed = application(2, Lineage::new_root(&id(2)), request("q", Some("k"), None));
    ledger.add_run(&keyed, Cap::default(), Phase::Live, now());
    assert_eq!((ledger.run_for_key("k"), ledger.run_for_key("other")), (Some(id(2)), None));
}

#[test]
fn the_format_version_is_written_and_read() {
    let mut newer = serde_json::to_value(LedgerState::default()).expect("encoded");
    assert_eq!(newer["version"], FORMAT_VERSION);
    newer["version"] = (FORMAT_VERSION + 1).into();
    let read = LedgerState::from_json(newer.to_string().as_bytes()).expect("the same fields");
    assert_eq!(read.version(), FORMAT_VERSION + 1);
}
