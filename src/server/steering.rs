//! steer_run: sends a message to the agents of a live run, and waits for its delivery if the call asks for that.

use super::answers::SteerOutcomeView;
use super::caller::Caller;
use super::context::ServerContext;
use super::fields::parse_run_id;
use super::params::SteerRun;
use super::wait_limits::AllowedWait;
use super::{answer_hints, progress};
use crate::fleet::{AgentMessage, Selection};
use crate::refusal::Refusal;

/// Added while a message is pending.
const PENDING_HINT: &str = "accepted: MassGen takes it up around an agent's next tool call; it is delivered once check_status shows no \
                        messages_waiting. Do not send it again";

/// Sends a message to the agents of a run.
pub(super) async fn send(
    context: &ServerContext,
    request: SteerRun,
    caller: Caller,
) -> Result<SteerOutcomeView, Refusal> {
    let (id, wait) = (parse_run_id(&request.run_id)?, context.allowed_wait(request.wait_s)?);
    let message = AgentMessage { content: request.message, agents: request.agents };
    let selection = Selection::Runs(vec![id.clone()]);
    let AllowedWait { max: timeout, note } = wait;
    let steering = context.fleet.steer(&id, message, timeout, context.wait_until_cancelled(caller.cancelled));
    let steered = progress::report_while(context, caller.progress, &selection, timeout, steering).await?;
    Ok(SteerOutcomeView {
        run_id: id.to_string(),
        state: steered.record.state.as_str().to_owned(),
        delivered: steered.is_delivered,
        messages_waiting: Some(steered.pending).filter(|count| *count > 0),
        hint: answer_hints::join_hints([Some(PENDING_HINT.to_owned()), note]).filter(|_| !steered.is_delivered),
    })
}
