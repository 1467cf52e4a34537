//! Waiting for a free slot. The run's own supervisor waits, with the run's lock and environment, so that no server need be alive
//! and no key is ever written down. It looks twice a second and takes no inotify instance: of those a user has few.

use std::time::{Duration, SystemTime};

use super::{SupervisorError, known_secrets, tell_ready, told_to_end};
use crate::clock;
use crate::ledger::{Ledger, Turn};
use crate::provenance;
use crate::registry::{Durability, RunFolder, RunLock};
use crate::run::{Ending, Exit, Outcome, RunRecord, RunState};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);
/// How often it looks at whoever is ahead where the ledger has not changed: they may have died without a word.
const LOOKS_AT_OTHERS: u32 = 10;

/// What a wait came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    /// The run may start.
    Turn,
    /// It was stopped, and its ending is on record.
    Stop,
}

/// Waits until the run may start.
pub(super) async fn wait(
    folder: &RunFolder,
    record: &mut RunRecord,
    lock: &RunLock,
    ledger: &Ledger,
) -> Result<Came, SupervisorError> {
    let slots = record.spec.allowance.slots;
    if record.spec.lineage.parent.is_some() || slots == 0 {
        return Ok(Came::Turn);
    }
    if ledger.turn(&record.spec.id, slots)? == Turn::Go {
        return Ok(Came::Turn);
    }
    record.state = RunState::Queued;
    record.seq += 1;
    folder.save(record, lock, Durability::Synced)?;
    tell_ready();
    let mut told = std::pin::pin!(told_to_end());
    let (mut seen, mut looks, mut ahead) = (None, 0, usize::MAX);
    loop {
        if let Some(ask) = folder.stop_asked() {
            return stopped(folder, record, lock, ask.reason);
        }
        let changed = changed(ledger);
        if changed != seen || ahead == 0 || looks % LOOKS_AT_OTHERS == 0 {
            match ledger.turn(&record.spec.id, slots) {
                Ok(Turn::Go) => return Ok(Came::Turn),
                Ok(Turn::Wait { ahead: before }) => ahead = before,
                // A full disk: nothing may start that is not in the book.
                Err(error) => tracing::warn!(%error, "the ledger cannot be kept; the run waits on"),
            }
            seen = changed;
        }
        looks += 1;
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = &mut told => {
                let reason = "its supervisor was told to end".to_owned();
                return stopped(folder, record, lock, Some(reason));
            }
        }
    }
}

fn changed(ledger: &Ledger) -> Option<SystemTime> {
    ledger.path().metadata().and_then(|meta| meta.modified()).ok()
}

fn stopped(
    folder: &RunFolder,
    record: &mut RunRecord,
    lock: &RunLock,
    reason: Option<String>,
) -> Result<Came, SupervisorError> {
    let outcome = Outcome::Killed { reason, problem: None };
    let (exit, at, took) = (Exit::NeverStarted, clock::now(), Duration::ZERO);
    record.state = RunState::Ended(Ending { outcome, exit, at, took, answer: None, stop: None, warnings: Vec::new() });
    record.seq += 1;
    provenance::keep(folder, record, lock, &known_secrets(folder));
    folder.save(record, lock, Durability::Plain)?;
    folder.sync_ending(lock)?;
    Ok(Came::Stop)
}
