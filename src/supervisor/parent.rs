//! Who has MassGen's process for a child and reaps what ends below: this supervisor itself, or, after a warm start, the keeper that
//! the warm process forked. It says what has ended and who is there; it signals nobody.

use std::path::{Path, PathBuf};

use super::group::{self, Family};
use crate::pidfd::Pidfd;
use crate::run::{Exit, ProcessMark};
use crate::warm::{Keeper, News};

/// Who reaps the processes of a run.
pub(super) enum Parent {
    /// This supervisor, as child subreaper. Until MassGen's process is started it has no child.
    Supervisor(Option<Child>),
    /// The keeper of a warm start, which is one for all that is below it.
    Keeper(Kept),
}

/// MassGen's process as a child of this supervisor. Its pidfd tells its end, which SIGCHLD alone might not.
pub(super) struct Child {
    pid: u32,
    pidfd: Pidfd,
}

impl Child {
    /// None where no file descriptor is left; then SIGCHLD has to do.
    pub(super) fn new(leader: &ProcessMark) -> Option<Child> {
        Some(Child { pid: leader.pid, pidfd: Pidfd::of(group::handle(leader)?).ok()? })
    }
}

/// A run with a keeper.
pub(super) struct Kept {
    link: Keeper,
    keeper: ProcessMark,
    leader: ProcessMark,
    /// First in the PATH of all that MassGen starts; see [`group::kin`].
    bin: PathBuf,
    /// The leader's end, as the keeper told it.
    end: Option<Exit>,
    /// Whether that was passed on.
    is_told: bool,
    is_gone: bool,
}

impl Kept {
    pub(super) fn new(link: Keeper, keeper: ProcessMark, leader: ProcessMark, bin: &Path) -> Kept {
        Kept { link, keeper, leader, bin: bin.to_owned(), end: None, is_told: false, is_gone: false }
    }

    fn reap(&mut self) -> Vec<(u32, Exit)> {
        let mut ended = Vec::new();
        for news in self.link.news() {
            match news {
                News::Ended { exit, left } => {
                    self.end = Some(exit);
                    // Where nothing is left, the keeper goes in a moment; the run is over when it has.
                    ended.extend(left.then_some((self.leader.pid, exit)));
                    self.is_told = left;
                }
                News::Gone => {
                    self.is_gone = true;
                    // Before the leader's end it was ended by somebody, and with it, by its parent-death signal, the leader,
                    // whose end nobody saw.
                    let exit = self.end.unwrap_or(Exit::Unknown);
                    ended.extend((!self.is_told).then_some((self.leader.pid, exit)));
                }
            }
        }
        ended
    }

    /// It goes by itself when nothing is left below it, and not before the leader's end.
    fn has_nobody(&self) -> bool {
        self.is_gone && self.end.is_some()
    }

    fn family(&self) -> Family {
        if self.has_nobody() {
            return Family::default();
        }
        let family = group::family(self.keeper.pid);
        // Still the same process after the look, so it was during the look.
        if !self.is_gone && group::lives(&self.keeper) {
            return family;
        }
        Family { own: group::kin(&self.bin, std::slice::from_ref(&self.leader)), ..Family::default() }
    }
}

impl Parent {
    /// Resolves when something below may have ended, whether or not this process gets a signal for it.
    pub(super) async fn stirs(&self) {
        match self {
            Parent::Supervisor(None) => std::future::pending().await,
            Parent::Supervisor(Some(child)) => child.pidfd.ended().await,
            Parent::Keeper(kept) => kept.link.stirs().await,
        }
    }

    /// What has ended since the last time.
    pub(super) fn reap(&mut self) -> Vec<(u32, Exit)> {
        match self {
            Parent::Supervisor(child) => {
                let ended = group::reap();
                child.take_if(|child| ended.iter().any(|(pid, _)| *pid == child.pid));
                ended
            }
            Parent::Keeper(kept) => kept.reap(),
        }
    }

    /// All processes of the run.
    pub(super) fn family(&self) -> Family {
        match self {
            Parent::Supervisor(_) => group::family(std::process::id()),
            Parent::Keeper(kept) => kept.family(),
        }
    }

    /// Whether nobody is left, by the word of the kernel: to this process, or to the keeper. Where the keeper was ended, a look has
    /// to do.
    pub(super) fn is_childless(&self) -> bool {
        match self {
            Parent::Supervisor(_) => group::childless(),
            Parent::Keeper(kept) => kept.has_nobody() || (kept.is_gone && kept.family().own.is_empty()),
        }
    }

    /// The run is over: what it may have left, nested runs that are to live on, is nobody's business any more.
    pub(super) fn dismiss(self) {
        match self {
            Parent::Supervisor(_) => {}
            Parent::Keeper(kept) => kept.link.dismiss(),
        }
    }
}
