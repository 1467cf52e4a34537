//! What a line is: a message, several, something that wants no answer, or something that has to be refused, under its id where
//! one can be read. Pure.

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomRequest, ErrorData, InitializeRequestParams, JsonRpcMessage, RequestId,
};
use serde_json::value::RawValue;

use super::{surrogates, unreadable};

/// What was read.
#[derive(Debug)]
pub(super) enum Reading {
    Message(Box<ClientJsonRpcMessage>),
    /// The messages of a batch, each still to be read. Only the protocol of 2025-03-26 has them.
    Batch(Vec<Vec<u8>>),
    /// Nothing, or a notification or response that nobody understands.
    NoRequest,
    Refused(ErrorData, Option<RequestId>),
}

/// Some clients on Windows begin with it.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Reads a line.
pub(super) fn read(line: &[u8]) -> Reading {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return Reading::NoRequest;
    }
    match serde_json::from_slice::<Vec<&RawValue>>(line) {
        Ok(parts) if !parts.is_empty() => {
            Reading::Batch(parts.into_iter().map(|part| part.get().as_bytes().to_vec()).collect())
        }
        Ok(_) | Err(_) => read_part(line),
    }
}

/// Reads what is not a batch: a line, or a message of a batch.
pub(super) fn read_part(text: &[u8]) -> Reading {
    match serde_json::from_slice(text) {
        Ok(message) => shaped(message),
        Err(_) => match surrogates::replaced(text) {
            Some(repaired) => read_part(&repaired),
            None => unreadable::reading(text),
        },
    }
}

/// rmcp takes a hello whose parameters have another shape for a method that it does not know.
fn shaped(message: ClientJsonRpcMessage) -> Reading {
    if let JsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(CustomRequest { method, params, .. }) = &request.request
        && method == "initialize"
    {
        let params = params.clone().unwrap_or_else(|| serde_json::json!({}));
        let wrong = serde_path_to_error::deserialize::<_, InitializeRequestParams>(params).err();
        // Other errors are told in the words of Rust.
        let told = |error: serde_path_to_error::Error<serde_json::Error>| match error.inner().to_string() {
            missing if missing.starts_with("missing field") => format!(": {error}"),
            _ => format!(": `{}` has another form", error.path()),
        };
        let wrong = wrong.map(told).unwrap_or_default();
        let message = format!("initialize takes `protocolVersion`, `capabilities` and `clientInfo`{wrong}");
        return Reading::Refused(ErrorData::invalid_params(message, None), Some(request.id.clone()));
    }
    Reading::Message(Box::new(message))
}

/// The refusal of a line that was longer than allowed.
pub(super) fn too_long(most: usize, id: Option<&[u8]>) -> Reading {
    let id = id.and_then(|id| serde_json::from_slice(id).ok());
    Reading::Refused(ErrorData::invalid_request(format!("a line of more than {most} bytes"), None), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a line comes to, in a word: its refusal's code and id, or what else it is.
    fn word(line: &[u8]) -> String {
        match read(line) {
            Reading::Message(message) => match *message {
                ClientJsonRpcMessage::Request(request) => format!("request {}", request.id),
                ClientJsonRpcMessage::Notification(_) => "notification".to_owned(),
                ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => "response".to_owned(),
            },
            Reading::Batch(parts) => format!("batch of {}", parts.len()),
            Reading::NoRequest => "nothing".to_owned(),
            Reading::Refused(error, Some(id)) => format!("{} {id}", error.code.0),
            Reading::Refused(error, None) => error.code.0.to_string(),
        }
    }

    #[test]
    fn every_line_is_something() {
        let call = |arguments: &str| {
            format!(
                r#"{{"method":"tools/call","params":{{"name":"x","arguments":{arguments}}},"jsonrpc":"2.0","id":7}}"#
            )
        };
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        for (line, expected) in [
            (call("{}").as_str(), "request 7"),
            ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}\r\n", "request a"),
            (&call("{\"n\": 1e400}"), "request 7"),
            (&call("{\"s\": \"\\ud83d\"}"), "request 7"),
            (&call(&format!("{{\"deep\": {deep}}}")), "request 7"),
            (&format!("{{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"x\",\"params\":{{\"a\":{deep}}}}}"), "-32600 7"),
            ("1e400", "-32600"),
            (&call("{\"n\": 01}"), "-32700"),
            ("\r\n", "nothing"),
            (" \t ", "nothing"),
            ("no JSON", "-32700"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"", "-32700"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\"} x", "-32700"),
            ("5", "-32600"),
            ("{}", "-32600"),
            ("[]", "-32600"),
            ("[1, {}]", "batch of 2"),
            ("[1, ", "-32700"),
            ("{\"id\":7,\"method\":\"ping\"}", "-32600 7"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"initialize\"}", "-32602 7"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7}", "-32600 7"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":5}", "-32600 7"),
            ("{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"ping\",\"result\":{}}", "-32600 7"),
            ("{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":true,\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1e400,\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":9223372036854775808,\"method\":\"ping\"}", "-32600"),
            ("{\"jsonrpc\":\"2.0\",\"id\":9223372036854775807,\"method\":\"ping\"}", "request 9223372036854775807"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1.0,\"method\":\"ping\"}", "request 1"),
            ("{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}", "-32600"),
            ("{\"method\":\"$/progress\",\"params\":{\"n\":1e400}}", "nothing"),
            ("{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}", "notification"),
            ("{\"id\":7,\"result\":{\"n\":1e400}}", "nothing"),
            ("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"our own, given back\"}}", "response"),
        ] {
            assert_eq!(word(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_under_their_id() {
        let line = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\xfe\"}}";
        assert_eq!(word(line), "-32600 7");
        assert_eq!(word(b"\xff\xfe\x00"), "-32700");
    }

    #[test]
    fn a_batch_within_a_batch_is_no_message() {
        assert!(matches!(read_part(br#"[7, "ping"]"#), Reading::Refused(_, None)));
    }
}
