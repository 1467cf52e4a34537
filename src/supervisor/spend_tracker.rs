//! Tracks the spend of a run: its own spend, that of other MassGen processes that its agents started, and that of the runs below
//! it. It only counts. A recorded spend never decreases, whatever is reported or removed later.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::budget::{BudgetDecision, BudgetPolicy};
use crate::massgen::files::{FileVersion, RunFiles};
use crate::massgen::layout::Layout;
use crate::massgen::status;
use crate::registry::{RunFolder, StateFolder};
use crate::run::{Digest, RunId, RunRecord, Spend};

#[derive(Debug, Default)]
pub(super) struct SpendTracker {
    pub(super) policy: BudgetPolicy,
    own_spend: Spend,
    /// By log folder: the version of the status.json last read, and the spend in it.
    other_massgens: BTreeMap<PathBuf, (Option<FileVersion>, Spend)>,
    /// The own spend of each run below, of all generations.
    descendants: BTreeMap<RunId, DescendantSpend>,
}

#[derive(Debug, Default)]
struct DescendantSpend {
    spent: Spend,
    /// The run spends no more and starts no more runs.
    is_final: bool,
}

impl SpendTracker {
    pub(super) fn new(meter: BudgetPolicy) -> SpendTracker {
        SpendTracker { policy: meter, ..SpendTracker::default() }
    }

    /// The spend without the runs below.
    pub(super) fn spent(&self) -> Spend {
        self.own_spend + self.other_massgens.values().map(|(_, spent)| *spent).sum()
    }

    /// The spend of the runs below.
    pub(super) fn spent_by_descendants(&self) -> Spend {
        self.descendants.values().map(|below| below.spent).sum()
    }

    /// The decision for the total spend.
    pub(super) fn decide(&self) -> BudgetDecision {
        self.policy.decide(self.spent() + self.spent_by_descendants())
    }

    /// Counts the spend in the run's own status.
    pub(super) fn update_own(&mut self, digest: Option<&Digest>) {
        let now = digest.map(|digest| self.policy.own_spend(digest)).unwrap_or_default();
        self.own_spend = now.component_max(self.own_spend);
    }

    /// Counts the spend of other MassGen processes in the run's folder, if their status.json has changed and is complete.
    pub(super) fn update_other_massgens(&mut self, files: &RunFiles, own: &Path) {
        for layout in Layout::find_others(files, own) {
            let (version, spend) = self.other_massgens.entry(layout.log.clone()).or_default();
            let stamp = files.version(&layout.status());
            if stamp == *version {
                continue;
            }
            let bytes = files.head(&layout.status(), status::MAX_BYTES);
            // The file is incomplete, too large or does not exist yet: the previous value stays valid.
            let Some(digest) = bytes.ok().and_then(|bytes| status::digest(&bytes).ok()) else { continue };
            *spend = self.policy.own_spend(&digest).component_max(*spend);
            *version = stamp;
        }
    }

    /// Counts each run below separately: a run whose parent was stopped alone continues to spend.
    pub(super) fn update_descendants(&mut self, state: &StateFolder, folder: &RunFolder) {
        let mut next: Vec<RunId> = folder.child_runs();
        next.extend(self.descendants.keys().cloned());
        let mut visited = BTreeSet::new();
        while let Some(id) = next.pop() {
            let known = self.descendants.entry(id.clone()).or_default();
            if known.is_final || !visited.insert(id.clone()) {
                continue;
            }
            if let Ok(record) = state.load(&id) {
                *known =
                    DescendantSpend { spent: record.spent.component_max(known.spent), is_final: is_final(&record) };
            }
            next.extend(state.run_folder(&id).child_runs());
        }
    }

    /// The runs below that may still spend.
    pub(super) fn active_descendants(&self) -> impl Iterator<Item = &RunId> {
        self.descendants.iter().filter(|(_, below)| !below.is_final).map(|(id, _)| id)
    }
}

