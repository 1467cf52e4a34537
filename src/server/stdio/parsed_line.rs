//! What a line of the client turned out to be.

use rmcp::model::{ClientJsonRpcMessage, ErrorData, RequestId};

/// What was read.
#[derive(Debug)]
pub(super) enum ParsedLine {
    Message(Box<ClientJsonRpcMessage>),
    /// The messages of a batch, each still to be read. Only the protocol of 2025-03-26 has them.
    Batch(Vec<Vec<u8>>),
    /// Nothing, or a notification or response that has no meaning here.
    Ignored,
    Refused(ErrorData, Option<RequestId>),
}
