//! The process that owns one run: its lock, its process tree, its deadline, its ending. It outlives every server and
//! answers to nobody but the run's folder (`stop.json`) and SIGTERM, which means the same.
//! It speaks no protocol, and it never touches a process that is not of its run.

pub mod group;
mod leader;
mod lost;
mod output;
mod plan;
mod worker;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::massgen::launch::{self, Folders, Launch};
use crate::massgen::{configs, environment};
use crate::registry::{Durability, RegistryError, RunFolder, RunLock, write_whole};
use crate::rehearsal::{self, Rehearsal};
use crate::run::{BadRunId, ConfigChoice, Context, RunSpec};
use crate::secrets::{self, EnvFileError, Secrets};

pub use leader::become_massgen;
pub use lost::bury;

/// What a supervisor writes to standard output once MassGen's process is on record; whoever started it reads no further.
pub const READY: &str = "ready";

/// A supervisor that could not begin or end its work.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The folder is none of a run.
    #[error("`{}` is not a run's folder", path.display())]
    NotARun {
        /// What was given.
        path: PathBuf,
        /// Why it is none.
        source: BadRunId,
    },
    /// Another supervisor has the run, or has had it.
    #[error("`{}` has a supervisor, or its run is over", .0.display())]
    Taken(PathBuf),
    /// A record could not be read or written.
    #[error("cannot keep the record")]
    Record(#[from] RegistryError),
    /// The operating system refused.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The rehearsal endpoint could not be served.
    #[error("cannot serve the rehearsal model")]
    Rehearsal(#[from] rehearsal::RehearsalError),
    /// The config cannot take the question up.
    #[error("cannot put the question into the config")]
    Config(#[from] configs::EditError),
    /// The operator's env file cannot be used.
    #[error("cannot use the env file")]
    EnvFile(#[from] EnvFileError),
    /// The rehearsal's name has a mistake, which should have been refused before.
    #[error("cannot read the rehearsal's name")]
    Script(#[from] rehearsal::ScriptError),
}

fn failed(operation: &'static str) -> impl FnOnce(io::Error) -> SupervisorError {
    move |source| SupervisorError::Io { operation, source }
}

/// Supervises the run in `folder` to its end. `me` is this program, for the exec step.
///
/// It must be called on the main thread of a process of its own, on a current-thread runtime.
pub async fn supervise(folder: &Path, me: &Path) -> Result<(), SupervisorError> {
    let path = folder.to_owned();
    let folder = RunFolder::at(folder).map_err(|source| SupervisorError::NotARun { path, source })?;
    // A process that leads a group already (started from a shell) cannot have a session of its own; it needs none then.
    let _leads_already = rustix::process::setsid();
    let own = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(own)).map_err(io::Error::from).map_err(failed("become a subreaper"))?;
    let lock = RunLock::inherited(&folder.lock()).map_err(failed("take the run's lock"))?;
    let lock = lock.ok_or_else(|| SupervisorError::Taken(folder.path().to_owned()))?;
    let record = folder.load()?;
    if record.started.is_some() {
        return Err(SupervisorError::Taken(folder.path().to_owned()));
    }
    let mut worker = worker::Worker::begin(folder.clone(), record, lock, known_secrets(&folder))?;
    let prepared = prepare(&folder, worker.spec()).await;
    match &prepared {
        Ok(prepared) => worker.start(me, &prepared.launch)?,
        Err(error) => worker.never_started(error),
    }
    tell_ready();
    worker.work().await;
    Ok(())
}

/// The secrets that a run's supervisor knows: those of its environment and of the env file that the run's spec names, where
/// they can be read.
pub fn secrets(folder: &Path) -> Secrets {
    RunFolder::at(folder).map(|folder| known_secrets(&folder)).unwrap_or_default()
}

fn known_secrets(folder: &RunFolder) -> Secrets {
    let env_file = folder.load().ok().and_then(|record| record.spec.env_file);
    let with_file = Secrets::from_environment(env_file.as_deref());
    with_file.or_else(|_| Secrets::from_environment(None)).unwrap_or_default()
}

/// What keeps a rehearsal on this machine: the endpoint takes any key, so that the user's own is not sent there, and MassGen's
/// look-ups of prices go to a closed port.
const OFFLINE: [(&str, &str); 7] = [
    ("OPENAI_API_KEY", "rehearsal"),
    ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ("https_proxy", "http://127.0.0.1:9"),
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("NO_PROXY", "127.0.0.1,localhost"),
    ("no_proxy", "127.0.0.1,localhost"),
];

/// A run that is ready to start; a rehearsal is served for as long as this lives.
struct Prepared {
    launch: Launch,
    _rehearsal: Option<Rehearsal>,
}

async fn prepare(folder: &RunFolder, spec: &RunSpec) -> Result<Prepared, SupervisorError> {
    let program_folder = spec.program.parent().unwrap_or(Path::new("/"));
    std::os::unix::fs::symlink(program_folder, folder.bin()).map_err(failed("link the program's folder"))?;
    let (config, rehearsal, own_timeout) = config(folder, spec).await?;
    let (bin, logs, work) = (folder.bin(), folder.logs(), folder.work());
    let folders = Folders { bin: &bin, logs: &logs, work: &work };
    let launch = launch::plan(spec, folders, &config, own_timeout, environment(spec)?);
    Ok(Prepared { launch, _rehearsal: rehearsal })
}

/// What is to reach MassGen of our environment and of the env file; in a rehearsal no key at all.
fn environment(spec: &RunSpec) -> Result<Vec<(OsString, OsString)>, SupervisorError> {
    if matches!(spec.config, ConfigChoice::Rehearsal(_)) {
        let mut env = environment::without_keys(std::env::vars_os());
        OFFLINE.iter().for_each(|(name, value)| environment::set(&mut env, name, value));
        return Ok(env);
    }
    let file = spec.env_file.as_deref().map(secrets::env_file).transpose()?.unwrap_or_default();
    // What the file names is meant to reach MassGen.
    let wanted: Vec<String> = file.iter().map(|(name, _)| name).chain(&spec.pass_env).cloned().collect();
    Ok(environment::selected(environment::joined(std::env::vars_os(), &file).into_iter(), &wanted))
}

/// The config file that MassGen is to read, and its own timeout in seconds.
async fn config(
    folder: &RunFolder,
    spec: &RunSpec,
) -> Result<(PathBuf, Option<Rehearsal>, Option<f64>), SupervisorError> {
    let prompt = launch::prompt(&spec.question);
    let prompt = Some(prompt.as_str());
    match &spec.config {
        ConfigChoice::Rehearsal(name) => {
            let served = rehearsal::serve().await?;
            let text = rehearsal::config(name, &served.base_url())?;
            let with_prompt = configs::effective(&text, configs::Changes { project: None, prompt })?;
            let path = write_config(folder.config(), &with_prompt.unwrap_or(text))?;
            Ok((path, Some(served), None))
        }
        ConfigChoice::File(original) => {
            let text = std::fs::read_to_string(original).map_err(failed("read the config"))?;
            let project = (spec.context == Context::None).then_some(spec.project.as_path());
            let own_timeout = configs::own_timeout(&text);
            // MassGen reads a config by its ending, and not all JSON is YAML.
            let is_json = original.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
            let copy = if is_json { folder.config().with_extension("json") } else { folder.config() };
            match configs::effective(&text, configs::Changes { project, prompt })? {
                Some(text) => Ok((write_config(copy, &text)?, None, own_timeout)),
                None => Ok((original.clone(), None, own_timeout)),
            }
        }
    }
}

fn write_config(path: PathBuf, text: &str) -> Result<PathBuf, SupervisorError> {
    write_whole(&path, text.as_bytes(), Durability::Plain).map_err(failed("write the effective config"))?;
    Ok(path)
}

/// Nobody may be listening any more; then nobody has to be told.
fn tell_ready() {
    let _nobody = writeln!(io::stdout(), "{READY}");
}
