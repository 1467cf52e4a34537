//! The process that owns one run: its lock, its process tree, its deadline and its ending. It outlives every server. Orders
//! reach it only through the run's folder (`stop.json`) and as SIGTERM, which also asks for a stop.
//! It speaks no protocol and never touches a process of another run.

mod ancestry;
mod budget;
mod changes;
pub mod group;
pub mod kernel;
mod leader;
mod liveness;
mod lost;
mod output;
mod plan;
mod proc_sampler;
mod queue;
mod reaper;
mod repository;
mod spend_tracker;
mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ledger::{Ledger, LedgerError};
use crate::massgen::configs::{self, ConfigChanges, Needs, Tree};
use crate::massgen::environment;
use crate::massgen::launch::{self, Launch, LaunchFolders};
use crate::massgen::{basis, program, session, text};
use crate::registry::{Durability, OwnerLock, RegistryError, RunFolder, StateFolder, write_atomic};
use crate::rehearsal::{self, Rehearsal};
use crate::run::{ConfigChoice, Context, InvalidRunId, RunRecord, RunSpec};
use crate::secrets::{self, EnvFileError, Secrets};

pub use ancestry::parent_run;
pub use leader::exec_massgen;
pub use lost::finalize_lost;

/// The supervisor prints this to standard output once MassGen's process is on record, or while the run waits for it. Its starter reads no further.
pub const READY: &str = "ready";

/// A supervisor could not begin or end its work.
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
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(io::Error::from).map_err(io_error("become a subreaper"))?;
    let lock = OwnerLock::inherited(&folder.lock()).map_err(io_error("take the run's lock"))?;
    let lock = lock.ok_or_else(|| SupervisorError::AlreadySupervised(folder.path().to_owned()))?;
    let mut record = folder.load()?;
    if record.started.is_some() {
        return Err(SupervisorError::AlreadySupervised(folder.path().to_owned()));
    }
    let state =
        StateFolder::containing(&folder).ok_or_else(|| SupervisorError::AlreadySupervised(folder.path().to_owned()))?;
    let ledger = Ledger::new(&state);
    let record = match queue::wait_for_slot(&folder, &mut record, &lock, &ledger).await? {
        queue::QueueOutcome::Admitted => run_to_end(&folder, record, lock, &state, me).await?,
        queue::QueueOutcome::Stopped => record,
    };
    if let Err(error) = ledger.settle(&record.spec.id, record.spent) {
        // The next process that opens the ledger finds the run's lock free and settles the run.
        tracing::warn!(error = text::error_chain(&error), "what the run has spent could not be booked");
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
    let mut worker = worker::Worker::new(folder.clone(), record, lock, known_secrets(folder), state.clone())?;
    let prepared = prepare(folder, worker.spec()).await;
    match &prepared {
        Ok(prepared) => {
            worker.set_models(prepared.models.clone());
            worker.set_providers(prepared.providers.clone(), prepared.keys.clone());
            worker.start(me, &prepared.launch).await?;
        }
        Err(error) => worker.fail_start(error),
    }
    report_ready();
    Ok(worker.run().await)
}

/// Resolves when a signal asks this process to end.
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

/// Keeps a rehearsal on this machine: the endpoint takes any key, so the user's own key is not sent there, and MassGen's price
/// look-ups go to a closed port.
const OFFLINE_VARIABLES: [(&str, &str); 7] = [
    ("OPENAI_API_KEY", "rehearsal"),
    ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ("https_proxy", "http://127.0.0.1:9"),
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("NO_PROXY", "127.0.0.1,localhost"),
    ("no_proxy", "127.0.0.1,localhost"),
];

/// A run that is ready to start. Its rehearsal endpoint is served until this is dropped.
struct PreparedRun {
    launch: Launch,
    /// The model of each agent.
    models: BTreeMap<String, String>,
    /// The provider of each agent's model.
    providers: BTreeMap<String, String>,
    /// The variable that holds each agent's key.
    keys: BTreeMap<String, String>,
    _rehearsal: Option<Rehearsal>,
    /// The conversation that the run continues, linked where MassGen looks for it.
    _session: Option<session::SessionLink>,
}

