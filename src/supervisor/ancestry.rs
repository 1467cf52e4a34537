//! Which run this process belongs to, if any: told by process ancestry alone, since nothing else of ours gets through to an MCP
//! server that an agent of MassGen starts. A supervisor that adopts whatever its run leaves behind is an ancestor for good.

use std::path::Path;

use procfs::process::Process;

use crate::registry::{RunFolder, RunLock};

/// How often the walk begins anew where an ancestor has ended during it; its children belong to another one then.
const TRIES: usize = 100;

/// The folder of the nearest run among this process's ancestors. An ancestor that looks like a supervisor counts only where it
/// holds the lock file of the run that it names, and that lock is taken.
pub fn parent_run() -> Option<RunFolder> {
    (0..TRIES).find_map(|_| walk()).flatten()
}

/// None where an ancestor has ended meanwhile.
fn walk() -> Option<Option<RunFolder>> {
    let mut pid = std::process::id().cast_signed();
    loop {
        pid = Process::new(pid).ok()?.stat().ok()?.ppid;
        // Zero is beyond what this process can see: another pid namespace.
        if pid <= 1 {
            return Some(None);
        }
        if let Some(folder) = supervised(pid) {
            return Some(Some(folder));
        }
    }
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
