//! The one book of a state folder (`ledger.json`): which runs wait, live and draw on which budget. It is written under a lock of
//! its own, by any server or supervisor, and rebuilt from the run folders if it is missing; it decides and starts nothing.

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
use crate::registry::{Durability, RegistryError, RunLock, StateFolder, write_atomic};
use crate::run::{Cap, DailySummary, Exit, GlobalLimits, Lineage, Outcome, RunId, RunRecord, RunState, Spend, Usd};

/// How long the same request from the same client means the run that it started.
pub const DEDUP_WINDOW: Duration = Duration::from_secs(60);
/// The time over which starts are counted.
const START_RATE_WINDOW: Duration = Duration::from_secs(60);

/// The book of a state folder.
#[derive(Debug, Clone)]
pub struct Ledger {
    state: StateFolder,
}

/// A run that wants to be admitted.
#[derive(Debug, Clone)]
pub struct AdmissionRequest {
    /// Its name.
    pub id: RunId,
    /// Who starts it.
    pub lineage: Lineage,
    /// What the agent asks for.
    pub requested_cap: Cap,
    /// What the operator allows each run.
    pub max_cap: Cap,
    /// What the operator allows all of them.
    pub global_limits: GlobalLimits,
    /// The budget that it shares with the other runs of its experiment.
    pub share: Option<BudgetShare>,
    /// Which server starts it.
    pub server: String,
    /// How the same request is known again.
    pub identity: RequestIdentity,
}

/// How a request is known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestIdentity {
    /// SHA-256 of all that was asked for.
    pub request_hash: String,
    /// SHA-256 of that and of what it means now: the text of the config, the project, the operator's defaults.
    pub content_hash: String,
    /// SHA-256 of the key that the agent gave it.
    pub key_hash: Option<String>,
    /// Who asks; the same request of the same client within [`DEDUP_WINDOW`] is the same, unless it is absent.
    pub client: Option<String>,
}

/// What is to become of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionDecision {
    /// The same request has started this run already.
    Duplicate(RunId),
    /// It may be a run.
    Granted {
        /// What it may spend.
        cap: Cap,
        /// Whether it has to wait for a slot.
        waits: bool,
    },
}

/// What became of an application.
#[derive(Debug)]
pub enum Admission<T> {
    /// It was admitted.
    New {
        /// What was made of it.
        made: T,
    },
    /// The same request has started this run already.
    Duplicate(RunId),
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotClaim {
    /// The run may start.
    Claimed,
    /// So many wait before it.
    Waiting {
        /// Runs ahead of it.
        ahead: usize,
    },
}

/// Why a run is not admitted, or what went wrong with the book.
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
        /// Seconds until there is room.
        wait_s: u64,
    },
    /// The queue is full.
    #[error("{0} runs wait already, which is the most")]
    QueueFull(u32),
    /// The tree has all the runs that it may have.
    #[error("{0} runs live below the first one already, which is the most")]
    TreeFull(u32),
    /// The run that wants to start another is being stopped.
    #[error("the run {0}, which asks for it, is at its end")]
    ParentStopping(RunId),
    /// More was asked for than the operator allows a run.
    #[error("{asked} was asked for, and {most} is the most for a run")]
    AboveRunCap {
        /// What was asked for.
        asked: String,
        /// The most there is.
        most: String,
    },
    /// The book was written by a newer version of this program.
    #[error("`{}` is of version {version}, and this program knows {}", path.display(), state::FORMAT_VERSION)]
    NewerVersion {
        /// The book.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A budget has not that much left.
    #[error("{pool} has {left} left, {asked} was asked for")]
    InsufficientBudget {
        /// Which budget.
        pool: BudgetPool,
        /// What is left of it, with what live runs may still spend taken off.
        left: String,
        /// What was asked for.
        asked: String,
    },
}

impl Ledger {
    /// The book of a state folder, which need not exist yet.
    pub fn new(state: &StateFolder) -> Ledger {
        Ledger { state: state.clone() }
    }

    /// Admits a run, or says why not. `make` puts it on disk while the book is locked, with the cap that it was granted and
    /// whether it has to wait for a slot. It blocks while others write.
    pub fn admit<T>(
        &self,
        application: &AdmissionRequest,
        make: impl FnOnce(Cap) -> Result<T, RegistryError>,
    ) -> Result<Admission<T>, LedgerError> {
        let _held = self.lock()?;
        let now = Timestamp::now();
        let mut book = self.read_refreshed(now)?;
        let (cap, waits) = match self.decide(&mut book, application, now)? {
            AdmissionDecision::Duplicate(known) => return Ok(Admission::Duplicate(known)),
            AdmissionDecision::Granted { cap, waits } => (cap, waits),
        };
        let made = make(cap)?;
        book.add_run(application, cap, if waits { Phase::Waiting } else { Phase::Live }, now);
        self.write(&book)?;
        Ok(Admission::New { made })
    }

