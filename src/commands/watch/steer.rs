//! The action of the steer key. The screen owns the table, the input line and the note with the result.

use std::future::pending;
use std::time::Duration;

use crate::fleet::{AgentMessage, Fleet};
use crate::refusal::Refusal;
use crate::run::RunId;

/// How long to wait for MassGen to read the message before the note says that it is pending.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends a message to the agents of a run; gives the result in one line.
pub(super) async fn steer(fleet: &Fleet, id: &RunId, message: String) -> Result<String, Refusal> {
    let message = AgentMessage { content: message, agents: Vec::new() };
    let steered = fleet.steer(id, message, DELIVERY_TIMEOUT, pending()).await?;
    Ok(if steered.is_delivered {
        format!("{id} has taken the message up")
    } else {
        format!("{id} has the message, and takes it up around an agent's next tool call ({} waiting)", steered.pending)
    })
}
