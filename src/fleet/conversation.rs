//! Going on with the conversation of a run that has ended: whether that can be, and what the next run is given of it.
//! The earlier run is read and never changed, so that several may go on from the same one, and it may be removed afterwards.

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

/// How long a supervisor may take to go after its run's end is on record.
const SUPERVISOR_EXIT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The most turns of a conversation.
const MAX_TURNS: u32 = 100;

/// A conversation that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ContinueError {
    /// The run is not over.
    #[error("{0} has not ended")]
    NotEnded(RunId),
    /// There is nothing to go on with.
    #[error("{0} left no answer")]
    NoAnswer(RunId),
    /// The conversation has too many turns.
    #[error("the conversation of {0} has {MAX_TURNS} turns, which is the most")]
    TooLong(RunId),
    /// What it left cannot be handed on.
    #[error("cannot hand on what {run} left")]
    Session {
        /// The run.
        run: RunId,
        /// Why not.
        source: CopyError,
    },
}

/// What a run has to be given to go on with another's conversation; in a folder that is gone when this is dropped.
pub(super) struct SessionFiles {
    staging_folder: TempDir,
}

impl SessionFiles {
    /// The folder with the turns, to be moved into the run's.
    pub(super) fn session(&self) -> std::path::PathBuf {
        self.staging_folder.path().join("session")
    }
}

impl Fleet {
    /// A run whose conversation is to go on, and which turn the next run will be.
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

    /// Collects what a run that goes on with a conversation is to have from its beginning.
    pub(super) async fn stage_session(&self, continued: &Continuation) -> Result<SessionFiles, FleetError> {
        let (state, run) = (self.state().clone(), continued.run.clone());
        blocking(move || stage_files(&state, &run)).await?
    }
}

fn turn_number(record: &RunRecord) -> u32 {
    record.spec.continuation.as_ref().map_or(1, |before| before.turn)
}

fn stage_files(state: &StateFolder, run: &RunId) -> Result<SessionFiles, FleetError> {
    let folder = state.run_folder(run);
    // The shared lock keeps it from being removed meanwhile.
    let _held = lock_ended_run(state, run)?;
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
    let history = SessionFiles { staging_folder: state.create_staging_folder()? };
    let handed_on = session::write_session(&files, Path::new("session"), &turn, &history.session());
    handed_on.map_err(|source| ContinueError::Session { run: run.clone(), source })?;
    Ok(history)
}

pub(super) fn open_files(path: &Path) -> Result<RunFiles, RegistryError> {
    let failed = |source| RegistryError::Io { operation: "open", path: path.to_owned(), source };
    RunFiles::open(path).map_err(failed)
}

/// Holds an ended run; its supervisor may still be on its way out.
fn lock_ended_run(state: &StateFolder, run: &RunId) -> Result<OwnerLock, FleetError> {
    let path = state.run_folder(run).lock();
    let begun = Instant::now();
    loop {
        match OwnerLock::share(&path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if begun.elapsed() < SUPERVISOR_EXIT_TIMEOUT => std::thread::sleep(POLL_INTERVAL),
            Ok(None) => return Err(ContinueError::NotEnded(run.clone()).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RegistryError::Unknown(run.clone()).into());
            }
            Err(source) => return Err(RegistryError::Io { operation: "lock", path, source }.into()),
        }
    }
}
