//! Classifies a line: a message, a batch, a message that needs no answer, or a line to refuse, under its id if that can
//! be read. Pure.

use rmcp::model::{
    ClientJsonRpcMessage, ClientRequest, CustomRequest, ErrorData, InitializeRequestParams, JsonRpcMessage,
};
use serde_json::value::RawValue;

use super::parsed_line::ParsedLine;
use super::{surrogates, unreadable};

/// Some clients on Windows send it first.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// Parses a line.
pub(super) fn parse_line(line: &[u8]) -> ParsedLine {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
    if line.is_empty() {
        return ParsedLine::Ignored;
    }
    match serde_json::from_slice::<Vec<&RawValue>>(line) {
        Ok(parts) if !parts.is_empty() => {
            ParsedLine::Batch(parts.into_iter().map(|part| part.get().as_bytes().to_vec()).collect())
        }
        Ok(_) | Err(_) => parse_message(line),
    }
}

/// Parses a single message: a line that is no batch, or one message of a batch.
pub(super) fn parse_message(text: &[u8]) -> ParsedLine {
    match serde_json::from_slice(text) {
        Ok(message) => check_initialize(message),
        Err(_) => match surrogates::replace_lone_surrogates(text) {
            Some(repaired) => parse_message(&repaired),
            None => unreadable::classify_unparsable(text),
        },
    }
}

/// rmcp treats an `initialize` with malformed parameters as an unknown method.
fn check_initialize(message: ClientJsonRpcMessage) -> ParsedLine {
    if let JsonRpcMessage::Request(request) = &message
        && let ClientRequest::CustomRequest(CustomRequest { method, params, .. }) = &request.request
        && method == "initialize"
    {
        let params = params.clone().unwrap_or_else(|| serde_json::json!({}));
        let error_text = serde_path_to_error::deserialize::<_, InitializeRequestParams>(params).err();
        // Other errors contain serde's messages about Rust types.
        let text_of = |error: serde_path_to_error::Error<serde_json::Error>| match error.inner().to_string() {
            missing if missing.starts_with("missing field") => format!(": {error}"),
            _ => format!(": `{}` has another form", error.path()),
        };
        let error_text = error_text.map(text_of).unwrap_or_default();
        let message = format!("initialize takes `protocolVersion`, `capabilities` and `clientInfo`{error_text}");
        return ParsedLine::Refused(ErrorData::invalid_params(message, None), Some(request.id.clone()));
    }
    ParsedLine::Message(Box::new(message))
}

/// The refusal of an overlong line.
pub(super) fn line_too_long(max_bytes: usize, id: Option<&[u8]>) -> ParsedLine {
    let id = id.and_then(|id| serde_json::from_slice(id).ok());
    ParsedLine::Refused(ErrorData::invalid_request(format!("a line of more than {max_bytes} bytes"), None), id)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a line in short form: the code and id of its refusal, or its kind.
    fn summary(line: &[u8]) -> String {
        match parse_line(line) {
            ParsedLine::Message(message) => match *message {
                ClientJsonRpcMessage::Request(request) => format!("request {}", request.id),
                ClientJsonRpcMessage::Notification(_) => "notification".to_owned(),
                ClientJsonRpcMessage::Response(_) | ClientJsonRpcMessage::Error(_) => "response".to_owned(),
            },
            ParsedLine::Batch(parts) => format!("batch of {}", parts.len()),
            ParsedLine::Ignored => "nothing".to_owned(),
            ParsedLine::Refused(error, Some(id)) => format!("{} {id}", error.code.0),
            ParsedLine::Refused(error, None) => error.code.0.to_string(),
        }
    }

    #[test]
    fn every_line_has_a_result() {
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
            assert_eq!(summary(line.as_bytes()), expected, "{line}");
        }
    }

    #[test]
    fn lines_that_are_not_utf8_are_refused_under_their_id() {
        let line = b"{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"\xff\xfe\"}}";
        assert_eq!(summary(line), "-32600 7");
        assert_eq!(summary(b"\xff\xfe\x00"), "-32700");
    }

    #[test]
    fn a_nested_batch_is_refused() {
        assert!(matches!(parse_message(br#"[7, "ping"]"#), ParsedLine::Refused(_, None)));
    }
}
