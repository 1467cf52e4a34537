//! The run's record: the only place in a supervisor that changes and writes it. It decides for each change whether waiters are notified
//! (a higher `seq`) and whether the write is synced. A failed write is repeated with the next change, an ending until it is on disk.

use std::path::PathBuf;
use std::time::Duration;

use crate::massgen::text;
use crate::provenance;
use crate::registry::{Durability, OwnerLock, RegistryError, RunFolder};
use crate::run::{
    AnswerSummary, ChangedFiles, Digest, Ending, Leader, Moment, ProcessIdentity, QuietPeriod, RunRecord, RunState,
    Spend, StopCause,
};
use crate::secrets::Secrets;

/// The interval between attempts to write an ending.
const SAVE_RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// How MassGen is about to be started.
pub(super) struct StartRoute {
    /// The process that forks MassGen, for a warm start.
    pub(super) keeper: Option<ProcessIdentity>,
    /// How long the run waited for that process to import MassGen, if it is worth a report.
    pub(super) import_wait: Option<Duration>,
    /// Why the start is cold.
    pub(super) cold_start_reason: Option<String>,
}

/// The changes in a new digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DigestChange {
    /// Anything differs from the digest before.
    pub(super) is_changed: bool,
    /// Whether waiters are to be notified.
    pub(super) is_notable: bool,
}

pub(super) struct RecordWriter {
    folder: RunFolder,
    record: RunRecord,
    lock: OwnerLock,
    /// Whether the last write failed.
    is_unsaved: bool,
}

impl RecordWriter {
    /// The writer of the run's supervisor, which holds `lock`. Nothing is written yet.
    pub(super) fn new(folder: RunFolder, record: RunRecord, lock: OwnerLock, started: Moment) -> RecordWriter {
        let record = RunRecord { started: Some(started), state: RunState::Starting { leader: None }, ..record };
        RecordWriter { folder, record, lock, is_unsaved: false }
    }

    /// The record as it is now.
    pub(super) fn get(&self) -> &RunRecord {
        &self.record
    }

    pub(super) fn into_record(self) -> RunRecord {
        self.record
    }

    /// Records that MassGen is about to start.
    ///
    /// # Errors
    ///
    /// The record is not on disk, so MassGen must not start.
    pub(super) fn plan_start(&mut self, route: StartRoute) -> Result<(), RegistryError> {
        (self.record.keeper, self.record.import_wait) = (route.keeper, route.import_wait);
        self.record.cold_start_reason = route.cold_start_reason;
        self.record.seq += 1;
        self.folder.save(&self.record, &self.lock, Durability::Synced)
    }

    /// Records MassGen's process.
    pub(super) fn leader_started(&mut self, leader: Leader) {
        self.record.state = RunState::Starting { leader: Some(leader) };
        // No fsync needed: `started` is durable already, and after a power cut no leader process remains to identify.
        self.save_and_notify(Durability::NotSynced);
    }

    /// Records MassGen's log folder once it exists: the run is under way. `true` if it was not known before. The caller saves it.
    pub(super) fn log_dir_found(&mut self, log_dir: PathBuf) -> bool {
        if self.record.log_dir.is_some() {
            return false;
        }
        self.record.log_dir = Some(log_dir);
        if let RunState::Starting { leader: Some(leader) } = &self.record.state {
            self.record.state = RunState::Running { leader: leader.clone() };
        }
        true
    }

    /// Stores a new digest in the record, if one is given. The caller saves it.
    pub(super) fn digest_read(&mut self, digest: Option<Digest>) -> DigestChange {
        let before = self.record.digest.as_ref();
        let change = DigestChange {
            is_changed: digest.is_some() && digest.as_ref() != before,
            is_notable: digest.as_ref().is_some_and(|digest| digest.is_notable_change(before)),
        };
        self.record.digest = digest.or(self.record.digest.take());
        change
    }

    /// Stores the spend of the run and of the runs below it in the record; `true` if the sum has changed. The caller saves it.
    pub(super) fn spend_counted(&mut self, spent: Spend, spent_by_descendants: Spend) -> bool {
        let before = self.record.total_spent();
        (self.record.spent, self.record.spent_by_descendants) = (spent, spent_by_descendants);
        self.record.total_spent() != before
    }

    /// Writes the record if it has changed, and repeats a write that failed.
    pub(super) fn publish(&mut self, is_changed: bool, is_notable: bool) {
        if is_notable {
            self.save_and_notify(Durability::NotSynced);
        } else if is_changed || self.is_unsaved {
            self.save(Durability::NotSynced);
        }
    }

    /// Records that the run is being stopped.
    pub(super) fn stopping(&mut self, cause: StopCause) {
        self.record.quiet = None;
        if let Some(leader) = self.record.state.leader().cloned() {
            self.record.state = RunState::Stopping { leader, cause };
            self.save_and_notify(Durability::Synced);
        }
    }

    /// Makes a complete answer available before MassGen ends.
    pub(super) fn answer_ready(&mut self, answer: AnswerSummary) {
        self.record.ready_answer = Some(answer);
        self.save_and_notify(Durability::NotSynced);
    }

    /// The end of a quiet period clears its entry in the record, and notifies waiters if it showed a problem.
    pub(super) fn activity_seen(&mut self) {
        match self.record.quiet.take().map(|quiet| quiet.problem(&quiet.sampled_at).is_some()) {
            Some(true) => self.save_and_notify(Durability::NotSynced),
            Some(false) => self.save(Durability::NotSynced),
            None => {}
        }
    }

