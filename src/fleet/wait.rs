//! Waiting for runs to change: woken by file events, never by a poll of our own, and never longer than asked.
//! Who stops listening undoes nothing. A wait for answers goes on while MassGen's process ends, so that its caller sees the end.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cursor, Fleet, FleetError, Memory, Selection, Sight};
use crate::run::RunRecord;
use crate::watch::Seat;

/// How long a wait for answers goes on after the answer, for MassGen's process to end: Python takes 2 to 6 s for that after a
/// cold start.
const LAST_SECONDS: Duration = Duration::from_secs(10);

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// A change that is news in any of them.
    #[default]
    Change,
    /// One of them to have its answer whole, or to end.
    AnyAnswered,
    /// All of them to have their answers whole, or to have ended.
    AllAnswered,
    /// All of them to have ended.
    AllDone,
    /// The next change that is news, of a run to come as well: that all have ended is no reason not to wait.
    News,
}

/// What a wait came to.
#[derive(Debug)]
pub struct Waited {
    /// The runs as they are now.
    pub sight: Sight,
    /// To be given back as `since`.
    pub cursor: Cursor,
    /// Whether what was waited for has come about.
    pub came_about: bool,
}

impl Fleet {
    /// Waits until something has come about, at most `patience`, or until `given_up` resolves. With `since`, what happened
    /// after that sight counts as well, so that no change is missed between two calls. A wait for answers that has come about
    /// goes on for up to `LAST_SECONDS` of its patience while a run with its answer still has to end.
    pub async fn wait(
        &self,
        selection: &Selection,
        until: Until,
        since: Option<Cursor>,
        patience: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<Waited, FleetError> {
        let deadline = Instant::now() + patience;
        let mut given_up = std::pin::pin!(given_up);
        let mut memory = Memory { keeps: !patience.is_zero(), ..Memory::default() };
        let mut sight = self.look_again(selection, &mut memory).await?;
        let mut cursor = Cursor::of(&sight.runs);
        let wish = Wish { until, told: since.is_some(), seen: since.unwrap_or_else(|| cursor.clone()) };
        let (mut seat, mut answered_at) = (None, None);
        loop {
            let came_about = wish.came_about(&sight, &cursor);
            let until = if came_about && !(sight.is_ending() && wish.is_for_the_rest(&sight.runs)) {
                Instant::now()
            } else if came_about {
                deadline.min(*answered_at.get_or_insert_with(Instant::now) + LAST_SECONDS)
            } else {
                deadline
            };
            if Instant::now() >= until {
                return Ok(Waited { sight, cursor, came_about });
            }
            let seat = seat.get_or_insert_with(|| self.watcher().seat());
            // What happened before a seat was taken rang no bell; then look once more.
            if !self.take_seat(seat, selection, &sight.runs) {
                tokio::select! {
                    () = seat.changed() => {}
                    () = tokio::time::sleep_until(until) => {}
                    () = &mut given_up => return Ok(Waited { sight, cursor, came_about }),
                }
            }
            sight = self.look_again(selection, &mut memory).await?;
            cursor = Cursor::of(&sight.runs);
        }
    }

    /// Sits down at every folder in which the selection can change; `true` where one of them is new to the seat.
    fn take_seat(&self, seat: &mut Seat, selection: &Selection, runs: &[RunRecord]) -> bool {
        let live = || runs.iter().filter(|run| run.state.ended().is_none());
        let folders = live().map(|run| self.folder(&run.spec.id).path().to_owned());
        // Of a run that is only planned, the folder is to come, and its experiment may end before.
        let of_experiments = live().filter(|run| run.spec.origin.experiment.is_some());
        let mut experiments: BTreeSet<_> = of_experiments.filter_map(|run| run.spec.group.as_deref()).collect();
        if let Selection::Group(group) = selection {
            experiments.insert(group);
        }
        let may_grow = !matches!(selection, Selection::Runs(_)) || !experiments.is_empty();
        let all = may_grow.then(|| self.state().runs());
        let folders = folders.chain(experiments.iter().map(|group| self.state().experiment(group).path().to_owned()));
        folders.chain(all).fold(false, |new, folder| seat.add(&folder) | new)
    }
}

struct Wish {
    until: Until,
    /// What was seen before: as the client says, or at the beginning of the wait.
    seen: Cursor,
    /// Whether the client says so.
    told: bool,
}

impl Wish {
    /// Whether it goes on until those have ended that have their answers. One that is for any end is over at an end that its caller
    /// has not seen.
    fn is_for_the_rest(&self, runs: &[RunRecord]) -> bool {
        match self.until {
            Until::AllAnswered => true,
            Until::AnyAnswered => {
                let seen = if self.told { self.seen.had_ended(runs) } else { Vec::new() };
                !runs.iter().any(|run| run.state.ended().is_some() && !seen.contains(&&run.spec.id))
            }
            Until::Change | Until::AllDone | Until::News => false,
        }
    }

    fn came_about(&self, sight: &Sight, cursor: &Cursor) -> bool {
        let is_over = !sight.is_conducted() && sight.runs.iter().all(|run| run.state.ended().is_some());
        let mut answered = sight.runs.iter().map(RunRecord::is_answered);
        match self.until {
            Until::News => self.seen != *cursor,
            // An experiment is over once its conductor says why.
            _ if is_over => true,
            Until::Change => self.seen != *cursor,
            // Who has not said what they saw is told of what there is already; who has, only of what has come since.
            Until::AnyAnswered | Until::AllAnswered if self.told && self.seen.same_endings(cursor) => false,
            Until::AnyAnswered if self.told => true,
            Until::AnyAnswered => answered.any(|answered| answered),
            Until::AllAnswered => !sight.is_conducted() && answered.all(|answered| answered),
            Until::AllDone => false,
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
        let wish = |until, told, seen: &[RunRecord]| Wish { until, told, seen: Cursor::of(seen) };
        let any =
            |told, seen: &[RunRecord], runs: &[RunRecord]| wish(Until::AnyAnswered, told, seen).is_for_the_rest(runs);
        assert!(any(true, &before, &before), "nothing else has ended since the caller looked");
        assert!(!any(true, &before, &after) && !any(false, &before, &before));
        assert!(any(false, &before, &before[1..]));
        assert!(wish(Until::AllAnswered, false, &before).is_for_the_rest(&after));
    }
}
