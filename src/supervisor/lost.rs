//! Ends the remaining processes of a run after its supervisor died, and records the run as `lost`.
//! The first process that finds the run does this under the run's lock. It touches only processes that provably belong to the run.

use std::time::{Duration, Instant};

use super::group::{self, ProcessInfo, StopSignal};
use super::repository;
use crate::clock;
use crate::massgen::answers;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::text;
use crate::provenance;
use crate::registry::{Durability, OwnerLock, RegistryError, RunFolder};
use crate::run::{
    AnswerSummary, Context, Ending, Exit, Force, Outcome, Problem, Retry, RunRecord, RunState, Step, StopReport,
    Survivor,
};
use crate::secrets::Secrets;

/// Time from SIGTERM (which the kernel sent MassGen when its supervisor died) to SIGKILL for the remaining processes.
const TERMINATE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait until SIGKILL takes effect.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends the remaining processes of a run that lost its supervisor and writes its ending; `None` if another process owns the run.
/// It blocks for up to seven seconds; usually it does not block.
pub fn finalize_lost(folder: &RunFolder, secrets: &Secrets) -> Result<Option<RunRecord>, RegistryError> {
    let path = folder.lock();
    let lock = OwnerLock::try_take(&path).map_err(|source| RegistryError::Io { operation: "lock", path, source })?;
    let Some(lock) = lock else { return Ok(None) };
    // The supervisor may have written the ending and exited before the lock was taken.
    let mut record = folder.load()?;
    if matches!(record.state, RunState::Ended(_) | RunState::Unknown(_)) {
        return Ok(Some(record));
    }
    // From here on no error is returned: if the ending cannot be written, it is still valid, and the next check writes it.
    let never_started = record.started.is_none();
    let report = stop_remaining(folder, &record);
    let answer = best_answer(folder, &record, secrets);
    if record.spec.context != Context::None {
        repository::forget_worktrees(&record.spec.project, folder.path());
    }
    let ending = lost_ending(&record, never_started, report, answer);
    record.state = RunState::Ended(ending);
    record.quiet = None;
    record.seq += 1;
    provenance::save_manifest(folder, &record, &lock, secrets);
    let saved = folder.save(&record, &lock, Durability::NotSynced).and_then(|()| folder.sync_ending(&lock));
    if let Err(error) = saved {
        tracing::warn!(run = %record.spec.id, error = text::error_chain(&error), "the ending could not be written");
    }
    Ok(Some(record))
}

fn lost_ending(record: &RunRecord, never_started: bool, report: StopReport, answer: Option<AnswerSummary>) -> Ending {
    let at = clock::now();
    let duration = record.started.as_ref().map(|started| started.duration_until(&at)).unwrap_or_default();
    let outcome = if never_started { Outcome::Failed(interrupted_problem()) } else { Outcome::Lost };
    let exit = if never_started { Exit::NeverStarted } else { Exit::Unknown };
    let stop = (report.processes > 0).then(|| Box::new(report));
    Ending { outcome, exit, ended_at: at, duration, answer, stop, warnings: Vec::new() }
}

fn interrupted_problem() -> Problem {
    let problem =
        Problem::new("start_interrupted", "the start was broken off before MassGen ran", Step::StartInterrupted);
    Problem { retry: Some(Retry::Now), ..problem }
}

fn best_answer(folder: &RunFolder, record: &RunRecord, secrets: &Secrets) -> Option<AnswerSummary> {
    let files = RunFiles::open(folder.path()).ok()?;
    let layout = Layout::find(&files, record.log_dir.as_deref())?;
    let answer = answers::best(&files, &layout, record.digest.as_ref())?;
    Some(answers::summarize(&files, &answer, secrets))
}

/// All processes with the run's mark, the recorded processes if their identity still matches, and all below them.
fn remaining_processes(folder: &RunFolder, record: &RunRecord) -> Vec<ProcessInfo> {
    let known: Vec<_> = record.state.leader().into_iter().chain(&record.keeper).cloned().collect();
    group::marked_processes(&folder.bin(), &known)
}

fn stop_remaining(folder: &RunFolder, record: &RunRecord) -> StopReport {
    let started_at = Instant::now();
    let first = remaining_processes(folder, record);
    let processes = u32::try_from(first.len()).unwrap_or(u32::MAX);
    if first.is_empty() {
        return StopReport { duration: started_at.elapsed(), force: Force::None, processes, survivors: Vec::new() };
    }
    let after_terminate = signal_until_gone(folder, record, StopSignal::Terminate, TERMINATE_TIMEOUT);
    let (force, remaining) = if after_terminate.is_empty() {
        (Force::Terminate, after_terminate)
    } else {
        (Force::Kill, signal_until_gone(folder, record, StopSignal::Kill, KILL_TIMEOUT))
    };
    let survivors = remaining.into_iter().map(|process| Survivor { pid: process.identity.pid, name: process.name });
    StopReport { duration: started_at.elapsed(), force, processes, survivors: survivors.collect() }
}

/// Sends a signal to all and scans until none remains or the time is up; returns the remaining ones.
fn signal_until_gone(folder: &RunFolder, record: &RunRecord, signal: StopSignal, wait: Duration) -> Vec<ProcessInfo> {
    let started_at = Instant::now();
    loop {
        let remaining = remaining_processes(folder, record);
        let done = remaining.is_empty() || started_at.elapsed() >= wait;
        if done {
            return remaining;
        }
        remaining.iter().for_each(|process| {
            group::send_signal(&process.identity, signal);
        });
        std::thread::sleep(Duration::from_millis(20));
    }
}
