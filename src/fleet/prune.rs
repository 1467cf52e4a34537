//! Removes ended runs by the operator's retention rules. A pure function plans the removals; carrying out the plan gives a report.
//! A run that is locked or has not ended is never removed, even if it is in the plan.

use std::time::Duration;

use jiff::Timestamp;

use super::{Fleet, FleetError, blocking, is_orphan};
use crate::massgen::text;
use crate::registry::{RegistryError, Removal, StateFolder};
use crate::run::{RunId, RunRecord};
use crate::settings::Retention;
use crate::supervisor;

/// The shortest time between two automatic prunes of a state folder.
const AUTO_PRUNE_INTERVAL: Duration = Duration::from_secs(3600);

/// The facts about an ended run that the plan needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its id.
    pub id: RunId,
    /// When it ended, by the wall clock.
    pub ended_at: Timestamp,
    /// Its disk usage, in bytes.
    pub bytes: u64,
}

/// Why a run is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneReason {
    /// It ended too long ago.
    Age,
    /// The limit on the number of runs is filled by runs that ended after it.
    Count,
    /// Together with the runs that ended after it, it exceeds the limit on disk usage.
    Size,
}

/// A run that the plan removes, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRemoval {
    /// The run.
    pub run: EndedRun,
    /// The reason.
    pub reason: PruneReason,
}

/// The result of a prune or of a dry run.
#[derive(Debug, Default)]
pub struct PruneReport {
    /// The removed runs, the oldest end first.
    pub removed: Vec<PlannedRemoval>,
    /// How many folders left by crashes were removed.
    pub leftovers: usize,
    /// The freed disk space, in bytes.
    pub freed_bytes: u64,
    /// How many ended runs are kept.
    pub retained_count: usize,
    /// The folders that could not be read or removed, by name, with the error.
    pub failed: Vec<(String, RegistryError)>,
}

/// Whether runs are removed or only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// Removes the runs.
    Apply,
    /// Changes nothing.
    DryRun,
}

impl Fleet {
    /// Removes ended runs by the retention rules, and folders left by crashes.
    pub async fn prune(&self, keep: Retention, mode: PruneMode) -> Result<PruneReport, FleetError> {
        let fleet = self.clone();
        Ok(blocking(move || prune(&fleet, keep, mode)).await??)
    }

    /// Prunes, unless a server did so within `AUTO_PRUNE_INTERVAL` (`None`).
    pub async fn prune_when_due(&self, keep: Retention) -> Result<Option<PruneReport>, FleetError> {
        let fleet = self.clone();
        let report = blocking(move || {
            let Some(_lock) = fleet.state.try_lock_pruning(AUTO_PRUNE_INTERVAL)? else { return Ok(None) };
            prune(&fleet, keep, PruneMode::Apply).map(Some)
        });
        Ok(report.await??)
    }
}

/// Plans the removals, the oldest end first: runs that are too old, runs beyond the number limit, and runs beyond the disk usage
/// limit. The run that ended last is never removed for its size.
pub fn plan(mut ended: Vec<EndedRun>, keep: Retention, now: Timestamp) -> Vec<PlannedRemoval> {
    ended.sort_by(|a, b| (b.ended_at, &b.id).cmp(&(a.ended_at, &a.id)));
    let (mut bytes, mut is_full) = (0_u64, false);
    let mut planned = Vec::new();
    for (index, run) in ended.into_iter().enumerate() {
        bytes = bytes.saturating_add(run.bytes);
        is_full |= index > 0 && keep.keep_bytes.is_some_and(|limit| bytes > limit);
        let age = Duration::try_from(now.duration_since(run.ended_at)).unwrap_or_default();
        let reason = [
            (keep.keep_for.is_some_and(|limit| age > limit), PruneReason::Age),
            (keep.keep_runs.is_some_and(|limit| index >= limit), PruneReason::Count),
            (is_full, PruneReason::Size),
        ];
        let reason = reason.into_iter().find(|(applies, _)| *applies);
        planned.extend(reason.map(|(_, reason)| PlannedRemoval { run, reason }));
    }
    planned.reverse();
    planned
}

fn prune(fleet: &Fleet, keep: Retention, mode: PruneMode) -> Result<PruneReport, RegistryError> {
    let mut report = PruneReport::default();
    clear_leftovers(&fleet.state, mode, &mut report)?;
    let ended = ended_runs(fleet, mode, &mut report)?;
    let total = ended.len();
    let planned = plan(ended, keep, Timestamp::now());
    report.retained_count = total - planned.len();
    for planned in planned {
        remove_run(&fleet.state, planned, mode, &mut report);
    }
    Ok(report)
}

fn clear_leftovers(state: &StateFolder, mode: PruneMode, report: &mut PruneReport) -> Result<(), RegistryError> {
    for leftover in state.leftovers()? {
        let (name, bytes) = (leftover.name(), leftover.disk_bytes());
        let cleared = match mode {
            PruneMode::Apply => leftover.remove(),
            PruneMode::DryRun => Ok(()),
        };
        match cleared {
            Ok(()) => {
                report.leftovers += 1;
                report.freed_bytes += bytes;
            }
            Err(error) => report.failed.push((name, error)),
        }
    }
    Ok(())
}

