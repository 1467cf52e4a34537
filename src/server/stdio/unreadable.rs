//! Lines that cannot be parsed. Valid JSON may be nested too deeply, contain a number that no double can hold, or be no
//! request. The envelope of such a message is still readable, so the line is refused under its id and in plain words. A
//! tool call with unreadable arguments is passed on without them, and its tool refuses it. Pure, and no input makes it
//! recurse.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rmcp::model::{ClientJsonRpcMessage, ErrorData, GetExtensions as _, JsonRpcMessage, RequestId};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::parsed_line::ParsedLine;

/// How many levels of objects and lists are read: `serde_json` refuses more, so that no input overflows the stack.
const MAX_DEPTH: usize = 127;
/// How many of those levels surround an argument's value: the message, its parameters, and the arguments.
const ARGUMENT_DEPTH: usize = 3;
/// The required form of a request.
const REQUEST_FORM: &str =
    "a request has `jsonrpc`, which is \"2.0\", an `id`, `method`, a string, and `params`, an object";
/// The MCP specification does not allow null. Other kinds of ids cannot be sent in an answer.
const ID_FORM: &str = "`id` must be a string or a whole number of at most 64 bits; the answer has no id, since this one cannot be repeated";

/// Why a value cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum ParseFault {
    /// It has more than this number of levels.
    TooDeep(usize),
    /// It contains a number that no double can hold.
    NumberTooLarge,
}

/// An extension of a call: the argument that could not be parsed. The call then has no arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct UnparsableArgument {
    pub(in crate::server) argument: String,
    pub(in crate::server) fault: ParseFault,
}

/// Decides how to handle a line or message that does not parse as a message.
pub(super) fn classify_unparsable(text: &[u8]) -> ParsedLine {
    match Envelope::parse(text) {
        Some(envelope) if envelope.is_notification() => ParsedLine::Ignored,
        Some(envelope) => match call_without_arguments(text) {
            Some(call) => ParsedLine::Message(Box::new(call)),
            None => ParsedLine::Refused(
                ErrorData::invalid_request(fault_message(text, Some(&envelope)), None),
                envelope.request_id(),
            ),
        },
        None => match serde_json::from_slice::<IgnoredAny>(text) {
            Ok(_) => ParsedLine::Refused(ErrorData::invalid_request(fault_message(text, None), None), None),
            Err(error) => ParsedLine::Refused(ErrorData::parse_error(invalid_json_message(text, &error), None), None),
        },
    }
}

fn invalid_json_message(text: &[u8], error: &serde_json::Error) -> String {
    match std::str::from_utf8(text) {
        Err(_) => "not JSON: the line is not UTF-8".to_owned(),
        Ok(_) if error.is_eof() => "not JSON: the line ends too early".to_owned(),
        Ok(_) => format!("not JSON: byte {} does not fit", error.column()),
    }
}

/// Explains why JSON does not parse as a message.
fn fault_message(text: &[u8], envelope: Option<&Envelope>) -> Cow<'static, str> {
    let has_invalid_id = envelope.is_some_and(|envelope| envelope.id.is_some() && envelope.request_id().is_none());
    match std::str::from_utf8(text) {
        Err(_) => Cow::Borrowed("the message is not UTF-8"),
        Ok(_) if has_invalid_id => Cow::Borrowed(ID_FORM),
        Ok(text) => match find_fault(text, 0) {
            Some(ParseFault::TooDeep(max_levels)) => {
                format!("the message is nested more than {max_levels} levels deep").into()
            }
            Some(ParseFault::NumberTooLarge) => Cow::Borrowed("the message has a number that is too large"),
            None => Cow::Borrowed(REQUEST_FORM),
        },
    }
}

/// The fault of a value that has `around` levels around it.
fn find_fault(json: &str, around: usize) -> Option<ParseFault> {
    let max_depth = MAX_DEPTH - around;
    match serde_json::from_str::<Value>(json) {
        _ if nesting_depth(json) > max_depth => Some(ParseFault::TooDeep(max_depth)),
        Ok(_) => None,
        Err(_) => Some(ParseFault::NumberTooLarge),
    }
}

/// The fault of a JSON text in an argument that is nested too deep to be parsed.
pub(in crate::server) fn nesting_fault(json: &str) -> Option<ParseFault> {
    let max_levels = MAX_DEPTH - ARGUMENT_DEPTH;
    (nesting_depth(json) > max_levels).then_some(ParseFault::TooDeep(max_levels))
}

