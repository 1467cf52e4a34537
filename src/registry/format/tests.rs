//! Every state reads back as itself, and the fixtures of every version stay readable.

use super::*;
use crate::experiment::{Arm, CloseReason, ExperimentPlan, ExperimentProgress, PlannedRun};
use crate::run::{
    ActivityEvidence, Allowance, AnswerBasis, AnswerSource, AnswerSummary, Cap, Continuation, Ending, Exit, Force,
    GlobalLimits, Lineage, ModelPrice, Moment, NextStep, Origin, Outcome, Problem, ProcessIdentity, QuietPeriod, Retry,
    Step, StopReport, Survivor, Unpriced, Usd, Warning,
};

fn plain() -> RunSpec {
    let id = "mg-00000000".parse().expect("id");
    RunSpec::new(id, "q", ConfigChoice::Rehearsal("@rehearsal".to_owned()), "/p".into(), "/b".into())
}

fn spec() -> RunSpec {
    RunSpec {
        created: "2026-11-23T15:00:00Z".parse().expect("time"),
        question: "What is 6*7?\n".to_owned(),
        config: ConfigChoice::File("/project/two.yaml".into()),
        group: Some("trial".to_owned()),
        timeout: Duration::from_millis(1_500),
        mode: Mode::Quick,
        context: Context::Read,
        project: "/project".into(),
        program: "/venv/bin/massgen".into(),
        overrides: Some(serde_json::json!({"ui": null})),
        allowance: Allowance {
            cap: Cap { usd: Some(Usd(5)), tokens: Some(9) },
            unpriced: Unpriced::Estimate,
            prices: [("m".to_owned(), ModelPrice { input: Usd(1), output: Usd(2) })].into(),
            slots: 10,
            depth: 2,
            tree_runs: 8,
        },
        lineage: Lineage {
            parent: Some("mg-00000001".parse().expect("id")),
            root: "mg-00000002".parse().expect("id"),
            depth: 2,
        },
        continuation: Some(Continuation { run: "mg-00000003".parse().expect("id"), turn: 2 }),
        basis: Some(AnswerBasis {
            run: "mg-00000004".parse().expect("id"),
            answer: Some("agent2.1".to_owned()),
            agent: "b".to_owned(),
        }),
        config_hash: "ab".to_owned(),
        ..plain()
    }
}

fn moment() -> Moment {
    Moment { wall: "2026-11-23T15:00:01Z".parse().expect("time"), boot_ms: 7, boot_id: "b".to_owned() }
}

fn process_identity() -> ProcessIdentity {
    ProcessIdentity { pid: 42, start_ticks: 4_242, boot_id: "b".to_owned() }
}

fn problem() -> Problem {
    Problem::new("crashed", "m", "h")
}

fn known_problem() -> Problem {
    Problem { retry: Some(Retry::Later), provider: Some("openai".to_owned()), ..problem() }
}

fn quiet() -> QuietPeriod {
    let evidence = ActivityEvidence {
        processes: 3,
        cpu_percent: 1,
        leader_state: Some('S'),
        connections: vec!["192.0.2.1:443".to_owned()],
        tools: vec!["a: t".to_owned()],
        runs: 1,
        last_event: Some("tool_start".to_owned()),
        last_error: Some("e".to_owned()),
    };
    QuietPeriod { since: moment(), sampled_at: moment(), evidence }
}

fn ending(outcome: Outcome, exit: Exit) -> RunState {
    let survivors = vec![Survivor { pid: 9, name: "sleep".to_owned() }];
    let stop = Some(Box::new(StopReport {
        duration: Duration::from_millis(250),
        force: Force::Kill,
        processes: 7,
        survivors,
    }));
    let answer = AnswerSummary { agent: "a".to_owned(), chars: 12, source: AnswerSource::Partial };
    let took = Duration::from_secs(3);
    let warnings =
        vec![Warning { code: "w".to_owned(), message: "m".to_owned(), next: Step::ReadErrorsOfTools.into() }];
    RunState::Ended(Ending { outcome, exit, ended_at: moment(), duration: took, answer: Some(answer), stop, warnings })
}

fn states() -> Vec<RunState> {
    let requested = StopCause::Requested { reason: Some("enough".to_owned()) };
    let killed = Outcome::Killed { reason: Some("enough".to_owned()), problem: Some(Box::new(problem())) };
    vec![
        RunState::Queued,
        RunState::Starting { leader: None },
        RunState::Starting { leader: Some(process_identity()) },
        RunState::Running { leader: process_identity() },
        RunState::Stopping { leader: process_identity(), cause: requested },
        RunState::Stopping { leader: process_identity(), cause: StopCause::Deadline },
        RunState::Stopping { leader: process_identity(), cause: StopCause::Budget },
        ending(Outcome::Succeeded, Exit::Code(0)),
        ending(Outcome::Failed(problem()), Exit::NeverStarted),
        ending(Outcome::Failed(known_problem()), Exit::Code(0)),
        ending(Outcome::TimedOut { ours: true, problem: None }, Exit::Signal(15)),
        ending(Outcome::TimedOut { ours: false, problem: Some(Box::new(problem())) }, Exit::Code(0)),
        ending(Outcome::OverBudget, Exit::Signal(9)),
        ending(killed, Exit::Signal(9)),
        ending(Outcome::Lost, Exit::Unknown),
    ]
}

