//! With what a warm process is begun, whether there is room for one, and which are there. Who begins it starts the command.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::link::connect;
use super::{Cold, Environment, Kind, MOST, PROGRAM, SOCKET, folder, short};
use crate::massgen::{environment, launch};
use crate::registry::{Durability, StateFolder, write_whole};
use crate::secrets::{env_file, looks_like_a_key};

/// For how long nobody may have asked before it ends itself.
const IDLE: Duration = Duration::from_secs(600);
/// The memory that has to be free, in bytes: MassGen takes 0.4 GB when it is imported, and runs want theirs.
const ENOUGH: u64 = 2_000_000_000;
/// The ending of the file that a warm process holds a lock on.
const LOCK: &str = "lock";
/// The ending of the file with what it says about itself.
const LOG: &str = "log";
/// The ending of the file that names a variable with which runs are refused; a process left it at its import.
const COLD: &str = "cold";
/// The variable with the names of those that are kept from a warm process; see `Watched` in `warm.py`.
const WITHHELD: &str = "MASSGEN_MCP_WITHHELD";
/// After this time files of a process that has ended are removed.
const OLD: Duration = Duration::from_secs(3600);
/// After this time it is tried again whether the import still asks for a variable that it cannot be given.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);

/// The command that begins a warm process, which leads a session of its own and outlives whoever starts it.
#[derive(Debug)]
pub struct Beginning {
    /// MassGen's interpreter.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: what a run gets, without keys and without what is of each run.
    pub env: Environment,
    /// Its working folder.
    pub cwd: PathBuf,
    /// Its lock, to be its standard input.
    pub lock: File,
}

/// What a warm process of this kind is begun with, for runs with this environment in this working folder; none where there is one.
///
/// # Errors
///
/// Its folder or a file in it cannot be made.
pub fn beginning(state: &StateFolder, kind: &Kind, env: Environment, run: &Path) -> io::Result<Option<Beginning>> {
    let cwd = folder(state);
    if let Err(error) = std::fs::DirBuilder::new().mode(0o700).create(&cwd)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    clear(&cwd);
    let script = cwd.join(format!("{}.py", short(PROGRAM)));
    write_whole(&script, PROGRAM.as_bytes(), Durability::Plain)?;
    let withheld = withheld(&env, run).join(":");
    let mut env = without_what_is_of_each_run(env, kind);
    let name = name(kind, &env);
    environment::set(&mut env, WITHHELD, withheld);
    let lock = cwd.join(format!("{name}.{LOCK}"));
    let lock = File::options().create(true).append(true).mode(0o600).open(lock)?;
    if lock.try_lock().is_err() {
        return Ok(None);
    }
    // One that another start has just cleared away keeps nobody out; the next start makes a new one.
    let inode = |meta: io::Result<Metadata>| meta.ok().map(|meta| meta.ino());
    if inode(lock.metadata()) != inode(cwd.join(&name).with_extension(LOCK).metadata()) {
        return Ok(None);
    }
    // Of one that was killed: they would be taken for those of the new one.
    for ending in [SOCKET, COLD] {
        let _none = std::fs::remove_file(cwd.join(&name).with_extension(ending));
    }
    let idle = IDLE.as_secs().to_string();
    let args = vec!["-u".into(), script.into(), name.into(), kind.program.clone().into(), idle.into()];
    Ok(Some(Beginning { program: kind.interpreter.clone(), args, env, cwd, lock }))
}

/// What the process for such runs is called.
fn name(kind: &Kind, common: &Environment) -> String {
    format!("{}-{}", kind.stem, short(&format!("{common:?}")))
}

/// The socket of the process for such runs, whether it is there or not.
pub(super) fn socket(state: &StateFolder, kind: &Kind, env: &Environment) -> PathBuf {
    file(state, kind, env, SOCKET)
}

/// A file of the process for such runs, by its ending.
fn file(state: &StateFolder, kind: &Kind, env: &Environment, ending: &str) -> PathBuf {
    folder(state).join(name(kind, &without_what_is_of_each_run(env.clone(), kind))).with_extension(ending)
}

/// How far the process for runs with some environment has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is none.
    None,
    /// It imports MassGen, which takes some seconds.
    Imports,
    /// It takes runs.
    Listens,
}

/// How far the process for runs with this environment has come.
pub fn progress(state: &StateFolder, kind: &Kind, env: &Environment) -> Progress {
    match is_held(&file(state, kind, env, LOCK)) {
        false => Progress::None,
        true if socket(state, kind, env).exists() => Progress::Listens,
        true => Progress::Imports,
    }
}

/// Why a process for such runs ended at its import, where that is known: a variable of the run that it was not given.
pub fn refused(state: &StateFolder, kind: &Kind, env: &Environment, run: &Path) -> Option<Cold> {
    let variable = std::fs::read_to_string(file(state, kind, env, COLD)).ok()?;
    let is_reason = withheld(env, run).contains(&variable);
    is_reason.then(|| Cold::Refused(format!("MassGen's import reads {variable}, which no warm process is given")))
}

