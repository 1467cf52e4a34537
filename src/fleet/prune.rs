//! Forgetting ended runs by the operator's rule: which ones go is a pure plan, and the doing tells how it went.
//! A run that somebody holds or that has not ended is never touched, whatever the plan says.

use std::time::Duration;

use jiff::Timestamp;

use super::{Fleet, FleetError, blocking, is_orphan};
use crate::massgen::text;
use crate::registry::{RegistryError, Removal, StateFolder};
use crate::run::{RunId, RunRecord};
use crate::settings::Retention;
use crate::supervisor;

/// How often servers prune a state folder by themselves, at most.
const EVERY: Duration = Duration::from_secs(3600);

/// A run that has ended, as far as the plan has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its name.
    pub id: RunId,
    /// When it ended, by the wall clock.
    pub ended: Timestamp,
    /// The disk space that it takes, in bytes.
    pub bytes: u64,
}

/// Why a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It ended too long ago.
    Age,
    /// Enough others ended after it.
    Count,
    /// With those that ended after it, it takes too much disk space.
    Size,
}

/// A run that goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The run.
    pub run: EndedRun,
    /// Why.
    pub why: Why,
}

/// How a pruning went, or would go.
#[derive(Debug, Default)]
pub struct Pruned {
    /// The runs that went, the oldest end first.
    pub gone: Vec<Planned>,
    /// How many folders went that crashes had left.
    pub leftovers: usize,
    /// The disk space that was freed, in bytes.
    pub freed: u64,
    /// How many ended runs stay by the rule.
    pub kept: usize,
    /// What could not be looked at or removed, by its name, and why.
    pub failed: Vec<(String, RegistryError)>,
}

/// Whether runs are removed, or only those named that would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earnest {
    /// They are removed.
    Remove,
    /// Nothing is touched.
    OnlySay,
}

impl Fleet {
    /// Removes ended runs by a rule, and what crashes left of others.
    pub async fn prune(&self, keep: Retention, earnest: Earnest) -> Result<Pruned, FleetError> {
        let fleet = self.clone();
        Ok(blocking(move || prune(&fleet, keep, earnest)).await??)
    }

    /// Prunes, unless a server has within the hour (`None`).
    pub async fn prune_when_due(&self, keep: Retention) -> Result<Option<Pruned>, FleetError> {
        let fleet = self.clone();
        let pruned = blocking(move || {
            let Some(_turn) = fleet.state.prune_turn(EVERY)? else { return Ok(None) };
            prune(&fleet, keep, Earnest::Remove).map(Some)
        });
        Ok(pruned.await??)
    }
}

/// Which runs go: those that are too old, those that too many ended after, and then those that take the rest's disk space over
/// its limit, but never the latest for its size alone. The oldest end comes first.
pub fn plan(mut ended: Vec<EndedRun>, keep: Retention, now: Timestamp) -> Vec<Planned> {
    ended.sort_by(|a, b| (b.ended, &b.id).cmp(&(a.ended, &a.id)));
    let (mut bytes, mut is_full) = (0_u64, false);
    let mut planned = Vec::new();
    for (place, run) in ended.into_iter().enumerate() {
        bytes = bytes.saturating_add(run.bytes);
        is_full |= place > 0 && keep.keep_bytes.is_some_and(|most| bytes > most);
        let age = Duration::try_from(now.duration_since(run.ended)).unwrap_or_default();
        let why = [
            (keep.keep_for.is_some_and(|most| age > most), Why::Age),
            (keep.keep_runs.is_some_and(|most| place >= most), Why::Count),
            (is_full, Why::Size),
        ];
        let why = why.into_iter().find(|(goes, _)| *goes);
        planned.extend(why.map(|(_, why)| Planned { run, why }));
    }
    planned.reverse();
    planned
}

fn prune(fleet: &Fleet, keep: Retention, earnest: Earnest) -> Result<Pruned, RegistryError> {
    let mut pruned = Pruned::default();
    clear_leftovers(&fleet.state, earnest, &mut pruned)?;
    let ended = ended_runs(fleet, earnest, &mut pruned)?;
    let all = ended.len();
    let planned = plan(ended, keep, Timestamp::now());
    pruned.kept = all - planned.len();
    for planned in planned {
        remove(&fleet.state, planned, earnest, &mut pruned);
    }
    Ok(pruned)
}

fn clear_leftovers(state: &StateFolder, earnest: Earnest, pruned: &mut Pruned) -> Result<(), RegistryError> {
    for leftover in state.leftovers()? {
        let (name, bytes) = (leftover.name(), leftover.bytes());
        let cleared = match earnest {
            Earnest::Remove => leftover.clear(),
            Earnest::OnlySay => Ok(()),
        };
        match cleared {
            Ok(()) => {
                pruned.leftovers += 1;
                pruned.freed += bytes;
            }
            Err(error) => pruned.failed.push((name, error)),
        }
    }
    Ok(())
}

