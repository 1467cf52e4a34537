//! The runs of a group → what an agent sees of them together: how many are where, what was spent, when all will be over, what
//! happened last. Pure, and of one size however many runs there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::ProblemView;
use crate::experiment::forecast::ends_in;
use crate::experiment::{Close, Plan, Progress};
use crate::massgen::text;
use crate::run::{Exit, Moment, RunRecord, RunState, Spent, Usd};

/// How many of the last changes are told.
const LAST: usize = 5;
/// Said of a group that is over.
const READ: &str =
    "all are over: read_result with this group compares them (table), part answers has the answers side by side";

/// A group, as check_status shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// Its label.
    pub group: String,
    /// How many runs it has; of an experiment, planned ones too.
    pub runs: usize,
    /// How many are in which state; `not_started` are those that an experiment no longer starts.
    pub states: BTreeMap<String, usize>,
    /// US dollars of all; absent when nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Some tokens have no price: `cost_usd` is too low.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_unknown: Option<bool>,
    /// Input and output tokens of all.
    pub tokens: u64,
    /// What is spent of the experiment's budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// How many successes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Seconds until all are over, if they go on as those that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_in_s: Option<u64>,
    /// Why an experiment starts no more runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The last changes, the latest first; where not each run is shown beside it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<ChangeView>,
    /// Of a group that is over: what to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// Set where nobody conducts the experiment any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
}

/// A run that began or ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeView {
    run_id: String,
    state: String,
    /// Seconds since then.
    ago_s: u64,
}

/// What the records do not tell of an experiment.
#[derive(Debug, Clone, Copy)]
pub struct Conducted<'a> {
    /// What was planned.
    pub plan: &'a Plan,
    /// How far it is.
    pub progress: &'a Progress,
    /// Whether its conductor lives.
    pub is_alive: bool,
}

/// The group as it is now.
pub fn group(name: &str, runs: &[RunRecord], experiment: Option<Conducted<'_>>, now: &Moment) -> GroupView {
    let spent: Spent = runs.iter().map(RunRecord::spent_in_all).sum();
    let mut states = BTreeMap::new();
    for run in runs {
        *states.entry(state_of(run)).or_insert(0) += 1;
    }
    let plan = experiment.map(|experiment| experiment.plan);
    let closed = experiment.and_then(|experiment| experiment.progress.closed.as_ref());
    let is_over = closed.is_some() == experiment.is_some() && runs.iter().all(|run| run.state.ended().is_some());
    let keep = plan.and_then(|plan| plan.keep);
    GroupView {
        group: text::line(name, 64),
        runs: runs.len(),
        states,
        cost_usd: spent.known_usd().filter(|usd| *usd > Usd(0)).map(Usd::as_f64),
        cost_unknown: spent.is_unpriced.then_some(true),
        tokens: spent.tokens,
        budget: plan.and_then(|plan| plan.budget.usd).map(|most| budget(spent, most)),
        keep,
        ends_in_s: forecast(runs, plan, now).map(|left| left.as_secs_f64().ceil() as u64),
        closed: closed.map(|(why, _)| closed_word(why, keep)),
        latest: latest(runs, now.wall),
        hint: is_over.then_some(READ),
        problem: experiment.filter(|seen| closed.is_none() && !seen.is_alive).map(|_| left_alone()),
    }
}

/// A run that an experiment never started has ended with no end of its own.
fn state_of(run: &RunRecord) -> String {
    if run.is_never_started() { "not_started".to_owned() } else { run.state.word().to_owned() }
}

/// What has no price is unknown, and never nothing.
fn budget(spent: Spent, most: Usd) -> String {
    match (spent.usd, spent.is_unpriced) {
        (Usd(0), true) => format!("unknown of {most}: the models have no price; max_tokens limits them"),
        (usd, true) => format!("more than {usd} of {most}: some models have no price; max_tokens limits them"),
        (Usd(0), false) if spent.tokens == 0 => format!("nothing counted yet of {most}"),
        (usd, false) => format!("{usd} of {most}"),
    }
}

fn closed_word(why: &Close, keep: Option<usize>) -> String {
    match why {
        Close::Done => "done: every run has had its turn".to_owned(),
        Close::Enough => format!("enough: {} succeeded (keep), the rest was stopped", keep.unwrap_or_default()),
        Close::Spent => "spent: the budget has not enough left for another run".to_owned(),
        Close::Stopped { reason: Some(reason) } => format!("stopped: {}", text::line(reason, 120)),
        Close::Stopped { reason: None } => "stopped".to_owned(),
    }
}

fn left_alone() -> ProblemView {
    ProblemView {
        code: "conductor_died".to_owned(),
        message: "the process that starts its runs was killed; nothing more is started".to_owned(),
        hint:
            "call run_massgen with the same arguments and request_key again to go on; kill_run with the group ends it"
                .to_owned(),
        retry: Some("now"),
        provider: None,
    }
}

fn forecast(runs: &[RunRecord], plan: Option<&Plan>, now: &Moment) -> Option<Duration> {
    let ended = runs.iter().filter_map(|run| run.state.ended()).filter(|ending| ending.exit != Exit::NeverStarted);
    let succeeded = runs.iter().filter(|run| run.state.word() == "succeeded").count();
    let took: Vec<Duration> = ended.map(|ending| ending.took).collect();
    let live = runs.iter().filter(|run| run.state.ended().is_none() && run.state != RunState::Queued);
    let elapsed: Vec<Duration> =
        live.map(|run| run.started.as_ref().map(|started| started.until(now)).unwrap_or_default()).collect();
    let waiting = runs.iter().filter(|run| run.state == RunState::Queued).count();
    let wanted = plan.and_then(|plan| plan.keep).map(|keep| keep.saturating_sub(succeeded + elapsed.len()));
    let waiting = wanted.map_or(waiting, |wanted| waiting.min(wanted));
    let slots = runs.first().map_or(0, |run| run.spec.allowance.slots);
    if elapsed.is_empty() && waiting == 0 {
        return None;
    }
    ends_in(&took, plan.and_then(Plan::takes), &elapsed, waiting, slots as usize)
}

fn latest(runs: &[RunRecord], now: Timestamp) -> Vec<ChangeView> {
    let at = |run: &RunRecord| match run.state.ended() {
        Some(_) if run.is_never_started() => None,
        Some(ending) => Some(ending.at.wall),
        None => run.started.as_ref().map(|started| started.wall),
    };
    let mut changes: Vec<_> = runs.iter().filter_map(|run| Some((at(run)?, run))).collect();
    changes.sort_by_key(|(at, _)| Reverse(*at));
    let told = |(at, run): (Timestamp, &RunRecord)| ChangeView {
        run_id: run.spec.id.to_string(),
        state: run.state.word().to_owned(),
        ago_s: u64::try_from(now.duration_since(at).as_secs()).unwrap_or_default(),
    };
    changes.into_iter().take(LAST).map(told).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_price_is_unknown_and_never_nothing() {
        let spent = |usd, tokens, is_unpriced| Spent { usd: Usd(usd), tokens, is_unpriced };
        for (spent, wanted) in [
            (spent(0, 0, false), "nothing counted yet of $1.00"),
            (spent(0, 5, false), "$0.00 of $1.00"),
            (spent(500_000, 5, false), "$0.50 of $1.00"),
            (spent(0, 5, true), "unknown of $1.00: the models have no price; max_tokens limits them"),
            (spent(1, 5, true), "more than $0.000001 of $1.00: some models have no price; max_tokens limits them"),
        ] {
            assert_eq!(budget(spent, Usd(1_000_000)), wanted);
        }
    }
}
