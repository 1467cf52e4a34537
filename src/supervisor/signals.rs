//! The signals that reach a supervisor: a child that ended, and requests to end. It only receives; `group` sends.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{SupervisorError, io_error};

/// The sources of signals. MassGen's own end also shows through its pidfd; SIGCHLD reports orphans.
pub(super) struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal means.
pub(super) enum SignalEvent {
    /// A process below has ended.
    ChildExited,
    /// This process is requested to end.
    Termination,
}

impl Signals {
    /// Replaces the signals' default actions. Later signals are stored until [`Signals::next`] returns them.
    pub(super) fn subscribe() -> Result<Signals, SupervisorError> {
        let subscribe = |kind| signal(kind).map_err(io_error("listen for signals"));
        Ok(Signals {
            child: subscribe(SignalKind::child())?,
            terminate: subscribe(SignalKind::terminate())?,
            interrupt: subscribe(SignalKind::interrupt())?,
            hang_up: subscribe(SignalKind::hangup())?,
        })
    }

    pub(super) async fn next(&mut self) -> SignalEvent {
        tokio::select! {
            _ = self.child.recv() => SignalEvent::ChildExited,
            _ = self.terminate.recv() => SignalEvent::Termination,
            _ = self.interrupt.recv() => SignalEvent::Termination,
            _ = self.hang_up.recv() => SignalEvent::Termination,
        }
    }
}
