//! The MCP server: the only room that knows rmcp. It takes calls, turns them into words of the rooms below, and gives
//! answers and refusals back. It holds no state of a run, and standard output carries nothing but protocol.

mod border;
mod calls;
mod params;
mod starts;
mod tools;
mod wire;

use std::future::Future;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, CustomRequest, CustomResult, ErrorCode,
    ErrorData, Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use tokio_util::sync::CancellationToken;

use self::calls::Desk;
use self::wire::Wire;
use crate::fleet::Fleet;
use crate::massgen::text;
use crate::refusal::{self, Refusal};
use crate::settings::{Retention, Settings};

/// What a client may show its model once, before any tool is used.
const INSTRUCTIONS: &str = "\
MassGen lets several AI agents answer a question, see each other's answers and vote. A run takes 1 to 45 minutes and costs money.
The loop is: start, wait, read.
1. run_massgen {question, config} answers at once with a run_id and a cursor. config \"@rehearsal\" practises offline, for nothing, with scripted answers.
2. check_status {run_id, wait_s: 45, until: \"any_done\"} sleeps until the run has ended; while it runs, call it again, with since set to the \
cursor of the last answer. Never poll without wait_s. For several runs give run_ids or their group: one call watches all, and with since it \
wakes at the next end.
3. read_result {run_id} gives the answer, in pages.
kill_run {run_id} stops a run for good; what it had is still readable. Runs go on when you or this server go away: check_status {} finds them again.
A failed run says what went wrong in problem {code, message, hint}: do what the hint says.";

/// A server that could not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The client left, or spoke something else, before the session began.
    #[error("no session came about")]
    Session(#[source] Box<rmcp::service::ServerInitializeError>),
    /// The session's task was broken off.
    #[error("the session was broken off")]
    BrokenOff(#[source] tokio::task::JoinError),
}

/// Serves one client on standard input and output until its input ends. Runs go on.
pub async fn serve(fleet: Fleet, settings: Settings) -> Result<(), ServerError> {
    let closing = CancellationToken::new();
    if !settings.read_only {
        tokio::spawn(prune(fleet.clone(), settings.retention));
    }
    let read_only = settings.read_only;
    let server = Server { desk: Desk::new(fleet, settings, closing.clone()), tools: tools::offered(read_only) };
    let (reader, writer) = rmcp::transport::io::stdio_pipes();
    let session = server.serve(Wire::new(reader, writer, closing)).await;
    let session = session.map_err(|error| ServerError::Session(Box::new(error)))?;
    let why = session.waiting().await.map_err(ServerError::BrokenOff)?;
    tracing::debug!(?why, "the session is over");
    Ok(())
}

/// Forgets old runs in the background; no call waits for it, and a server that ends meanwhile leaves the rest to the next.
async fn prune(fleet: Fleet, keep: Retention) {
    match fleet.prune_when_due(keep).await {
        Ok(None) => {}
        Ok(Some(pruned)) => {
            let (gone, freed) = (pruned.gone.len(), pruned.freed);
            tracing::info!(gone, leftovers = pruned.leftovers, freed, kept = pruned.kept, "runs were pruned");
            for (name, why) in pruned.complaints() {
                tracing::warn!(name, why, "could not be pruned");
            }
        }
        Err(error) => tracing::warn!(error = text::chain(&error), "runs could not be pruned"),
    }
}

#[derive(Clone)]
struct Server {
    desk: Desk,
    tools: Vec<Tool>,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let about = Implementation::new("massgen-mcp", env!("CARGO_PKG_VERSION")).with_title("MassGen");
        let capabilities = ServerCapabilities::builder().enable_tools().build();
        ServerConfig::new(capabilities).with_server_info(about).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.tools.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if self.get_tool(&request.name).is_none() {
            let known: Vec<_> = self.tools.iter().map(|tool| tool.name.as_ref()).collect();
            let name = text::line(&request.name, 80);
            let message = format!("tool `{name}` not found; there are: {}", known.join(", "));
            return Err(ErrorData::invalid_params(message, None));
        }
        let desk = self.desk.clone();
        let arguments = request.arguments.unwrap_or_default();
        let answer = async move { desk.call(&request.name, arguments, context.ct).await };
        Ok(answered(answer).await.into())
    }

    /// rmcp takes a call whose parameters have another shape for a method that it does not know.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if request.method == "tools/call" {
            let message = "tools/call takes `name`, a string, and `arguments`, an object";
            return Err(ErrorData::invalid_params(message, None));
        }
        let message = format!("there is no method `{}`", text::line(&request.method, 80));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None))
    }
}

/// Every call gets an answer, one that panics too: rmcp by itself would leave the client waiting for ever.
async fn answered(call: impl Future<Output = Result<serde_json::Value, Refusal>> + Send + 'static) -> CallToolResult {
    match tokio::spawn(call).await {
        Ok(Ok(value)) => CallToolResult::structured(value),
        Ok(Err(refusal)) => refused(refusal),
        Err(broken) => {
            tracing::error!(error = %broken, "a call panicked");
            refused(Refusal::panicked())
        }
    }
}

/// A refusal is text alone: some clients hold structured content against the tool's output schema even when it is an error,
/// and show their model a complaint about the schema instead.
fn refused(refusal: Refusal) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(refusal.into_json().to_string())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_in_a_tool_is_answered() {
        let answer = answered(async { panic!("on purpose") }).await;
        assert_eq!(answer.is_error, Some(true));
        assert_eq!(answer.structured_content, None);
        let text = &answer.content[0].as_text().expect("text").text;
        let told: serde_json::Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(told["code"], "internal_error");
        assert!(told["hint"].as_str().is_some_and(|hint| !hint.is_empty()));
    }
}
