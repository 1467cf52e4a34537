//! The legacy and the stateless protocol of MCP. A client that sends `initialize` uses the legacy protocol, up to
//! 2025-11-25. A client that sends its version with each request uses the stateless protocol, 2026-07-28. Only this
//! module decides what each of them supports. No session state is kept.

use std::borrow::Cow;

use rmcp::RoleServer;
use rmcp::model::{
    CancelTaskMethod, ClientNotification, ClientRequest, ConstString, CustomResult, ErrorCode, ErrorData,
    GetTaskMethod, Implementation, InitializeResult, ProtocolVersion, ServerCapabilities, ServerConfig, ServerResult,
    Tool, UpdateTaskMethod,
};
use rmcp::service::{NotificationContext, RequestContext, Service};
use serde_json::json;

/// Methods that the legacy protocol does not have.
const STATELESS_METHODS: [&str; 3] = [GetTaskMethod::VALUE, UpdateTaskMethod::VALUE, CancelTaskMethod::VALUE];
/// The key under which a result of the stateless protocol names its server.
const SERVER_INFO_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// The capabilities of the stateless protocol. A read-only server starts no runs, so it offers no tasks.
pub(super) fn capabilities(read_only: bool) -> ServerCapabilities {
    let capabilities = ServerCapabilities::builder()
        .enable_tools()
        .enable_completions()
        .enable_resources()
        .enable_resources_subscribe()
        .enable_resources_list_changed();
    if read_only { capabilities.build() } else { capabilities.enable_tasks().build() }
}

/// The response to `initialize`. The legacy protocol has no tasks. Its clients cannot ask for list changes, which need a
/// watch, so these are not offered. Its earlier versions know neither titles nor the completion capability.
pub(super) fn legacy_initialize_result(mut info: InitializeResult) -> InitializeResult {
    info.capabilities.extensions = None;
    if let Some(resources) = &mut info.capabilities.resources {
        resources.list_changed = None;
    }
    if info.protocol_version < ProtocolVersion::V_2025_06_18 {
        info.server_info.title = None;
    }
    if info.protocol_version < ProtocolVersion::V_2025_03_26 {
        info.capabilities.completions = None;
    }
    info
}

/// Removes the tool fields that the request's version does not know.
pub(super) fn tool_for_version(context: &RequestContext<RoleServer>, mut tool: Tool) -> Tool {
    if is_older_than(context, &ProtocolVersion::V_2025_06_18) {
        (tool.title, tool.output_schema) = (None, None);
    }
    if is_older_than(context, &ProtocolVersion::V_2025_03_26) {
        tool.annotations = None;
    }
    tool
}

/// Whether the sender's protocol version supports structured content.
pub(super) fn supports_structured_content(context: &RequestContext<RoleServer>) -> bool {
    !is_older_than(context, &ProtocolVersion::V_2025_06_18)
}

fn is_older_than(context: &RequestContext<RoleServer>, version: &ProtocolVersion) -> bool {
    context.protocol_version().is_some_and(|negotiated| negotiated < *version)
}

/// Whether a request uses the stateless protocol. Only the request's own version counts, never an earlier `initialize`.
pub(super) fn is_stateless(context: &RequestContext<RoleServer>) -> bool {
    context.meta.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// A service that refuses methods that the request's protocol does not have, before rmcp checks the client's
/// capabilities. It adds the server's identity to each result of the stateless protocol.
pub(super) struct ProtocolService<S>(pub(super) S);

impl<S: Service<RoleServer>> Service<RoleServer> for ProtocolService<S> {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        if is_stateless(&context) {
            return Ok(with_server_info(
                self.0.handle_request(request, context).await?,
                &self.0.get_info().server_info,
            ));
        }
        if STATELESS_METHODS.contains(&request.method()) {
            let message = format!("there is no method `{}` in this version of the protocol", request.method());
            return Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, message, None));
        }
        self.0.handle_request(request, context).await
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        self.0.get_info()
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        self.0.supported_protocol_versions()
    }
}

fn with_server_info(result: ServerResult, server: &Implementation) -> ServerResult {
    let Ok(mut value) = serde_json::to_value(&result) else { return result };
    let fields = value.as_object_mut();
    let meta = fields.map(|fields| fields.entry("_meta").or_insert_with(|| json!({})));
    if let Some(meta) = meta.and_then(serde_json::Value::as_object_mut) {
        meta.entry(SERVER_INFO_KEY).or_insert_with(|| json!(server));
    }
    ServerResult::CustomResult(CustomResult::new(value))
}
