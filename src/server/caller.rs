//! The caller of a tool, and what its client supports.

use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::progress::ProgressTarget;

/// The caller of a tool.
pub(super) struct Caller {
    /// Cancelled when the caller stops waiting: that ends the wait and undoes nothing.
    pub(super) cancelled: CancellationToken,
    /// Where to send progress of a wait.
    pub(super) progress: Option<ProgressTarget>,
    /// The client accepts a task in place of the answer to a start, and polls that task.
    pub(super) accepts_task: bool,
    /// What the client can show.
    pub(super) client: Client,
}