fn ended_runs(fleet: &Fleet, earnest: Earnest, pruned: &mut Pruned) -> Result<Vec<EndedRun>, RegistryError> {
    let mut ended = Vec::new();
    for id in fleet.state.list()? {
        match settled(fleet, &id, earnest) {
            Ok(record) => ended.extend(record.state.ended().map(|ending| ending.at.wall).map(|at| {
                let bytes = fleet.folder(&id).bytes();
                EndedRun { id, ended: at, bytes }
            })),
            // Somebody else pruned it meanwhile.
            Err(RegistryError::Unknown(_)) => {}
            Err(error) => pruned.failed.push((id.to_string(), error)),
        }
    }
    Ok(ended)
}

/// A run's record. One that has lost its supervisor, and that nobody has looked at since, ends with this look, as with any other.
fn settled(fleet: &Fleet, id: &RunId, earnest: Earnest) -> Result<RunRecord, RegistryError> {
    let record = fleet.state.load(id)?;
    let is_lost = record.state.ended().is_none() && earnest == Earnest::Remove && is_orphan(&fleet.state, &record);
    let buried = if is_lost { supervisor::bury(&fleet.folder(id), &fleet.secrets)? } else { None };
    Ok(buried.unwrap_or(record))
}

fn remove(state: &StateFolder, planned: Planned, earnest: Earnest, pruned: &mut Pruned) {
    let removal = match earnest {
        Earnest::Remove => state.remove(&planned.run.id),
        Earnest::OnlySay => Ok(Removal::Removed),
    };
    match removal {
        Ok(Removal::Removed) => {
            pruned.freed += planned.run.bytes;
            pruned.gone.push(planned);
        }
        Ok(Removal::WasGone) => {}
        Ok(Removal::InUse) => pruned.kept += 1,
        Err(error) => pruned.failed.push((planned.run.id.to_string(), error)),
    }
}

impl Pruned {
    /// What went wrong, in words.
    pub fn complaints(&self) -> impl Iterator<Item = (&str, String)> {
        self.failed.iter().map(|(name, error)| (name.as_str(), text::chain(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1000 * DAY;

    /// A run that ended so many days ago, of so many bytes.
    fn run(number: u8, days: i64, bytes: u64) -> EndedRun {
        let ended = Timestamp::from_second(NOW - days * DAY).expect("in range");
        EndedRun { id: RunId::from_bytes([0, 0, 0, 0, number]), ended, bytes }
    }

    fn planned(runs: &[EndedRun], keep: Retention) -> Vec<(EndedRun, Why)> {
        let now = Timestamp::from_second(NOW).expect("in range");
        plan(runs.to_vec(), keep, now).into_iter().map(|planned| (planned.run, planned.why)).collect()
    }

    #[test]
    fn without_a_rule_everything_stays() {
        assert_eq!(planned(&[run(1, 999, u64::MAX), run(2, 1, u64::MAX)], Retention::default()), []);
    }

    #[test]
    fn a_run_goes_when_it_ended_too_long_ago() {
        let keep = Retention { keep_for: Some(Duration::from_secs(2 * 86_400)), ..Retention::default() };
        let (old, at_the_border, to_come) = (run(1, 3, 1), run(2, 2, 1), run(3, -5, 1));
        assert_eq!(planned(&[at_the_border, old.clone(), to_come], keep), [(old, Why::Age)]);
    }

    #[test]
    fn the_latest_to_end_are_the_ones_that_stay() {
        let keep = Retention { keep_runs: Some(1), ..Retention::default() };
        let (a, b, c) = (run(1, 3, 1), run(2, 1, 1), run(3, 2, 1));
        assert_eq!(planned(&[a.clone(), b, c.clone()], keep), [(a, Why::Count), (c, Why::Count)]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, middle, old, oldest) = (run(1, 1, 6), run(2, 2, 4), run(3, 3, 1), run(4, 4, 0));
        let runs = [new, old.clone(), middle, oldest.clone()];
        assert_eq!(planned(&runs, keep), [(oldest, Why::Size), (old, Why::Size)]);
    }

    #[test]
    fn the_latest_stays_whatever_its_size() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, old) = (run(1, 1, 11), run(2, 2, 0));
        assert_eq!(planned(&[old.clone(), new], keep), [(old, Why::Size)]);
    }

    #[test]
    fn the_first_rule_that_holds_is_the_reason() {
        let keep = Retention { keep_for: Some(Duration::from_secs(86_400)), keep_runs: Some(2), keep_bytes: Some(0) };
        let whys: Vec<_> = planned(&[run(1, 0, 1), run(2, 0, 1), run(3, 0, 0), run(4, 9, 0)], keep);
        assert_eq!(whys.into_iter().map(|(_, why)| why).collect::<Vec<_>>(), [Why::Age, Why::Count, Why::Size]);
    }
}
