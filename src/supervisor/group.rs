//! The processes of a run: identifies, signals and reaps them. The only file that knows signals.
//! A signal goes through a pidfd to a process that was identified while that pidfd was open. A pid from disk or from an
//! older scan is never signalled.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use procfs::process::{Process, Stat};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use crate::clock;
use crate::registry::{RunFolder, probe_owner};
use crate::run::{Exit, ProcessIdentity};

/// The signals that stop a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGINT: MassGen saves its state and exits.
    Interrupt,
    /// SIGTERM: a program may close its files before it exits.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// A process as one scan of /proc saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its identity.
    pub identity: ProcessIdentity,
    /// Its parent's pid during the scan.
    pub parent_pid: u32,
    /// Its process group during the scan, if known.
    pub process_group: Option<u32>,
    /// Its name as the kernel reports it (15 bytes at most).
    pub name: String,
}

/// The processes under a supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProcessTree {
    /// Those of the run itself.
    pub own: Vec<ProcessInfo>,
    /// Supervisors of runs that this run started.
    pub nested_supervisors: Vec<ProcessInfo>,
    /// All processes below those supervisors.
    pub nested_descendants: Vec<ProcessInfo>,
}

impl ProcessTree {
    /// Every process.
    pub fn all(&self) -> impl Iterator<Item = &ProcessInfo> {
        self.own.iter().chain(&self.nested_supervisors).chain(&self.nested_descendants)
    }
}

/// Identifies a process. This also works for a process that has ended but is not reaped.
pub fn identify(pid: u32) -> Option<ProcessIdentity> {
    let stat = Process::new(pid.cast_signed()).ok()?.stat().ok()?;
    Some(ProcessIdentity { pid, start_ticks: stat.starttime, boot_id: clock::boot_id().to_owned() })
}

/// Whether exactly this process is alive.
pub fn is_alive(identity: &ProcessIdentity) -> bool {
    let stat = Process::new(identity.pid.cast_signed()).and_then(|process| process.stat());
    stat.is_ok_and(|stat| !is_dead(&stat)) && self::identify(identity.pid).as_ref() == Some(identity)
}

/// Whether this process has no child, living or unreaped. For a subreaper this is the kernel's proof that no process remains below
/// it. A scan of /proc could miss a process that is forked during the scan.
pub fn has_no_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_err_and(|error| error == rustix::io::Errno::CHILD)
}

/// A process looks like a zombie when its first thread has ended, even if other threads still run.
fn is_dead(stat: &Stat) -> bool {
    matches!(stat.state, 'Z' | 'X' | 'x') && stat.num_threads <= 1
}

/// Sends a signal to exactly this process; `false` if it is gone or its pid now belongs to another process.
pub fn send_signal(identity: &ProcessIdentity, signal: StopSignal) -> bool {
    open_pidfd(identity).is_some_and(|handle| signal_pidfd(&handle, signal))
}

fn signal_pidfd(handle: &OwnedFd, signal: StopSignal) -> bool {
    let number = match signal {
        StopSignal::Interrupt => Signal::INT,
        StopSignal::Terminate => Signal::TERM,
        StopSignal::Kill => Signal::KILL,
    };
    rustix::process::pidfd_send_signal(handle, number).is_ok()
}

/// A handle of exactly this process. It never refers to another process, even if the pid is reused.
pub(super) fn open_pidfd(identity: &ProcessIdentity) -> Option<OwnedFd> {
    let handle = rustix::process::pidfd_open(Pid::from_raw(identity.pid.cast_signed())?, PidfdFlags::empty()).ok()?;
    // The pidfd was opened before this check: if the pid still belongs to the process now, it did when the pidfd was opened.
    (self::identify(identity.pid).as_ref() == Some(identity)).then_some(handle)
}

/// Every process below `root`, including those that changed their session: as child subreaper, `root` adopts the orphans.
pub fn process_tree(root: u32) -> ProcessTree {
    let processes = list_processes();
    let mut tree = ProcessTree::default();
    let mut children: HashMap<u32, Vec<&ProcessInfo>> = HashMap::new();
    for process in &processes {
        children.entry(process.parent_pid).or_default().push(process);
    }
    let mut pending: Vec<(u32, bool)> = vec![(root, false)];
    while let Some((parent, in_nested)) = pending.pop() {
        for process in children.get(&parent).into_iter().flatten() {
            let is_nested = !in_nested && supervised_run(process.identity.pid).is_some();
            pending.push((process.identity.pid, in_nested || is_nested));
            let list = if in_nested {
                &mut tree.nested_descendants
            } else if is_nested {
                &mut tree.nested_supervisors
            } else {
                &mut tree.own
            };
            list.push((*process).clone());
        }
    }
    tree
}

/// The processes of a run that has lost its reaper: the known ones, those with the run's mark (its `bin` folder as the first
/// entry of PATH), and all descendants of both. Only processes of the same user are visible.
pub fn marked_processes(bin: &Path, known: &[ProcessIdentity]) -> Vec<ProcessInfo> {
    let processes = list_processes();
    // Other entries may precede it (a virtual environment, npx). In a nested run, its own folder precedes its parent's.
    let is_ours = |process: &&ProcessInfo| {
        known.contains(&process.identity)
            || path_entries(process.identity.pid)
                .iter()
                .find(|entry| is_run_bin(entry))
                .is_some_and(|entry| entry == bin)
    };
    let mut found: Vec<ProcessInfo> = processes.iter().filter(is_ours).cloned().collect();
    // A process that dropped its environment is found through its parent.
    let mut next = 0;
    while let Some(parent) = found.get(next).map(|process| process.identity.pid) {
        let is_found = |process: &&ProcessInfo| found.iter().any(|other| other.identity == process.identity);
        let children: Vec<ProcessInfo> =
            processes.iter().filter(|process| process.parent_pid == parent && !is_found(process)).cloned().collect();
        found.extend(children);
        next += 1;
    }
    found
}

