//! The MCP server: the only module that uses rmcp. It receives calls, converts them to the types of the modules below,
//! and returns answers and refusals. It holds no run state. Standard output carries only protocol messages.

mod answers;
mod arguments;
mod caller;
mod calls;
mod client;
mod configs;
mod context;
mod dry_run;
mod experiments;
mod hints;
mod next_steps;
mod orphan;
mod overview;
mod params;
mod progress;
mod protocol;
mod resources;
mod sanitize;
mod starts;
mod stdio;
mod stops;
mod subscriptions;
mod tasks;
mod tools;
mod trust;
mod wait_limits;
mod warnings;

use std::borrow::Cow;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, CancelTaskParams, CompleteRequestParams, CompleteResult,
    ContentBlock, CustomRequest, CustomResult, ErrorCode, ErrorData, GetTaskParams, GetTaskResult, Implementation,
    InitializeRequestParams, InitializeResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse, ServerConfig, SubscribeRequestParams,
    SubscriptionFilter, Tool, UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, ServerInitializeError, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler, ServiceExt};
use tokio_util::sync::CancellationToken;

use self::caller::Caller;
use self::client::Client;
use self::context::ServerContext;
pub use self::next_steps::agent_words;
use self::progress::ProgressTarget;
use self::protocol::ProtocolService;
use self::resources::ResourceUri;
use self::stdio::{StdioTransport, UnparsableArgument};
use self::subscriptions::Subscriptions;
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

/// The parameters of the methods that have required parameters.
const EXPECTED_PARAMS: [(&str, &str); 5] = [
    ("tools/call", "`name`, a string, and `arguments`, an object"),
    ("resources/read", "`uri`, a string"),
    ("resources/subscribe", "`uri`, a string"),
    ("resources/unsubscribe", "`uri`, a string"),
    (
        "completion/complete",
        "`ref`, an object with `type` and `uri`, and `argument`, an object with `name` and `value`",
    ),
];

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
    let server = Server { context: server_context, tools: Arc::default(), subscriptions: Subscriptions::default() };
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