fn ended_runs(fleet: &Fleet, mode: PruneMode, report: &mut PruneReport) -> Result<Vec<EndedRun>, RegistryError> {
    let mut ended = Vec::new();
    for id in fleet.state.list()? {
        match load_finalized(fleet, &id, mode) {
            Ok(record) => ended.extend(record.state.ending().map(|ending| ending.ended_at.wall).map(|at| {
                let bytes = fleet.run_folder(&id).disk_bytes();
                EndedRun { id, ended_at: at, bytes }
            })),
            // Another process pruned it meanwhile.
            Err(RegistryError::Unknown(_)) => {}
            Err(error) => report.failed.push((id.to_string(), error)),
        }
    }
    Ok(ended)
}

/// Loads a run's record; unless this is a dry run, a run without a supervisor is finalized first, as by any other read.
fn load_finalized(fleet: &Fleet, id: &RunId, mode: PruneMode) -> Result<RunRecord, RegistryError> {
    let record = fleet.state.load(id)?;
    let is_lost = record.state.ending().is_none() && mode == PruneMode::Apply && is_orphan(&fleet.state, &record);
    let finalized = if is_lost { supervisor::finalize_lost(&fleet.run_folder(id), &fleet.secrets)? } else { None };
    Ok(finalized.unwrap_or(record))
}

fn remove_run(state: &StateFolder, planned: PlannedRemoval, mode: PruneMode, report: &mut PruneReport) {
    let removal = match mode {
        PruneMode::Apply => state.remove(&planned.run.id),
        PruneMode::DryRun => Ok(Removal::Removed),
    };
    match removal {
        Ok(Removal::Removed) => {
            report.freed_bytes += planned.run.bytes;
            report.removed.push(planned);
        }
        Ok(Removal::AlreadyRemoved) => {}
        Ok(Removal::InUse) => report.retained_count += 1,
        Err(error) => report.failed.push((planned.run.id.to_string(), error)),
    }
}

impl PruneReport {
    /// The failures, each with its folder's name and its error text.
    pub fn failure_messages(&self) -> impl Iterator<Item = (&str, String)> {
        self.failed.iter().map(|(name, error)| (name.as_str(), text::error_chain(error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    const NOW: i64 = 1000 * DAY;

    /// A run that ended `days` days ago and has `bytes` bytes.
    fn run(number: u8, days: i64, bytes: u64) -> EndedRun {
        let ended = Timestamp::from_second(NOW - days * DAY).expect("in range");
        EndedRun { id: RunId::from_bytes([0, 0, 0, 0, number]), ended_at: ended, bytes }
    }

    fn planned(runs: &[EndedRun], keep: Retention) -> Vec<(EndedRun, PruneReason)> {
        let now = Timestamp::from_second(NOW).expect("in range");
        plan(runs.to_vec(), keep, now).into_iter().map(|planned| (planned.run, planned.reason)).collect()
    }

    #[test]
    fn without_rules_all_runs_are_kept() {
        assert_eq!(planned(&[run(1, 999, u64::MAX), run(2, 1, u64::MAX)], Retention::default()), []);
    }

    #[test]
    fn a_run_is_removed_if_it_ended_too_long_ago() {
        let keep = Retention { keep_for: Some(Duration::from_secs(2 * 86_400)), ..Retention::default() };
        let (old, at_the_limit, in_the_future) = (run(1, 3, 1), run(2, 2, 1), run(3, -5, 1));
        assert_eq!(planned(&[at_the_limit, old.clone(), in_the_future], keep), [(old, PruneReason::Age)]);
    }

    #[test]
    fn the_runs_that_ended_last_are_kept() {
        let keep = Retention { keep_runs: Some(1), ..Retention::default() };
        let (a, b, c) = (run(1, 3, 1), run(2, 1, 1), run(3, 2, 1));
        assert_eq!(planned(&[a.clone(), b, c.clone()], keep), [(a, PruneReason::Count), (c, PruneReason::Count)]);
    }

    #[test]
    fn the_oldest_runs_are_removed_until_the_rest_fits() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, middle, old, oldest) = (run(1, 1, 6), run(2, 2, 4), run(3, 3, 1), run(4, 4, 0));
        let runs = [new, old.clone(), middle, oldest.clone()];
        assert_eq!(planned(&runs, keep), [(oldest, PruneReason::Size), (old, PruneReason::Size)]);
    }

    #[test]
    fn the_run_that_ended_last_is_kept_at_any_size() {
        let keep = Retention { keep_bytes: Some(10), ..Retention::default() };
        let (new, old) = (run(1, 1, 11), run(2, 2, 0));
        assert_eq!(planned(&[old.clone(), new], keep), [(old, PruneReason::Size)]);
    }

    #[test]
    fn the_first_matching_rule_is_the_reason() {
        let keep = Retention { keep_for: Some(Duration::from_secs(86_400)), keep_runs: Some(2), keep_bytes: Some(0) };
        let removals: Vec<_> = planned(&[run(1, 0, 1), run(2, 0, 1), run(3, 0, 0), run(4, 9, 0)], keep);
        assert_eq!(
            removals.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>(),
            [PruneReason::Age, PruneReason::Count, PruneReason::Size]
        );
    }
}