    /// What `admit` would say, and what it would grant, without admitting anything.
    pub fn preview(&self, application: &AdmissionRequest) -> Result<AdmissionDecision, LedgerError> {
        let _held = self.lock()?;
        let now = Timestamp::now();
        let mut book = self.read_refreshed(now)?;
        self.decide(&mut book, application, now)
    }

    fn decide(
        &self,
        book: &mut LedgerState,
        application: &AdmissionRequest,
        now: Timestamp,
    ) -> Result<AdmissionDecision, LedgerError> {
        let began = |id: &RunId| self.state.load(id).is_ok_and(|record| !never_ran(&record));
        let lives = |id: &RunId| self.state.load(id).is_ok_and(|record| record.state.ending().is_none());
        if let Some(known) = book.find_duplicate(&application.identity, now, began, lives)? {
            return Ok(AdmissionDecision::Duplicate(known));
        }
        let waits = self.check_capacity(book, application, now)?;
        let cap = grant::grant(
            application.requested_cap,
            application.max_cap,
            &self.remaining_by_pool(book, application, now),
        )?;
        Ok(AdmissionDecision::Granted { cap, waits })
    }

    /// Whether the run may start now; then it has its slot. `slots` is how many there are.
    pub fn try_claim_slot(&self, id: &RunId, slots: u32) -> Result<SlotClaim, LedgerError> {
        let _held = self.lock()?;
        let mut book = self.read_refreshed(Timestamp::now())?;
        let turn = book.try_claim_slot(id, slots);
        self.write(&book)?;
        Ok(turn)
    }

    /// Books what an ended run has spent by itself and gives back the rest.
    pub fn settle(&self, id: &RunId, spent: Spend) -> Result<(), LedgerError> {
        let _held = self.lock()?;
        let mut book = self.read_refreshed(Timestamp::now())?;
        book.settle(id, spent);
        book.settle_finished_trees(Timestamp::now());
        Ok(self.write(&book)?)
    }

    /// What an experiment has spent, with what its live runs may still spend.
    pub fn experiment_charge(&self, experiment: &str) -> Result<Spend, LedgerError> {
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        Ok(self.read()?.experiment_charge(experiment, &spent))
    }

    /// Which run a key has started, as SHA-256; of a key that is known.
    pub fn run_for_key(&self, key: &str) -> Result<Option<RunId>, LedgerError> {
        let began = |id: &RunId| self.state.load(id).is_ok_and(|record| !never_ran(&record));
        Ok(self.read()?.run_for_key(key).filter(began))
    }

    /// The runs of today (UTC) together, those that were removed since with them. It takes no lock.
    pub fn today(&self) -> Result<DailySummary, LedgerError> {
        let now = Timestamp::now();
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        Ok(self.read_refreshed(now)?.today(now, &spent, &|id| self.is_live(id)))
    }

    /// The runs that wait or live, the latest first; with a run given, those below it alone.
    pub fn live_runs(&self, below: Option<&RunId>) -> Result<Vec<RunId>, LedgerError> {
        let book = self.read_refreshed(Timestamp::now())?;
        let is_meant = |id: &RunId| below.is_none_or(|above| book.is_descendant(id, above));
        let mut live = book.unfinished_runs();
        live.retain(|id| is_meant(id) && self.is_live(id));
        live.reverse();
        Ok(live)
    }

    /// The end of a run is in its record before it is in the book.
    fn is_live(&self, id: &RunId) -> bool {
        self.state.load(id).map_or(true, |record| record.state.ending().is_none())
    }

    /// How many runs wait before this one, and how many wait in all; as far as the book is right without a look at the runs.
    pub fn queue_position(&self, id: &RunId) -> Option<(usize, usize)> {
        self.read().ok()?.queue_position(id)
    }

    /// The file, which changes whenever the book does.
    pub fn path(&self) -> PathBuf {
        self.state.root().join("ledger.json")
    }

