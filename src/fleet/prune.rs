//! Forgetting ended runs by the operator's rule: which ones go is a pure plan, and the doing tells how it went.
//! A run whose lock is held or that has not ended is never touched, whatever the plan says.

use std::time::Duration;

use jiff::Timestamp;

use super::{Fleet, FleetError, blocking, is_orphan};
use crate::massgen::text;
use crate::registry::{RegistryError, Removal, StateFolder};
use crate::run::{RunId, RunRecord};
use crate::settings::Retention;
use crate::supervisor;

/// How often servers prune a state folder by themselves, at most.
const AUTO_PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// A run that has ended, as far as the plan has to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its name.
    pub id: RunId,
    /// When it ended, by the wall clock.
    pub ended_at: Timestamp,
    /// The disk space that it takes, in bytes.
    pub bytes: u64,
}

/// Why a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneReason {
    /// It ended too long ago.
    Age,
    /// Enough others ended after it.
    Count,
    /// With those that ended after it, it takes too much disk space.
    Size,
}

/// A run that goes, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRemoval {
    /// The run.
    pub run: EndedRun,
    /// Why.
    pub reason: PruneReason,
}

/// How a pruning went, or would go.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// The runs that went, the oldest end first.
    pub removed: Vec<PlannedRemoval>,
    /// How many folders went that crashes had left.
    pub leftovers: usize,
    /// The disk space that was freed, in bytes.
    pub freed_bytes: u64,
    /// How many ended runs stay by the rule.
    pub retained_count: usize,
    /// What could not be looked at or removed, by its name, and why.
    pub failed: Vec<(String, RegistryError)>,
}

/// Whether runs are removed, or only those named that would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// They are removed.
    Apply,
    /// Nothing is touched.
    DryRun,
}

impl Fleet {
    /// Removes ended runs by a rule, and what crashes left of others.
    pub async fn prune(&self, keep: Retention, earnest: PruneMode) -> Result<PruneReport, FleetError> {
        let fleet = self.clone();
        Ok(blocking(move || prune(&fleet, keep, earnest)).await??)
    }

    /// Prunes, unless a server has within the hour (`None`).
    pub async fn prune_when_due(&self, keep: Retention) -> Result<Option<PruneReport>, FleetError> {
        let fleet = self.clone();
        let pruned = blocking(move || {
            let Some(_turn) = fleet.state.try_lock_pruning(AUTO_PRUNE_INTERVAL)? else { return Ok(None) };
            prune(&fleet, keep, PruneMode::Apply).map(Some)
        });
        Ok(pruned.await??)
    }
}

/// Which runs go: those that are too old, those that too many ended after, and then those that take the rest's disk space over
/// its limit, but never the latest for its size alone. The oldest end comes first.
pub fn plan(mut ended: Vec<EndedRun>, keep: Retention, now: Timestamp) -> Vec<PlannedRemoval> {
    ended.sort_by(|a, b| (b.ended_at, &b.id).cmp(&(a.ended_at, &a.id)));
    let (mut bytes, mut is_full) = (0_u64, false);
    let mut planned = Vec::new();
    for (place, run) in ended.into_iter().enumerate() {
        bytes = bytes.saturating_add(run.bytes);
        is_full |= place > 0 && keep.keep_bytes.is_some_and(|most| bytes > most);
        let age = Duration::try_from(now.duration_since(run.ended_at)).unwrap_or_default();
        let why = [
            (keep.keep_for.is_some_and(|most| age > most), PruneReason::Age),
            (keep.keep_runs.is_some_and(|most| place >= most), PruneReason::Count),
            (is_full, PruneReason::Size),
        ];
        let why = why.into_iter().find(|(goes, _)| *goes);
        planned.extend(why.map(|(_, why)| PlannedRemoval { run, reason: why }));
    }
    planned.reverse();
    planned
}

fn prune(fleet: &Fleet, keep: Retention, earnest: PruneMode) -> Result<PruneReport, RegistryError> {
    let mut pruned = PruneReport::default();
    clear_leftovers(&fleet.state, earnest, &mut pruned)?;
    let ended = ended_runs(fleet, earnest, &mut pruned)?;
    let all = ended.len();
    let planned = plan(ended, keep, Timestamp::now());
    pruned.retained_count = all - planned.len();
    for planned in planned {
        remove_run(&fleet.state, planned, earnest, &mut pruned);
    }
    Ok(pruned)
}

fn clear_leftovers(state: &StateFolder, earnest: PruneMode, pruned: &mut PruneReport) -> Result<(), RegistryError> {
    for leftover in state.leftovers()? {
        let (name, bytes) = (leftover.name(), leftover.disk_bytes());
        let cleared = match earnest {
            PruneMode::Apply => leftover.remove(),
            PruneMode::DryRun => Ok(()),
        };
        match cleared {
            Ok(()) => {
                pruned.leftovers += 1;
                pruned.freed_bytes += bytes;
            }
            Err(error) => pruned.failed.push((name, error)),
        }
    }
    Ok(())
}

