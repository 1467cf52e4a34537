//! A run's lock: held (flock) from the moment its folder appears until its owner ends, handed from the server that makes
//! the folder to the supervisor as its standard input, so that there is no moment without a holder.
//! Whoever holds it, and nobody else, writes the run's record. It carries no pid: the kernel is the witness.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;

/// The proof of owning a run. Dropping it lets go, unless it was handed on.
#[derive(Debug)]
pub struct RunLock(File);

impl RunLock {
    /// Makes the lock file of a new run and takes it.
    pub fn create(path: &Path) -> io::Result<RunLock> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.lock()?;
        Ok(RunLock(file))
    }

    /// Takes the lock of an existing run, or says that somebody holds it (`None`). The file is opened for reading, so that a
    /// mere look does not seem to watchers as if a holder had closed it.
    pub fn try_take(path: &Path) -> io::Result<Option<RunLock>> {
        let file = File::open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RunLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Keeps an ended run as it is while it is read: it cannot be removed meanwhile. Several may do so at once; `None` where
    /// somebody owns it.
    pub fn share(path: &Path) -> io::Result<Option<RunLock>> {
        let file = File::open(path)?;
        match file.try_lock_shared() {
            Ok(()) => Ok(Some(RunLock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The lock as a child's standard input: the child shares it, and holds it alone once this process lets go.
    pub fn hand_on(self) -> Stdio {
        Stdio::from(self.0)
    }

    /// The lock that was handed on to this process as standard input; taken anew where it was not (a supervisor started
    /// by hand or by a batch system). `None`: somebody else holds it.
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
