//! Who has MassGen's process for a child and reaps what ends below: this supervisor itself, or, after a warm start, the keeper that
//! the warm process forked. It reports which processes have ended and which are left; it sends no signals.

use std::path::{Path, PathBuf};

use super::group::{self, ProcessTree};
use crate::pidfd::Pidfd;
use crate::run::{Exit, ProcessIdentity};
use crate::warm::{KeeperConnection, KeeperEvent};

/// Who reaps the processes of a run.
pub(super) enum Reaper {
    /// This supervisor, as child subreaper. Until MassGen's process is started it has no child.
    Supervisor(Option<LeaderChild>),
    /// The keeper of a warm start, which is one for all that is below it.
    Keeper(KeeperReaper),
}

/// MassGen's process as a child of this supervisor. Its pidfd tells its end, which SIGCHLD alone might not.
pub(super) struct LeaderChild {
    pid: u32,
    pidfd: Pidfd,
}

impl LeaderChild {
    /// None where no file descriptor is left; then SIGCHLD has to do.
    pub(super) fn new(leader: &ProcessIdentity) -> Option<LeaderChild> {
        Some(LeaderChild { pid: leader.pid, pidfd: Pidfd::from_fd(group::open_pidfd(leader)?).ok()? })
    }
}

/// A run with a keeper.
pub(super) struct KeeperReaper {
    connection: KeeperConnection,
    keeper: ProcessIdentity,
    leader: ProcessIdentity,
    /// First in the PATH of all that MassGen starts; see [`group::marked_processes`].
    bin: PathBuf,
    /// The leader's end, as the keeper told it.
    leader_exit: Option<Exit>,
    /// Whether that was passed on.
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
        for news in self.connection.events() {
            match news {
                KeeperEvent::LeaderExited { exit, left } => {
                    self.leader_exit = Some(exit);
                    // Where nothing is left, the keeper goes in a moment; the run is over when it has.
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

    /// It goes by itself when nothing is left below it, and not before the leader's end.
    fn has_no_processes(&self) -> bool {
        self.is_disconnected && self.leader_exit.is_some()
    }

    fn process_tree(&self) -> ProcessTree {
        if self.has_no_processes() {
            return ProcessTree::default();
        }
        let family = group::process_tree(self.keeper.pid);
        // The keeper still has the same identity after the scan, so the pid was not reused during it.
        if !self.is_disconnected && group::is_alive(&self.keeper) {
            return family;
        }
        ProcessTree {
            own: group::marked_processes(&self.bin, std::slice::from_ref(&self.leader)),
            ..ProcessTree::default()
        }
    }
}

impl Reaper {
    /// Resolves when something below may have ended, whether or not this process gets a signal for it.
    pub(super) async fn wait_for_exits(&self) {
        match self {
            Reaper::Supervisor(None) => std::future::pending().await,
            Reaper::Supervisor(Some(child)) => child.pidfd.wait_for_exit().await,
            Reaper::Keeper(kept) => kept.connection.readable().await,
        }
    }

    /// What has ended since the last time.
    pub(super) fn reap(&mut self) -> Vec<(u32, Exit)> {
        match self {
            Reaper::Supervisor(child) => {
                let ended = group::reap();
                child.take_if(|child| ended.iter().any(|(pid, _)| *pid == child.pid));
                ended
            }
            Reaper::Keeper(kept) => kept.reap(),
        }
    }

    /// All processes of the run.
    pub(super) fn process_tree(&self) -> ProcessTree {
        match self {
            Reaper::Supervisor(_) => group::process_tree(std::process::id()),
            Reaper::Keeper(kept) => kept.process_tree(),
        }
    }

    /// Whether no process is left, as the kernel reports it to this process or to the keeper. Where the keeper was ended, a look has
    /// to do.
    pub(super) fn has_no_processes(&self) -> bool {
        match self {
            Reaper::Supervisor(_) => group::has_no_children(),
            Reaper::Keeper(kept) => {
                kept.has_no_processes() || (kept.is_disconnected && kept.process_tree().own.is_empty())
            }
        }
    }

    /// The run is over: what it may have left, nested runs that are to live on, is not this supervisor's task any more.
    pub(super) fn release(self) {
        match self {
            Reaper::Supervisor(_) => {}
            Reaper::Keeper(kept) => kept.connection.release(),
        }
    }
}
