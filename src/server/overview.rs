//! What check_status reports about several runs: the runs listed one by one, their totals, and what
//! happened during a wait that ended without the expected event. The size is bounded, however many runs exist.

use std::time::Duration;

use super::next_steps::agent_words;
use super::run_views;
use crate::clock;
use crate::fleet::{Cursor, Fleet, LATEST_COUNT, Selection, Snapshot, WaitUntil};
use crate::run::{RunRecord, RunState};
use crate::view::group::{self, ExperimentInput, GroupView};
use crate::view::list::TodayView;
use crate::view::{Detail, RunView};

/// The most runs of a large group that are listed one by one.
const MAX_ACTIVE_SHOWN: usize = 10;

/// The runs that are listed one by one. A group omits planned runs and runs whose end was already reported; a large
/// group lists only its active runs. The group's totals count all runs.
pub(super) fn list_runs(
    fleet: &Fleet,
    selection: &Selection,
    runs: &[RunRecord],
    since: Option<&Cursor>,
    detail: Detail,
) -> Vec<RunView> {
    let view = |run: &RunRecord| run_views::build(fleet, run, detail);
    let question_of = |run: &RunRecord| fleet.secrets().mask(&run.spec.question).into_owned();
    match selection {
        Selection::Runs(_) => runs.iter().map(|run| run_views::build_with_answer(fleet, run, detail)).collect(),
        Selection::Latest | Selection::Live { .. } => {
            let now = clock::now();
            runs.iter().take(LATEST_COUNT).map(|run| view(run).into_list_entry(run, &question_of(run), &now)).collect()
        }
        Selection::Group(_) if runs.len() > LATEST_COUNT => {
            let active = runs.iter().filter(|run| is_active(run)).take(MAX_ACTIVE_SHOWN);
            active.map(|run| view(run).with_request(run, &question_of(run))).collect()
        }
        Selection::Group(_) => {
            let reported = since.map(|since| since.had_ended(runs)).unwrap_or_default();
            let new_endings = runs.iter().filter(|run| !reported.contains(&&run.spec.id) && !is_hidden(fleet, run));
            new_endings.map(|run| view(run).with_request(run, &question_of(run))).collect()
        }
    }
}

/// Whether a run is planned, or its experiment ended before the run started. A run that failed to start is not
/// hidden.
fn is_hidden(fleet: &Fleet, run: &RunRecord) -> bool {
    fleet.is_planned(run) && run.state.ending().is_none_or(|ending| ending.outcome.problem().is_none())
}

/// The totals: of the group's runs, or of today's runs if the call names none.
pub(super) async fn compute_totals(
    fleet: &Fleet,
    selection: &Selection,
    snapshot: &Snapshot,
) -> (Option<GroupView>, Option<TodayView>) {
    match selection {
        Selection::Runs(_) => (None, None),
        Selection::Latest | Selection::Live { .. } => (None, fleet.today().await.map(TodayView::from)),
        Selection::Group(name) => {
            let mut group = build_group(name, snapshot);
            if snapshot.runs.len() <= LATEST_COUNT {
                // Each listed run reports this itself.
                group.latest.clear();
            }
            (Some(group), None)
        }
    }
}

/// The totals of a group's runs.
pub(super) fn build_group(name: &str, snapshot: &Snapshot) -> GroupView {
    let experiment = snapshot.experiment.as_ref().map(|status| ExperimentInput {
        plan: &status.experiment.plan,
        progress: &status.experiment.progress,
        has_live_driver: status.has_live_driver,
    });
    group::group_view(name, &snapshot.runs, experiment, &clock::now(), agent_words)
}

fn is_active(run: &RunRecord) -> bool {
    run.state.ending().is_none() && run.state != RunState::Queued
}

/// The hint after a wait whose event did not happen: the current state and the next step. `has_changed` is whether
/// anything changed since the caller's last look, if that is known.
pub(super) fn no_event_hint(until: WaitUntil, runs: &[RunRecord], has_changed: Option<bool>, wait: Duration) -> String {
    let ended = runs.iter().filter(|run| run.state.ending().is_some()).count();
    let total = runs.len();
    let change_text = match has_changed {
        Some(true) => "; what else happened is in the answer",
        Some(false) => ", and nothing else happened",
        None => "",
    };
    let event_text = match until {
        WaitUntil::AllAnswered | WaitUntil::AllEnded if total > 1 => {
            format!("{ended} of {total} runs are over{change_text}")
        }
        WaitUntil::AnyAnswered if total > 1 => {
            format!("no other run has ended, {ended} of {total} are over{change_text}")
        }
        WaitUntil::AllAnswered | WaitUntil::AllEnded | WaitUntil::AnyAnswered => format!("it goes on{change_text}"),
        WaitUntil::Change | WaitUntil::NextChange => "nothing happened".to_owned(),
    };
    format!("after {} s: {event_text}; call again with since and wait_s to go on waiting", wait.as_secs())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::registry::initial_record;
    use crate::run::{ConfigChoice, RunId, RunSpec};

    #[test]
    fn a_wait_without_its_event_says_what_happened() {
        let run = |n| {
            let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
            initial_record(RunSpec::new(
                RunId::from_bytes([0, 0, 0, 0, n]),
                "q",
                config,
                PathBuf::new(),
                PathBuf::new(),
            ))
        };
        let (one, two, wait) = ([run(1)], [run(1), run(2)], Duration::from_secs(45));
        for (until, runs, has_changed, expected) in [
            (WaitUntil::Change, &two[..], Some(false), "after 45 s: nothing happened; "),
            (
                WaitUntil::AllAnswered,
                &two,
                Some(true),
                "after 45 s: 0 of 2 runs are over; what else happened is in the answer; ",
            ),
            (
                WaitUntil::AnyAnswered,
                &two,
                Some(false),
                "after 45 s: no other run has ended, 0 of 2 are over, and nothing else ",
            ),
            (WaitUntil::AllEnded, &two, None, "after 45 s: 0 of 2 runs are over; call again"),
            (
                WaitUntil::AnyAnswered,
                &one,
                Some(true),
                "after 45 s: it goes on; what else happened is in the answer; call again",
            ),
        ] {
            let hint = no_event_hint(until, runs, has_changed, wait);
            assert!(hint.starts_with(expected) && hint.ends_with("go on waiting"), "{hint}");
        }
    }
}
