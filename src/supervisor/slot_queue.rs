//! Waits for a free slot. The run's own supervisor waits, with the run's lock and environment, so no server needs to be alive
//! and no key is written to disk. It polls twice a second instead of using inotify, since a user has few inotify instances.

use std::time::{Duration, SystemTime};

use super::{SupervisorError, known_secrets, report_ready, shutdown_signal};
use crate::clock;
use crate::ledger::{Ledger, SlotClaim};
use crate::provenance;
use crate::registry::{Durability, OwnerLock, RunFolder};
use crate::run::{Ending, Exit, Outcome, RunRecord, RunState};

/// How often it polls.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// After this many polls it checks the runs ahead even if the ledger has not changed: their supervisors may have died.
const POLLS_PER_FULL_CHECK: u32 = 10;

/// The outcome of a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueueOutcome {
    /// The run may start.
    Admitted,
    /// The run was stopped, and its ending is on record.
    Stopped,
}

/// Waits until the run may start.
pub(super) async fn wait_for_slot(
    folder: &RunFolder,
    record: &mut RunRecord,
    lock: &OwnerLock,
    ledger: &Ledger,
) -> Result<QueueOutcome, SupervisorError> {
    let slots = record.spec.allowance.slots;
    if record.spec.lineage.parent.is_some() || slots == 0 {
        return Ok(QueueOutcome::Admitted);
    }
    if ledger.try_claim_slot(&record.spec.id, slots)? == SlotClaim::Claimed {
        return Ok(QueueOutcome::Admitted);
    }
    record.state = RunState::Queued;
    record.seq += 1;
    folder.save(record, lock, Durability::Synced)?;
    report_ready();
    let mut shutdown = std::pin::pin!(shutdown_signal());
    let (mut last_checked, mut polls, mut ahead) = (None, 0, usize::MAX);
    loop {
        if !folder.path().exists() {
            tracing::warn!("the folder of the waiting run was removed; its supervisor ends");
            return Ok(QueueOutcome::Stopped);
        }
        if let Some(request) = folder.stop_request() {
            return record_stopped(folder, record, lock, request.reason);
        }
        let modified_at = ledger_modified_at(ledger);
        if modified_at != last_checked || ahead == 0 || polls % POLLS_PER_FULL_CHECK == 0 {
            match ledger.try_claim_slot(&record.spec.id, slots) {
                Ok(SlotClaim::Claimed) => return Ok(QueueOutcome::Admitted),
                Ok(SlotClaim::Waiting { ahead: before }) => ahead = before,
                // The disk may be full. A run that is not in the ledger may not start.
                Err(error) => tracing::warn!(%error, "the ledger cannot be written; the run continues to wait"),
            }
            last_checked = modified_at;
        }
        polls += 1;
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = &mut shutdown => {
                let reason = "its supervisor was told to end".to_owned();
                return record_stopped(folder, record, lock, Some(reason));
            }
        }
    }
}

fn ledger_modified_at(ledger: &Ledger) -> Option<SystemTime> {
    ledger.path().metadata().and_then(|meta| meta.modified()).ok()
}

fn record_stopped(
    folder: &RunFolder,
    record: &mut RunRecord,
    lock: &OwnerLock,
    reason: Option<String>,
) -> Result<QueueOutcome, SupervisorError> {
    let outcome = Outcome::Killed { reason, problem: None };
    let (exit, ended_at, duration) = (Exit::NeverStarted, clock::now(), Duration::ZERO);
    record.state =
        RunState::Ended(Ending { outcome, exit, ended_at, duration, answer: None, stop: None, warnings: Vec::new() });
    record.seq += 1;
    provenance::save_manifest(folder, record, lock, &known_secrets(folder));
    folder.save(record, lock, Durability::NotSynced)?;
    folder.sync_ending(lock)?;
    Ok(QueueOutcome::Stopped)
}
