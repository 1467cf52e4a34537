//! The two eras of the protocol: who says hello speaks the first, up to 2025-11-25; who sends its version with each request speaks
//! the second, of 2026-07-28. What each may have is decided here and nowhere else; no session is remembered.

use rmcp::RoleServer;
use rmcp::model::{ConstString, ErrorData, ProtocolVersion, ServerCapabilities};
use rmcp::service::RequestContext;

/// What the second era can have. Who may only look can take no task, since none is made.
pub(super) fn capabilities(read_only: bool) -> ServerCapabilities {
    let all = ServerCapabilities::builder()
        .enable_tools()
        .enable_completions()
        .enable_resources()
        .enable_resources_subscribe()
        .enable_resources_list_changed();
    if read_only { all.build() } else { all.enable_tasks().build() }
}

/// What of it the first era can have: it has no tasks, and no way to ask for the changes of a list, which cost a watch.
pub(super) fn of_the_first(mut capabilities: ServerCapabilities) -> ServerCapabilities {
    capabilities.extensions = None;
    if let Some(resources) = &mut capabilities.resources {
        resources.list_changed = None;
    }
    capabilities
}

/// Whether a request is of the second era: by its own word, and never by what was asked for in a hello.
pub(super) fn is_second(context: &RequestContext<RoleServer>) -> bool {
    context.meta.protocol_version().is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// Refuses a method that the first era does not have.
pub(super) fn only_second<M: ConstString>(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    if is_second(context) { Ok(()) } else { Err(ErrorData::method_not_found::<M>()) }
}
