//! The ledger of a state folder (`ledger.json`): which runs wait, live and draw on which budget. Any server or supervisor writes it
//! under a lock of its own. If it is missing, it is rebuilt from the run folders. It starts and stops no process.

mod grant;
mod state;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

pub use self::grant::{BudgetPool, BudgetShare};
use self::state::{LedgerState, Phase};
use crate::registry::{Durability, Owner, RegistryError, StateFolder, probe_owner, write_atomic};
use crate::run::{Cap, DailySummary, Exit, GlobalLimits, Lineage, Outcome, RunId, RunRecord, RunState, Spend, Usd};

/// Within this time, the same request from the same client refers to the run that it started.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(60);
/// The period over which starts are counted.
const START_RATE_WINDOW: Duration = Duration::from_secs(60);

/// The ledger of a state folder.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: StateFolder,
}

/// A request to admit a run.
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// The name of the run.
    pub id: RunId,
    /// Its parent run, if any, and the root of its tree.
    pub lineage: Lineage,
    /// The limits that the agent requests.
    pub requested_cap: Cap,
    /// The operator's limits for each run.
    pub max_cap: Cap,
    /// The operator's limits for all runs together.
    pub global_limits: GlobalLimits,
    /// The share of an experiment's budget, if the run belongs to one.
    pub share: Option<BudgetShare>,
    /// The server that starts it.
    pub server: String,
    /// Identifies a repetition of the request.
    pub identity: RequestIdentity,
}

/// Identifies a repetition of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIdentity {
    /// SHA-256 of the request.
    pub request_hash: String,
    /// SHA-256 of the request and of the data that it refers to at this time: the text of the config, the project, the operator's defaults.
    pub content_hash: String,
    /// SHA-256 of the key that the agent gave it.
    pub key_hash: Option<String>,
    /// The client. The same request of the same client within [`DEDUP_WINDOW`] counts as a repetition; without a client, none does.
    pub client: Option<String>,
}

/// The decision on a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionDecision {
    /// The same request has started this run already.
    Duplicate(RunId),
    /// The run may be created.
    Granted {
        /// The limit of its spend.
        cap: Cap,
        /// Whether it has to wait for a slot.
        waits: bool,
    },
}

/// The result of a request.
#[derive(Debug)]
pub enum Admission<T> {
    /// It was admitted.
    New {
        /// What `make` returned.
        made: T,
    },
    /// The same request has started this run already.
    Duplicate(RunId),
}

/// The result of claiming a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotClaim {
    /// The run may start.
    Claimed,
    /// Other runs wait ahead of it.
    Waiting {
        /// The number of runs ahead of it.
        ahead: usize,
    },
}

/// Why a run is not admitted, or why the ledger cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file could not be read or written.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The same key was given with another request.
    #[error("the request_key belongs to another request, which started {0}")]
    KeyReused(RunId),
    /// Too many starts in a minute.
    #[error("{most} runs were started within a minute, which is the most; the next start is possible in {wait_s} s")]
    TooManyStarts {
        /// The limit.
        most: u32,
        /// Seconds until another start is allowed.
        wait_s: u64,
    },
    /// The queue is full.
    #[error("{0} runs wait already, which is the most")]
    QueueFull(u32),
    /// The tree has the maximum number of runs.
    #[error("{0} runs live below the first one already, which is the most")]
    TreeFull(u32),
    /// The run that wants to start another is being stopped.
    #[error("the run {0}, which asks for it, is at its end")]
    ParentStopping(RunId),
    /// The caller requested more than the operator allows a run.
    #[error("{asked} was asked for, and {most} is the most for a run")]
    AboveRunCap {
        /// The requested amount.
        asked: String,
        /// The maximum.
        most: String,
    },
    /// A newer version of this program wrote the ledger.
    #[error("`{}` is of version {version}, and this program knows {}", path.display(), state::FORMAT_VERSION)]
    NewerVersion {
        /// The path of the ledger.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A budget has less left than requested.
    #[error("{pool} has {left} left, {asked} was asked for")]
    InsufficientBudget {
        /// The budget.
        pool: BudgetPool,
        /// The rest of it after subtracting the reservations of live runs.
        left: String,
        /// The requested amount.
        asked: String,
    },
}

