//! Lists the runs, the newest first. The time of a run's spec is read only once: a spec is never rewritten, and the folder's
//! inode shows that the folder is still the same. The list of folders is read every time.

use std::collections::HashMap;
use std::fs::DirEntry;
use std::io;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use super::SPEC_FILE;
use crate::run::RunId;

/// The results of earlier listings of a folder.
#[derive(Debug, Default)]
pub(super) struct Listing(Mutex<KnownRuns>);

#[derive(Debug, Default)]
struct KnownRuns {
    /// The runs by the inodes of their folders.
    runs: HashMap<u64, ListedRun>,
    /// The number of listings so far.
    round: u64,
}

#[derive(Debug)]
struct ListedRun {
    id: RunId,
    created: SystemTime,
    /// The last listing that contained it.
    round: u64,
}

impl Listing {
    /// The latest runs in a folder, at most `most`.
    pub(super) fn latest(&self, runs: &Path, most: usize) -> io::Result<Vec<RunId>> {
        // After a panic of another holder the map is still usable: each entry is correct by itself.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.refresh(runs)?;
        Ok(known.latest(most))
    }
}

impl KnownRuns {
    fn refresh(&mut self, runs: &Path) -> io::Result<()> {
        self.round += 1;
        let round = self.round;
        for entry in std::fs::read_dir(runs)?.flatten() {
            match self.runs.get_mut(&entry.ino()).filter(|known| entry.file_name() == known.id.as_str()) {
                Some(known) => known.round = round,
                None => drop(read_entry(&entry, round).map(|dated| self.runs.insert(entry.ino(), dated))),
            }
        }
        self.runs.retain(|_, known| known.round == round);
        Ok(())
    }

    fn latest(&self, most: usize) -> Vec<RunId> {
        let mut all: Vec<_> = self.runs.values().collect();
        let newest_first = |a: &&ListedRun, b: &&ListedRun| (b.created, &b.id).cmp(&(a.created, &a.id));
        if most < all.len() {
            all.select_nth_unstable_by(most, newest_first);
            all.truncate(most);
        }
        all.sort_unstable_by(newest_first);
        all.into_iter().map(|dated| dated.id.clone()).collect()
    }
}

fn read_entry(entry: &DirEntry, round: u64) -> Option<ListedRun> {
    let id: RunId = entry.file_name().to_str()?.parse().ok()?;
    let created = entry.path().join(SPEC_FILE).metadata().ok()?.modified().ok()?;
    Some(ListedRun { id, created, round })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn create_run(runs: &Path, name: &str, age_s: u64) {
        std::fs::create_dir(runs.join(name)).expect("created");
        let spec = std::fs::File::create(runs.join(name).join(SPEC_FILE)).expect("created");
        spec.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 - age_s)).expect("dated");
    }

    fn names(listing: &Listing, runs: &Path, most: usize) -> Vec<String> {
        listing.latest(runs, most).expect("listed").iter().map(RunId::to_string).collect()
    }

    #[test]
    fn the_latest_runs_come_first_and_added_and_removed_runs_are_noticed() {
        let runs = tempfile::tempdir().expect("temp");
        let (runs, listing) = (runs.path(), Listing::default());
        for (name, age) in [("mg-00000001", 3), ("mg-00000002", 1), ("mg-00000003", 2), (".new-mg-00000004", 0)] {
            create_run(runs, name, age);
        }
        std::fs::create_dir(runs.join("mg-00000005")).expect("a folder without a spec");
        assert_eq!(names(&listing, runs, 2), ["mg-00000002", "mg-00000003"]);
        assert_eq!(names(&listing, runs, 9), ["mg-00000002", "mg-00000003", "mg-00000001"]);
        std::fs::remove_dir_all(runs.join("mg-00000002")).expect("removed");
        std::fs::rename(runs.join(".new-mg-00000004"), runs.join("mg-00000004")).expect("named");
        assert_eq!(names(&listing, runs, 9), ["mg-00000004", "mg-00000003", "mg-00000001"]);
        assert_eq!(names(&listing, runs, 0), [""; 0]);
        assert!(listing.latest(&runs.join("nowhere"), 1).is_err());
    }

    #[test]
    fn a_folder_that_replaced_another_one_is_a_new_run() {
        let runs = tempfile::tempdir().expect("temp");
        let (runs, listing) = (runs.path(), Listing::default());
        create_run(runs, "mg-00000001", 1);
        create_run(runs, "mg-00000002", 2);
        assert_eq!(names(&listing, runs, 9), ["mg-00000001", "mg-00000002"]);
        create_run(runs, "other", 3);
        std::fs::rename(runs.join("mg-00000001"), runs.join(".gone")).expect("moved");
        std::fs::rename(runs.join("other"), runs.join("mg-00000001")).expect("moved");
        assert_eq!(names(&listing, runs, 9), ["mg-00000002", "mg-00000001"]);
    }
}