async fn prepare(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedRun, SupervisorError> {
    std::os::unix::fs::symlink(program::scripts(&spec.program), folder.bin())
        .map_err(io_error("link the program's folder"))?;
    launch::prepare_project(spec, &folder.work()).map_err(io_error("start MassGen"))?;
    let config = prepare_config(folder, spec).await?;
    let (bin, logs, work, inbox) = (folder.bin(), folder.logs(), folder.work(), folder.inbox());
    let folders = LaunchFolders { bin: &bin, logs: &logs, work: &work, inbox: &inbox };
    let launch = launch::build_launch(spec, folders, &config.path, config.own_timeout, environment(spec)?);
    let session = spec
        .continuation
        .as_ref()
        .map(|_| session::SessionLink::create(&launch.cwd, spec.id.as_str(), &folder.session()));
    let session = session.transpose().map_err(io_error("link the conversation so far"))?;
    Ok(PreparedRun {
        launch,
        models: config.models,
        providers: config.providers,
        keys: config.keys,
        _rehearsal: config.rehearsal,
        _session: session,
    })
}

/// The variables that MassGen gets from our environment and from the env file; in a rehearsal no key at all.
///
/// # Errors
///
/// The env file cannot be used.
pub fn environment(spec: &RunSpec) -> Result<Vec<(OsString, OsString)>, SupervisorError> {
    if matches!(spec.config, ConfigChoice::Rehearsal(_)) {
        let mut env = environment::without_keys(std::env::vars_os());
        OFFLINE_VARIABLES.iter().for_each(|(name, value)| environment::set_variable(&mut env, name, value));
        return Ok(env);
    }
    let file = spec.env_file.as_deref().map(secrets::read_env_file).transpose()?.unwrap_or_default();
    // The operator lists variables in the env file so that MassGen gets them.
    let mut wanted: Vec<String> = file.iter().map(|(name, _)| name).chain(&spec.pass_env).cloned().collect();
    wanted.push(format!("{}*", configs::SECRET_VARIABLE_PREFIX));
    Ok(environment::select(environment::merge(std::env::vars_os(), &file).into_iter(), &wanted))
}

/// Prepares the config that MassGen reads: the one that the server checked and put into the run's folder, with the question added.
async fn prepare_config(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedConfig, SupervisorError> {
    let (checked, rehearsal) = match &spec.config {
        ConfigChoice::Rehearsal(name) => {
            let served = rehearsal::serve().await?;
            (Some((folder.config(), rehearsal::config_yaml(name, &served.base_url())?)), Some(served))
        }
        ConfigChoice::File(_) => (None, None),
    };
    let (path, text) = match checked {
        Some(own) => own,
        None => checked_config(folder).map_err(io_error("read the config"))?,
    };
    let prompt = launch::escape_prompt(&question_text(folder, spec)?);
    let overrides = spec.overrides.as_ref().filter(|_| rehearsal.is_some());
    let session = spec.continuation.as_ref().map(|_| spec.id.as_str());
    let from = spec.basis.as_ref().map(|_| folder.basis());
    let hand_over = Some(spec.context).filter(|context| *context != Context::None);
    let context = hand_over.map(|context| (spec.project.as_path(), context.as_str()));
    let changes =
        ConfigChanges { overrides, project: None, prompt: Some(&prompt), session, read: from.as_deref(), context };
    let effective = configs::effective_config(&path, &text, changes)?;
    let copy = if effective.is_json { path } else { folder.config() };
    write_atomic(&copy, effective.text.as_bytes(), Durability::NotSynced)
        .map_err(io_error("write the effective config"))?;
    let tree = effective.tree.as_ref();
    Ok(PreparedConfig {
        own_timeout: tree.and_then(Tree::own_timeout).filter(|_| rehearsal.is_none()),
        models: tree.map(models).unwrap_or_default(),
        providers: tree.map(providers).unwrap_or_default(),
        keys: tree.map(Needs::agent_key_variables).unwrap_or_default(),
        path: copy,
        rehearsal,
    })
}

/// The question for the agents, with the answer of an earlier run if this run builds on one.
fn question_text(folder: &RunFolder, spec: &RunSpec) -> Result<String, SupervisorError> {
    let Some(from) = &spec.basis else { return Ok(spec.question.clone()) };
    let whole = basis::question_with_basis(&spec.question, &spec.id, from, &folder.basis(), &known_secrets(folder));
    whole.map_err(io_error("read the answer that it builds on"))
}

/// The config that the server put into the folder. It has the extension `json` if the server could not read it; MassGen then reports the error.
fn checked_config(folder: &RunFolder) -> io::Result<(PathBuf, String)> {
    let path = folder.config();
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = path.with_extension("json");
            std::fs::read_to_string(&other).map(|text| (other, text))
        }
        read => read.map(|text| (path, text)),
    }
}

/// The model of each agent.
fn models(tree: &Tree) -> BTreeMap<String, String> {
    let agents = Needs::from_config(tree).agents;
    agents.into_iter().filter_map(|agent| Some((agent.id, agent.model?))).collect()
}

/// The provider of each agent's model.
fn providers(tree: &Tree) -> BTreeMap<String, String> {
    let agents = Needs::from_config(tree).agents;
    agents.iter().filter_map(|agent| Some((agent.id.clone(), agent.provider()?.to_owned()))).collect()
}

/// A config as MassGen will read it.
struct PreparedConfig {
    path: PathBuf,
    own_timeout: Option<f64>,
    models: BTreeMap<String, String>,
    providers: BTreeMap<String, String>,
    keys: BTreeMap<String, String>,
    rehearsal: Option<Rehearsal>,
}

/// If no process reads the pipe any more, there is nothing to report.
fn report_ready() {
    let _nobody = writeln!(io::stdout(), "{READY}");
}