fn record(state: RunState) -> RunRecord {
    let agent = AgentDigest {
        id: "a".to_owned(),
        state: AgentState::Voted,
        label: Some("agent1.1".to_owned()),
        ..AgentDigest::default()
    };
    let digest =
        Digest { agents: vec![agent], finish_reason: Some(Finish::Timeout), tokens: Some(3), ..Digest::default() };
    RunRecord {
        spec: spec(),
        version: VERSION,
        seq: 5,
        state,
        digest: Some(digest),
        started: Some(moment()),
        log_dir: Some("logs/log_1".into()),
        spent: Spend { usd: Usd(1_250_000), tokens: 77, is_unpriced: true },
        spent_by_descendants: Spend { usd: Usd(3), tokens: 1, is_unpriced: false },
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        quiet: Some(quiet()),
    }
}

#[test]
fn a_spec_reads_back_as_itself() {
    let rehearsal = RunSpec {
        config: ConfigChoice::Rehearsal("@rehearsal".to_owned()),
        group: None,
        pass_env: vec!["CORP_*".to_owned()],
        env_file: Some("/project/.env".into()),
        origin: Origin {
            server: "s".to_owned(),
            client: "c".to_owned(),
            project: "/project".into(),
            request_hash: "a".to_owned(),
            key_hash: Some("k".to_owned()),
            experiment: Some("ex-1".to_owned()),
        },
        ..spec()
    };
    for spec in [spec(), rehearsal] {
        assert_eq!(spec_from_json(&spec_to_json(&spec).expect("encoded")).expect("reads"), spec);
    }
}

#[test]
fn every_state_reads_back_as_itself() {
    for state in states() {
        let record = record(state);
        assert_eq!(run_from_json(spec(), &run_to_json(&record).expect("encoded")).expect("reads"), record);
    }
}

#[test]
fn the_fixtures_of_version_1_stay_readable() {
    let spec = spec_from_json(include_bytes!("../../../tests/data/records/v1/spec.json")).expect("spec");
    let run = run_from_json(spec, include_bytes!("../../../tests/data/records/v1/run.json")).expect("run");
    // An older version wrote it, without budgets and warnings.
    let mut known = record(ending(Outcome::Failed(problem()), Exit::Code(1)));
    if let RunState::Ended(ending) = &mut known.state {
        ending.warnings.clear();
    }
    let (allowance, lineage) = (Allowance::default(), Lineage::new_root(&known.spec.id));
    let spec = RunSpec {
        overrides: None,
        allowance,
        lineage,
        continuation: None,
        basis: None,
        config_hash: String::new(),
        ..known.spec
    };
    let nothing = Spend::default();
    assert_eq!(run, RunRecord { spec, spent: nothing, spent_by_descendants: nothing, quiet: None, ..known });
    let stop = stop_from_json(include_bytes!("../../../tests/data/records/v1/stop.json"));
    assert_eq!(stop, StopRequest { grace: Duration::from_secs(5), reason: Some("enough".to_owned()), tree: false });
}

#[test]
fn a_stop_request_file_has_the_limits_of_a_tool_call() {
    let excessive = format!(r#"{{"version": 1, "grace_s": 1e19, "reason": "{}"}}"#, "x".repeat(9_999));
    let request = stop_from_json(excessive.as_bytes());
    assert_eq!((request.grace, request.reason.map(|reason| reason.len())), (MAX_GRACE, Some(MAX_REASON_CHARS)));
    for text in ["", "{}", r#"{"version": 1}"#] {
        assert_eq!(
            stop_from_json(text.as_bytes()),
            StopRequest { grace: DEFAULT_GRACE, reason: None, tree: true },
            "{text}"
        );
    }
    assert_eq!(duration_from_secs(f64::NAN), Duration::ZERO);
}

#[test]
fn the_known_fields_of_a_newer_format_are_read() {
    let text = br#"{"version": 9, "seq": 2, "state": "hibernating", "dreams": [1], "digest": {"phase": "x", "agents": [
        {"id": "a", "state": "dreaming", "answers": 1, "mood": 3}], "votes": {}, "finish": "review"}}"#;
    let record = run_from_json(spec(), text).expect("reads");
    assert_eq!(record.state, RunState::Unknown("hibernating".to_owned()));
    assert_eq!(record.version, 9);
    let digest = record.digest.expect("digest");
    assert_eq!((digest.agents[0].state, digest.finish_reason), (AgentState::Unknown, Some(Finish::Unknown)));
}

