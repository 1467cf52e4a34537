//! Waiting for runs to change: woken by file events, never by a poll of our own, and never longer than asked.
//! Who stops listening undoes nothing.

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use super::{Cursor, Fleet, FleetError, Selection};
use crate::run::{RunId, RunRecord};
use crate::watch::Seat;

/// What a waiter waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Until {
    /// A change that is news in any of them.
    #[default]
    Change,
    /// One of them to end.
    AnyDone,
    /// All of them to have ended.
    AllDone,
}

/// What a wait came to.
#[derive(Debug, Clone)]
pub struct Waited {
    /// The runs as they are now.
    pub runs: Vec<RunRecord>,
    /// To be given back as `since`.
    pub cursor: Cursor,
    /// Whether what was waited for has come about.
    pub came_about: bool,
}

impl Fleet {
    /// Waits until something has come about, at most `patience`, or until `given_up` resolves. With `since`, what happened
    /// after that sight counts as well, so that no change is missed between two calls.
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
        let mut runs = self.look_all(selection).await?;
        let wish = Wish::new(until, since, &runs);
        let mut seat = None;
        loop {
            let cursor = Cursor::of(&runs);
            let came_about = wish.came_about(&runs, &cursor);
            if came_about || Instant::now() >= deadline {
                return Ok(Waited { runs, cursor, came_about });
            }
            let seat = seat.get_or_insert_with(|| self.watcher().seat());
            if self.take_seat(seat, selection, &runs) {
                // What happened before the seat was taken rang no bell.
                runs = self.look_all(selection).await?;
                continue;
            }
            tokio::select! {
                () = seat.changed() => runs = self.look_all(selection).await?,
                () = tokio::time::sleep_until(deadline) => runs = self.look_all(selection).await?,
                () = &mut given_up => return Ok(Waited { runs, cursor, came_about }),
            }
        }
    }

    /// Sits down at every folder in which the selection can change; `true` where one of them is new to the seat.
    fn take_seat(&self, seat: &mut Seat, selection: &Selection, runs: &[RunRecord]) -> bool {
        let live = runs.iter().filter(|run| run.state.ended().is_none());
        let folders = live.map(|run| self.folder(&run.spec.id).path().to_owned());
        let may_grow = matches!(selection, Selection::Group(_) | Selection::Latest);
        let all = may_grow.then(|| self.state().runs());
        folders.chain(all).fold(false, |new, folder| seat.add(&folder) | new)
    }
}

struct Wish {
    until: Until,
    /// What was seen before; for `any_done` it is known which had ended then.
    seen: Option<Cursor>,
    ended_before: HashSet<RunId>,
}

impl Wish {
    fn new(until: Until, since: Option<Cursor>, runs: &[RunRecord]) -> Wish {
        let now = Cursor::of(runs);
        // Who has seen the present sight knows which have ended; only another one is news.
        let knows = since.as_ref() == Some(&now);
        let ended_before = if knows { ended(runs).cloned().collect() } else { HashSet::new() };
        Wish { until, seen: Some(since.unwrap_or(now)), ended_before }
    }

    fn came_about(&self, runs: &[RunRecord], cursor: &Cursor) -> bool {
        let all_done = runs.iter().all(|run| run.state.ended().is_some());
        all_done
            || match self.until {
                Until::Change => self.seen.as_ref() != Some(cursor),
                Until::AnyDone => ended(runs).any(|id| !self.ended_before.contains(id)),
                Until::AllDone => false,
            }
    }
}

fn ended(runs: &[RunRecord]) -> impl Iterator<Item = &RunId> {
    runs.iter().filter(|run| run.state.ended().is_some()).map(|run| &run.spec.id)
}
