//! The context of all calls of one client: what the functions of this module share. It holds no run state. A function that
//! needs only the fleet or only the settings takes these alone.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::fields;
use super::wait_limits::{AllowedWait, WaitLimits};
use crate::fleet::Fleet;
use crate::refusal::Refusal;
use crate::settings::Settings;

/// What the calls of one client share.
#[derive(Clone)]
pub(super) struct ServerContext {
    pub(super) fleet: Fleet,
    pub(super) settings: Settings,
    /// Cancelled when the client's input has ended: all waits end.
    pub(super) closing: CancellationToken,
    /// How long the client waits for an answer.
    pub(super) wait_limits: WaitLimits,
}

impl ServerContext {
    pub(super) fn new(fleet: Fleet, settings: Settings, closing: CancellationToken) -> ServerContext {
        ServerContext { fleet, settings, closing, wait_limits: WaitLimits::default() }
    }

    /// The wait that is allowed for a number of seconds. A longer wait is shortened, and the answer says so.
    pub(super) fn allowed_wait(&self, seconds: f64) -> Result<AllowedWait, Refusal> {
        let max_wait = self.settings.max_wait;
        let requested = fields::check_range("wait_s", seconds, 0.0, f64::MAX)
            .map_err(|_| Refusal::out_of_range("wait_s", seconds, 0.0, max_wait.as_secs_f64()))?;
        Ok(self.wait_limits.allowed_wait(Duration::try_from_secs_f64(requested).unwrap_or(Duration::MAX), max_wait))
    }

    /// Waits until the caller stops waiting, or the client's input has ended.
    pub(super) async fn wait_until_cancelled(&self, cancelled: CancellationToken) {
        tokio::select! {
            () = cancelled.cancelled() => {}
            () = self.closing.cancelled() => {}
        }
    }
}
