//! The result of parsing a line of the client.

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId};

/// The kind of line.
#[derive(Debug)]
pub(super) enum ParsedLine {
    Message(Box<ClientJsonRpcMessage>),
    /// The messages of a batch, not parsed yet. Only the protocol of 2025-03-26 has batches.
    Batch(Vec<Vec<u8>>),
    /// An empty line, or a notification or response that the server ignores.
    Ignored,
    Refused(ErrorData, Option<RequestId>),
}
