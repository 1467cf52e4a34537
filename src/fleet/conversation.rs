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
use crate::massgen::session::{self, Turn};
use crate::registry::{RegistryError, RunLock, StateFolder};
use crate::run::{Continued, RunId, RunRecord, RunState};

/// How long a supervisor may take to go after its run's end is on record.
const LEAVE: Duration = Duration::from_secs(5);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);
/// The most turns of a conversation.
const MOST_TURNS: u32 = 100;

/// A conversation that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NotContinued {
    /// The run is not over.
    #[error("{0} has not ended")]
    Lives(RunId),
    /// There is nothing to go on with.
    #[error("{0} left no answer")]
    NoAnswer(RunId),
    /// The conversation has too many turns.
    #[error("the conversation of {0} has {MOST_TURNS} turns, which is the most")]
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
pub(super) struct History {
    place: TempDir,
}

impl History {
    /// The folder with the turns, to be moved into the run's.
    pub(super) fn session(&self) -> std::path::PathBuf {
        self.place.path().join("session")
    }
}

impl Fleet {
    /// A run whose conversation is to go on, and which turn the next run will be.
    pub async fn to_continue(&self, id: &RunId) -> Result<(RunRecord, Continued), FleetError> {
        let record = self.look(id).await?;
        let Some(ending) = record.state.ended() else { return Err(NotContinued::Lives(id.clone()).into()) };
        if ending.answer.is_none() {
            return Err(NotContinued::NoAnswer(id.clone()).into());
        }
        let turn = turn_of(&record) + 1;
        if turn > MOST_TURNS {
            return Err(NotContinued::TooLong(id.clone()).into());
        }
        Ok((record, Continued { run: id.clone(), turn }))
    }

    /// Collects what a run that goes on with a conversation is to have from its beginning.
    pub(super) async fn history(&self, continued: &Continued) -> Result<History, FleetError> {
        let (state, run) = (self.state().clone(), continued.run.clone());
        blocking(move || collect(&state, &run)).await?
    }
}

fn turn_of(record: &RunRecord) -> u32 {
    record.spec.continues.as_ref().map_or(1, |before| before.turn)
}

fn collect(state: &StateFolder, run: &RunId) -> Result<History, FleetError> {
    let folder = state.folder(run);
    // Nobody removes it meanwhile.
    let _held = hold(state, run)?;
    let record = state.load(run)?;
    let files = open(folder.path())?;
    let layout = Layout::find(&files, record.log_dir.as_deref());
    let best = layout.and_then(|layout| answers::best(&files, &layout, record.digest.as_ref()));
    let (RunState::Ended(_), Some(answer)) = (&record.state, best) else {
        return Err(NotContinued::NoAnswer(run.clone()).into());
    };
    let turn = Turn {
        number: turn_of(&record),
        question: &record.spec.question,
        answer: &answer,
        is_partial: record.state.makes_partial(answer.source),
    };
    let history = History { place: state.workshop()? };
    let handed_on = session::hand_on(&files, Path::new("session"), &turn, &history.session());
    handed_on.map_err(|source| NotContinued::Session { run: run.clone(), source })?;
    Ok(history)
}

pub(super) fn open(path: &Path) -> Result<RunFiles, RegistryError> {
    let failed = |source| RegistryError::Io { operation: "open", path: path.to_owned(), source };
    RunFiles::open(path).map_err(failed)
}

/// Holds an ended run; its supervisor may still be on its way out.
fn hold(state: &StateFolder, run: &RunId) -> Result<RunLock, FleetError> {
    let path = state.folder(run).lock();
    let begun = Instant::now();
    loop {
        match RunLock::share(&path) {
            Ok(Some(lock)) => return Ok(lock),
            Ok(None) if begun.elapsed() < LEAVE => std::thread::sleep(LOOK),
            Ok(None) => return Err(NotContinued::Lives(run.clone()).into()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(RegistryError::Unknown(run.clone()).into());
            }
            Err(source) => return Err(RegistryError::Io { operation: "lock", path, source }.into()),
        }
    }
}
