//! Waits for runs to change. File events wake the wait; it does not poll, and it never exceeds the requested time.
//! A cancelled wait changes nothing. A wait for answers continues while MassGen's process exits, so that its caller sees the end.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cursor, Fleet, FleetError, Selection, Snapshot, WaitCache};
use crate::run::RunRecord;
use crate::watch::Subscription;

/// How long a wait for answers continues after the answer, for MassGen's process to exit: Python takes 2 to 6 s for that after a
/// cold start.
const EXIT_WAIT: Duration = Duration::from_secs(10);

/// The condition of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitUntil {
    /// A notable change in any of them.
    #[default]
    Change,
    /// One of them has its complete answer, or has ended.
    AnyAnswered,
    /// All of them have their complete answers, or have ended.
    AllAnswered,
    /// All of them have ended.
    AllEnded,
    /// The next notable change, also of a future run: the wait continues even if all runs have ended.
    NextChange,
}

/// The result of a wait.
#[derive(Debug)]
pub struct WaitResult {
    /// The current state of the runs.
    pub snapshot: Snapshot,
    /// The cursor to pass back as `since`.
    pub cursor: Cursor,
    /// Whether the awaited condition is met.
    pub is_met: bool,
}

impl Fleet {
    /// Waits until the condition is met, `timeout` expires or `cancelled` resolves. With `since`, changes after that cursor
    /// count as well, so that no change is missed between two calls. When its condition is met, a wait for answers
    /// continues for up to `EXIT_WAIT`, within its timeout, while a run with its answer still has to exit.
    pub async fn wait(
        &self,
        selection: &Selection,
        until: WaitUntil,
        since: Option<Cursor>,
        timeout: Duration,
        cancelled: impl Future<Output = ()>,
    ) -> Result<WaitResult, FleetError> {
        let deadline = Instant::now() + timeout;
        let mut cancelled = std::pin::pin!(cancelled);
        let mut cache = WaitCache { is_reused: !timeout.is_zero(), ..WaitCache::default() };
        let mut snapshot = self.refresh(selection, &mut cache).await?;
        let mut cursor = Cursor::from_runs(&snapshot.runs);
        let condition =
            WaitCondition { until, is_from_caller: since.is_some(), baseline: since.unwrap_or_else(|| cursor.clone()) };
        let (mut subscription, mut answered_at) = (None, None);
        loop {
            let is_met = condition.is_met(&snapshot, &cursor);
            let until = if is_met && !(snapshot.is_ending() && condition.waits_for_exit(&snapshot.runs)) {
                Instant::now()
            } else if is_met {
                deadline.min(*answered_at.get_or_insert_with(Instant::now) + EXIT_WAIT)
            } else {
                deadline
            };
            if Instant::now() >= until {
                return Ok(WaitResult { snapshot, cursor, is_met });
            }
            let subscription = subscription.get_or_insert_with(|| self.watcher().subscribe());
            // Events before the watch was added are lost, so check once more after subscribing.
            if !self.subscribe(subscription, selection, &snapshot.runs) {
                tokio::select! {
                    () = subscription.changed() => {}
                    () = tokio::time::sleep_until(until) => {}
                    () = &mut cancelled => return Ok(WaitResult { snapshot, cursor, is_met }),
                }
            }
            snapshot = self.refresh(selection, &mut cache).await?;
            cursor = Cursor::from_runs(&snapshot.runs);
        }
    }

    /// Watches every folder in which the selection can change; `true` if one of them is new to the watch.
    fn subscribe(&self, subscription: &mut Subscription, selection: &Selection, runs: &[RunRecord]) -> bool {
        let live = || runs.iter().filter(|run| run.state.ending().is_none());
        let folders = live().map(|run| self.run_folder(&run.spec.id).path().to_owned());
        // The folder of a planned run does not exist yet, and its experiment may end before it does.
        let in_experiments = live().filter(|run| run.spec.origin.experiment.is_some());
        let mut experiments: BTreeSet<_> = in_experiments.filter_map(|run| run.spec.group.as_deref()).collect();
        if let Selection::Group(group) = selection {
            experiments.insert(group);
        }
        let may_grow = !matches!(selection, Selection::Runs(_)) || !experiments.is_empty();
        let all = may_grow.then(|| self.state().runs());
        let folders = folders.chain(experiments.iter().map(|group| self.state().experiment(group).path().to_owned()));
        folders.chain(all).fold(false, |new, folder| subscription.watch_folder(&folder) | new)
    }
}

struct WaitCondition {
    until: WaitUntil,
    /// The state seen before: from the client's cursor, or from the beginning of the wait.
    baseline: Cursor,
    /// Whether the client gave the cursor.
    is_from_caller: bool,
}

impl WaitCondition {
    /// Whether the wait continues until runs with answers have ended. A wait for any end finishes at an end that its caller
    /// has not seen.
    fn waits_for_exit(&self, runs: &[RunRecord]) -> bool {
        match self.until {
            WaitUntil::AllAnswered => true,
            WaitUntil::AnyAnswered => {
                let ended_before = if self.is_from_caller { self.baseline.had_ended(runs) } else { Vec::new() };
                !runs.iter().any(|run| run.state.ending().is_some() && !ended_before.contains(&&run.spec.id))
            }
            WaitUntil::Change | WaitUntil::AllEnded | WaitUntil::NextChange => false,
        }
    }

    fn is_met(&self, snapshot: &Snapshot, cursor: &Cursor) -> bool {
        let is_over = !snapshot.has_live_driver() && snapshot.runs.iter().all(|run| run.state.ending().is_some());
        let mut answered = snapshot.runs.iter().map(RunRecord::is_answered);
        match self.until {
            WaitUntil::NextChange => self.baseline != *cursor,
            // An experiment has ended once its driver records why.
            _ if is_over || snapshot.is_interrupted() => true,
            WaitUntil::Change => self.baseline != *cursor,
            // Without a cursor, existing answers count as well; with one, only new answers count.
            WaitUntil::AnyAnswered | WaitUntil::AllAnswered
                if self.is_from_caller && self.baseline.has_same_endings(cursor) =>
            {
                false
            }
            WaitUntil::AnyAnswered if self.is_from_caller => true,
            WaitUntil::AnyAnswered => answered.any(|answered| answered),
            WaitUntil::AllAnswered => !snapshot.has_live_driver() && answered.all(|answered| answered),
            WaitUntil::AllEnded => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cursor::tests::run;
    use super::*;

    #[test]
    fn a_wait_for_any_end_is_not_held_up_by_a_run_with_its_answer() {
        let before = [run(1, true), run(2, false), run(3, false)];
        let after = [run(1, true), run(2, false), run(3, true)];
        let condition = |until, is_from_caller, seen: &[RunRecord]| WaitCondition {
            until,
            is_from_caller,
            baseline: Cursor::from_runs(seen),
        };
        let any = |is_from_caller, seen: &[RunRecord], runs: &[RunRecord]| {
            condition(WaitUntil::AnyAnswered, is_from_caller, seen).waits_for_exit(runs)
        };
        assert!(any(true, &before, &before), "nothing else has ended since the caller looked");
        assert!(!any(true, &before, &after) && !any(false, &before, &before));
        assert!(any(false, &before, &before[1..]));
        assert!(condition(WaitUntil::AllAnswered, false, &before).waits_for_exit(&after));
    }
}