    /// Records what a quiet run seems to do, and notifies waiters if that becomes a problem.
    pub(super) fn quiet_sampled(&mut self, quiet: QuietPeriod) {
        let code = |quiet: &QuietPeriod| quiet.problem(&quiet.sampled_at).map(|problem| problem.code);
        let is_news = self.record.quiet.as_ref().and_then(code) != code(&quiet);
        self.record.quiet = Some(quiet);
        if is_news {
            self.save_and_notify(Durability::NotSynced);
        } else {
            self.save(Durability::NotSynced);
        }
    }

    /// Writes the manifest, then the ending.
    pub(super) fn ended(&mut self, ending: Ending, changed_files: Option<ChangedFiles>, secrets: &Secrets) {
        self.record.quiet = None;
        self.record.changed_files = changed_files;
        self.record.state = RunState::Ended(ending);
        provenance::save_manifest(&self.folder, &self.record, &self.lock, secrets);
        // Waiters are notified before the fsync. A power cut in between turns the run into `lost`; its answer survives.
        self.save_and_notify(Durability::NotSynced);
        if let (Err(error), false) = (self.folder.sync_ending(&self.lock), self.is_unsaved) {
            tracing::warn!(error = text::error_chain(&error), "the ending may not survive a power cut");
        }
    }

    /// Repeats a failed write until the record is on disk or the run's folder is gone.
    pub(super) async fn retry_until_saved(&mut self) {
        // If the whole folder is gone, no process will read the ending.
        while self.is_unsaved && self.folder.path().exists() {
            tokio::time::sleep(SAVE_RETRY_INTERVAL).await;
            self.save(Durability::Synced);
        }
    }

    fn save_and_notify(&mut self, durability: Durability) {
        self.record.seq += 1;
        self.save(durability);
    }

    /// Writes the record. After a failure, the record counts as unsaved and is written again later.
    fn save(&mut self, durability: Durability) {
        let saved = self.folder.save(&self.record, &self.lock, durability);
        if let (Err(error), false) = (&saved, self.is_unsaved) {
            tracing::warn!(error = text::error_chain(error), "the record could not be written");
        }
        self.is_unsaved = saved.is_err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{InitialFiles, StateFolder};
    use crate::run::{ConfigChoice, RunSpec, Usd};

    fn writer(state: &StateFolder) -> RecordWriter {
        let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
        let spec = RunSpec::new(state.new_id().expect("id"), "q", config, "/p".into(), "/m".into());
        let (folder, lock) = state.create(&spec, InitialFiles::default()).expect("created");
        let record = folder.load().expect("loaded");
        let started = Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: 0, boot_id: String::new() };
        RecordWriter::new(folder, record, lock, started)
    }

    fn digest(cost_usd: f64) -> Digest {
        Digest { cost_usd: Some(cost_usd), ..Digest::default() }
    }

    #[test]
    fn only_notable_changes_notify_and_only_changes_are_written() {
        let root = tempfile::tempdir().expect("temp");
        let mut writer = writer(&StateFolder::open(root.path()).expect("opened"));
        let folder = writer.folder.clone();
        writer.publish(true, true);
        let before = folder.load().expect("loaded");
        assert_eq!(writer.digest_read(None), DigestChange { is_changed: false, is_notable: false });
        assert!(writer.digest_read(Some(digest(1.0))).is_changed);
        assert!(!writer.digest_read(Some(digest(1.0))).is_changed);
        writer.publish(false, false);
        assert_eq!(folder.load().expect("loaded").digest, None, "nothing was written");
        assert!(writer.spend_counted(Spend { usd: Usd(1), ..Spend::default() }, Spend::default()));
        writer.publish(true, false);
        let after = folder.load().expect("loaded");
        assert_eq!((after.seq, after.digest), (before.seq, Some(digest(1.0))), "growth alone does not notify");
    }

    #[test]
    fn a_failed_write_is_repeated_without_another_change() {
        let root = tempfile::tempdir().expect("temp");
        let mut writer = writer(&StateFolder::open(root.path()).expect("opened"));
        let (folder, moved) = (writer.folder.clone(), root.path().join("moved"));
        std::fs::rename(folder.path(), &moved).expect("moved");
        writer.publish(true, true);
        assert!(writer.is_unsaved);
        std::fs::rename(&moved, folder.path()).expect("moved");
        writer.publish(false, false);
        assert!(!writer.is_unsaved);
        assert_eq!(folder.load().expect("loaded").seq, writer.get().seq);
    }

    #[tokio::test]
    async fn retries_end_when_the_runs_folder_is_removed() {
        let root = tempfile::tempdir().expect("temp");
        let mut writer = writer(&StateFolder::open(root.path()).expect("opened"));
        std::fs::remove_dir_all(writer.folder.path()).expect("removed");
        writer.publish(true, true);
        writer.retry_until_saved().await;
        assert!(writer.is_unsaved);
    }

    #[test]
    fn the_log_folder_is_recorded_once_and_a_started_run_is_then_running() {
        let root = tempfile::tempdir().expect("temp");
        let mut writer = writer(&StateFolder::open(root.path()).expect("opened"));
        writer.leader_started(Leader { pid: 1, start_ticks: 2, boot_id: "b".to_owned() });
        assert!(writer.log_dir_found("logs/log_1".into()));
        assert!(matches!(writer.get().state, RunState::Running { .. }));
        assert!(!writer.log_dir_found("logs/log_2".into()));
        assert_eq!(writer.get().log_dir.as_deref(), Some(std::path::Path::new("logs/log_1")));
    }
}