/// The record of a run that ended is final.
fn is_final(record: &RunRecord) -> bool {
    record.state.ending().is_some()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::{Durability, InitialFiles, OwnerLock};
    use crate::run::{AgentDigest, ConfigChoice, Ending, Exit, Moment, Outcome, RunSpec, RunState, Usd};

    fn costs(usd: f64) -> Digest {
        let agent = AgentDigest { id: "a".to_owned(), cost_usd: Some(usd), tokens: Some(1), ..AgentDigest::default() };
        Digest { cost_usd: Some(usd), agents: vec![agent], ..Digest::default() }
    }

    #[test]
    fn a_decreasing_own_cost_does_not_hide_the_spend_of_descendants() {
        let mut tracker = SpendTracker::default();
        tracker.update_own(Some(&costs(0.5)));
        tracker.update_own(Some(&costs(0.25)));
        let below = DescendantSpend { spent: Spend { usd: Usd(250_000), ..Spend::default() }, is_final: true };
        tracker.descendants.insert(RunId::from_bytes([0, 0, 0, 0, 1]), below);
        assert_eq!((tracker.spent() + tracker.spent_by_descendants()).usd, Usd(750_000));
    }

    #[test]
    fn the_spend_of_other_massgens_in_the_folder_stays_counted() {
        let root = tempfile::tempdir().expect("temp");
        let status = root.path().join("logs/log_2/turn_1/attempt_1/status.json");
        std::fs::create_dir_all(status.parent().expect("folder")).expect("mkdir");
        let text = serde_json::json!({"costs": {"total_estimated_cost": 0.75, "total_input_tokens": 3}});
        std::fs::write(&status, text.to_string()).expect("written");
        let files = RunFiles::open(root.path()).expect("open");
        let mut tracker = SpendTracker::default();
        tracker.update_other_massgens(&files, Path::new("logs/log_1"));
        assert_eq!(tracker.spent().usd, Usd(750_000));
        std::fs::remove_dir_all(root.path().join("logs")).expect("removed");
        tracker.update_other_massgens(&files, Path::new("logs/log_1"));
        assert_eq!(tracker.spent().usd, Usd(750_000));
    }

    fn id(n: u8) -> RunId {
        RunId::from_bytes([0, 0, 0, 0, n])
    }

    fn create_run(state: &StateFolder, n: u8) -> (RunFolder, OwnerLock) {
        let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
        let spec = RunSpec::new(id(n), "q", config, "/p".into(), "/m".into());
        state.create(&spec, InitialFiles::default()).expect("created")
    }

    fn save(state: &StateFolder, (folder, lock): &(RunFolder, OwnerLock), run: RunState, usd: u64) {
        let mut record = state.load(&folder.id().expect("a name")).expect("loaded");
        (record.state, record.spent) = (run, Spend { usd: Usd(usd), ..Spend::default() });
        record.seq += 1;
        folder.save(&record, lock, Durability::NotSynced).expect("saved");
    }

    fn ended() -> RunState {
        RunState::Ended(Ending {
            outcome: Outcome::Succeeded,
            exit: Exit::Code(0),
            ended_at: Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: 0, boot_id: String::new() },
            duration: Duration::ZERO,
            answer: None,
            stop: None,
            warnings: Vec::new(),
        })
    }

    #[test]
    fn descendants_of_all_generations_are_counted_until_they_end() {
        let root = tempfile::tempdir().expect("temp");
        let state = StateFolder::open(root.path()).expect("opened");
        let [top, child, grandchild] = [1, 2, 3].map(|n| create_run(&state, n));
        top.0.record_child(&id(2)).expect("recorded");
        child.0.record_child(&id(3)).expect("recorded");
        save(&state, &child, RunState::Starting { leader: None }, 5);
        save(&state, &grandchild, RunState::Starting { leader: None }, 7);

        let mut tracker = SpendTracker::default();
        let mut update = || {
            tracker.update_descendants(&state, &top.0);
            let active: Vec<RunId> = tracker.active_descendants().cloned().collect();
            (tracker.spent_by_descendants().usd, active)
        };
        assert_eq!(update(), (Usd(12), vec![id(2), id(3)]));
        save(&state, &child, ended(), 6);
        assert_eq!(update(), (Usd(13), vec![id(3)]), "the descendant of the ended run is still live");
        save(&state, &grandchild, RunState::Starting { leader: None }, 1);
        assert_eq!(update(), (Usd(13), vec![id(3)]), "a spend never decreases");
        std::fs::remove_dir_all(child.0.path()).expect("removed");
        save(&state, &grandchild, ended(), 8);
        assert_eq!(update(), (Usd(14), vec![]), "a removed run stays counted");
    }

    #[test]
    fn a_cycle_of_runs_is_counted_once() {
        let root = tempfile::tempdir().expect("temp");
        let state = StateFolder::open(root.path()).expect("opened");
        let run = create_run(&state, 1);
        run.0.record_child(&id(1)).expect("recorded");
        save(&state, &run, RunState::Starting { leader: None }, 5);
        let mut tracker = SpendTracker::default();
        tracker.update_descendants(&state, &run.0);
        assert_eq!(tracker.spent_by_descendants().usd, Usd(5));
    }
}
