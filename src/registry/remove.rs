//! Removes ended runs, and the incomplete or half-removed runs that crashes left.
//! It follows no link. It touches no run that has a held lock, has not ended, or was written by a newer version.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::{OwnerLock, RegistryError, RunFolder, SPEC_FILE, StateFolder, format};
use crate::run::{RunId, RunRecord};

/// While a run's folder is being created, its name is this prefix and the run's name.
pub(super) const DRAFT_PREFIX: &str = ".new-";
/// While a run's folder is being removed, its name is this prefix and the run's name.
const REMOVED_PREFIX: &str = ".gone-";
/// The modification time of this file shows when a server last pruned the state folder.
const LAST_PRUNED_FILE: &str = "pruned";
/// The minimum age at which a draft counts as left over; a start takes milliseconds.
const MIN_DRAFT_AGE: Duration = Duration::from_secs(3600);
/// The folder in the state folder with MassGen's verdicts on configs.
pub const VALIDATION_CACHE_FOLDER: &str = "validated";
/// The folder in the state folder with failed imports of MassGen.
pub const FAILED_IMPORTS_FOLDER: &str = "broken";
/// The age at which a verdict or a failed import is removed.
const CACHE_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// The prefix of folders in which a config is checked.
pub const CHECK_PREFIX: &str = ".check-";

/// The result of a request to remove a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Removal {
    /// The run is removed.
    Removed,
    /// Another process had removed it already.
    AlreadyRemoved,
    /// Its lock is held, it has not ended, or a newer version wrote it; it is unchanged.
    InUse,
}

/// A leftover of a crash, such as a folder that no listing shows; or a run that has an empty spec.
#[derive(Debug)]
pub struct Leftover {
    path: PathBuf,
    /// The lock of a draft, so that no other process uses it during the removal.
    _held: Option<OwnerLock>,
}

/// The right to prune a state folder. Dropping it lets another process request it.
#[derive(Debug)]
pub struct PruneLock {
    _held: File,
}

impl StateFolder {
    /// Removes an ended run. It disappears from all listings at once; a crash during the removal leaves a [`Leftover`].
    pub fn remove(&self, id: &RunId) -> Result<Removal, RegistryError> {
        let folder = self.run_folder(id);
        let _lock = match OwnerLock::try_take(&folder.lock()) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(Removal::InUse),
            Err(_) if !folder.path.exists() => return Ok(Removal::AlreadyRemoved),
            Err(source) => return Err(RegistryError::io("lock", &folder.lock())(source)),
        };
        // Read the record under the lock: an earlier reading may be out of date.
        match self.load(id) {
            Ok(record) if is_removable(&record) => {}
            Ok(_) => return Ok(Removal::InUse),
            Err(RegistryError::Unknown(_)) if !folder.path.exists() => return Ok(Removal::AlreadyRemoved),
            Err(error) => return Err(error),
        }
        let renamed_path = self.runs().join(format!("{REMOVED_PREFIX}{id}"));
        std::fs::rename(&folder.path, &renamed_path).map_err(RegistryError::io("rename", &folder.path))?;
        remove_all(&renamed_path).map_err(RegistryError::io("remove", &renamed_path))?;
        Ok(Removal::Removed)
    }

    /// The leftovers of crashes: folders being removed, and old drafts that have a free lock. Also old verdicts on configs, old failed
    /// imports, and ended experiments without runs.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, RegistryError> {
        let entries = std::fs::read_dir(self.runs()).map_err(RegistryError::io("list", &self.runs()))?;
        let of_runs = entries.flatten().filter_map(|entry| Leftover::from_entry(&entry));
        let here = entries_older_than(&self.root, MIN_DRAFT_AGE).filter(|path| is_temporary(path));
        let answers = [VALIDATION_CACHE_FOLDER, FAILED_IMPORTS_FOLDER]
            .map(|folder| entries_older_than(&self.root.join(folder), CACHE_TTL));
        let experiments = self.expired_experiments();
        Ok(of_runs
            .chain(
                here.chain(answers.into_iter().flatten()).chain(experiments).map(|path| Leftover { path, _held: None }),
            )
            .collect())
    }

    /// The right to prune, unless another process has it or had it within `every`. The request itself counts, even if the pruning fails.
    pub fn try_lock_pruning(&self, every: Duration) -> Result<Option<PruneLock>, RegistryError> {
        let path = self.root.join(LAST_PRUNED_FILE);
        let failed = |operation| RegistryError::io(operation, &path);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(failed("open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        if !is_due(&mut file, every) {
            return Ok(None);
        }
        // A full disk makes this fail, and a full disk is a reason to prune.
        if let Err(error) = write_stamp(&mut file) {
            tracing::warn!(%error, "the time of the last pruning could not be written");
        }
        Ok(Some(PruneLock { _held: file }))
    }
}

