//! Continues the conversation of an ended run: checks that this is possible and copies the turns for the next run.
//! The earlier run is not changed, so several runs may continue the same one, and it may be removed afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Fleet, FleetError, blocking};
use crate::massgen::answers;
use crate::massgen::copy::CopyError;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::session::{self, SessionTurn};
use crate::registry::{OwnerLock, RegistryError, StateFolder};
use crate::run::{Continuation, RunId, RunRecord, RunState};

/// How long a supervisor may take to exit after it has recorded the end of its run.
const SUPERVISOR_EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the lock of such a run is tried.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The most turns of a conversation.
const MAX_TURNS: u32 = 100;

/// A conversation that cannot continue.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// The run has not ended.
    #[error("{0} has not ended")]
    NotEnded(RunId),
    /// The run has no answer to continue from.
    #[error("{0} left no answer")]
    NoAnswer(RunId),
    /// The conversation has too many turns.
    #[error("the conversation of {0} has {MAX_TURNS} turns, which is the most")]
    TooLong(RunId),
    /// The turns of the run cannot be copied.
    #[error("cannot hand on what {run} left")]
    Session {
        /// The run.
        run: RunId,
        /// The cause.
        source: CopyError,
    },
}

/// The files for a run that continues a conversation, in a staging folder that is removed on drop.
pub(super) struct SessionFiles {
    staging_folder: TempDir,
}

impl SessionFiles {
    /// The folder with the turns, which is moved into the run's folder.
    pub(super) fn session(&self) -> std::path::PathBuf {
        self.staging_folder.path().join("session")
    }
}

impl Fleet {
    /// Checks that a conversation can continue; gives the run's record and the number of the next turn.
    pub async fn resolve_continuation(&self, id: &RunId) -> Result<(RunRecord, Continuation), FleetError> {
        let record = self.run_record(id).await?;
        let Some(ending) = record.state.ending() else { return Err(ContinueError::NotEnded(id.clone()).into()) };
        if ending.answer.is_none() {
            return Err(ContinueError::NoAnswer(id.clone()).into());
        }
        let turn = turn_number(&record) + 1;
        if turn > MAX_TURNS {
            return Err(ContinueError::TooLong(id.clone()).into());
        }
        Ok((record, Continuation { run: id.clone(), turn }))
    }

    /// Copies the turns for a run that continues a conversation.
    pub(super) async fn stage_session(&self, continued: &Continuation) -> Result<SessionFiles, FleetError> {
        let (state, run) = (self.state().clone(), continued.run.clone());
        blocking(move || stage_files(&state, &run)).await?
    }
}

fn turn_number(record: &RunRecord) -> u32 {
    record.spec.continuation.as_ref().map_or(1, |continuation| continuation.turn)
}

fn stage_files(state: &StateFolder, run: &RunId) -> Result<SessionFiles, FleetError> {
    let folder = state.run_folder(run);
    // The shared lock prevents the removal of the run during the copy.
    let _lock = lock_ended_run(state, run)?;
    let record = state.load(run)?;
    let files = open_files(folder.path())?;
    let layout = Layout::find(&files, record.log_dir.as_deref());
    let best = layout.and_then(|layout| answers::best(&files, &layout, record.digest.as_ref()));
    let (RunState::Ended(_), Some(answer)) = (&record.state, best) else {
        return Err(ContinueError::NoAnswer(run.clone()).into());
    };
    let turn = SessionTurn {
        number: turn_number(&record),
        question: &record.spec.question,
        answer: &answer,
        is_partial: record.state.is_partial_answer(answer.source),
    };
    let staged = SessionFiles { staging_folder: state.create_staging_folder()? };
    let written = session::write_session(&files, Path::new("session"), &turn, &staged.session());
    written.map_err(|source| ContinueError::Session { run: run.clone(), source })?;
    Ok(staged)
}

pub(super) fn open_files(path: &Path) -> Result<RunFiles, RegistryError> {
    let failed = |source| RegistryError::Io { operation: "open", path: path.to_owned(), source };
    RunFiles::open(path).map_err(failed)
}

/// Takes the shared lock of an ended run, and waits for a supervisor that is still exiting.
fn lock_ended_run(state: &StateFolder, run: &RunId) -> Result<OwnerLock, FleetError> {
    let path = state.run_folder(run).lock();
    let started_at = Instant::now();
    loop {
        match OwnerLock::share(&path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if started_at.elapsed() < SUPERVISOR_EXIT_TIMEOUT => std::thread::sleep(POLL_INTERVAL),
            Ok(None) => return Err(ContinueError::NotEnded(run.clone()).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RegistryError::Unknown(run.clone()).into());
            }
            Err(source) => return Err(RegistryError::Io { operation: "lock", path, source }.into()),
        }
    }
}