fn is_run_bin(entry: &Path) -> bool {
    entry.ends_with("bin") && entry.parent().is_some_and(|folder| RunFolder::from_path(folder).is_ok())
}

fn path_entries(pid: u32) -> Vec<PathBuf> {
    let environment = Process::new(pid.cast_signed()).and_then(|process| process.environ()).unwrap_or_default();
    let path = environment.get(std::ffi::OsStr::new("PATH")).cloned().unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// The run that a process supervises: it has `supervise FOLDER` on its command line and holds the lock of that folder.
fn supervised_run(pid: u32) -> Option<RunFolder> {
    let line = Process::new(pid.cast_signed()).ok()?.cmdline().ok()?;
    let folder = line.get(1).filter(|verb| *verb == "supervise").and(line.get(2))?;
    let folder = RunFolder::from_path(Path::new(folder)).ok()?;
    // The process of a run with an unknown owner still belongs to that run.
    (!probe_owner(&folder.lock()).is_free()).then_some(folder)
}

/// All living processes, without zombies.
fn list_processes() -> Vec<ProcessInfo> {
    let boot_id = clock::boot_id();
    let all = procfs::process::all_processes().into_iter().flatten().flatten();
    let stats = all.filter_map(|process| process.stat().ok()).filter(|stat| !is_dead(stat));
    stats
        .map(|stat| ProcessInfo {
            identity: ProcessIdentity {
                pid: stat.pid.unsigned_abs(),
                start_ticks: stat.starttime,
                boot_id: boot_id.to_owned(),
            },
            parent_pid: stat.ppid.unsigned_abs(),
            process_group: Some(stat.pgrp.unsigned_abs()),
            name: stat.comm,
        })
        .collect()
}

/// Reaps every child that has ended. Otherwise this subreaper would collect the zombies of the whole run.
pub fn reap() -> Vec<(u32, Exit)> {
    std::iter::from_fn(|| rustix::process::wait(WaitOptions::NOHANG).ok().flatten())
        .filter_map(|(pid, status)| Some((pid.as_raw_nonzero().get().unsigned_abs(), to_exit(status)?)))
        .collect()
}

fn to_exit(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Counts all processes ever seen, each once.
#[derive(Debug, Default)]
pub struct SeenProcesses(HashSet<(u32, u64)>);

impl SeenProcesses {
    /// Adds all processes of a tree.
    pub fn add_tree(&mut self, tree: &ProcessTree) {
        self.0.extend(tree.all().map(|process| (process.identity.pid, process.identity.start_ticks)));
    }

    /// The number of processes seen.
    pub fn count(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn another_process_with_the_same_pid_is_not_signalled() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep");
        let own = identify(child.id()).expect("alive");
        let earlier = ProcessIdentity { start_ticks: own.start_ticks.wrapping_sub(1), ..own.clone() };
        let before_boot = ProcessIdentity { boot_id: "another".to_owned(), ..own.clone() };
        assert!(!send_signal(&earlier, StopSignal::Kill));
        assert!(!send_signal(&before_boot, StopSignal::Kill));
        assert!(child.try_wait().expect("status").is_none(), "it is alive");
        assert!(send_signal(&own, StopSignal::Kill));
        child.wait().expect("wait");
        assert!(!send_signal(&own, StopSignal::Kill), "the process was reaped");
    }

    /// Forces the race: the process ends between its identification and the signal.
    #[test]
    fn f11_a_process_that_ends_between_the_check_and_the_signal_keeps_its_exit_code() {
        let mut child = Command::new("sh").args(["-c", "read line; exit 3"]).stdin(Stdio::piped()).spawn().expect("sh");
        let own = identify(child.id()).expect("alive");
        let pidfd = open_pidfd(&own).expect("pidfd");
        drop(child.stdin.take());
        while is_alive(&own) {
            std::thread::yield_now();
        }
        // A signal does not change the exit status of a zombie.
        signal_pidfd(&pidfd, StopSignal::Kill);
        send_signal(&own, StopSignal::Kill);
        assert_eq!(child.wait().expect("wait").code(), Some(3));
        assert!(
            !signal_pidfd(&pidfd, StopSignal::Kill),
            "after the reap, the pidfd refers to no process, even if the pid is reused"
        );
        assert!(!send_signal(&own, StopSignal::Kill));
    }

    #[test]
    fn all_descendants_are_found_by_parent_and_by_the_mark_in_path() {
        let folder = tempfile::tempdir().expect("temp");
        let bin = folder.path().join("mg-00000000/bin");
        let path = |first: &str| format!("{first}{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
        let script = "sleep 60 & env -i /bin/sleep 60 & sleep 60; true";
        let mut child = Command::new("sh").args(["-c", script]).env("PATH", path("/elsewhere:")).spawn().expect("sh");
        let of_child = || process_tree(child.id()).own;
        while of_child().iter().filter(|process| process.name == "sleep").count() < 3 {
            std::thread::yield_now();
        }
        let marked = marked_processes(&bin, &[]);
        assert_eq!(marked.len(), 4, "{marked:?}");
        assert_eq!(
            marked_processes(Path::new("/nowhere"), &[identify(child.id()).expect("alive")]).len(),
            4,
            "known processes and their descendants are included"
        );
        assert!(process_tree(child.id()).nested_supervisors.is_empty());
        let processes: Vec<_> = marked.into_iter().map(|process| process.identity).collect();
        assert!(processes.iter().all(|identity| send_signal(identity, StopSignal::Kill)));
        child.wait().expect("wait");
    }
}
