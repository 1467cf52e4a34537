//! Ends a server whose client died while another process holds the pipes open: its input never ends, and no request
//! arrives. The server ends after an idle timeout. While its parent lives, a server may stay idle without limit.

use std::sync::Arc;
use std::time::Duration;

use rustix::process::getppid;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::pidfd::Pidfd;

/// How long a server whose parent has ended waits for a line from its client.
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// Cancels `gone` if `heard` is not notified for ten minutes after this process's parent has ended.
pub(super) fn exit_when_orphaned(input_received: Arc<Notify>, disconnected: CancellationToken) {
    // Open the pidfd now: later, the pid may belong to another process. A parent in another pid namespace has no pid
    // here and cannot be watched.
    let Some(parent) = getppid().and_then(|parent| Pidfd::open(parent).ok()) else { return };
    tokio::spawn(async move {
        parent.wait_for_exit().await;
        while tokio::time::timeout(idle_timeout(), input_received.notified()).await.is_ok() {}
        tracing::info!("the parent process has ended and the client is silent");
        disconnected.cancel();
    });
}

#[cfg(not(debug_assertions))]
fn idle_timeout() -> Duration {
    IDLE_TIMEOUT
}

/// Tests do not wait ten minutes: a debug build reads another timeout from the environment, in milliseconds.
#[cfg(debug_assertions)]
fn idle_timeout() -> Duration {
    let configured = std::env::var("MASSGEN_MCP_ORPHAN_SILENCE_MS").ok().and_then(|text| text.parse().ok());
    configured.map_or(IDLE_TIMEOUT, Duration::from_millis)
}