fn ended_runs(fleet: &Fleet, earnest: PruneMode, pruned: &mut PruneReport) -> Result<Vec<EndedRun>, RegistryError> {
    let mut ended = Vec::new();
    for id in fleet.state.list()? {
        match load_finalized(fleet, &id, earnest) {
            Ok(record) => ended.extend(record.state.ending().map(|ending| ending.ended_at.wall).map(|at| {
                let bytes = fleet.run_folder(&id).disk_bytes();
                EndedRun { id, ended_at: at, bytes }
            })),
            // Another process pruned it meanwhile.
            Err(RegistryError::Unknown(_)) => {}
            Err(error) => pruned.failed.push((id.to_string(), error)),
        }
    }
    Ok(ended)
}

/// A run's record. A run that has lost its supervisor is finalized by this read, as by any other.
fn load_finalized(fleet: &Fleet, id: &RunId, earnest: PruneMode) -> Result<RunRecord, RegistryError> {
    let record = fleet.state.load(id)?;
    let is_lost = record.state.ending().is_none() && earnest == PruneMode::Apply && is_orphan(&fleet.state, &record);
    let buried = if is_lost { supervisor::finalize_lost(&fleet.run_folder(id), &fleet.secrets)? } else { None };
    Ok(buried.unwrap_or(record))
}

fn remove_run(state: &StateFolder, planned: PlannedRemoval, earnest: PruneMode, pruned: &mut PruneReport) {
    let removal = match earnest {
        PruneMode::Apply => state.remove(&planned.run.id),
        PruneMode::DryRun => Ok(Removal::Removed),
    };
    match removal {
        Ok(Removal::Removed) => {
            pruned.freed_bytes += planned.run.bytes;
            pruned.removed.push(planned);
        }
        Ok(Removal::AlreadyRemoved) => {}
        Ok(Removal::InUse) => pruned.retained_count += 1,
        Err(error) => pruned.failed.push((planned.run.id.to_string(), error)),
    }
}

impl PruneReport {
    /// What went wrong, in words.
    pub fn failure_messages(&self) -> impl Iterator<Item = (&str, String)> {
        self.failed.iter().map(|(name, error)| (name.as_str(), text::error_chain(error)))
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
        EndedRun { id: RunId::from_bytes([0, 0, 0, 0, number]), ended_at: ended, bytes }
    }

    fn planned(runs: &[EndedRun], keep: Retention) -> Vec<(EndedRun, PruneReason)> {
        let now = Timestamp::from_second(NOW).expect("in range");
        plan(runs.to_vec(), keep, now).into_iter().map(|planned| (planned.run, planned.reason)).collect()
    }

    #[test]
    fn without_a_rule_everything_stays() {
        assert_eq!(planned(&[run(1, 999, u64::MAX), run(2, 1, u64::MAX)], Retention::default()), []);
    }

    #[test]
    fn a_run_goes_when_it_ended_too_long_ago() {
        let keep = Retention { keep_for: Some(Duration::from_secs(2 * 86_400)), ..Retention::default() };
        let (old, at_the_border, to_come) = (run(1, 3, 1), run(2, 2, 1), run(3, -5, 1));
        assert_eq!(planned(&[at_the_border, old.clone(), to_come], keep), [(old, PruneReason::Age)]);
    }

    #[test]
    fn the_latest_to_end_are_the_ones_that_stay() {
        let keep = Retention { keep_runs: Some(1), ..Retention::default() };
        let (a, b, c) = (run(1, 3, 1), run(2, 1, 1), run(3, 2, 1));
        assert_eq!(planned(&[a.clone(), b, c.clone()], keep), [(a, PruneReason::Count), (c, PruneReason::Count)]);
    }

    #[test]
    fn the_oldest_go_until_the_rest_fits() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, middle, old, oldest) = (run(1, 1, 6), run(2, 2, 4), run(3, 3, 1), run(4, 4, 0));
        let runs = [new, old.clone(), middle, oldest.clone()];
        assert_eq!(planned(&runs, keep), [(oldest, PruneReason::Size), (old, PruneReason::Size)]);
    }

    #[test]
    fn the_latest_stays_whatever_its_size() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, old) = (run(1, 1, 11), run(2, 2, 0));
        assert_eq!(planned(&[old.clone(), new], keep), [(old, PruneReason::Size)]);
    }

    #[test]
    fn the_first_rule_that_holds_is_the_reason() {
        let keep = Retention { keep_for: Some(Duration::from_secs(86_400)), keep_runs: Some(2), keep_bytes: Some(0) };
        let whys: Vec<_> = planned(&[run(1, 0, 1), run(2, 0, 1), run(3, 0, 0), run(4, 9, 0)], keep);
        assert_eq!(
            whys.into_iter().map(|(_, why)| why).collect::<Vec<_>>(),
            [PruneReason::Age, PruneReason::Count, PruneReason::Size]
        );
    }
}