impl RunFolder {
    /// The disk space that the readable files of the run take, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        disk_space(&self.path)
    }
}

impl Leftover {
    fn from_entry(entry: &std::fs::DirEntry) -> Option<Leftover> {
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.to_str()?;
        if name.starts_with(REMOVED_PREFIX) {
            return Some(Leftover { path, _held: None });
        }
        if !(name.starts_with(DRAFT_PREFIX) || has_empty_spec(&path)) || !is_older(entry, MIN_DRAFT_AGE) {
            return None;
        }
        match OwnerLock::try_take(&path.join("lock")) {
            Ok(Some(lock)) => Some(Leftover { path, _held: Some(lock) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Leftover { path, _held: None }),
            Ok(None) | Err(_) => None,
        }
    }

    /// The disk space that the leftover takes, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        disk_space(&self.path)
    }

    /// Its name in the folder of runs.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }

    /// Removes it.
    pub fn remove(self) -> Result<(), RegistryError> {
        remove_all(&self.path).map_err(RegistryError::io("remove", &self.path))
    }
}

/// Version 0.1.0 left such a folder for a run that had names which are not UTF-8. Nothing was started for it, and it cannot be listed.
fn has_empty_spec(run: &Path) -> bool {
    run.join(SPEC_FILE).metadata().is_ok_and(|spec| spec.is_file() && spec.len() == 0)
}

/// Whether the entry was last modified longer ago than `than`.
fn is_older(entry: &std::fs::DirEntry, than: Duration) -> bool {
    let changed = entry.metadata().and_then(|meta| meta.modified());
    changed.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > than))
}

fn entries_older_than(folder: &Path, age: Duration) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(move |entry| is_older(entry, age)).map(|entry| entry.path())
}

/// Whether this is a draft of a whole-file write, or a folder in which a config was checked.
fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".draft-") || name.starts_with(CHECK_PREFIX)
}

fn is_removable(record: &RunRecord) -> bool {
    record.state.ending().is_some() && record.version <= format::VERSION
}

fn is_due(stamp: &mut File, every: Duration) -> bool {
    let mut text = String::new();
    let last: Option<jiff::Timestamp> = stamp.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    // A time in the future was written before the clock was set back.
    last.is_none_or(|last| {
        Duration::try_from(jiff::Timestamp::now().duration_since(last)).map_or(true, |age| age >= every)
    })
}

fn write_stamp(file: &mut File) -> io::Result<()> {
    use std::io::Seek;
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", jiff::Timestamp::now())
}

/// The size of a folder and all its content; links count as links.
fn disk_space(path: &Path) -> u64 {
    let (mut bytes, mut folders) = (0, vec![path.to_owned()]);
    let mut count = |meta: &std::fs::Metadata| bytes += meta.blocks() * 512;
    if let Ok(meta) = path.symlink_metadata() {
        count(&meta);
        if !meta.is_dir() {
            folders.clear();
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            count(&meta);
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    bytes
}

/// Removes a file, or a folder with all its content, without following links. Some programs make folders read-only even for their owner.
fn remove_all(path: &Path) -> io::Result<()> {
    let removed = match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            restore_permissions(path);
            std::fs::remove_dir_all(path)
        }
        other => other,
    };
    removed.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Gives the owner all permissions on a folder and on the folders in it that belong to the same user.
fn restore_permissions(path: &Path) {
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        if let Err(error) = restore_owner_permissions(&folder) {
            tracing::debug!(folder = %folder.display(), %error, "the permissions of the folder could not be changed");
        }
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let is_folder = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        folders.extend(entries.filter(is_folder).map(|entry| entry.path()));
    }
}

