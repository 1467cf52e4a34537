//! A server whose client died while another process holds the pipes open: its input never ends, and no request comes any more.
//! It ends after a silence. A server whose parent lives may be silent for as long as it likes.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::getppid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pidfd::Pidfd;

/// How long a server without its parent waits for a line from its client.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Cancels `gone` once this process's parent has ended and `heard` was not notified for ten minutes since.
pub(super) fn exit_when_orphaned(heard: Arc<Notify>, gone: CancellationToken) {
    // Opened now: later, the parent may be another process. One in another pid namespace has no number here and cannot be watched.
    let Some(parent) = getppid().and_then(|parent| Pidfd::open(parent).ok()) else { return };
    tokio::spawn(async move {
        parent.wait_for_exit().await;
        while tokio::time::timeout(idle_timeout(), heard.notified()).await.is_ok() {}
        tracing::info!("the parent process has ended and the client is silent");
        gone.cancel();
    });
}

#[cfg(not(debug_assertions))]
fn idle_timeout() -> Duration {
    IDLE_TIMEOUT
}

/// Tests do not wait for ten minutes: a debug build takes another time from the environment, in milliseconds.
#[cfg(debug_assertions)]
fn idle_timeout() -> Duration {
    let given = std::env::var("MASSGEN_MCP_ORPHAN_SILENCE_MS").ok().and_then(|text| text.parse().ok());
    given.map_or(IDLE_TIMEOUT, Duration::from_millis)
}