/// The number of levels of objects and lists in a JSON text.
fn nesting_depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        let was_escaped = std::mem::take(&mut escaped);
        match byte {
            b'\\' if in_string => escaped = !was_escaped,
            b'"' => in_string = !in_string || was_escaped,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// The fields of an object, each as its JSON text.
type RawObject = BTreeMap<String, Box<RawValue>>;

/// A tool call without its arguments, if one of them cannot be parsed.
fn call_without_arguments(text: &[u8]) -> Option<ClientJsonRpcMessage> {
    let mut message: RawObject = serde_json::from_slice(text).ok()?;
    if message.get("method")?.get() != "\"tools/call\"" {
        return None;
    }
    let mut params: RawObject = raw_object(message.get("params")?)?;
    let arguments: RawObject = raw_object(&params.remove("arguments")?)?;
    let found = arguments.into_iter().find_map(|(name, value)| Some((name, find_fault(value.get(), ARGUMENT_DEPTH)?)));
    let (argument, fault) = found?;
    message.insert("params".to_owned(), to_raw_value(&params).ok()?);
    let mut call: ClientJsonRpcMessage = serde_json::from_slice(&serde_json::to_vec(&message).ok()?).ok()?;
    if let JsonRpcMessage::Request(request) = &mut call {
        request.request.extensions_mut().insert(UnparsableArgument { argument, fault });
    }
    Some(call)
}

fn raw_object(text: &RawValue) -> Option<RawObject> {
    serde_json::from_str(text.get()).ok()
}

/// The outer fields of a message.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default, deserialize_with = "present_value")]
    id: Option<Box<RawValue>>,
    method: Option<IgnoredAny>,
    result: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
}

impl Envelope {
    fn parse(text: &[u8]) -> Option<Envelope> {
        // serde would read an array as the fields in order.
        if text.starts_with(b"{") { serde_json::from_slice(text).ok() } else { None }
    }

    fn is_notification(&self) -> bool {
        match self.method {
            Some(_) => self.id.is_none(),
            None => self.result.is_some() || self.error.is_some(),
        }
    }

    fn request_id(&self) -> Option<RequestId> {
        serde_json::from_str(self.id.as_deref()?.get()).ok()
    }
}

/// Distinguishes an id that is null from a missing id.
fn present_value<'de, D: Deserializer<'de>>(id: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(id).map(Some)
}

#[cfg(test)]
mod tests {
    use super::super::message;
    use super::*;

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    fn call(arguments: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"x","arguments":{arguments}}}}}"#)
    }

    /// The extension in the call that is parsed from a line.
    fn unparsable_argument(line: &str) -> Option<UnparsableArgument> {
        let ParsedLine::Message(message) = message::parse_line(line.as_bytes()) else {
            panic!("{line:.200} is refused")
        };
        let JsonRpcMessage::Request(request) = *message else { panic!("no request: {line:.200}") };
        assert_eq!(request.id, RequestId::Number(7));
        request.request.extensions().get().cloned()
    }

    #[test]
    fn a_call_is_accepted_without_its_unparsable_argument() {
        assert_eq!(
            unparsable_argument(&call(&format!(r#"{{"a":1,"deep":{}}}"#, nested(124)))),
            None,
            "the maximum depth"
        );
        for (arguments, argument, fault) in [
            (format!(r#"{{"a":1e4,"deep":{}}}"#, nested(125)), "deep", ParseFault::TooDeep(124)),
            (format!(r#"{{"deep":{},"a":1}}"#, nested(1_000_000)), "deep", ParseFault::TooDeep(124)),
            (r#"{"a":"]","wait_s":1e400}"#.to_owned(), "wait_s", ParseFault::NumberTooLarge),
            (r#"{"overrides":{"a":[-1e999]}}"#.to_owned(), "overrides", ParseFault::NumberTooLarge),
        ] {
            let expected = UnparsableArgument { argument: argument.to_owned(), fault };
            assert_eq!(unparsable_argument(&call(&arguments)), Some(expected), "{arguments:.200}");
        }
    }

    #[test]
    fn brackets_in_strings_do_not_count_as_levels() {
        for (json, expected) in
            [("1", 0), (r#""[[[""#, 0), (r#"["\"[[",{"a":"\\"},[[]]]"#, 3), ("[[]]", 2), (r#"{"a":{"b":[]}}"#, 3)]
        {
            assert_eq!(nesting_depth(json), expected, "{json}");
        }
    }

    #[test]
    fn refusals_say_what_is_wrong_without_rust_types() {
        for (line, expected) in [
            ("{", "not JSON: the line ends too early"),
            ("GET / HTTP/1.1", "not JSON: byte 1 does not fit"),
            ("{}", REQUEST_FORM),
            (r#"{"jsonrpc":"2.0","id":7,"method":5}"#, REQUEST_FORM),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, ID_FORM),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, ID_FORM),
            (r#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#, ID_FORM),
            (&nested(200), "the message is nested more than 127 levels deep"),
            (r#"{"jsonrpc":"2.0","id":7,"method":"x","params":[1e400]}"#, "the message has a number that is too large"),
        ] {
            let ParsedLine::Refused(error, _) = message::parse_message(line.as_bytes()) else {
                panic!("{line} is not refused")
            };
            assert_eq!(error.message, expected, "{line}");
        }
    }
}
