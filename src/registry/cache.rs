//! Cache of specs and settled records, validated by inode, size and change time of their files, which are only ever replaced whole. A
//! recently changed file could be replaced by another one with the same three values, so the record of a live run is cached only
//! after it has settled.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::run::{RunId, RunRecord, RunSpec};

/// The maximum number of entries: as many as one call can name.
const MAX_ENTRIES: usize = 100;
/// The longest question of a cached record, in bytes.
const MAX_CACHED_QUESTION_BYTES: usize = 4 << 10;

/// After this time no other file gets the same change time: the kernel updates its clock for files at least every 10 ms.
const SETTLE_TIME: Duration = Duration::from_millis(50);

/// The cached specs and records.
#[derive(Debug, Default)]
pub(super) struct RecordCache {
    specs: Mutex<CacheMap<RunSpec>>,
    records: Mutex<CacheMap<RunRecord>>,
}

/// Entries by run, each with the stamp of the file that it was read from.
type CacheMap<T> = HashMap<RunId, (FileStamp, T)>;

/// Distinguishes one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileStamp {
    inode: u64,
    bytes: u64,
    changed_at: (i64, i64),
}

impl FileStamp {
    /// The stamp of the file that is at a path now.
    pub(super) fn of_path(path: &Path) -> Option<FileStamp> {
        path.metadata().ok().map(|meta| FileStamp::from_metadata(&meta))
    }

    /// A time in whole seconds suggests a file system with coarse times, so such a file never counts as settled.
    fn has_settled(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanos @ 1..)) = (u64::try_from(self.changed_at.0), u32::try_from(self.changed_at.1))
        else {
            return false;
        };
        now.duration_since(UNIX_EPOCH + Duration::new(seconds, nanos)).is_ok_and(|age| age >= SETTLE_TIME)
    }

    fn from_metadata(meta: &Metadata) -> FileStamp {
        FileStamp { inode: meta.ino(), bytes: meta.len(), changed_at: (meta.ctime(), meta.ctime_nsec()) }
    }
}

impl RecordCache {
    /// The cached record of a run, if it was read from the file with this stamp.
    pub(super) fn record(&self, id: &RunId, stamp: Option<FileStamp>) -> Option<RunRecord> {
        lookup(&self.records, id, stamp?)
    }

    /// Caches a record that was read after its file's stamp was taken.
    pub(super) fn insert_record(&self, record: &RunRecord, stamp: Option<FileStamp>) {
        if let Some(stamp) =
            stamp.filter(|stamp| record.state.ending().is_some() || stamp.has_settled(SystemTime::now()))
        {
            insert(&self.records, &record.spec, stamp, record);
        }
    }

    /// The cached spec of a run, if it was read from the file with this stamp.
    pub(super) fn spec(&self, id: &RunId, stamp: FileStamp) -> Option<RunSpec> {
        lookup(&self.specs, id, stamp)
    }

    /// Caches a spec that was read after its file's stamp was taken.
    pub(super) fn insert_spec(&self, spec: &RunSpec, stamp: FileStamp) {
        insert(&self.specs, spec, stamp, spec);
    }
}

fn lookup<T: Clone>(map: &Mutex<CacheMap<T>>, id: &RunId, stamp: FileStamp) -> Option<T> {
    lock_map(map).get(id).filter(|(cached_stamp, _)| *cached_stamp == stamp).map(|(_, value)| value.clone())
}

fn insert<T: Clone>(map: &Mutex<CacheMap<T>>, spec: &RunSpec, stamp: FileStamp, value: &T) {
    if spec.question.len() > MAX_CACHED_QUESTION_BYTES {
        return;
    }
    let mut map = lock_map(map);
    if map.len() >= MAX_ENTRIES {
        map.clear();
    }
    map.insert(spec.id.clone(), (stamp, value.clone()));
}

/// After a panic of another holder the map is still usable: each entry is correct by itself.
fn lock_map<T>(map: &Mutex<CacheMap<T>>) -> MutexGuard<'_, CacheMap<T>> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Durability, InitialFiles, StateFolder, initial_record};
    use crate::run::{ConfigChoice, Ending, Exit, Moment, Outcome, RunState};

    fn ended() -> RunState {
        let at = Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: 1, boot_id: "b".to_owned() };
        let (outcome, exit, duration) = (Outcome::Succeeded, Exit::Code(0), Duration::from_secs(1));
        RunState::Ended(Ending {
            outcome,
            exit,
            ended_at: at,
            duration,
            answer: None,
            stop: None,
            warnings: Vec::new(),
        })
    }

    #[test]
    fn a_file_settles_some_time_after_its_change_time() {
        let stamp = |nanos| FileStamp { inode: 1, bytes: 1, changed_at: (1_000, nanos) };
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert!(stamp(7).has_settled(at(1_000_051)) && !stamp(7).has_settled(at(1_000_049)));
        assert!(
            !stamp(7).has_settled(at(900_000)),
            "a file from the future, after the clock was set back, is not settled"
        );
        assert!(!stamp(0).has_settled(at(2_000_000)), "the file system may store whole seconds only");
    }

    #[test]
    fn an_ended_run_is_read_again_only_after_its_file_was_replaced() {
        let root = tempfile::tempdir().expect("temp");
        let state = StateFolder::open(root.path()).expect("opened");
        let id = RunId::from_bytes([1, 2, 3, 4, 5]);
        let choice = ConfigChoice::Rehearsal("rehearsal".to_owned());
        let spec = RunSpec::new(id.clone(), "q", choice, root.path().to_owned(), root.path().to_owned());
        let (folder, lock) = state.create(&spec, InitialFiles::default()).expect("created");
        let mut record = initial_record(spec);
        for (seq, now) in [(1, RunState::Starting { leader: None }), (2, ended()), (3, ended())] {
            (record.seq, record.state) = (seq, now);
            folder.save(&record, &lock, Durability::NotSynced).expect("saved");
            for _ in 0..2 {
                assert_eq!(state.load(&id).expect("read").seq, seq, "the cache never hides a newer record");
            }
            let cached = state.cache.record(&id, FileStamp::of_path(&folder.run()));
            assert!(seq == 1 || cached.is_some_and(|cached| cached.seq == seq), "an ended run is cached at once");
        }
        std::fs::remove_dir_all(folder.path()).expect("removed");
        assert!(state.load(&id).is_err(), "a run that was removed is unknown");
    }
}
