//! Who calls a tool, and what its client can do.

use tokio_util::sync::CancellationToken;

use super::client::Client;
use super::progress::ProgressTarget;

/// Who calls a tool.
pub(super) struct Caller {
    /// It no longer waits: that ends the waiting and undoes nothing.
    pub(super) cancelled: CancellationToken,
    /// Where it wants to hear how its wait goes.
    pub(super) progress: Option<ProgressTarget>,
    /// It takes a task in place of the answer to a start, and waits by asking for that.
    pub(super) accepts_task: bool,
    /// What it can be shown.
    pub(super) client: Client,
}
