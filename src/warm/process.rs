//! Lists warm processes, checks whether one more is allowed, and prepares the command that starts one. The caller runs the command.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::socket::connect;
use super::{
    ColdReason, Environment, Installation, MAX_PROCESSES, PYTHON_PROGRAM, SOCKET_EXTENSION, short_hash, warm_folder,
};
use crate::massgen::{environment, launch};
use crate::registry::{Durability, Owner, OwnerLock, OwnerProbe, StateFolder, probe_owner, write_atomic};
use crate::secrets::{is_secret_name, read_env_file};

/// How long a warm process waits for a request before it exits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
/// The memory that must be available, in bytes: an imported MassGen takes 0.4 GB, and runs need more.
const MIN_AVAILABLE_BYTES: u64 = 2_000_000_000;
/// The extension of the file that a warm process locks.
const LOCK_EXTENSION: &str = "lock";
/// The extension of a warm process's log.
const LOG_EXTENSION: &str = "log";
/// The extension of the file that names a variable which needs a cold start; a process writes it during its import.
const REFUSAL_EXTENSION: &str = "cold";
/// The variable that lists the names of variables withheld from a warm process; see `ImportRecorder` in `warm.py`.
const WITHHELD_VARIABLE: &str = "MASSGEN_MCP_WITHHELD";
/// The age at which files of an ended process are removed.
const STALE_AFTER: Duration = Duration::from_secs(3600);
/// The age at which a recorded refusal expires, so that another import is tried.
const REFUSAL_TTL: Duration = Duration::from_secs(24 * 3600);

/// The command that starts a warm process, which leads its own session and outlives the process that starts it.
#[derive(Debug)]
pub struct SpawnSpec {
    /// MassGen's interpreter.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: that of a run, without keys and without variables that differ from run to run.
    pub env: Environment,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Its lock, for use as its standard input.
    pub lock: OwnerLock,
}

/// Prepares the start of a warm process for runs with this environment in this working folder; `None` if one exists.
///
/// # Errors
///
/// Its folder or a file in it cannot be created.
pub fn spawn_spec(
    state: &StateFolder,
    installation: &Installation,
    env: Environment,
    run: &Path,
) -> io::Result<Option<SpawnSpec>> {
    let cwd = warm_folder(state);
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&cwd)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    remove_stale_files(&cwd);
    let script = cwd.join(format!("{}.py", short_hash(PYTHON_PROGRAM)));
    write_atomic(&script, PYTHON_PROGRAM.as_bytes(), Durability::NotSynced)?;
    let withheld = withheld_variables(&env, run).join(":");
    let mut env = shared_environment(env, installation);
    let name = process_name(installation, &env);
    environment::set_variable(&mut env, WITHHELD_VARIABLE, withheld);
    let Some(lock) = OwnerLock::create_or_take(&cwd.join(format!("{name}.{LOCK_EXTENSION}")))? else {
        return Ok(None);
    };
    // A killed process leaves these files; they would be mistaken for files of the new one.
    for extension in [SOCKET_EXTENSION, REFUSAL_EXTENSION] {
        let _none = std::fs::remove_file(cwd.join(&name).with_extension(extension));
    }
    let idle = IDLE_TIMEOUT.as_secs().to_string();
    let args = vec!["-u".into(), script.into(), name.into(), installation.program.clone().into(), idle.into()];
    Ok(Some(SpawnSpec { program: installation.interpreter.clone(), args, env, cwd, lock }))
}

/// The name of the process for such runs.
fn process_name(installation: &Installation, common: &Environment) -> String {
    format!("{}-{}", installation.name_prefix, short_hash(&format!("{common:?}")))
}

/// The socket of the process for such runs, whether it exists or not.
pub(super) fn socket_path(state: &StateFolder, installation: &Installation, env: &Environment) -> PathBuf {
    process_file(state, installation, env, SOCKET_EXTENSION)
}

/// A file of the process for such runs, by its extension.
fn process_file(state: &StateFolder, installation: &Installation, env: &Environment, extension: &str) -> PathBuf {
    warm_folder(state)
        .join(process_name(installation, &shared_environment(env.clone(), installation)))
        .with_extension(extension)
}

/// The state of the process for runs with a given environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmState {
    /// No such process exists.
    Absent,
    /// It imports MassGen, which takes some seconds.
    Importing,
    /// It accepts runs.
    Ready,
}

/// The state of the process for runs with this environment.
pub fn warm_state(state: &StateFolder, installation: &Installation, env: &Environment) -> WarmState {
    match probe_owner(&process_file(state, installation, env, LOCK_EXTENSION)) {
        Owner::Free | Owner::Missing | Owner::Unknown(_) => WarmState::Absent,
        Owner::Held if socket_path(state, installation, env).exists() => WarmState::Ready,
        Owner::Held => WarmState::Importing,
    }
}

/// Why a process for such runs ended during its import, if known: the import read a variable that was withheld from it.
pub fn recorded_refusal(
    state: &StateFolder,
    installation: &Installation,
    env: &Environment,
    run: &Path,
) -> Option<ColdReason> {
    let variable = std::fs::read_to_string(process_file(state, installation, env, REFUSAL_EXTENSION)).ok()?;
    let is_reason = withheld_variables(env, run).contains(&variable);
    is_reason.then(|| ColdReason::Refused(format!("MassGen's import reads {variable}, which no warm process is given")))
}

