//! Which run this process belongs to, if any: told by process ancestry alone, since nothing else of ours gets through to an MCP
//! server that an agent of MassGen starts. A supervisor that adopts whatever its run leaves behind is an ancestor for good.

use std::path::Path;

use procfs::process::Process;

use crate::registry::{RunFolder, RunLock};

/// The most generations that are followed.
const GENERATIONS: usize = 64;

/// The folder of the nearest run among this process's ancestors. An ancestor that looks like a supervisor counts only where it
/// holds the lock file of the run that it names, and that lock is taken.
pub fn parent_run() -> Option<RunFolder> {
    let mut pid = std::process::id().cast_signed();
    for _ in 0..GENERATIONS {
        pid = Process::new(pid).ok()?.stat().ok()?.ppid;
        if pid <= 1 {
            return None;
        }
        if let Some(folder) = supervised(pid) {
            return Some(folder);
        }
    }
    None
}

fn supervised(pid: i32) -> Option<RunFolder> {
    let process = Process::new(pid).ok()?;
    let line = process.cmdline().ok()?;
    let folder = match line.as_slice() {
        [_, word, folder] if word == "supervise" => RunFolder::at(Path::new(folder)).ok()?,
        _ => return None,
    };
    let lock = folder.lock();
    let holds = process
        .fd()
        .ok()?
        .flatten()
        .any(|fd| matches!(&fd.target, procfs::process::FDTarget::Path(path) if *path == lock));
    let is_taken = RunLock::try_take(&lock).is_ok_and(|lock| lock.is_none());
    (holds && is_taken).then_some(folder)
}
