//! Who has MassGen's process for a child and reaps what ends below: this supervisor itself, or, after a warm start, the keeper that
//! the warm process forked. It says what has ended and who is there; it signals nobody.

use std::path::{Path, PathBuf};

use super::group::{self, Family};
use crate::run::{Exit, ProcessMark};
use crate::warm::{Keeper, News};

/// Who reaps the processes of a run.
pub(super) enum Parent {
    /// This supervisor, as child subreaper.
    Supervisor,
    /// The keeper of a warm start, which is one for all that is below it.
    Keeper(Kept),
}

/// A run with a keeper.
pub(super) struct Kept {
    link: Keeper,
    keeper: ProcessMark,
    leader: ProcessMark,
    /// First in the PATH of all that MassGen starts; see [`group::kin`].
    bin: PathBuf,
    /// The leader's end was told.
    has_ended: bool,
    /// The keeper said that nothing is left below it, or went after the leader's end.
    is_alone: bool,
    is_gone: bool,
}

impl Kept {
    pub(super) fn new(link: Keeper, keeper: ProcessMark, leader: ProcessMark, bin: &Path) -> Kept {
        Kept { link, keeper, leader, bin: bin.to_owned(), has_ended: false, is_alone: false, is_gone: false }
    }

    fn reap(&mut self) -> Vec<(u32, Exit)> {
        let mut ended = Vec::new();
        for news in self.link.news() {
            match news {
                News::Ended { exit, left } => {
                    (self.has_ended, self.is_alone) = (true, !left);
                    ended.push((self.leader.pid, exit));
                }
                News::Gone => {
                    self.is_gone = true;
                    // It goes by itself when nothing is left. Before the leader's end it was ended by somebody, and with it, by
                    // its parent-death signal, the leader, whose end nobody saw.
                    self.is_alone = self.has_ended;
                    if !self.has_ended {
                        self.has_ended = true;
                        ended.push((self.leader.pid, Exit::Unknown));
                    }
                }
            }
        }
        ended
    }

    fn family(&self) -> Family {
        if self.is_alone {
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
    /// Resolves when something below may have ended that this process gets no signal for.
    pub(super) async fn stirs(&self) {
        match self {
            Parent::Supervisor => std::future::pending().await,
            Parent::Keeper(kept) => kept.link.stirs().await,
        }
    }

    /// What has ended since the last time.
    pub(super) fn reap(&mut self) -> Vec<(u32, Exit)> {
        match self {
            Parent::Supervisor => group::reap(),
            Parent::Keeper(kept) => kept.reap(),
        }
    }

    /// All processes of the run.
    pub(super) fn family(&self) -> Family {
        match self {
            Parent::Supervisor => group::family(std::process::id()),
            Parent::Keeper(kept) => kept.family(),
        }
    }

    /// Whether nobody is left, by the word of the kernel: to this process, or to the keeper. Where the keeper was ended, a look has
    /// to do.
    pub(super) fn is_childless(&self) -> bool {
        match self {
            Parent::Supervisor => group::childless(),
            Parent::Keeper(kept) => kept.is_alone || (kept.is_gone && kept.family().own.is_empty()),
        }
    }

    /// The run is over: what it may have left, nested runs that are to live on, is nobody's business any more.
    pub(super) fn dismiss(self) {
        match self {
            Parent::Supervisor => {}
            Parent::Keeper(kept) => kept.link.dismiss(),
        }
    }
}