impl Ledger {
    /// The ledger of a state folder, which need not exist yet.
    pub fn new(state: &StateFolder) -> Ledger {
        Ledger { state: state.clone() }
    }

    /// Admits a run or returns why not. `make` puts the run on disk while the ledger is locked; it gets the granted cap and whether
    /// the run must wait for a slot. This blocks while other processes write.
    pub fn admit<T>(
        &self,
        request: &AdmissionRequest,
        make: impl FnOnce(Cap) -> Result<T, RegistryError>,
    ) -> Result<Admission<T>, LedgerError> {
        let _lock = self.lock()?;
        let now = Timestamp::now();
        let mut ledger_state = self.read_refreshed(now)?;
        let (cap, must_wait) = match self.decide(&mut ledger_state, request, now)? {
            AdmissionDecision::Duplicate(known) => return Ok(Admission::Duplicate(known)),
            AdmissionDecision::Granted { cap, waits: must_wait } => (cap, must_wait),
        };
        let created = make(cap)?;
        ledger_state.add_run(request, cap, if must_wait { Phase::Waiting } else { Phase::Live }, now);
        self.write(&ledger_state)?;
        Ok(Admission::New { made: created })
    }

    /// The decision and grant that `admit` would make. It admits no run.
    pub fn preview(&self, request: &AdmissionRequest) -> Result<AdmissionDecision, LedgerError> {
        let _lock = self.lock()?;
        let now = Timestamp::now();
        let mut ledger_state = self.read_refreshed(now)?;
        self.decide(&mut ledger_state, request, now)
    }

    fn decide(
        &self,
        ledger_state: &mut LedgerState,
        request: &AdmissionRequest,
        now: Timestamp,
    ) -> Result<AdmissionDecision, LedgerError> {
        let has_run = |id: &RunId| self.state.load(id).is_ok_and(|record| !never_ran(&record));
        let is_live = |id: &RunId| self.state.load(id).is_ok_and(|record| record.state.ending().is_none());
        if let Some(duplicate) = ledger_state.find_duplicate(&request.identity, now, has_run, is_live)? {
            return Ok(AdmissionDecision::Duplicate(duplicate));
        }
        let must_wait = self.check_capacity(ledger_state, request, now)?;
        let cap =
            grant::grant(request.requested_cap, request.max_cap, &self.remaining_by_pool(ledger_state, request, now))?;
        Ok(AdmissionDecision::Granted { cap, waits: must_wait })
    }

    /// Claims a slot for the run, if it may start now. `slots` is the number of slots.
    pub fn try_claim_slot(&self, id: &RunId, slots: u32) -> Result<SlotClaim, LedgerError> {
        let _lock = self.lock()?;
        let mut ledger_state = self.read_refreshed(Timestamp::now())?;
        let claim = ledger_state.try_claim_slot(id, slots);
        self.write(&ledger_state)?;
        Ok(claim)
    }

    /// Records the own spend of an ended run and releases the rest of its reservation.
    pub fn settle(&self, id: &RunId, spent: Spend) -> Result<(), LedgerError> {
        let _lock = self.lock()?;
        let mut ledger_state = self.read_refreshed(Timestamp::now())?;
        ledger_state.settle(id, spent);
        ledger_state.settle_finished_trees(Timestamp::now());
        Ok(self.write(&ledger_state)?)
    }

    /// The spend of an experiment, plus the reservations of its live runs.
    pub fn experiment_charge(&self, experiment: &str) -> Result<Spend, LedgerError> {
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        Ok(self.read()?.experiment_charge(experiment, &spent))
    }

