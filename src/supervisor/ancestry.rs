//! Finds the run that this process belongs to, if any. Process ancestry is the only evidence: an agent of MassGen starts an MCP
//! server without any variable or file of ours. A supervisor adopts all orphans of its run, so it stays an ancestor.

use std::path::{Path, PathBuf};

use procfs::process::{FDTarget, Process};

use super::group;
use crate::registry::{RunFolder, probe_owner};

/// How often the walk starts again because an ancestor ended during it; the children of that ancestor then have another parent.
const MAX_ATTEMPTS: usize = 100;

/// The folder of the nearest run among this process's ancestors. An ancestor that looks like a supervisor counts only if it has
/// the lock file of the run that it names open and that lock is not free. An ancestor that looks like the keeper of a warm start counts
/// only if that run's record also names it.
pub fn parent_run() -> Option<RunFolder> {
    (0..MAX_ATTEMPTS).find_map(|_| walk_ancestors()).flatten()
}

/// `None` if an ancestor ended during the walk.
fn walk_ancestors() -> Option<Option<RunFolder>> {
    let mut pid = std::process::id().cast_signed();
    loop {
        pid = Process::new(pid).ok()?.stat().ok()?.ppid;
        // The parent pid is zero if the parent is in another pid namespace.
        if pid <= 1 {
            return Some(None);
        }
        if let Some(folder) = supervised_run(pid).or_else(|| kept_run(pid)) {
            return Some(Some(folder));
        }
    }
}

fn supervised_run(pid: i32) -> Option<RunFolder> {
    let process = Process::new(pid).ok()?;
    let line = process.cmdline().ok()?;
    let folder = match line.as_slice() {
        [_, subcommand, folder] if subcommand == "supervise" => RunFolder::from_path(Path::new(folder)).ok()?,
        _ => return None,
    };
    let has_lock_open = open_files(&process).contains(&folder.lock());
    (has_lock_open && is_locked(&folder)).then_some(folder)
}

/// A keeper shows the command line of the warm process that forked it; only its open file identifies the run.
fn kept_run(pid: i32) -> Option<RunFolder> {
    let process = Process::new(pid).ok()?;
    let is_python_script =
        |argument: &String| Path::new(argument).extension().is_some_and(|extension| extension == "py");
    process.cmdline().ok()?.get(2).filter(|argument| is_python_script(argument))?;
    let own = group::identify(pid.unsigned_abs())?;
    let folders = open_files(&process).into_iter().filter_map(|file| RunFolder::from_path(file.parent()?).ok());
    let is_its_keeper = |folder: &RunFolder| folder.load().is_ok_and(|record| record.keeper.as_ref() == Some(&own));
    folders.into_iter().find(|folder| is_locked(folder) && is_its_keeper(folder))
}

fn is_locked(folder: &RunFolder) -> bool {
    !probe_owner(&folder.lock()).is_free()
}

fn open_files(process: &Process) -> Vec<PathBuf> {
    let fds = process.fd().into_iter().flatten().flatten();
    fds.filter_map(|fd| if let FDTarget::Path(path) = fd.target { Some(path) } else { None }).collect()
}
