//! The MCP server: the only module that uses rmcp. It receives calls, converts them to the types of the modules below,
//! and returns answers and refusals. It holds no run state. Standard output carries only protocol messages. This file
//! serves one client (`serve`) and turns answers and refusals into messages of the protocol.

mod answer_hints;
mod answers;
mod arguments;
mod caller;
mod calls;
mod client;
mod configs;
mod context;
mod dry_run;
mod experiments;
mod fields;
mod handler;
mod massgen_program;
mod next_steps;
mod orphan;
mod overrides;
mod overview;
mod params;
mod progress;
mod project;
mod protocol;
mod questions;
mod request_identity;
mod resources;
mod results;
mod run_views;
mod sanitize;
mod search_paths;
mod selections;
mod single_run;
mod start_config;
mod starts;
mod status;
mod stdio;
mod steering;
mod stops;
mod subscriptions;
mod tasks;
mod tools;
mod trust;
mod wait_limits;
mod warnings;

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rmcp::ServiceExt;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData};
use rmcp::service::ServerInitializeError;
use tokio_util::sync::CancellationToken;

use self::client::Client;
use self::context::ServerContext;
use self::handler::Server;
pub use self::next_steps::agent_words;
use self::protocol::ProtocolService;
use self::stdio::StdioTransport;
use crate::fleet::Fleet;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::settings::{Retention, Settings};

/// The default log filter. rmcp logs a warning for every error response. The client has that error already, and many
/// clients ask for features that the server does not offer, such as prompts.
pub const DEFAULT_LOG_FILTER: &str = "warn,rmcp::service=error";

/// Clients may show these instructions to their model once, before any tool is used. Some show only the first line.
const INSTRUCTIONS: &str = "\
MassGen asks several AI models one question (multi-agent ensemble, debate, vote, consensus, second opinion): run_massgen starts, check_status with wait_s waits, read_result reads.
A run takes 1 to 45 minutes and costs money.
1. run_massgen {question, massgen_config} answers at once with a run_id and a cursor. massgen_config \"@rehearsal\" practises offline, for nothing, with scripted answers.
2. check_status {run_id, wait_s: 45, until: \"any_done\", since: the last cursor} sleeps until the run has ended; while it runs, call it again. \
Never poll without wait_s. For several runs give run_ids or their group: one call watches all, and wakes at the next end.
3. read_result {run_id} gives the answer, in pages. A short answer stands in the status already.
read_result {run_id, part: \"report\"} tells why a run went as it did. steer_run {run_id, message} tells a live run's agents something; run_massgen {question, continue_run} goes on with an ended run's conversation.
Many runs are one call: run_massgen {configs: [...], questions: [...], repeat, keep, budget_usd} answers with a group; check_status {group} follows \
all, read_result {group} compares them.
kill_run {run_id} stops a run, which cannot be undone; what it had is still readable. Runs go on when you or this server go away: check_status {} finds them again.
A failed run says what went wrong in problem {code, message, hint}: do what the hint says.";

/// The instructions, with the operator's maximum wait.
fn instructions(max_wait: Duration) -> String {
    INSTRUCTIONS.replace("wait_s: 45", &format!("wait_s: {}", max_wait.as_secs().min(45)))
}

/// Why the server could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The client sent something else before the session began, or did not read.
    #[error("no session came about")]
    Session(#[source] Box<ServerInitializeError>),
    /// The session's task panicked or was aborted.
    #[error("the session was broken off")]
    TaskFailed(#[source] tokio::task::JoinError),
}

/// Serves one client on standard input and output until its input ends. Runs continue after that.
pub async fn serve(fleet: Fleet, settings: Settings) -> Result<(), ServerError> {
    let closing = CancellationToken::new();
    if !settings.read_only {
        tokio::spawn(prune_in_background(fleet.clone(), settings.retention));
    }
    let server_context = ServerContext::new(fleet, settings, closing.clone());
    let wait_limits = server_context.wait_limits.clone();
    let server = Server::new(server_context);
    let input_received = Arc::default();
    orphan::exit_when_orphaned(Arc::clone(&input_received), closing.clone());
    let (reader, writer) = rmcp::transport::io::stdio_pipes();
    let session = match ProtocolService(server)
        .serve(StdioTransport::new(reader, writer, input_received, closing).with_wait_limits(wait_limits))
        .await
    {
        Ok(session) => session,
        // A client may connect and leave without starting a session; that is no error.
        Err(ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        Err(error) => return Err(ServerError::Session(Box::new(error))),
    };
    let quit_reason = session.waiting().await.map_err(ServerError::TaskFailed)?;
    tracing::debug!(?quit_reason, "the session is over");
    Ok(())
}

/// Removes old runs in the background. No call waits for it. If the server ends meanwhile, the next server removes the
/// rest.
async fn prune_in_background(fleet: Fleet, keep: Retention) {
    match fleet.prune_when_due(keep).await {
        Ok(None) => {}
        Ok(Some(pruned)) => {
            let (removed, freed) = (pruned.removed.len(), pruned.freed_bytes);
            tracing::info!(
                removed,
                leftovers = pruned.leftovers,
                freed,
                kept = pruned.retained_count,
                "runs were pruned"
            );
            for (name, why) in pruned.failure_messages() {
                tracing::warn!(name, why, "could not be pruned");
            }
        }
        Err(error) => tracing::warn!(error = text::error_chain(&error), "runs could not be pruned"),
    }
}

/// Converts a refusal to a protocol error, for requests other than tool calls. rmcp picks the "not found" code of the
/// request's protocol.
fn protocol_error(refusal: Refusal) -> ErrorData {
    let error: fn(Cow<'static, str>, Option<serde_json::Value>) -> ErrorData = match refusal.code() {
        "bad_run_id" | "unknown_run" | "unknown_resource" => ErrorData::resource_not_found,
        "too_many_subscriptions" => ErrorData::invalid_request,
        _ => ErrorData::internal_error,
    };
    error(format!("{}: {}", refusal.message(), refusal.hint(agent_words)).into(), Some(refusal.to_json(agent_words)))
}

/// Every call gets an answer, even if it panics: rmcp alone would leave the client waiting for ever.
async fn run_tool_call(
    client: Client,
    call: impl Future<Output = Result<serde_json::Value, Refusal>> + Send + 'static,
) -> CallToolResult {
    match tokio::spawn(call).await {
        Ok(Ok(value)) => client.call_result(value),
        Ok(Err(refusal)) => refusal_result(refusal),
        Err(broken) => {
            tracing::error!(error = %broken, "a call panicked");
            refusal_result(Refusal::panicked())
        }
    }
}

/// A refusal is text only. Some clients validate structured content against the output schema even for an error, and
/// show their model the schema complaint instead.
fn refusal_result(refusal: Refusal) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(refusal.to_text(agent_words))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_tool_is_answered() {
        let answer = run_tool_call(Client::unknown(1_000), async { panic!("on purpose") }).await;
        assert_eq!(answer.is_error, Some(true));
        assert_eq!(answer.structured_content, None);
        let text = &answer.content[0].as_text().expect("text").text;
        let (sentence, hint) = text.split_once('\n').expect("two lines");
        assert!(sentence.starts_with("internal_error: ") && !hint.is_empty(), "{text}");
    }
}