    /// The run that a key has started, if the key is known. `key` is a SHA-256.
    pub fn run_for_key(&self, key: &str) -> Result<Option<RunId>, LedgerError> {
        let has_run = |id: &RunId| self.state.load(id).is_ok_and(|record| !never_ran(&record));
        Ok(self.read()?.run_for_key(key).filter(has_run))
    }

    /// The totals of today's runs (UTC), including those removed since. It takes no lock.
    pub fn today(&self) -> Result<DailySummary, LedgerError> {
        let now = Timestamp::now();
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        Ok(self.read_refreshed(now)?.today(now, &spent, &|id| self.is_live(id)))
    }

    /// The runs that wait or live, the latest first; with `below`, only those below that run.
    pub fn live_runs(&self, ancestor: Option<&RunId>) -> Result<Vec<RunId>, LedgerError> {
        let ledger_state = self.read_refreshed(Timestamp::now())?;
        let is_selected = |id: &RunId| ancestor.is_none_or(|ancestor| ledger_state.is_descendant(id, ancestor));
        let mut live = ledger_state.unfinished_runs();
        live.retain(|id| is_selected(id) && self.is_live(id));
        live.reverse();
        Ok(live)
    }

    /// A run's ending is written to its record before the ledger, so the record decides.
    fn is_live(&self, id: &RunId) -> bool {
        self.state.load(id).map_or(true, |record| record.state.ending().is_none())
    }

    /// How many runs wait ahead of this one, and how many wait in total. It reads only the ledger, which may lag behind the runs.
    pub fn queue_position(&self, id: &RunId) -> Option<(usize, usize)> {
        self.read().ok()?.queue_position(id)
    }

    /// The path of the file, which changes whenever the ledger does.
    pub fn path(&self) -> PathBuf {
        self.state.root().join("ledger.json")
    }

    /// Checks whether one more run is allowed, and whether it must wait.
    fn check_capacity(
        &self,
        ledger_state: &mut LedgerState,
        request: &AdmissionRequest,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let limits = &request.global_limits;
        let wait = ledger_state.start_delay(now, START_RATE_WINDOW, limits.starts_per_minute);
        if let Some(wait) = wait {
            return Err(LedgerError::TooManyStarts { most: limits.starts_per_minute, wait_s: wait.as_secs() + 1 });
        }
        if let Some(parent) = &request.lineage.parent {
            let record = self.state.load(parent)?;
            let is_starting_or_running = matches!(record.state, RunState::Starting { .. } | RunState::Running { .. });
            if !is_starting_or_running || self.final_spend(parent).is_some() {
                return Err(LedgerError::ParentStopping(parent.clone()));
            }
            if ledger_state.live_descendant_count(&request.lineage.root) >= limits.tree_runs as usize {
                return Err(LedgerError::TreeFull(limits.tree_runs));
            }
            return Ok(false);
        }
        let must_wait = ledger_state.waiting_count() > 0 || ledger_state.live_root_count() >= limits.slots as usize;
        if must_wait && ledger_state.waiting_count() >= limits.queue as usize {
            return Err(LedgerError::QueueFull(limits.queue));
        }
        Ok(must_wait)
    }

    /// The rest of each budget that the run draws on.
    fn remaining_by_pool(
        &self,
        ledger_state: &LedgerState,
        request: &AdmissionRequest,
        now: Timestamp,
    ) -> Vec<(BudgetPool, Cap)> {
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        let mut pools = Vec::new();
        if let Some(share) = &request.share {
            let left = share.budget.remaining(ledger_state.experiment_charge(&share.experiment, &spent));
            pools.push((BudgetPool::Experiment(Box::new(share.clone())), left));
        }
        if let Some(parent) = &request.lineage.parent {
            let cap = self.state.load(parent).map(|record| record.spec.allowance.cap).unwrap_or_default();
            pools.push((BudgetPool::Parent(parent.clone()), cap.remaining(ledger_state.parent_charge(parent, &spent))));
            return pools;
        }
        let usd = |limit: Option<Usd>, used: Usd| {
            Cap { usd: limit, tokens: None }.remaining(Spend { usd: used, ..Spend::default() })
        };
        let limits = &request.global_limits;
        if limits.server_usd.is_some() {
            pools.push((
                BudgetPool::Server,
                usd(limits.server_usd, ledger_state.server_charge(&request.server, &spent)),
            ));
        }
        if limits.day_usd.is_some() {
            pools.push((BudgetPool::Day, usd(limits.day_usd, ledger_state.day_charge(now, &spent))));
        }
        pools
    }