fn plan() -> ExperimentPlan {
    let arm = |label: &str, config: Option<&str>| Arm {
        label: label.to_owned(),
        spec: spec(),
        config: config.map(|text| ("config.yaml".to_owned(), text.to_owned())),
        expected_cost: config.map(|_| Usd(7)),
        expected_duration: config.map(|_| Duration::from_secs(9)),
    };
    let run = |name: &str, arm, repeat| PlannedRun { id: name.parse().expect("id"), arm, question: 0, repeat };
    ExperimentPlan {
        id: "ex-00000000".to_owned(),
        group: "trial".to_owned(),
        created: "2026-11-24T01:00:00Z".parse().expect("time"),
        arms: vec![arm("a", Some("agents: []")), arm("b", None)],
        questions: vec!["q".to_owned()],
        runs: vec![run("mg-00000001", 0, 1), run("mg-00000002", 1, 2)],
        budget: Cap { usd: Some(Usd(5)), tokens: Some(3) },
        keep: Some(1),
        global_limits: GlobalLimits {
            slots: 1,
            queue: 2,
            tree_runs: 3,
            starts_per_minute: 4,
            server_usd: Some(Usd(5)),
            day_usd: Some(Usd(6)),
        },
        request_hash: "asked".to_owned(),
        key_hash: Some("key".to_owned()),
        client: "client".to_owned(),
        parent: Some("mg-00000003".parse().expect("id")),
    }
}

fn progress() -> ExperimentProgress {
    let at = "2026-11-24T02:00:00Z".parse().expect("time");
    ExperimentProgress {
        started: vec!["mg-00000001".parse().expect("id")],
        start_problems: [("mg-00000002".parse().expect("id"), problem())].into(),
        closed: Some((CloseReason::Stopped { reason: Some("enough of it".to_owned()) }, at)),
    }
}

#[test]
fn an_experiment_reads_back_as_itself_with_its_config_files() {
    let files: BTreeMap<String, String> = plan_configs(&plan()).map(|(name, text)| (name, text.to_owned())).collect();
    let read = |name: &str| files.get(name).cloned().ok_or_else(|| std::io::ErrorKind::NotFound.into());
    assert_eq!(plan_from_json(&plan_to_json(&plan()).expect("encoded"), read).expect("reads"), plan());
    assert!(
        plan_from_json(&plan_to_json(&plan()).expect("encoded"), |_| Err(std::io::ErrorKind::NotFound.into())).is_err()
    );
    let closes = [CloseReason::AllRun, CloseReason::EnoughSucceeded, CloseReason::BudgetExhausted];
    let ends = closes.into_iter().map(|why| progress().closed.map(|(_, at)| (why, at)));
    for closed in ends.chain([None, progress().closed]) {
        let progress = ExperimentProgress { closed, ..progress() };
        assert_eq!(progress_from_json(&progress_to_json(&progress).expect("encoded")).expect("reads"), progress);
    }
}

#[test]
fn the_fixtures_of_experiments_of_version_1_stay_readable() {
    let bytes = include_bytes!("../../../tests/data/records/v1/plan.json");
    assert_eq!(plan_from_json(bytes, |_| Ok("agents: []".to_owned())).expect("plan"), plan());
    let bytes = include_bytes!("../../../tests/data/records/v1/progress.json");
    assert_eq!(progress_from_json(bytes).expect("progress"), progress());
}

#[test]
fn a_spec_that_cannot_be_encoded_is_an_error_and_leaves_no_file() {
    use std::os::unix::ffi::OsStringExt;
    let project = std::ffi::OsString::from_vec(b"/home/u/caf\xe9".to_vec());
    let spec = RunSpec { project: project.into(), ..spec() };
    assert!(spec_to_json(&spec).is_err());
    let root = tempfile::tempdir().expect("temp");
    let state = crate::registry::StateFolder::open(root.path()).expect("state");
    state.create(&spec, crate::registry::InitialFiles::default()).expect_err("refused");
    assert_eq!(std::fs::read_dir(state.runs()).expect("listed").count(), 0, "nothing was written");
}

#[test]
fn a_step_is_stored_as_its_label_and_hints_of_old_versions_are_read() {
    let states = |next: NextStep| {
        let problem = Problem { next, ..Problem::new("crashed", "m", "x") };
        let json = serde_json::to_value(ending::ProblemFile::from(&problem)).expect("JSON");
        let read: ending::ProblemFile = serde_json::from_value(json.clone()).expect("a problem");
        assert_eq!(Problem::from(read), problem);
        json
    };
    let recorded = states(Step::MergeBranches.with("a, b"));
    assert_eq!(recorded["next"], "merge_branches");
    assert_eq!((&recorded["next_detail"], &recorded["hint"]), (&"a, b".into(), &"".into()));
    let old = states(NextStep::from("call it again"));
    assert_eq!((&old["hint"], old.get("next")), (&"call it again".into(), None), "as version 0.2.0 wrote it");
    let newer = serde_json::json!({"code": "c", "message": "m", "hint": "", "next": "of_a_newer_version"});
    let newer: ending::ProblemFile = serde_json::from_value(newer).expect("a problem");
    assert!(Problem::from(newer).next.detail().contains("update this one"));
}
