//! Runs seen from outside: start one, look at some, wait for a change, ask for a stop. Any number of processes may do so at
//! once on one state folder, and each may die at any time: nothing that matters is kept here.
//! It never signals a process of a run and never writes a record; supervisors do.

mod cursor;
mod launcher;
pub mod results;
mod wait;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::registry::{RegistryError, RunFolder, StateFolder};
use crate::run::{RunId, RunRecord, RunSpec, RunState, StopAsk};
use crate::supervisor;
use crate::watch::Watcher;

pub use cursor::Cursor;
pub use launcher::LaunchError;
pub use wait::{Until, Waited};

/// How many runs are shown where none are named.
pub const LATEST: usize = 20;

/// All runs of a state folder.
#[derive(Clone)]
pub struct Fleet {
    state: StateFolder,
    /// This program, to start supervisors with.
    me: PathBuf,
    watcher: Arc<OnceLock<Watcher>>,
}

/// Which runs are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These, in this order.
    Runs(Vec<RunId>),
    /// All of a group, the newest first.
    Group(String),
    /// The latest [`LATEST`].
    Latest,
}

/// Something about runs went wrong.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A record could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A supervisor could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A look at the disk was broken off.
    #[error("a look at the runs did not come to its end")]
    BrokenOff(#[source] tokio::task::JoinError),
}

impl Fleet {
    /// The fleet of a state folder. `me` is this program.
    pub fn new(state: StateFolder, me: &Path) -> Fleet {
        Fleet { state, me: me.to_owned(), watcher: Arc::default() }
    }

    /// The state folder.
    pub fn state(&self) -> &StateFolder {
        &self.state
    }

    /// Starts a run: when this returns, it is on disk, its supervisor lives, and MassGen's process is on record, or its
    /// ending is.
    pub async fn start(&self, spec: RunSpec) -> Result<RunRecord, FleetError> {
        let id = spec.id.clone();
        let state = self.state.clone();
        let (folder, lock) = blocking(move || state.create(&spec)).await??;
        launcher::launch(&self.me, &folder, lock).await?;
        self.look(&id).await
    }

    /// A run as it is now. One whose supervisor has died is brought to its end first.
    pub async fn look(&self, id: &RunId) -> Result<RunRecord, FleetError> {
        let state = self.state.clone();
        let id = id.clone();
        Ok(blocking(move || look(&state, &id)).await??)
    }

    /// The runs of a selection as they are now. Of a list, every one must exist; of a group or the latest, one whose record
    /// cannot be read is left out, and the log says so.
    pub async fn look_all(&self, selection: &Selection) -> Result<Vec<RunRecord>, FleetError> {
        let state = self.state.clone();
        let selection = selection.clone();
        Ok(blocking(move || look_all(&state, &selection)).await??)
    }

    /// Asks for a stop and waits until the run is over, or until `patience` is; the record says which.
    pub async fn stop(&self, id: &RunId, ask: StopAsk, patience: std::time::Duration) -> Result<RunRecord, FleetError> {
        let record = self.look(id).await?;
        if record.state.ended().is_some() {
            return Ok(record);
        }
        let folder = self.state.folder(id);
        blocking(move || folder.ask_stop(&ask)).await??;
        let selection = Selection::Runs(vec![id.clone()]);
        let waited = self.wait(&selection, Until::AllDone, None, patience, std::future::pending()).await?;
        Ok(waited.runs.into_iter().next().unwrap_or(record))
    }

    fn watcher(&self) -> &Watcher {
        self.watcher.get_or_init(Watcher::start)
    }

    fn folder(&self, id: &RunId) -> RunFolder {
        self.state.folder(id)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FleetError> {
    tokio::task::spawn_blocking(work).await.map_err(FleetError::BrokenOff)
}

fn look(state: &StateFolder, id: &RunId) -> Result<RunRecord, RegistryError> {
    let record = state.load(id)?;
    match record.state {
        RunState::Ended(_) | RunState::Unknown(_) => Ok(record),
        RunState::Starting { .. } | RunState::Running { .. } | RunState::Stopping { .. } => {
            // Nobody holds the lock of a run that goes on: then it is lost, or has ended since.
            Ok(supervisor::bury(&state.folder(id))?.unwrap_or(record))
        }
    }
}

fn look_all(state: &StateFolder, selection: &Selection) -> Result<Vec<RunRecord>, RegistryError> {
    match selection {
        Selection::Runs(ids) => ids.iter().map(|id| look(state, id)).collect(),
        Selection::Group(group) => {
            let all = state.list()?;
            Ok(all
                .iter()
                .filter_map(|id| readable(state, id))
                .filter(|run| run.spec.group.as_ref() == Some(group))
                .collect())
        }
        Selection::Latest => Ok(state.list()?.iter().filter_map(|id| readable(state, id)).take(LATEST).collect()),
    }
}

fn readable(state: &StateFolder, id: &RunId) -> Option<RunRecord> {
    look(state, id).inspect_err(|error| tracing::warn!(run = %id, %error, "left out")).ok()
}