    /// The ledger updated to the runs' current state: a free lock shows that a run is over even if the ledger has no ending for it.
    fn read_refreshed(&self, now: Timestamp) -> Result<LedgerState, LedgerError> {
        let mut ledger_state = self.read()?;
        for id in ledger_state.unfinished_runs() {
            if let Some(spent) = self.final_spend(&id) {
                ledger_state.settle(&id, spent);
            }
        }
        ledger_state.settle_finished_trees(now);
        Ok(ledger_state)
    }

    /// The spend of a run that has no owner any more.
    fn final_spend(&self, id: &RunId) -> Option<Spend> {
        let folder = self.state.run_folder(id);
        match probe_owner(&folder.lock()) {
            Owner::Free => Some(folder.load().map(|record| record.spent).unwrap_or_default()),
            Owner::Missing => Some(Spend::default()),
            Owner::Held | Owner::Unknown(_) => None,
        }
    }

    fn read(&self) -> Result<LedgerState, LedgerError> {
        let path = self.path();
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.rebuild()),
            Err(source) => return Err(RegistryError::Io { operation: "read", path, source }.into()),
        };
        match LedgerState::from_json(&bytes) {
            Ok(ledger_state) if ledger_state.version() <= state::FORMAT_VERSION => Ok(ledger_state),
            Ok(ledger_state) => Err(LedgerError::NewerVersion { path, version: ledger_state.version() }),
            Err(error) => {
                // A later format need not have the fields of this one.
                if let Some(version) = format_version(&bytes).filter(|version| *version > state::FORMAT_VERSION) {
                    return Err(LedgerError::NewerVersion { path, version });
                }
                tracing::warn!(%error, "the ledger is damaged; it is rebuilt from the runs");
                Ok(self.rebuild())
            }
        }
    }

    /// Rebuilds the ledger from the run folders: live runs, known requests, spend by day. It lacks the spend of runs that have been
    /// removed.
    fn rebuild(&self) -> LedgerState {
        let ids = self.state.list().unwrap_or_default();
        let records = ids.iter().rev().filter_map(|id| self.state.load(id).ok()).collect::<Vec<RunRecord>>();
        LedgerState::from_records(&records)
    }

    fn write(&self, ledger_state: &LedgerState) -> Result<(), RegistryError> {
        if !ledger_state.is_changed {
            return Ok(());
        }
        let path = self.path();
        let written = ledger_state.to_json().and_then(|bytes| write_atomic(&path, &bytes, Durability::NotSynced));
        written.map_err(|source| RegistryError::Io { operation: "write", path, source })
    }

    fn lock(&self) -> Result<File, RegistryError> {
        let path = self.state.root().join("ledger.lock");
        let lock_file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let locked = lock_file.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| RegistryError::Io { operation: "lock", path, source })
    }
}

/// The version of a ledger file, whatever else it contains.
fn format_version(bytes: &[u8]) -> Option<u32> {
    #[derive(serde::Deserialize)]
    struct Versioned {
        version: u32,
    }
    serde_json::from_slice::<Versioned>(bytes).ok().map(|file| file.version)
}

/// Whether a run failed before MassGen ran; requesting it again is not a repetition.
fn never_ran(record: &RunRecord) -> bool {
    let ended = record.state.ending();
    ended.is_some_and(|end| end.exit == Exit::NeverStarted && matches!(end.outcome, Outcome::Failed(_)))
}
