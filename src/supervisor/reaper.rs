//! The parent of MassGen's process, which reaps all processes below it: this supervisor itself, or, after a warm start, the keeper
//! that the warm process forked. It reports which processes have ended and which remain; it sends no signals.

use std::path::{Path, PathBuf};

use super::group::{self, ProcessTree};
use crate::pidfd::Pidfd;
use crate::run::{Exit, ProcessIdentity};
use crate::warm::{KeeperConnection, KeeperEvent};

/// The process that reaps a run's processes.
pub(super) enum Reaper {
    /// This supervisor, as child subreaper. It has no child until MassGen's process is started.
    Supervisor(Option<LeaderChild>),
    /// The keeper of a warm start, which is the subreaper of all processes below it.
    Keeper(KeeperReaper),
}

/// MassGen's process as a child of this supervisor. Its pidfd reports its end, which SIGCHLD alone might miss.
pub(super) struct LeaderChild {
    pid: u32,
    pidfd: Pidfd,
}

impl LeaderChild {
    /// `None` if no file descriptor is available; then only SIGCHLD reports the end.
    pub(super) fn new(leader: &ProcessIdentity) -> Option<LeaderChild> {
        Some(LeaderChild { pid: leader.pid, pidfd: Pidfd::from_fd(group::open_pidfd(leader)?).ok()? })
    }
}

/// A run with a keeper.
pub(super) struct KeeperReaper {
    connection: KeeperConnection,
    keeper: ProcessIdentity,
    leader: ProcessIdentity,
    /// The first entry in the PATH of all processes that MassGen starts; see [`group::marked_processes`].
    bin: PathBuf,
    /// The leader's exit as the keeper reported it.
    leader_exit: Option<Exit>,
    /// Whether that exit was passed on.
    is_reported: bool,
    is_disconnected: bool,
}

impl KeeperReaper {
    pub(super) fn new(
        link: KeeperConnection,
        keeper: ProcessIdentity,
        leader: ProcessIdentity,
        bin: &Path,
    ) -> KeeperReaper {
        KeeperReaper {
            connection: link,
            keeper,
            leader,
            bin: bin.to_owned(),
            leader_exit: None,
            is_reported: false,
            is_disconnected: false,
        }
    }

    fn reap(&mut self) -> Vec<(u32, Exit)> {
        let mut ended = Vec::new();
        for event in self.connection.events() {
            match event {
                KeeperEvent::LeaderExited { exit, left } => {
                    self.leader_exit = Some(exit);
                    // If no process remains, the keeper is about to exit; its exit ends the run.
                    ended.extend(left.then_some((self.leader.pid, exit)));
                    self.is_reported = left;
                }
                KeeperEvent::Disconnected => {
                    self.is_disconnected = true;
                    // The keeper died first. Its death signal killed the leader, so the exit status is unknown.
                    let exit = self.leader_exit.unwrap_or(Exit::Unknown);
                    ended.extend((!self.is_reported).then_some((self.leader.pid, exit)));
                }
            }
        }
        ended
    }

    /// The keeper exits by itself once no process remains below it, and never before the leader.
    fn has_no_processes(&self) -> bool {
        self.is_disconnected && self.leader_exit.is_some()
    }

    fn process_tree(&self) -> ProcessTree {
        if self.has_no_processes() {
            return ProcessTree::default();
        }
        let tree = group::process_tree(self.keeper.pid);
        // The keeper still has the same identity after the scan, so the pid was not reused during it.
        if !self.is_disconnected && group::is_alive(&self.keeper) {
            return tree;
        }
        ProcessTree {
            own: group::marked_processes(&self.bin, std::slice::from_ref(&self.leader)),
            ..ProcessTree::default()
        }
    }
}

impl Reaper {
    /// Resolves when a process below may have ended, whether or not this process gets a signal for it.
    pub(super) async fn wait_for_exits(&self) {
        match self {
            Reaper::Supervisor(None) => std::future::pending().await,
            Reaper::Supervisor(Some(child)) => child.pidfd.wait_for_exit().await,
            Reaper::Keeper(keeper) => keeper.connection.readable().await,
        }
    }

    /// The processes that have ended since the last call.
    pub(super) fn reap(&mut self) -> Vec<(u32, Exit)> {
        match self {
            Reaper::Supervisor(child) => {
                let ended = group::reap();
                child.take_if(|child| ended.iter().any(|(pid, _)| *pid == child.pid));
                ended
            }
            Reaper::Keeper(keeper) => keeper.reap(),
        }
    }

    /// All processes of the run.
    pub(super) fn process_tree(&self) -> ProcessTree {
        match self {
            Reaper::Supervisor(_) => group::process_tree(std::process::id()),
            Reaper::Keeper(keeper) => keeper.process_tree(),
        }
    }

    /// Whether no process remains, as the kernel reports it to this process or to the keeper. If the keeper was killed, a scan of
    /// /proc decides.
    pub(super) fn has_no_processes(&self) -> bool {
        match self {
            Reaper::Supervisor(_) => group::has_no_children(),
            Reaper::Keeper(keeper) => {
                keeper.has_no_processes() || (keeper.is_disconnected && keeper.process_tree().own.is_empty())
            }
        }
    }

    /// Releases the keeper: the run is over, and this supervisor does not own nested runs that are still live.
    pub(super) fn release(self) {
        match self {
            Reaper::Supervisor(_) => {}
            Reaper::Keeper(keeper) => keeper.connection.release(),
        }
    }
}