/// Changes exactly the folder that was opened, never the target of a link that replaced it.
fn restore_owner_permissions(folder: &Path) -> io::Result<()> {
    let opened = rustix::fs::open(folder, OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY, Mode::empty())?;
    let by_number = format!("/proc/self/fd/{}", opened.as_raw_fd());
    std::fs::set_permissions(by_number, std::fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> (tempfile::TempDir, StateFolder) {
        let folder = tempfile::tempdir().expect("temp");
        let state = StateFolder::open(folder.path()).expect("state");
        (folder, state)
    }

    fn draft(state: &StateFolder, id: &str, hours: u64) -> PathBuf {
        let path = state.runs().join(format!("{DRAFT_PREFIX}{id}"));
        std::fs::create_dir(&path).expect("mkdir");
        OwnerLock::create(&path.join("lock")).expect("lock");
        let modified_at = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        File::open(&path).expect("folder").set_modified(modified_at).expect("dated");
        path
    }

    #[test]
    fn old_unlocked_drafts_and_half_removed_runs_are_leftovers() {
        let (_folder, state) = state();
        let (locked, new, old) = (draft(&state, "a", 2), draft(&state, "b", 0), draft(&state, "c", 2));
        std::fs::create_dir(state.runs().join(".gone-mg-00000000")).expect("mkdir");
        let lock = OwnerLock::try_take(&locked.join("lock")).expect("no error").expect("free");
        for leftover in state.leftovers().expect("listed") {
            leftover.remove().expect("cleared");
        }
        assert!(locked.exists() && new.exists() && !old.exists());
        assert_eq!(std::fs::read_dir(state.runs()).expect("list").count(), 2);
        drop(lock);
    }

    #[test]
    fn an_old_run_with_an_empty_spec_is_a_leftover_and_one_with_a_spec_is_not() {
        let (_folder, state) = state();
        let old = std::time::SystemTime::now() - 2 * MIN_DRAFT_AGE;
        for (id, spec) in [("mg-00000000", ""), ("mg-00000001", "{}")] {
            let run = state.runs().join(id);
            std::fs::create_dir(&run).expect("mkdir");
            std::fs::write(run.join(SPEC_FILE), spec).expect("written");
            File::open(&run).expect("folder").set_modified(old).expect("dated");
        }
        let names: Vec<_> = state.leftovers().expect("listed").iter().map(Leftover::name).collect();
        assert_eq!(names, ["mg-00000000"]);
    }

    #[test]
    fn one_process_prunes_at_a_time_and_once_per_interval() {
        let (folder, state) = state();
        let hour = Duration::from_secs(3600);
        let lock = state.try_lock_pruning(hour).expect("no error").expect("never pruned");
        assert!(state.try_lock_pruning(Duration::ZERO).expect("no error").is_none(), "another lock is held");
        drop(lock);
        assert!(state.try_lock_pruning(hour).expect("no error").is_none(), "just pruned");
        for stamp in ["", "2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "yesterday"] {
            std::fs::write(folder.path().join(LAST_PRUNED_FILE), stamp).expect("write");
            assert!(state.try_lock_pruning(hour).expect("no error").is_some(), "{stamp:?}");
        }
    }

    #[test]
    fn links_are_not_followed_for_sizes_and_removals() {
        let folder = tempfile::tempdir().expect("temp");
        let (outside, inside) = (folder.path().join("outside"), folder.path().join("inside"));
        for path in [&outside, &inside] {
            std::fs::create_dir(path).expect("mkdir");
        }
        std::fs::write(outside.join("file"), vec![1; 1 << 20]).expect("write");
        std::os::unix::fs::symlink(&outside, inside.join("link")).expect("link");
        std::fs::write(inside.join("file"), vec![1; 1 << 16]).expect("write");
        assert!((1 << 16..1 << 20).contains(&disk_space(&inside)), "{}", disk_space(&inside));
        restore_permissions(&inside);
        remove_all(&inside).expect("removed");
        assert!(outside.join("file").exists() && !inside.exists());
        remove_all(&inside).expect("a missing path is no error");
    }

    #[test]
    fn read_only_folders_become_writable_for_their_owner() {
        let folder = tempfile::tempdir().expect("temp");
        let (top, inner) = (folder.path().join("top"), folder.path().join("top/inner"));
        std::fs::create_dir_all(&inner).expect("mkdir");
        for path in [&inner, &top] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o500)).expect("chmod");
        }
        restore_permissions(&top);
        for path in [&top, &inner] {
            assert_eq!(path.metadata().expect("meta").permissions().mode() & 0o777, 0o700);
        }
    }
}
