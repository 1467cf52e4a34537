//! Waits for the end of a process by its pidfd, which needs no signal and no parent process. It sends no signal and reaps no process.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A handle to wait for the end of a process; it stays valid if the pid is reused.
#[derive(Debug)]
pub struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Opens the process that has this pid now. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If no process has this pid, or no file descriptor is available.
    pub fn open(pid: Pid) -> io::Result<Pidfd> {
        Pidfd::from_fd(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Wraps an open pidfd. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the runtime cannot watch it.
    #[expect(deprecated, reason = "the successor is unsafe, for types that may change their file; an OwnedFd does not")]
    pub fn from_fd(fd: OwnedFd) -> io::Result<Pidfd> {
        AsyncFd::with_interest(fd, Interest::READABLE).map(Pidfd)
    }

    /// Resolves once the process has ended, including all of its threads. Cancel-safe.
    pub async fn wait_for_exit(&self) {
        if self.0.readable().await.is_err() {
            // The runtime is shutting down.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[tokio::test]
    async fn a_wait_resolves_only_after_the_exit_and_can_be_repeated() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
        let pidfd = Pidfd::open(Pid::from_child(&child)).expect("opened");
        let waited = tokio::time::timeout(std::time::Duration::ZERO, pidfd.wait_for_exit()).await;
        assert!(waited.is_err(), "it lives");
        drop(child.stdin.take());
        // The child has not been reaped yet.
        pidfd.wait_for_exit().await;
        pidfd.wait_for_exit().await;
        assert!(child.wait().expect("reaped").success());
    }
}
