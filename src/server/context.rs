//! The shared context of all calls: the fleet, the settings and the client's wait limits, with the checks that several
//! tools share.

use serde::Serialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::wait_limits::WaitLimits;
use crate::fleet::Fleet;
use crate::refusal::Refusal;
use crate::run::RunId;
use crate::settings::Settings;

/// Handles the calls of one client.
#[derive(Clone)]
pub(super) struct ServerContext {
    pub(super) fleet: Fleet,
    pub(super) settings: Settings,
    /// Cancelled when the client's input has ended: all waits end.
    pub(super) closing: CancellationToken,
    /// How long the client waits for an answer.
    pub(super) wait_limits: WaitLimits,
}

pub(super) const LIST_RUNS_HINT: &str = "call check_status without arguments to see the latest runs";

pub(super) fn to_json(answer: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|_| Refusal::panicked())
}

/// Parses a run id; a model may add whitespace around it.
pub(super) fn parse_run_id(text: &str) -> Result<RunId, Refusal> {
    Ok(text.trim().parse::<RunId>()?)
}

pub(super) fn check_range(field: &str, value: f64, min: f64, max: f64) -> Result<f64, Refusal> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(Refusal::out_of_range(field, value, min, max)) }
}
