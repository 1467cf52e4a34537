//! Converts the runs of a group to the totals that an agent gets: runs by state, spend, estimated end, latest changes.
//! Pure, and of bounded size for any number of runs.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::ProblemView;
use crate::experiment::forecast::remaining_time;
use crate::experiment::{CloseReason, ExperimentPlan, ExperimentProgress};
use crate::massgen::text;
use crate::run::{Exit, Moment, RunRecord, RunState, Spend, Step, Usd, Wording};

/// The most changes that are listed.
const MAX_CHANGES: usize = 5;
/// A group as check_status shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GroupView {
    /// The group label.
    pub group: String,
    /// Number of runs; for an experiment, including planned ones.
    pub runs: usize,
    /// Number of runs by state; `not_started` are runs that an experiment will no longer start.
    pub states: BTreeMap<String, usize>,
    /// US dollars of all runs; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    /// Some tokens have no price: `cost_usd` is too low.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_unknown: Option<bool>,
    /// Input and output tokens of all runs.
    pub tokens: u64,
    /// The spent part of the experiment's budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
    /// How many successes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// Estimated seconds until all runs are over, based on the runs that have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_in_s: Option<u64>,
    /// Why the experiment starts no more runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The latest changes, newest first; absent if each run is listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latest: Vec<ChangeView>,
    /// For a group that is over: what to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Set if the experiment has no live driver any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<ProblemView>,
}

/// A run that started or ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChangeView {
    run_id: String,
    state: String,
    /// Seconds since the change.
    ago_s: u64,
}

/// Facts about an experiment that are not in the run records.
#[derive(Debug, Clone, Copy)]
pub struct ExperimentInput<'a> {
    /// The planned runs.
    pub plan: &'a ExperimentPlan,
    /// The progress of the experiment.
    pub progress: &'a ExperimentProgress,
    /// Whether its driver is alive.
    pub has_live_driver: bool,
}

/// Builds the view of a group at the current time.
pub fn group_view(
    name: &str,
    runs: &[RunRecord],
    experiment: Option<ExperimentInput<'_>>,
    now: &Moment,
    wording: Wording,
) -> GroupView {
    let spent: Spend = runs.iter().map(RunRecord::total_spent).sum();
    let mut states = BTreeMap::new();
    for run in runs {
        *states.entry(state_label(run)).or_insert(0) += 1;
    }
    let plan = experiment.map(|experiment| experiment.plan);
    let closed = experiment.and_then(|experiment| experiment.progress.closed.as_ref());
    let is_over = closed.is_some() == experiment.is_some() && runs.iter().all(|run| run.state.ending().is_some());
    let keep = plan.and_then(|plan| plan.keep);
    GroupView {
        group: text::single_line(name, 64),
        runs: runs.len(),
        states,
        cost_usd: spent.known_usd().filter(|usd| *usd > Usd(0)).map(Usd::as_f64),
        cost_unknown: spent.is_unpriced.then_some(true),
        tokens: spent.tokens,
        budget: plan.and_then(|plan| plan.budget.usd).map(|cap| budget_text(spent, cap)),
        keep,
        ends_in_s: group_remaining_time(runs, plan, now).map(|left| left.as_secs_f64().ceil() as u64),
        closed: closed.map(|(reason, _)| close_label(reason, keep)),
        latest: latest_changes(runs, now.wall),
        hint: is_over.then(|| wording(&Step::CompareGroup.into())),
        problem: experiment
            .filter(|status| closed.is_none() && !status.has_live_driver)
            .map(|_| no_driver_problem(wording)),
    }
}

/// A run that an experiment never started has no outcome of its own; its state is `not_started`.
fn state_label(run: &RunRecord) -> String {
    if run.is_never_started() { "not_started".to_owned() } else { run.state.as_str().to_owned() }
}

/// Spend without a price is shown as unknown, never as zero.
fn budget_text(spent: Spend, cap: Usd) -> String {
    match (spent.usd, spent.is_unpriced) {
        (Usd(0), true) => format!("unknown of {cap}: the models have no price; max_tokens limits them"),
        (usd, true) => format!("more than {usd} of {cap}: some models have no price; max_tokens limits them"),
        (Usd(0), false) if spent.tokens == 0 => format!("nothing counted yet of {cap}"),
        (usd, false) => format!("{usd} of {cap}"),
    }
}

