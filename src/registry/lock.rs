//! A run's lock (flock). It is held from the moment when the run's folder appears until its owner ends. The server that creates
//! the folder hands it to the supervisor as standard input, so that it always has a holder.
//! Only the holder writes the run's record. The lock file contains no pid: the kernel knows whether the lock is held.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

/// The proof of owning a run. Dropping it releases the lock, unless it was handed on.
#[derive(Debug)]
pub struct RunLock(File);

impl RunLock {
    /// Creates and takes the lock file of a new run.
    pub fn create(path: &Path) -> io::Result<RunLock> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(RunLock(file))
    }

    /// Takes the lock of an existing run; `None` if another process holds it. The file is opened for reading, so that watchers do
    /// not mistake a mere check for a holder that closes the file.
    pub fn try_take(path: &Path) -> io::Result<Option<RunLock>> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RunLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Shares the lock of an ended run, so that no process removes it while it is read. Several readers may share it; `None` if
    /// another process owns the run.
    pub fn share(path: &Path) -> io::Result<Option<RunLock>> {
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(RunLock(file))),
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
    pub fn inherited(path: &Path) -> io::Result<Option<RunLock>> {
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let (own, wanted) = (stdin.metadata()?, path.metadata()?);
        if own.dev() == wanted.dev() && own.ino() == wanted.ino() {
            return Ok(Some(RunLock(stdin)));
        }
        RunLock::try_take(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_at_a_time() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("lock");
        let held = RunLock::create(&path).expect("made");
        assert!(RunLock::try_take(&path).expect("asked").is_none());
        drop(held);
        assert!(RunLock::try_take(&path).expect("asked").is_some());
        assert!(RunLock::create(&path).is_err(), "a lock file is made once");
    }

    #[test]
    fn readers_share_and_keep_owners_out() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("lock");
        let owned = RunLock::create(&path).expect("made");
        assert!(RunLock::share(&path).expect("asked").is_none());
        drop(owned);
        let readers = [RunLock::share(&path), RunLock::share(&path)].map(|lock| lock.expect("asked").expect("shared"));
        assert!(RunLock::try_take(&path).expect("asked").is_none());
        drop(readers);
        assert!(RunLock::try_take(&path).expect("asked").is_some());
    }

    #[test]
    fn a_child_holds_what_it_was_handed() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("lock");
        let lock = RunLock::create(&path).expect("made");
        let mut child = std::process::Command::new("sleep").arg("60").stdin(lock.hand_on()).spawn().expect("sleep");
        assert!(RunLock::try_take(&path).expect("asked").is_none());
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert!(RunLock::try_take(&path).expect("asked").is_some());
    }
}
