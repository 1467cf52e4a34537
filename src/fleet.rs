//! The client side of runs: start a run, read runs, wait for a change, request a stop. Several processes may do this at
//! once on one state folder, and each may die at any time: this module keeps no essential state.
//! It signals no process and writes no record of a run that has a supervisor. If the supervisor has died, the supervisor's
//! recovery code ends the remaining processes.

mod answer_basis;
mod compare;
mod conversation;
mod cursor;
mod effective_config;
mod experiments;
mod follow;
mod launcher;
pub mod prune;
pub mod results;
mod start;
mod status_extras;
mod steer;
mod verify;
mod wait;
mod warm;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::ledger::{Ledger, LedgerError};
use crate::massgen::text;
use crate::registry::{RegistryError, RunFolder, StateFolder, probe_owner};
use crate::run::{DailySummary, RunId, RunRecord, RunState, StopRequest, Wording};
use crate::secrets::Secrets;
use crate::supervisor;
use crate::watch::Watcher;

pub use answer_basis::BasisError;
pub use conversation::ContinueError;
pub use cursor::Cursor;
pub use experiments::{
    ExperimentError, ExperimentRequest, ExperimentStatus, MAX_EXPERIMENT_RUNS, StartedExperiment, arm_keys_from_env,
    start_request,
};
pub use follow::{Follower, LogChunk};
pub use launcher::LaunchError;
pub use start::{ConfigKeys, Forecast, StartError, StartLimits, StartRequest, StartedRun};
pub use steer::{AgentMessage, MAX_MESSAGE_CHARS, MAX_PENDING_MESSAGES, SteerError, SteerOutcome};
pub use verify::{GroupVerification, Verification, VerifyError};
pub use wait::{WaitResult, WaitUntil};

use experiments::ExperimentPlans;
use start::is_own;

/// How many runs are shown if the caller names none.
pub const LATEST_COUNT: usize = 20;

/// All runs of a state folder.
#[derive(Clone)]
pub struct Fleet {
    state: StateFolder,
    /// This program, used to start supervisors.
    program: PathBuf,
    watcher: Arc<OnceLock<Watcher>>,
    /// The secrets to mask in everything that is read.
    secrets: Secrets,
    /// The run that this process is part of.
    parent: Option<RunId>,
    /// The words for next steps in the texts that are read.
    wording: Wording,
}

/// Which runs to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// The named runs, in this order.
    Runs(Vec<RunId>),
    /// All runs of a group, the newest first.
    Group(String),
    /// The latest [`LATEST_COUNT`].
    Latest,
    /// The waiting and running runs, the latest first; a wait also includes runs that ended during it.
    Live {
        /// Only the descendants of this run.
        below: Option<RunId>,
        /// Only runs that the client of this process requested in this project.
        own: Option<PathBuf>,
    },
}

/// The result of one read.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The runs, in the order of the selection.
    pub runs: Vec<RunRecord>,
    /// The runs with an unreadable record.
    pub unreadable: Vec<(RunId, RegistryError)>,
    /// For an experiment: its progress, read just before its runs, so runs it reports as ended have ended.
    pub experiment: Option<ExperimentStatus>,
}

impl Snapshot {
    /// Whether a run has its complete answer and only has to exit.
    fn is_ending(&self) -> bool {
        self.runs.iter().any(RunRecord::is_ending)
    }

    /// Whether the experiment has lost its driver and all runs that it started have ended: nothing happens until it is resumed or stopped.
    pub fn is_interrupted(&self) -> bool {
        let Some(ExperimentStatus { experiment, has_live_driver: false }) = &self.experiment else { return false };
        // A killed driver may have started a run without recording it.
        let has_started = |run: &RunRecord| run.started.is_some() || experiment.progress.started.contains(&run.spec.id);
        let is_live = |run: &RunRecord| run.state.ending().is_none() && has_started(run);
        experiment.progress.closed.is_none() && !self.runs.iter().any(is_live)
    }

