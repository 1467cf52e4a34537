//! Who owns a run, an experiment or a warm process: the holder of its lock file. The lock is held from the moment when the folder appears
//! until the owner ends. The server that creates the folder hands it to the supervisor as standard input, so that the lock always has a holder.
//! Only the owner writes records. The lock file contains no pid: the kernel knows whether the lock is held.
//!
//! The lock is an open-file-description lock (`F_OFD_SETLK`), which a probe can query without taking it. Owners also take a flock, because
//! versions up to 0.2.0 use only a flock. See docs/decisions/0028-owner-probes.md.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

/// How long an owner tries to get the flock while it has the other lock: a probe holds the flock for some microseconds.
const FLOCK_TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two of these attempts.
const FLOCK_RETRY_INTERVAL: Duration = Duration::from_millis(2);

/// The result of a probe.
#[derive(Debug)]
pub enum Owner {
    /// A process owns it.
    Held,
    /// No process owns it.
    Free,
    /// The lock file does not exist: the run or experiment has been removed.
    Missing,
    /// The lock cannot be examined. A run with an unknown owner is never ended, removed or counted as over.
    Unknown(io::Error),
}

/// An opened lock file that is only examined. A probe never takes the lock that owners take first, so no owner fails because of it.
#[derive(Debug)]
pub struct OwnerProbe(File);

/// The proof of ownership. Dropping it releases the lock, unless a child process inherited it.
#[derive(Debug)]
pub struct OwnerLock(File);

