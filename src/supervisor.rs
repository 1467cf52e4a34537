//! The process that owns one run: its lock, its process tree, its deadline and its ending. It outlives every server. Commands
//! reach it only through the run's folder (`stop.json`) and as SIGTERM, which also requests a stop.
//! It implements no protocol and never touches a process of another run.

mod activity;
mod agent_facts;
mod ancestry;
mod budget;
mod budget_monitor;
pub mod group;
pub mod kernel;
mod leader;
mod liveness;
mod lost;
mod outcome_reader;
mod output;
mod plan;
mod prepare;
mod proc_sampler;
mod project_monitor;
mod project_snapshot;
mod reaper;
mod record_writer;
mod repository;
mod run_config;
mod run_context;
mod signals;
mod slot_queue;
mod spend_tracker;
mod status_reader;
mod stop_driver;
mod worker;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use self::project_monitor::ProjectMonitor;
use self::record_writer::RecordWriter;
use self::run_context::RunContext;
use self::signals::Signals;
use self::worker::Worker;
use crate::clock;
use crate::ledger::{Ledger, LedgerError};
use crate::massgen::{configs, text};
use crate::registry::{OwnerLock, RegistryError, RunFolder, StateFolder};
use crate::rehearsal;
use crate::run::{InvalidRunId, RunRecord};
use crate::secrets::{EnvFileError, Secrets};

pub use ancestry::parent_run;
pub use leader::exec_massgen;
pub use lost::finalize_lost;
pub use prepare::environment;

/// The supervisor prints this to standard output once MassGen's process is on record, or while the run waits for it. The process
/// that started the supervisor reads no further.
pub const READY: &str = "ready";

/// Why a supervisor could not start or complete its work.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The folder does not belong to a run.
    #[error("`{}` is not a run's folder", path.display())]
    NotARun {
        /// The given path.
        path: PathBuf,
        /// Why it is not a run's folder.
        source: InvalidRunId,
    },
    /// Another supervisor owns the run, or has owned it.
    #[error("`{}` has a supervisor, or its run is over", .0.display())]
    AlreadySupervised(PathBuf),
    /// A record could not be read or written.
    #[error("cannot keep the record")]
    Record(#[from] RegistryError),
    /// The operating system refused.
    #[error("cannot {operation}")]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The rehearsal endpoint could not be served.
    #[error("cannot serve the rehearsal model")]
    Rehearsal(#[from] rehearsal::RehearsalError),
    /// The ledger could not be read or written.
    #[error("cannot keep the ledger")]
    Ledger(#[from] LedgerError),
    /// The config in the run's folder does not hold the run's question.
    #[error("`{}` does not hold the question of this run; another version of massgen-mcp may have written it", .0.display())]
    NoQuestion(PathBuf),
    /// The question cannot be put into the config.
    #[error("cannot put the question into the config")]
    Config(#[from] configs::EditError),
    /// The operator's env file cannot be used.
    #[error("cannot use the env file")]
    EnvFile(#[from] EnvFileError),
    /// The rehearsal's name has an error, which the server should have refused before.
    #[error("cannot read the rehearsal's name")]
    Script(#[from] rehearsal::ScriptError),
}

fn io_error(operation: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::Io { operation, source }
}

/// Supervises the run in `folder` to its end. `me` is this program, for the exec step.
///
/// It must be called on the main thread of a process of its own, on a current-thread runtime.
pub async fn supervise(folder: &Path, me: &Path) -> Result<(), SupervisorError> {
    let path = folder.to_owned();
    let folder = RunFolder::from_path(folder).map_err(|source| SupervisorError::NotARun { path, source })?;
    // setsid fails if the process already leads a group (started from a shell); it needs no session of its own then.
    let _leads_already = rustix::process::setsid();
    let own_pid = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own_pid))
        .map_err(io::Error::from)
        .map_err(io_error("become a subreaper"))?;
    let lock = OwnerLock::inherited(&folder.lock()).map_err(io_error("take the run's lock"))?;
    let lock = lock.ok_or_else(|| SupervisorError::AlreadySupervised(folder.path().to_owned()))?;
    let mut record = folder.load()?;
    if record.started.is_some() {
        return Err(SupervisorError::AlreadySupervised(folder.path().to_owned()));
    }
    let state =
        StateFolder::containing(&folder).ok_or_else(|| SupervisorError::AlreadySupervised(folder.path().to_owned()))?;
    let ledger = Ledger::new(&state);
    let record = match slot_queue::wait_for_slot(&folder, &mut record, &lock, &ledger).await? {
        slot_queue::QueueOutcome::Admitted => run_to_end(&folder, record, lock, &state, me).await?,
        slot_queue::QueueOutcome::Stopped => record,
    };
    if let Err(error) = ledger.settle(&record.spec.id, record.spent) {
        // The next process that opens the ledger finds the run's lock free and settles the run.
        tracing::warn!(error = text::error_chain(&error), "the spend of the run could not be recorded in the ledger");
    }
    Ok(())
}

/// Starts MassGen, supervises it to its end and returns the last record.
async fn run_to_end(
    folder: &RunFolder,
    record: RunRecord,
    lock: OwnerLock,
    state: &StateFolder,
    me: &Path,
) -> Result<RunRecord, SupervisorError> {
    // From here on, SIGTERM, SIGINT and SIGHUP no longer end this process at once.
    let signals = Signals::subscribe()?;
    let record = RecordWriter::new(folder.clone(), record, lock, clock::now());
    let run = RunContext::open(folder.clone(), state.clone(), known_secrets(folder))?;
    let prepared = prepare::prepare(folder, &record.get().spec).await;
    let (agents, project) = match &prepared {
        Ok(prepared) => (prepared.agents.clone(), ProjectMonitor::begin(&record.get().spec, state)),
        // A run that does not start changes no files and needs no cleanup.
        Err(_) => Default::default(),
    };
    let mut worker = Worker::new(run, record, signals, agents, project);
    match &prepared {
        Ok(prepared) => worker.start(me, &prepared.launch).await?,
        Err(error) => worker.fail_start(error),
    }
    report_ready();
    Ok(worker.run().await)
}

/// Resolves at a signal that requests this process to end.
async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
    let signals = kinds.map(|kind| async move {
        match signal(kind) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    });
    let [terminate, interrupt, hang_up] = signals;
    tokio::select! {
        () = terminate => {}
        () = interrupt => {}
        () = hang_up => {}
    }
}

/// The secrets that a run's supervisor knows: those of its environment and, if readable, those of the env file that the run's
/// spec names.
pub fn secrets(folder: &Path) -> Secrets {
    RunFolder::from_path(folder).map(|folder| known_secrets(&folder)).unwrap_or_default()
}

fn known_secrets(folder: &RunFolder) -> Secrets {
    let env_file = folder.load().ok().and_then(|record| record.spec.env_file);
    let with_file = Secrets::from_environment(env_file.as_deref());
    with_file.or_else(|_| Secrets::from_environment(None)).unwrap_or_default()
}

/// A closed pipe is no error: then no process waits for the report.
fn report_ready() {
    let _closed = writeln!(io::stdout(), "{READY}");
}