    /// Whether the experiment is running and has a live driver.
    fn has_live_driver(&self) -> bool {
        let status = self.experiment.as_ref().filter(|status| status.has_live_driver);
        status.is_some_and(|ExperimentStatus { experiment, .. }| experiment.progress.closed.is_none())
    }
}

/// How long a read waits for leftovers of lost runs to be ended.
const FINALIZE_TIMEOUT: Duration = Duration::from_secs(1);

/// An operation on runs failed.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A record could not be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A supervisor could not be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The run is not allowed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The message was not sent.
    #[error(transparent)]
    Steer(#[from] SteerError),
    /// The conversation cannot continue.
    #[error(transparent)]
    Continue(#[from] ContinueError),
    /// The experiment cannot begin.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// The answer cannot be used as a basis.
    #[error(transparent)]
    Basis(#[from] BasisError),
    /// The run is not admitted.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A read of the disk was interrupted.
    #[error("a look at the runs did not come to its end")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl Fleet {
    /// The fleet of a state folder, without secrets. `program` is this program.
    pub fn new(state: StateFolder, program: &Path) -> Fleet {
        Fleet {
            state,
            program: program.to_owned(),
            watcher: Arc::default(),
            secrets: Secrets::default(),
            parent: None,
            wording: |step| step.words(&[]),
        }
    }

    /// This fleet, with secrets to mask in everything it reads of runs.
    #[must_use]
    pub fn with_secrets(self, secrets: Secrets) -> Fleet {
        Fleet { secrets, ..self }
    }

    /// This fleet, with the words of its reader for next steps; without them, steps have only the words for every reader.
    #[must_use]
    pub fn with_wording(self, wording: Wording) -> Fleet {
        Fleet { wording, ..self }
    }

    /// The secrets to mask.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The state folder.
    pub fn state(&self) -> &StateFolder {
        &self.state
    }

    /// This fleet, used from within a run: the runs it starts are children of that run.
    #[must_use]
    pub fn with_parent(self, parent: Option<RunId>) -> Fleet {
        Fleet { parent, ..self }
    }

    /// The run that this process is part of.
    pub fn parent(&self) -> Option<&RunId> {
        self.parent.as_ref()
    }

    /// The waiting and running runs; for a process that is part of a run, its descendants.
    pub fn live_selection(&self) -> Selection {
        Selection::Live { below: self.parent.clone(), own: None }
    }

    /// The live runs that the client of this process requested in `project` (empty without one), with their descendants; for a
    /// process that is part of a run, all its descendants.
    pub fn own_live_selection(&self, project: &Path) -> Selection {
        Selection::Live { below: self.parent.clone(), own: self.parent.is_none().then(|| project.to_owned()) }
    }

    /// The totals of today's runs (UTC); `None` if the ledger cannot be read.
    pub async fn today(&self) -> Option<DailySummary> {
        let ledger = Ledger::new(&self.state);
        blocking(move || ledger.today()).await.ok()?.ok()
    }

    /// How many runs wait ahead of a queued one, and how many wait in total.
    pub fn queue_position(&self, id: &RunId) -> Option<(usize, usize)> {
        Ledger::new(&self.state).queue_position(id)
    }

    /// The current state of a run. If its supervisor has died, the run is ended first.
    pub async fn run_record(&self, id: &RunId) -> Result<RunRecord, FleetError> {
        let mut snapshot = self.snapshot(&Selection::Runs(vec![id.clone()])).await?;
        match (snapshot.runs.pop(), snapshot.unreadable.pop()) {
            (Some(run), _) => Ok(run),
            (None, Some((_, error))) => Err(error.into()),
            (None, None) => Err(RegistryError::Unknown(id.clone()).into()),
        }
    }

    /// The current state of the selected runs. Every run of a list must exist.
    pub async fn snapshot(&self, selection: &Selection) -> Result<Snapshot, FleetError> {
        self.refresh(selection, &mut WaitCache::default()).await
    }

    /// Requests a stop and waits until the run ends, `timeout` expires or `cancelled` resolves; the record says which.
    pub async fn stop(
        &self,
        id: &RunId,
        request: StopRequest,
        timeout: Duration,
        cancelled: impl Future<Output = ()>,
    ) -> Result<RunRecord, FleetError> {
        let record = self.run_record(id).await?;
        if record.state.ending().is_some() {
            return Ok(record);
        }
        self.check_is_started(&record)?;
        let folder = self.state.run_folder(id);
        blocking(move || folder.request_stop(&request)).await??;
        let selection = Selection::Runs(vec![id.clone()]);
        let waited = self.wait(&selection, WaitUntil::AllEnded, None, timeout, cancelled).await?;
        Ok(waited.snapshot.runs.into_iter().next().unwrap_or(record))
    }

    /// Reads what can have changed since the previous read of the same wait.
    async fn refresh(&self, selection: &Selection, cache: &mut WaitCache) -> Result<Snapshot, FleetError> {
        let (state, selection, cache_before) = (self.state.clone(), selection.clone(), std::mem::take(cache));
        let (mut snapshot, orphans, cache_before) =
            blocking(move || cache_before.snapshot(&state, &selection)).await??;
        *cache = cache_before;
        for finalized in self.finalize_orphans(orphans).await {
            if let Some(run) = snapshot.runs.iter_mut().find(|run| run.spec.id == finalized.spec.id) {
                *run = finalized;
            }
        }
        Ok(snapshot)
    }

    /// Ends runs without a supervisor, concurrently; a run that takes longer appears in a later read.
    async fn finalize_orphans(&self, orphans: Vec<RunId>) -> Vec<RunRecord> {
        let mut tasks = JoinSet::new();
        for id in orphans {
            let (folder, secrets) = (self.run_folder(&id), self.secrets.clone());
            tasks.spawn_blocking(move || supervisor::finalize_lost(&folder, &secrets));
        }
        let mut finalized = Vec::new();
        let timeout = tokio::time::sleep(FINALIZE_TIMEOUT);
        tokio::pin!(timeout);
        loop {
            tokio::select! {
                result = tasks.join_next() => match result {
                    Some(Ok(Ok(record))) => finalized.extend(record),
                    Some(Ok(Err(error))) => tracing::warn!(error = text::error_chain(&error), "a lost run could not be ended"),
                    Some(Err(error)) => tracing::error!(%error, "the end of a lost run was interrupted"),
                    None => break,
                },
                () = &mut timeout => break,
            }
        }
        tasks.detach_all();
        finalized
    }

    fn watcher(&self) -> &Watcher {
        self.watcher.get_or_init(Watcher::start)
    }

    fn run_folder(&self, id: &RunId) -> RunFolder {
        self.state.run_folder(id)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, FleetError> {
    tokio::task::spawn_blocking(work).await.map_err(FleetError::Interrupted)
}

/// The results that the reads of one wait share: ended runs do not change, and runs of other groups are skipped.
#[derive(Default)]
struct WaitCache {
    /// Whether another read follows.
    is_reused: bool,
    ended: HashMap<RunId, RunRecord>,
    excluded: HashSet<RunId>,
    /// For live runs: the runs that were live at an earlier read.
    live: Vec<RunId>,
}

impl WaitCache {
    /// Reads once; gives the snapshot, the runs in it without a supervisor, and the cache for the next read.
    fn snapshot(
        mut self,
        state: &StateFolder,
        selection: &Selection,
    ) -> Result<(Snapshot, Vec<RunId>, WaitCache), FleetError> {
        let (is_alive, mut plans) = match selection {
            // Check the driver before the plan: a driver that has exited has recorded why.
            Selection::Group(group) => {
                (state.experiment(group).has_live_driver(), Some(ExperimentPlans::for_group(state, group)))
            }
            Selection::Runs(_) | Selection::Latest | Selection::Live { .. } => (false, None),
        };
        let mut ids = match selection {
            Selection::Runs(ids) => ids.clone(),
            Selection::Group(_) => state.list()?,
            Selection::Latest => state.latest(LATEST_COUNT)?,
            Selection::Live { below, .. } => Ledger::new(state).live_runs(below.as_ref())?,
        };
        if matches!(selection, Selection::Live { .. }) {
            // A caller that waits for a run seen live earlier must see its end.
            ids.extend(std::mem::take(&mut self.live).into_iter().filter(|id| !ids.contains(id)).collect::<Vec<_>>());
            self.live.clone_from(&ids);
        }
        let listed: HashSet<&RunId> = ids.iter().collect();
        let planned = plans.iter().flat_map(ExperimentPlans::unstarted_runs).filter(|id| !listed.contains(id)).cloned();
        ids.extend(planned.collect::<Vec<_>>());
        let mut snapshot = Snapshot::default();
        let mut orphans = Vec::new();
        for id in ids.into_iter().filter(|id| !self.excluded.contains(id)).collect::<Vec<_>>() {
            match self.known_or_planned(state, &id, &mut plans) {
                Ok(run) if !selection.matches(&run) => {
                    self.excluded.insert(id);
                }
                Ok(run) => {
                    if run.state.ending().is_none() && is_orphan(state, &run) {
                        orphans.push(id);
                    }
                    snapshot.runs.push(run);
                }
                Err(error @ RegistryError::Unknown(_)) if matches!(selection, Selection::Runs(_)) => {
                    return Err(error.into());
                }
                Err(error) => snapshot.unreadable.push((id, error)),
            }
        }
        let group_experiment =
            plans.filter(|_| matches!(selection, Selection::Group(_))).and_then(ExperimentPlans::into_first);
        snapshot.experiment =
            group_experiment.map(|experiment| ExperimentStatus { experiment, has_live_driver: is_alive });
        Ok((snapshot, orphans, self))
    }

    fn known_or_planned(
        &mut self,
        state: &StateFolder,
        id: &RunId,
        plans: &mut Option<ExperimentPlans>,
    ) -> Result<RunRecord, RegistryError> {
        let loaded = self.load(state, id).or_else(|error| planned_record(state, id, plans).ok_or(error));
        // The run may have been started between these two reads.
        loaded.or_else(|_| self.load(state, id))
    }

    fn load(&mut self, state: &StateFolder, id: &RunId) -> Result<RunRecord, RegistryError> {
        if let Some(run) = self.ended.get(id) {
            return Ok(run.clone());
        }
        let run = state.load(id)?;
        if self.is_reused && run.state.ending().is_some() {
            self.ended.insert(id.clone(), run.clone());
        }
        Ok(run)
    }
}

/// A run that an experiment has planned and that has no folder yet.
fn planned_record(state: &StateFolder, id: &RunId, plans: &mut Option<ExperimentPlans>) -> Option<RunRecord> {
    if state.run_folder(id).path().exists() {
        return None;
    }
    plans.get_or_insert_with(|| ExperimentPlans::all(state)).unstarted_record(id)
}

impl Selection {
    fn matches(&self, run: &RunRecord) -> bool {
        match self {
            Selection::Runs(_) | Selection::Latest | Selection::Live { own: None, .. } => true,
            Selection::Live { own: Some(project), .. } => is_own(&run.spec.origin, project),
            Selection::Group(group) => run.spec.group.as_ref() == Some(group),
        }
    }
}

/// The lock of a run that has not ended is free: its supervisor has died, or has written the ending since.
fn is_orphan(state: &StateFolder, run: &RunRecord) -> bool {
    let known = !matches!(run.state, RunState::Unknown(_));
    known && probe_owner(&state.run_folder(&run.spec.id).lock()).is_free()
}