/// Examines the lock file at a path.
pub fn probe_owner(path: &Path) -> Owner {
    match OwnerProbe::open(path) {
        Ok(probe) => probe.owner(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Owner::Missing,
        Err(error) => Owner::Unknown(error),
    }
}

impl Owner {
    /// Whether it is certain that no process owns it.
    pub fn is_free(&self) -> bool {
        matches!(self, Owner::Free)
    }
}

impl OwnerProbe {
    /// Opens the lock file for reading: closing a file that was opened for writing would wake all watchers of the folder.
    pub fn open(path: &Path) -> io::Result<OwnerProbe> {
        File::open(path).map(OwnerProbe)
    }

    /// The state at this moment, even if the file has been removed since it was opened.
    pub fn owner(&self) -> Owner {
        match self.is_held() {
            Ok(true) => Owner::Held,
            Ok(false) => Owner::Free,
            Err(error) => Owner::Unknown(error),
        }
    }

    fn is_held(&self) -> io::Result<bool> {
        // A read lock conflicts with owners and not with readers.
        let mut wanted = whole_file(libc::F_RDLCK);
        let result = fcntl(&self.0, FcntlArg::F_OFD_GETLK(&mut wanted));
        if accept_missing_support(result)? && wanted.l_type != libc::F_UNLCK as libc::c_short {
            return Ok(true);
        }
        // An owner of version 0.2.0 or older has only this lock.
        match self.0.try_lock_shared() {
            Ok(()) => self.0.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl OwnerLock {
    /// Creates and locks the lock file of a new run, experiment or warm process.
    pub fn create(path: &Path) -> io::Result<OwnerLock> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        OwnerLock::acquire(file)?.ok_or_else(|| io::Error::from(io::ErrorKind::WouldBlock))
    }

    /// Takes an existing lock; `None` if another process owns or reads it. The caller has to load the records again:
    /// the earlier owner may have changed them.
    pub fn try_take(path: &Path) -> io::Result<Option<OwnerLock>> {
        OwnerLock::acquire(OpenOptions::new().read(true).write(true).open(path)?)
    }

    /// Takes a lock and creates its file if it is missing; `None` if another process owns the lock, or has just removed the file. A
    /// removed file excludes no process.
    pub fn create_or_take(path: &Path) -> io::Result<Option<OwnerLock>> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let lock = OwnerLock::acquire(file)?;
        let inode = |meta: io::Result<std::fs::Metadata>| meta.ok().map(|meta| meta.ino());
        Ok(lock.filter(|lock| inode(lock.0.metadata()) == inode(path.metadata())))
    }

    /// Shares the lock of an ended run, so that no process removes it while it is read. Several readers may share it; `None` if
    /// another process owns the run.
    pub fn share(path: &Path) -> io::Result<Option<OwnerLock>> {
        let file = File::open(path)?;
        if !set_lock(&file, libc::F_RDLCK)? {
            return Ok(None);
        }
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(OwnerLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The lock as a child's standard input: the child shares it, and is its only holder once this process drops its handle.
    pub fn hand_on(self) -> Stdio {
        Stdio::from(self.0)
    }

    /// The lock that this process inherited as standard input. If it inherited none (a supervisor started by hand or by a batch
    /// system), it takes the lock. `None` if another process holds it.
    pub fn inherited(path: &Path) -> io::Result<Option<OwnerLock>> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (own, wanted) = (stdin.metadata()?, path.metadata()?);
        if own.dev() == wanted.dev() && own.ino() == wanted.ino() {
            return Ok(Some(OwnerLock(stdin)));
        }
        OwnerLock::try_take(path)
    }

    /// Takes both locks of an open file. The first one decides. The second one is held for a moment by a probe, or for
    /// long by an owner of an older version.
    fn acquire(file: File) -> io::Result<Option<OwnerLock>> {
        if !set_lock(&file, libc::F_WRLCK)? {
            return Ok(None);
        }
        let started_at = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(OwnerLock(file))),
                Err(TryLockError::WouldBlock) if started_at.elapsed() < FLOCK_TIMEOUT => {
                    std::thread::sleep(FLOCK_RETRY_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

/// Sets an open-file-description lock; false if a lock of another process conflicts.
fn set_lock(file: &File, kind: libc::c_int) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(&whole_file(kind))) {
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        other => accept_missing_support(other).map(|_| true),
    }
}

/// False if the kernel has no such locks (some sandboxes emulate one without them); then only the flock decides.
fn accept_missing_support(result: nix::Result<libc::c_int>) -> io::Result<bool> {
    static WARNED: Once = Once::new();
    match result {
        Ok(_) => Ok(true),
        Err(Errno::EINVAL) => {
            WARNED.call_once(|| {
                tracing::warn!(
                    "this kernel has no open-file-description locks: only flock is used, and a probe can delay an owner"
                )
            });
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// A lock on the whole file; its pid has to be 0.
fn whole_file(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    fn lock_path(folder: &tempfile::TempDir) -> std::path::PathBuf {
        folder.path().join("lock")
    }

    #[test]
    fn a_lock_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let held = OwnerLock::create(&path).expect("created");
        assert!(matches!(probe_owner(&path), Owner::Held));
        assert!(OwnerLock::try_take(&path).expect("no error").is_none());
        drop(held);
        assert!(probe_owner(&path).is_free());
        assert!(OwnerLock::try_take(&path).expect("no error").is_some());
        assert!(OwnerLock::create(&path).is_err(), "a lock file is created once");
    }

    #[test]
    fn a_probe_finds_an_owner_of_an_older_version() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let old = File::create(&path).expect("created");
        old.lock().expect("locked");
        assert!(matches!(probe_owner(&path), Owner::Held));
        assert!(OwnerLock::try_take(&path).expect("no error").is_none());
        drop(old);
        assert!(probe_owner(&path).is_free());
    }

    #[test]
    fn a_probe_of_an_older_version_finds_an_owner() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let _held = OwnerLock::create(&path).expect("created");
        let old = File::open(&path).expect("opened");
        assert!(matches!(old.try_lock(), Err(TryLockError::WouldBlock)));
        assert!(matches!(old.try_lock_shared(), Err(TryLockError::WouldBlock)));
    }

    #[test]
    fn a_lock_that_cannot_be_examined_has_an_unknown_owner() {
        let folder = tempfile::tempdir().expect("temp");
        assert!(matches!(probe_owner(&folder.path().join("missing")), Owner::Missing));
        let below_file = folder.path().join("file/lock");
        std::fs::write(folder.path().join("file"), "").expect("written");
        assert!(matches!(probe_owner(&below_file), Owner::Unknown(_)));
    }

    #[test]
    fn readers_share_the_lock_and_exclude_owners() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let owned = OwnerLock::create(&path).expect("created");
        assert!(OwnerLock::share(&path).expect("no error").is_none());
        drop(owned);
        let readers =
            [OwnerLock::share(&path), OwnerLock::share(&path)].map(|lock| lock.expect("no error").expect("shared"));
        assert!(OwnerLock::try_take(&path).expect("no error").is_none());
        assert!(probe_owner(&path).is_free(), "a reader does not count as an owner");
        drop(readers);
        assert!(OwnerLock::try_take(&path).expect("no error").is_some());
    }

    #[test]
    fn a_child_holds_the_lock_that_it_inherited() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let lock = OwnerLock::create(&path).expect("created");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(lock.hand_on()).spawn().expect("sleep");
        assert!(OwnerLock::try_take(&path).expect("no error").is_none());
        assert!(matches!(probe_owner(&path), Owner::Held));
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(OwnerLock::try_take(&path).expect("no error").is_some());
    }

    #[test]
    fn a_removed_lock_file_excludes_no_process() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        let held = OwnerLock::create_or_take(&path).expect("no error").expect("free");
        let probe = OwnerProbe::open(&path).expect("opened");
        assert!(OwnerLock::create_or_take(&path).expect("no error").is_none());
        std::fs::remove_file(&path).expect("removed");
        assert!(matches!(probe.owner(), Owner::Held), "the opened file is still held");
        drop(held);
        assert!(probe.owner().is_free());
        assert!(OwnerLock::create_or_take(&path).expect("no error").is_some());
    }

    #[test]
    fn probes_never_make_an_owner_fail() {
        let folder = tempfile::tempdir().expect("temp");
        let path = lock_path(&folder);
        drop(OwnerLock::create(&path).expect("created"));
        let (is_over, probes, failed_probes) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        failed_probes
                            .fetch_add(usize::from(matches!(probe_owner(&path), Owner::Unknown(_))), Ordering::Relaxed);
                        probes.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let (mut attempts, mut taken) = (0, 0);
            while attempts < 200 || probes.load(Ordering::Relaxed) < 1_000 {
                attempts += 1;
                taken += usize::from(matches!(OwnerLock::try_take(&path), Ok(Some(_))));
            }
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(taken, attempts, "the owner got the lock each time");
        });
        assert_eq!(failed_probes.load(Ordering::Relaxed), 0, "each probe had a result");
    }
}