    /// Whether there is room for one more, and whether it has to wait.
    fn check_capacity(
        &self,
        book: &mut LedgerState,
        application: &AdmissionRequest,
        now: Timestamp,
    ) -> Result<bool, LedgerError> {
        let rules = &application.global_limits;
        let wait = book.start_delay(now, START_RATE_WINDOW, rules.starts_per_minute);
        if let Some(wait) = wait {
            return Err(LedgerError::TooManyStarts { most: rules.starts_per_minute, wait_s: wait.as_secs() + 1 });
        }
        if let Some(parent) = &application.lineage.parent {
            let record = self.state.load(parent)?;
            let is_at_work = matches!(record.state, RunState::Starting { .. } | RunState::Running { .. });
            if !is_at_work || self.final_spend(parent).is_some() {
                return Err(LedgerError::ParentStopping(parent.clone()));
            }
            if book.live_descendant_count(&application.lineage.root) >= rules.tree_runs as usize {
                return Err(LedgerError::TreeFull(rules.tree_runs));
            }
            return Ok(false);
        }
        let waits = book.waiting_count() > 0 || book.live_root_count() >= rules.slots as usize;
        if waits && book.waiting_count() >= rules.queue as usize {
            return Err(LedgerError::QueueFull(rules.queue));
        }
        Ok(waits)
    }

    /// What each budget that the run draws on has left.
    fn remaining_by_pool(
        &self,
        book: &LedgerState,
        application: &AdmissionRequest,
        now: Timestamp,
    ) -> Vec<(BudgetPool, Cap)> {
        let spent = |id: &RunId| self.state.load(id).map(|record| record.spent).unwrap_or_default();
        let mut pools = Vec::new();
        if let Some(share) = &application.share {
            let left = share.budget.remaining(book.experiment_charge(&share.experiment, &spent));
            pools.push((BudgetPool::Experiment(Box::new(share.clone())), left));
        }
        if let Some(parent) = &application.lineage.parent {
            let cap = self.state.load(parent).map(|record| record.spec.allowance.cap).unwrap_or_default();
            pools.push((BudgetPool::Parent(parent.clone()), cap.remaining(book.parent_charge(parent, &spent))));
            return pools;
        }
        let usd = |most: Option<Usd>, used: Usd| {
            Cap { usd: most, tokens: None }.remaining(Spend { usd: used, ..Spend::default() })
        };
        let rules = &application.global_limits;
        if rules.server_usd.is_some() {
            pools.push((BudgetPool::Server, usd(rules.server_usd, book.server_charge(&application.server, &spent))));
        }
        if rules.day_usd.is_some() {
            pools.push((BudgetPool::Day, usd(rules.day_usd, book.day_charge(now, &spent))));
        }
        pools
    }

    /// The book as the runs are now: those that are over without having said so are found by their free lock.
    fn read_refreshed(&self, now: Timestamp) -> Result<LedgerState, LedgerError> {
        let mut book = self.read()?;
        for id in book.unfinished_runs() {
            if let Some(spent) = self.final_spend(&id) {
                book.settle(&id, spent);
            }
        }
        book.settle_finished_trees(now);
        Ok(book)
    }

    /// What a run has spent that has no owner any more.
    fn final_spend(&self, id: &RunId) -> Option<Spend> {
        let folder = self.state.run_folder(id);
        match RunLock::try_take(&folder.lock()) {
            Ok(None) => None,
            Ok(Some(_)) => Some(folder.load().map(|record| record.spent).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Spend::default()),
            Err(_) => None,
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
            Ok(book) if book.version() <= state::FORMAT_VERSION => Ok(book),
            Ok(book) => Err(LedgerError::NewerVersion { path, version: book.version() }),
            Err(error) => {
                tracing::warn!(%error, "the ledger is damaged; it is made anew from the runs");
                Ok(self.rebuild())
            }
        }
    }

    /// What the run folders tell: who lives, which requests are known, what was spent on which day. What was spent by runs that
    /// were forgotten since is not in it.
    fn rebuild(&self) -> LedgerState {
        let ids = self.state.list().unwrap_or_default();
        let records = ids.iter().rev().filter_map(|id| self.state.load(id).ok()).collect::<Vec<RunRecord>>();
        LedgerState::from_records(&records)
    }

    fn write(&self, book: &LedgerState) -> Result<(), RegistryError> {
        if !book.is_changed {
            return Ok(());
        }
        let path = self.path();
        let written = book.to_json().and_then(|bytes| write_atomic(&path, &bytes, Durability::NotSynced));
        written.map_err(|source| RegistryError::Io { operation: "write", path, source })
    }

    fn lock(&self) -> Result<File, RegistryError> {
        let path = self.state.root().join("ledger.lock");
        let open = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let locked = open.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|source| RegistryError::Io { operation: "lock", path, source })
    }
}

/// Whether a run failed before MassGen ran: to ask for it again is no repetition.
fn never_ran(record: &RunRecord) -> bool {
    let ended = record.state.ending();
    ended.is_some_and(|end| end.exit == Exit::NeverStarted && matches!(end.outcome, Outcome::Failed(_)))
}
