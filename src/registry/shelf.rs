//! Ended runs that were read lately. What has ended is never written again, and a record is only ever replaced whole: it is the
//! same as long as its file is. Of a run that goes on nothing is kept.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::run::{RunId, RunRecord};

/// How many are kept; as many as one call can name.
const MOST: usize = 100;
/// The longest question of a kept record, in bytes.
const MOST_QUESTION: usize = 4 << 10;

/// Records of ended runs.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<HashMap<RunId, (Mark, RunRecord)>>);

/// Tells one file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Mark {
    /// The file that is at a path now.
    pub(super) fn at(path: &Path) -> Option<Mark> {
        path.metadata().ok().map(|meta| Mark::of(&meta))
    }

    fn of(meta: &Metadata) -> Mark {
        Mark { inode: meta.ino(), bytes: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) }
    }
}

impl Shelf {
    /// The record of an ended run, where it was read from this very file.
    pub(super) fn find(&self, id: &RunId, mark: Option<Mark>) -> Option<RunRecord> {
        // A panic in another holder leaves entries that are right by themselves.
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(id).filter(|(of, _)| Some(*of) == mark).map(|(_, record)| record.clone())
    }

    /// Keeps a record that was read after its file was marked.
    pub(super) fn keep(&self, record: &RunRecord, mark: Option<Mark>) {
        let Some(mark) = mark else { return };
        if record.state.ended().is_none() || record.spec.question.len() > MOST_QUESTION {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(record.spec.id.clone(), (mark, record.clone()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::registry::{Durability, Furniture, StateFolder, not_begun};
    use crate::run::{ConfigChoice, Ending, Exit, Moment, Outcome, RunSpec, RunState};

    fn ended() -> RunState {
        let at = Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: 1, boot_id: "b".to_owned() };
        let (outcome, exit, took) = (Outcome::Succeeded, Exit::Code(0), Duration::from_secs(1));
        RunState::Ended(Ending { outcome, exit, at, took, answer: None, stop: None })
    }

    #[test]
    fn an_ended_run_is_read_once_and_anew_where_its_file_is_another() {
        let root = tempfile::tempdir().expect("temp");
        let state = StateFolder::open(root.path()).expect("opened");
        let id = RunId::from_bytes([1, 2, 3, 4, 5]);
        let choice = ConfigChoice::Rehearsal("rehearsal".to_owned());
        let spec = RunSpec::plain(id.clone(), "q", choice, root.path().to_owned(), root.path().to_owned());
        let (folder, lock) = state.create(&spec, Furniture::default()).expect("made");
        let mut record = not_begun(spec);
        for (seq, now) in [(1, RunState::Starting { leader: None }), (2, ended()), (3, ended())] {
            (record.seq, record.state) = (seq, now);
            folder.save(&record, &lock, Durability::Plain).expect("saved");
            for _ in 0..2 {
                assert_eq!(state.load(&id).expect("read").seq, seq, "whatever was read before");
            }
            let kept = state.shelf.find(&id, Mark::at(&folder.run()));
            assert_eq!(kept.map(|kept| kept.seq), (seq > 1).then_some(seq), "only what has ended is kept");
        }
        std::fs::remove_dir_all(folder.path()).expect("removed");
        assert!(state.load(&id).is_err(), "a run that was removed is unknown");
    }
}
