//! What a run has spent so far: by itself, by the other MassGens that its agents started, by the runs below it. It only counts;
//! what was once seen spent stays spent, whatever is shown or removed later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::budget::{Meter, Verdict};
use crate::massgen::files::{RunFiles, Stamp};
use crate::massgen::layout::Layout;
use crate::massgen::status;
use crate::registry::{RunFolder, StateFolder};
use crate::run::{Digest, RunId, RunRecord, Spent};

#[derive(Debug, Default)]
pub(super) struct Purse {
    pub(super) meter: Meter,
    own: Spent,
    /// By log folder, with the status.json that it was last read from.
    others: BTreeMap<PathBuf, (Option<Stamp>, Spent)>,
    /// Of each run below, all generations, what it spent by itself.
    below: BTreeMap<RunId, Below>,
}

#[derive(Debug, Default)]
struct Below {
    spent: Spent,
    /// It spends no more and starts no more.
    is_over: bool,
}

impl Purse {
    pub(super) fn new(meter: Meter) -> Purse {
        Purse { meter, ..Purse::default() }
    }

    /// What was spent without the runs below.
    pub(super) fn spent(&self) -> Spent {
        self.own + self.others.values().map(|(_, spent)| *spent).sum()
    }

    /// What the runs below have spent.
    pub(super) fn spent_below(&self) -> Spent {
        self.below.values().map(|below| below.spent).sum()
    }

    /// What follows from all that was spent.
    pub(super) fn verdict(&self) -> Verdict {
        self.meter.verdict(self.spent() + self.spent_below())
    }

    /// Counts what the run's own status tells.
    pub(super) fn count_own(&mut self, digest: Option<&Digest>) {
        let now = digest.map(|digest| self.meter.own(digest)).unwrap_or_default();
        self.own = now.at_least(self.own);
    }

    /// Counts what the other MassGens in the run's folder say, each where its status.json has changed and is whole.
    pub(super) fn count_others(&mut self, files: &RunFiles, own: &Path) {
        for layout in Layout::others(files, own) {
            let (seen, before) = self.others.entry(layout.log.clone()).or_default();
            let stamp = files.stamp(&layout.status());
            if stamp == *seen {
                continue;
            }
            let bytes = files.head(&layout.status(), status::MOST_BYTES);
            // Torn, too large or not there yet: what it said before holds.
            let Some(digest) = bytes.ok().and_then(|bytes| status::digest(&bytes).ok()) else { continue };
            *before = self.meter.own(&digest).at_least(*before);
            *seen = stamp;
        }
    }

    /// Counts the runs below, each for itself: one whose parent was stopped alone goes on spending.
    pub(super) fn count_below(&mut self, state: &StateFolder, folder: &RunFolder) {
        let mut next: Vec<RunId> = folder.child_runs();
        next.extend(self.below.keys().cloned());
        let mut looked = BTreeSet::new();
        while let Some(id) = next.pop() {
            let known = self.below.entry(id.clone()).or_default();
            if known.is_over || !looked.insert(id.clone()) {
                continue;
            }
            if let Ok(record) = state.load(&id) {
                *known = Below { spent: record.spent.at_least(known.spent), is_over: is_over(&record) };
            }
            next.extend(state.folder(&id).child_runs());
        }
    }

    /// The runs below of which more is to be expected.
    pub(super) fn watched_below(&self) -> impl Iterator<Item = &RunId> {
        self.below.iter().filter(|(_, below)| !below.is_over).map(|(id, _)| id)
    }
}

/// The record of a run that ended is final.
fn is_over(record: &RunRecord) -> bool {
    record.state.ended().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{AgentDigest, Usd};

    fn costs(usd: f64) -> Digest {
        let agent = AgentDigest { id: "a".to_owned(), cost_usd: Some(usd), tokens: Some(1), ..AgentDigest::default() };
        Digest { cost_usd: Some(usd), agents: vec![agent], ..Digest::default() }
    }

    #[test]
    fn a_cost_that_falls_hides_nothing_that_others_spend() {
        let mut purse = Purse::default();
        purse.count_own(Some(&costs(0.5)));
        purse.count_own(Some(&costs(0.25)));
        let below = Below { spent: Spent { usd: Usd(250_000), ..Spent::default() }, is_over: true };
        purse.below.insert(RunId::from_bytes([0, 0, 0, 0, 1]), below);
        assert_eq!((purse.spent() + purse.spent_below()).usd, Usd(750_000));
    }

    #[test]
    fn other_massgens_in_the_folder_are_counted_and_stay_counted() {
        let root = tempfile::tempdir().expect("temp");
        let status = root.path().join("logs/log_2/turn_1/attempt_1/status.json");
        std::fs::create_dir_all(status.parent().expect("folder")).expect("mkdir");
        let text = serde_json::json!({"costs": {"total_estimated_cost": 0.75, "total_input_tokens": 3}});
        std::fs::write(&status, text.to_string()).expect("written");
        let files = RunFiles::open(root.path()).expect("open");
        let mut purse = Purse::default();
        purse.count_others(&files, Path::new("logs/log_1"));
        assert_eq!(purse.spent().usd, Usd(750_000));
        std::fs::remove_dir_all(root.path().join("logs")).expect("removed");
        purse.count_others(&files, Path::new("logs/log_1"));
        assert_eq!(purse.spent().usd, Usd(750_000));
    }
}