fn close_label(close_reason: &CloseReason, keep: Option<usize>) -> String {
    match close_reason {
        CloseReason::AllRun => "done: every run has had its turn".to_owned(),
        CloseReason::EnoughSucceeded => {
            format!("enough: {} succeeded (keep), the rest was stopped", keep.unwrap_or_default())
        }
        CloseReason::BudgetExhausted => "spent: the budget has not enough left for another run".to_owned(),
        CloseReason::Stopped { reason: Some(reason) } => format!("stopped: {}", text::single_line(reason, 120)),
        CloseReason::Stopped { reason: None } => "stopped".to_owned(),
    }
}

fn no_driver_problem(wording: Wording) -> ProblemView {
    ProblemView {
        code: "conductor_died".to_owned(),
        message: "the process that starts its runs was killed; nothing more is started".to_owned(),
        hint: wording(&Step::ResumeOrStopGroup.into()),
        retry: Some("now"),
        provider: None,
    }
}

fn group_remaining_time(runs: &[RunRecord], plan: Option<&ExperimentPlan>, now: &Moment) -> Option<Duration> {
    let ended = runs.iter().filter_map(|run| run.state.ending()).filter(|ending| ending.exit != Exit::NeverStarted);
    let succeeded = runs.iter().filter(|run| run.state.as_str() == "succeeded").count();
    let took: Vec<Duration> = ended.map(|ending| ending.duration).collect();
    let live = runs.iter().filter(|run| run.state.ending().is_none() && run.state != RunState::Queued);
    let elapsed: Vec<Duration> =
        live.map(|run| run.started.as_ref().map(|started| started.duration_until(now)).unwrap_or_default()).collect();
    let waiting = runs.iter().filter(|run| run.state == RunState::Queued).count();
    let max_waiting = plan.and_then(|plan| plan.keep).map(|keep| keep.saturating_sub(succeeded + elapsed.len()));
    let waiting = max_waiting.map_or(waiting, |max_waiting| waiting.min(max_waiting));
    let slots = runs.first().map_or(0, |run| run.spec.allowance.slots);
    if elapsed.is_empty() && waiting == 0 {
        return None;
    }
    remaining_time(&took, plan.and_then(ExperimentPlan::expected_duration), &elapsed, waiting, slots as usize)
}

fn latest_changes(runs: &[RunRecord], now: Timestamp) -> Vec<ChangeView> {
    let at = |run: &RunRecord| match run.state.ending() {
        Some(_) if run.is_never_started() => None,
        Some(ending) => Some(ending.ended_at.wall),
        None => run.started.as_ref().map(|started| started.wall),
    };
    let mut changes: Vec<_> = runs.iter().filter_map(|run| Some((at(run)?, run))).collect();
    changes.sort_by_key(|(at, _)| Reverse(*at));
    let change = |(at, run): (Timestamp, &RunRecord)| ChangeView {
        run_id: run.spec.id.to_string(),
        state: run.state.as_str().to_owned(),
        ago_s: u64::try_from(now.duration_since(at).as_secs()).unwrap_or_default(),
    };
    changes.into_iter().take(MAX_CHANGES).map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpriced_cost_is_unknown_and_never_zero() {
        let spent = |usd, tokens, is_unpriced| Spend { usd: Usd(usd), tokens, is_unpriced };
        for (spent, expected) in [
            (spent(0, 0, false), "nothing counted yet of $1.00"),
            (spent(0, 5, false), "$0.00 of $1.00"),
            (spent(500_000, 5, false), "$0.50 of $1.00"),
            (spent(0, 5, true), "unknown of $1.00: the models have no price; max_tokens limits them"),
            (spent(1, 5, true), "more than $0.000001 of $1.00: some models have no price; max_tokens limits them"),
        ] {
            assert_eq!(budget_text(spent, Usd(1_000_000)), expected);
        }
    }
}
