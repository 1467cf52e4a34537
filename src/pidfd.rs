//! Waiting for the end of a process by its pidfd, which needs no signal and no parenthood. It sends nothing and reaps nothing.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process whose end can be waited for; its pid may be reused without harm.
#[derive(Debug)]
pub struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Of the process that has this pid now. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// There is no such process, or no file descriptor is left.
    pub fn open(pid: Pid) -> io::Result<Pidfd> {
        Pidfd::from_fd(pidfd_open(pid, PidfdFlags::empty())?)
    }

    /// Of an open pidfd. It must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// The runtime cannot watch it.
    #[expect(deprecated, reason = "the successor is unsafe, for types that may change their file; an OwnedFd does not")]
    pub fn from_fd(fd: OwnedFd) -> io::Result<Pidfd> {
        AsyncFd::with_interest(fd, Interest::READABLE).map(Pidfd)
    }

    /// Resolves once the process has ended, all of its threads included. Cancel-safe.
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
    async fn the_end_is_told_once_and_again_and_not_before() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat");
        let pidfd = Pidfd::open(Pid::from_child(&child)).expect("opened");
        let asked = tokio::time::timeout(std::time::Duration::ZERO, pidfd.wait_for_exit()).await;
        assert!(asked.is_err(), "it lives");
        drop(child.stdin.take());
        // It has not been reaped yet.
        pidfd.wait_for_exit().await;
        pidfd.wait_for_exit().await;
        assert!(child.wait().expect("reaped").success());
    }
}