#[derive(Clone)]
struct Server {
    context: ServerContext,
    /// Built on first use, so that the response to `initialize` does not wait for it.
    tools: Arc<OnceLock<Vec<Tool>>>,
    subscriptions: Subscriptions,
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let implementation = Implementation::new("massgen-mcp", env!("CARGO_PKG_VERSION")).with_title("MassGen");
        ServerConfig::new(protocol::capabilities(self.context.settings.read_only))
            .with_server_info(implementation)
            .with_instructions(instructions(self.context.settings.max_wait))
    }

    /// A client that sends `initialize` uses a version of the first era. That era has no tasks. The server never sends
    /// list-changed notifications in it.
    async fn initialize(
        &self,
        request: InitializeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<InitializeResult, ErrorData> {
        context.peer.set_peer_info(request.clone());
        Ok(protocol::legacy_initialize_result(self.negotiate_initialize(&request)?))
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.tools.get_or_init(|| tools::available_tools(&self.context.settings));
        let tools_for_client = tools.iter().map(|tool| protocol::tool_for_version(&context, tool.clone()));
        Ok(ListToolsResult::with_all_items(tools_for_client.collect()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let mut tool_names = tools::tool_names(&self.context.settings);
        if !tool_names.any(|name| name == request.name) {
            let tool_names: Vec<_> = tools::tool_names(&self.context.settings).collect();
            let name = text::single_line(&request.name, 80);
            let message = format!("tool `{name}` not found; there are: {}", tool_names.join(", "));
            return Err(ErrorData::invalid_params(message, None));
        }
        if let Some(unparsable) = context.extensions.get::<UnparsableArgument>() {
            let refusal = arguments::unreadable_refusal(&request.name, unparsable);
            return Ok(refusal_result(refusal.masked(self.context.fleet.secrets())).into());
        }
        let server_context = self.context.clone();
        let arguments = request.arguments.unwrap_or_default();
        let accepts_task = request.name == "run_massgen" && tasks::supports_tasks(&context);
        let progress = ProgressTarget::from_context(&context);
        let open_call = server_context.wait_limits.start_call(context.id.clone());
        let client = Client::from_context(&context, server_context.settings.page_chars);
        let caller = Caller { cancelled: context.ct, progress, accepts_task, client };
        let answer =
            run_tool_call(client, async move { server_context.call_tool(&request.name, arguments, caller).await })
                .await;
        drop(open_call);
        if accepts_task && let Some(task) = self.context.create_task(&answer).await {
            return Ok(CallToolResponse::Task(task));
        }
        Ok(answer.into())
    }

    async fn get_task(
        &self,
        request: GetTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<GetTaskResult, ErrorData> {
        Ok(GetTaskResult::new(
            self.run_request(|server_context| async move { server_context.get_task(&request.task_id).await }).await?,
        ))
    }

    /// A run never asks its client for input, so the update itself is ignored.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.run_request(|server_context| async move { server_context.check_task(&request.task_id).await }).await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.run_request(|server_context| async move { server_context.cancel_task(&request.task_id).await }).await
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listed = self.run_request(|server_context| async move { server_context.resources().await }).await?;
        Ok(ListResourcesResult::with_all_items(listed))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::resource_templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.clone();
        let client = Client::from_context(&context, self.context.settings.page_chars);
        let read = self.run_request(move |server_context| async move {
            server_context.read_uri(&request.uri.parse::<ResourceUri>()?, client).await
        });
        Ok(read.await.map_err(|error| with_resource_uri(error, uri))?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(CompleteResult::new(
            self.run_request(|server_context| async move { server_context.complete(request).await }).await?,
        ))
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let subscriptions = self.subscriptions.clone();
        let uri = request.uri.clone();
        let result = self.run_request(|server_context| async move {
            subscriptions.subscribe(server_context, &request.uri, context.peer).await
        });
        result.await.map_err(|error| with_resource_uri(error, uri))
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        let subscriptions = self.subscriptions.clone();
        self.run_request(|_server_context| async move { subscriptions.unsubscribe(&request.uri) }).await
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(subscriptions::accepted_filter(&self.context, requested))
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let serve_stream = |server_context: ServerContext| async move {
            subscriptions::serve_listen(&server_context, context).await;
            Ok(())
        };
        self.run_request(serve_stream).await
    }

    /// rmcp passes a known method with malformed parameters on as a custom request.
    async fn on_custom_request(
        &self,
        request: CustomRequest,
        _context: RequestContext<RoleServer>,
    ) -> Result<CustomResult, ErrorData> {
        if let Some((_, expected)) = EXPECTED_PARAMS.iter().find(|(method, _)| *method == request.method) {
            return Err(ErrorData::invalid_params(format!("{} takes {expected}", request.method), None));
        }
        let message = format!("there is no method `{}`", text::single_line(&request.method, 80));
        Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None))
    }
}

impl Server {
    /// Handles requests other than tool calls. Every request gets an answer, even if the handler panics.
    async fn run_request<T: Send + 'static, W>(&self, work: impl FnOnce(ServerContext) -> W) -> Result<T, ErrorData>
    where
        W: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        let ready = self.context.fleet.state().create_root().map_err(Refusal::from);
        let done = match ready {
            Ok(()) => tokio::spawn(work(self.context.clone())).await.unwrap_or_else(|broken| {
                tracing::error!(error = %broken, "a request panicked");
                Err(Refusal::panicked())
            }),
            Err(refusal) => Err(refusal),
        };
        done.map_err(|refusal| protocol_error(refusal.masked(self.context.fleet.secrets())))
    }
}

/// Converts a refusal to a protocol error, for requests other than tool calls. rmcp picks the "not found" code of the
/// request's era.
fn protocol_error(refusal: Refusal) -> ErrorData {
    let error: fn(Cow<'static, str>, Option<serde_json::Value>) -> ErrorData = match refusal.code() {
        "bad_run_id" | "unknown_run" | "unknown_resource" => ErrorData::resource_not_found,
        "too_many_subscriptions" => ErrorData::invalid_request,
        _ => ErrorData::internal_error,
    };
    error(format!("{}: {}", refusal.message(), refusal.hint(agent_words)).into(), Some(refusal.to_json(agent_words)))
}

/// Adds the URI to a resource error, as the specification requires.
fn with_resource_uri(mut error: ErrorData, uri: String) -> ErrorData {
    if let Some(fields) = error.data.as_mut().and_then(serde_json::Value::as_object_mut) {
        fields.insert("uri".to_owned(), uri.into());
    }
    error
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