/// The log of the last process for such runs, where it has said something.
pub fn log(state: &StateFolder, kind: &Kind, env: &Environment) -> Option<PathBuf> {
    Some(file(state, kind, env, LOG)).filter(|log| log.metadata().is_ok_and(|log| log.len() > 0))
}

/// The names of the variables that a run in this folder has and a warm process is not given: keys, and what MassGen reads from the
/// project's `configs/.env`.
fn withheld(env: &Environment, run: &Path) -> Vec<String> {
    let of_project = env_file(&run.join("configs/.env")).unwrap_or_default().into_iter().map(|(name, _)| name);
    let names = env.iter().filter_map(|(name, _)| name.to_str());
    let keys = names.filter(|name| looks_like_a_key(name) && !name.starts_with(environment::OURS)).map(str::to_owned);
    keys.chain(of_project).collect()
}

fn is_held(lock: &Path) -> bool {
    File::open(lock).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// Keys reach runs alone. That the import does not ask for them, the program itself makes sure of.
fn without_what_is_of_each_run(mut env: Environment, kind: &Kind) -> Environment {
    env.retain(|(name, _)| !is_of_each_run(&name.to_string_lossy()));
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, path)| path.clone()).unwrap_or_default();
    let rest = path.to_string_lossy();
    let rest = rest.split_once(':').map(|(_, rest)| rest).unwrap_or_default();
    environment::set(&mut env, "PATH", format!("{}:{rest}", kind.folder().display()));
    env.sort();
    env
}

fn is_of_each_run(name: &str) -> bool {
    looks_like_a_key(name) || name.starts_with(environment::OURS) || name == launch::LOG_BASE
}

/// Whether another one may be begun: few are there, and memory is.
pub fn has_room(state: &StateFolder) -> bool {
    living(state).len() < MOST && available().is_none_or(|bytes| bytes >= ENOUGH)
}

/// The memory that is to be had without swapping, in bytes: of the machine, and of a container with less; unknown without /proc.
fn available() -> Option<u64> {
    let machine = procfs::Current::current().ok().and_then(|memory: procfs::Meminfo| memory.mem_available)?;
    let of_group = |file: &str| {
        let text = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(file)).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let group = of_group("memory.max").zip(of_group("memory.current")).map(|(max, now)| max.saturating_sub(now));
    Some(group.map_or(machine, |group| group.min(machine)))
}

/// The names of the warm processes of a state folder that live, whether they listen yet or not: each holds its lock.
pub fn living(state: &StateFolder) -> Vec<String> {
    let entries = std::fs::read_dir(folder(state)).into_iter().flatten().flatten().map(|entry| entry.path());
    let locks = entries.filter(|path| path.extension().is_some_and(|ending| ending == LOCK));
    let held = locks.filter(|path| is_held(path));
    held.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// Has all of them end, those that import too; runs that were started warm go on. Gives the locks of those that lived: each is free
/// once its process has ended.
pub fn stop(state: &StateFolder) -> Vec<File> {
    let folder = folder(state);
    let locks = living(state).into_iter().filter_map(|name| {
        let name = folder.join(name);
        let lock = File::open(name.with_extension(LOCK)).ok()?;
        // A process whose lock file is not there ends; the connection makes one that waits for runs look at once.
        let _gone = std::fs::remove_file(name.with_extension(LOCK));
        let _imports_yet = connect(&name.with_extension(SOCKET));
        for ending in [SOCKET, COLD] {
            let _gone = std::fs::remove_file(name.with_extension(ending));
        }
        Some(lock)
    });
    locks.collect()
}

/// Removes what processes have left that ended long ago.
fn clear(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, age) = (entry.path(), entry.metadata().and_then(|meta| meta.modified()).map(|at| at.elapsed()));
        let limit = if path.extension().is_some_and(|ending| ending == COLD) { FORGOTTEN } else { OLD };
        let is_old = matches!(age, Ok(Ok(age)) if age > limit);
        if !is_old {
            continue;
        }
        // The lock is kept over the removal, so that whoever opened its file before sees that it is gone.
        let lock = File::open(path.with_extension(LOCK)).ok();
        if lock.as_ref().is_none_or(|lock| lock.try_lock().is_ok()) {
            // Whoever came first has removed it.
            let _gone = std::fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_what_is_old_and_held_by_nobody_is_cleared_away() {
        let root = tempfile::tempdir().expect("temp");
        let put = |name: &str, age: Duration| {
            let file = File::create(root.path().join(name)).expect("made");
            file.set_modified(SystemTime::now() - age).expect("aged");
            file
        };
        let (old, young) = (OLD * 2, Duration::ZERO);
        let held = put("lives.lock", old);
        held.lock().expect("locked");
        for (name, age) in
            [("lives.log", old), ("new.lock", young), ("gone.lock", old), ("gone.log", old), ("x.py", old)]
        {
            drop(put(name, age));
        }
        clear(root.path());
        let left = std::fs::read_dir(root.path()).expect("read").flatten().map(|entry| entry.file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["lives.lock", "lives.log", "new.lock"]);
    }
}