/// The log of the last process for such runs, if it is not empty.
pub fn log_path(state: &StateFolder, installation: &Installation, env: &Environment) -> Option<PathBuf> {
    Some(process_file(state, installation, env, LOG_EXTENSION))
        .filter(|log| log.metadata().is_ok_and(|log| log.len() > 0))
}

/// The names of the variables that a run in this folder has and a warm process does not get: keys, and variables that MassGen reads
/// from the project's `configs/.env`.
fn withheld_variables(env: &Environment, run: &Path) -> Vec<String> {
    let from_project = read_env_file(&run.join("configs/.env")).unwrap_or_default().into_iter().map(|(name, _)| name);
    let names = env.iter().filter_map(|(name, _)| name.to_str());
    let keys =
        names.filter(|name| is_secret_name(name) && !name.starts_with(environment::OWN_PREFIX)).map(str::to_owned);
    keys.chain(from_project).collect()
}

/// Removes keys, which only runs get. `warm.py` checks that the import does not read them.
fn shared_environment(mut env: Environment, installation: &Installation) -> Environment {
    env.retain(|(name, _)| !is_run_specific(&name.to_string_lossy()));
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone()).unwrap_or_default();
    let rest = path.to_string_lossy();
    let rest = rest.split_once(':').map(|(_, rest)| rest).unwrap_or_default();
    environment::set_variable(&mut env, "PATH", format!("{}:{rest}", installation.bin_folder().display()));
    env.sort();
    env
}

fn is_run_specific(name: &str) -> bool {
    is_secret_name(name) || name.starts_with(environment::OWN_PREFIX) || name == launch::LOG_BASE_VARIABLE
}

/// Whether another process may be started: the limit is not reached, and enough memory is available.
pub fn has_capacity(state: &StateFolder) -> bool {
    live_processes(state).len() < MAX_PROCESSES && available_memory().is_none_or(|bytes| bytes >= MIN_AVAILABLE_BYTES)
}

/// The available memory without swapping, in bytes: that of the machine, or of its container if less; `None` without /proc.
fn available_memory() -> Option<u64> {
    let machine = procfs::Current::current().ok().and_then(|memory: procfs::Meminfo| memory.mem_available)?;
    let cgroup_value = |file: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let group =
        cgroup_value("memory.max").zip(cgroup_value("memory.current")).map(|(max, now)| max.saturating_sub(now));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The names of the live warm processes of a state folder, including those that do not listen yet: each holds its lock.
pub fn live_processes(state: &StateFolder) -> Vec<String> {
    let entries = std::fs::read_dir(warm_folder(state)).into_iter().flatten().flatten().map(|entry| entry.path());
    let locks = entries.filter(|path| path.extension().is_some_and(|extension| extension == LOCK_EXTENSION));
    let held = locks.filter(|path| matches!(probe_owner(path), Owner::Held));
    held.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// Makes all warm processes exit, including those that still import; runs that were started warm continue. Returns the locks of the live
/// ones: each lock becomes free when its process has ended.
pub fn stop_all(state: &StateFolder) -> Vec<OwnerProbe> {
    let folder = warm_folder(state);
    let locks = live_processes(state).into_iter().filter_map(|name| {
        let name = folder.join(name);
        let lock = OwnerProbe::open(&name.with_extension(LOCK_EXTENSION)).ok()?;
        // A process ends when its lock file is missing; the connection makes a process that waits for runs check at once.
        let _missing = std::fs::remove_file(name.with_extension(LOCK_EXTENSION));
        let _importing = connect(&name.with_extension(SOCKET_EXTENSION));
        for extension in [SOCKET_EXTENSION, REFUSAL_EXTENSION] {
            let _missing = std::fs::remove_file(name.with_extension(extension));
        }
        Some(lock)
    });
    locks.collect()
}

/// Removes the files of processes that ended long ago.
fn remove_stale_files(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, age) = (entry.path(), entry.metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed()));
        let limit = if path.extension().is_some_and(|extension| extension == REFUSAL_EXTENSION) {
            REFUSAL_TTL
        } else {
            STALE_AFTER
        };
        let is_old = matches!(age, Ok(Ok(age)) if age > limit);
        if !is_old {
            continue;
        }
        // The lock is held during the removal, so that a process that has opened the file detects the removal.
        let lock = OwnerLock::try_take(&path.with_extension(LOCK_EXTENSION));
        let is_free = match &lock {
            Ok(taken) => taken.is_some(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if is_free {
            // Another process has removed it already.
            let _missing = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_old_files_of_ended_processes_are_removed() {
        let root = tempfile::tempdir().expect("temp");
        let create_file = |name: &str, age: Duration| {
            let file = File::create(root.path().join(name)).expect("created");
            file.set_modified(SystemTime::now() - age).expect("aged");
            file
        };
        let (old, new) = (STALE_AFTER * 2, Duration::ZERO);
        let held = create_file("lives.lock", old);
        held.lock().expect("locked");
        for (name, age) in [("lives.log", old), ("new.lock", new), ("gone.lock", old), ("gone.log", old), ("x.py", old)]
        {
            drop(create_file(name, age));
        }
        remove_stale_files(root.path());
        let remaining = std::fs::read_dir(root.path()).expect("read").flatten().map(|entry| entry.file_name());
        let mut remaining: Vec<_> = remaining.collect();
        remaining.sort();
        assert_eq!(remaining, ["lives.lock", "lives.log", "new.lock"]);
    }
}
