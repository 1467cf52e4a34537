//! The handler of the client's requests: one method of rmcp's trait for each method of the protocol. Each only passes the
//! request on to the function that answers it.

use std::future::Future;
use std::sync::{Arc, OnceLock};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, CompleteRequestParams, CompleteResult, CustomRequest,
    CustomResult, ErrorCode, ErrorData, GetTaskParams, GetTaskResult, Implementation, InitializeRequestParams,
    InitializeResult, ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PaginatedRequestParams,
    ReadResourceRequestParams, ReadResourceResponse, ServerConfig, SubscribeRequestParams, SubscriptionFilter, Tool,
    UnsubscribeRequestParams, UpdateTaskParams,
};
use rmcp::service::{RequestContext, SubscriptionContext};
use rmcp::{RoleServer, ServerHandler};

use super::caller::Caller;
use super::client::Client;
use super::context::ServerContext;
use super::progress::ProgressTarget;
use super::resources::{self, ResourceUri};
use super::stdio::UnparsableArgument;
use super::subscriptions::{self, Subscriptions};
use super::{arguments, calls, protocol, tasks, tools};
use crate::massgen::text;
use crate::refusal::Refusal;

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

/// Handles the requests of one client.
#[derive(Clone)]
pub(super) struct Server {
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
            .with_instructions(super::instructions(self.context.settings.max_wait))
    }

    /// A client that sends `initialize` uses the legacy protocol. That protocol has no tasks, and the server never sends
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
            return Ok(super::refusal_result(refusal.masked(self.context.fleet.secrets())).into());
        }
        let server_context = self.context.clone();
        let arguments = request.arguments.unwrap_or_default();
        let accepts_task = request.name == "run_massgen" && tasks::supports_tasks(&context);
        let progress = ProgressTarget::from_context(&context);
        let open_call = server_context.wait_limits.start_call(context.id.clone());
        let client = Client::from_context(&context, server_context.settings.page_chars);
        let caller = Caller { cancelled: context.ct, progress, accepts_task, client };
        let answer = super::run_tool_call(client, async move {
            calls::execute(&server_context, &request.name, arguments, caller).await
        })
        .await;
        drop(open_call);
        if accepts_task && let Some(task) = tasks::create(&self.context.fleet, &answer).await {
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
            self.run_request(|server_context| async move { tasks::get(&server_context.fleet, &request.task_id).await })
                .await?,
        ))
    }

    /// A run never asks its client for input, so the update itself is ignored.
    async fn update_task(
        &self,
        request: UpdateTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.run_request(
            |server_context| async move { tasks::check_exists(&server_context.fleet, &request.task_id).await },
        )
        .await
    }

    async fn cancel_task(
        &self,
        request: CancelTaskParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.run_request(|server_context| async move { tasks::cancel(&server_context.fleet, &request.task_id).await })
            .await
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let listed =
            self.run_request(|server_context| async move { resources::list(&server_context.fleet).await }).await?;
        Ok(ListResourcesResult::with_all_items(listed))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::list_templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.clone();
        let client = Client::from_context(&context, self.context.settings.page_chars);
        let read = self.run_request(move |server_context| async move {
            resources::read(&server_context, &request.uri.parse::<ResourceUri>()?, client).await
        });
        Ok(read.await.map_err(|error| with_resource_uri(error, uri))?.into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(CompleteResult::new(
            self.run_request(|server_context| async move { resources::complete(&server_context.fleet, request).await })
                .await?,
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
    pub(super) fn new(context: ServerContext) -> Server {
        Server { context, tools: Arc::default(), subscriptions: Subscriptions::default() }
    }

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
        done.map_err(|refusal| super::protocol_error(refusal.masked(self.context.fleet.secrets())))
    }
}

/// Adds the URI to a resource error, as the specification requires.
fn with_resource_uri(mut error: ErrorData, uri: String) -> ErrorData {
    if let Some(fields) = error.data.as_mut().and_then(serde_json::Value::as_object_mut) {
        fields.insert("uri".to_owned(), uri.into());
    }
    error
}
