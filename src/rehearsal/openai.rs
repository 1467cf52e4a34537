//! The wire format: the part of OpenAI's chat completions that MassGen sends and reads.
//!
//! Requests are parsed leniently: unused fields are skipped. A reply is sent as the events of a stream or as one object; both are
//! built from the same [`Reply`]. This module makes no decisions.

use serde::Deserialize;
use serde_json::{Value, json};

use super::script::ReportedUsage;

/// A request of a client.
#[derive(Debug, Deserialize)]
pub(super) struct ChatRequest {
    pub(super) model: String,
    #[serde(default)]
    pub(super) messages: Vec<ChatMessage>,
    #[serde(default)]
    tools: Option<Vec<ToolDefinition>>,
    #[serde(default)]
    stream: Option<bool>,
}

/// One message of the conversation.
#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    pub(super) role: String,
    #[serde(default)]
    content: MessageContent,
    #[serde(default)]
    pub(super) tool_call_id: Option<String>,
}

#[derive(Debug, Deserialize, Default)]
#[serde(untagged)]
enum MessageContent {
    Text(String),
    Parts(Vec<ContentPart>),
    #[default]
    Absent,
}

#[derive(Debug, Deserialize)]
struct ContentPart {
    #[serde(default)]
    text: String,
}

#[derive(Debug, Deserialize)]
struct ToolDefinition {
    function: FunctionDefinition,
}

#[derive(Debug, Deserialize)]
struct FunctionDefinition {
    name: String,
    #[serde(default)]
    parameters: Value,
}

impl ChatRequest {
    pub(super) fn wants_stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    pub(super) fn offers(&self, tool: &str) -> bool {
        self.tools().any(|function| function.name == tool)
    }

    /// The full name of the first offered tool with this suffix.
    pub(super) fn find_tool_by_suffix(&self, suffix: &str) -> Option<&str> {
        self.tools().map(|function| function.name.as_str()).find(|name| name.ends_with(suffix))
    }

    /// The allowed values of a tool's parameter, if the tool lists them.
    pub(super) fn choices(&self, tool: &str, parameter: &str) -> Vec<&str> {
        let function = self.tools().find(|function| function.name == tool);
        let values = function.and_then(|function| function.parameters["properties"][parameter]["enum"].as_array());
        values.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn tools(&self) -> impl Iterator<Item = &FunctionDefinition> {
        self.tools.iter().flatten().map(|tool| &tool.function)
    }
}

impl ChatMessage {
    pub(super) fn text(&self) -> String {
        match &self.content {
            MessageContent::Text(text) => text.clone(),
            MessageContent::Parts(parts) => parts.iter().map(|part| part.text.as_str()).collect(),
            MessageContent::Absent => String::new(),
        }
    }
}

/// The content of a reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ReplyContent {
    Text(String),
    ToolCall { id: String, tool: String, arguments: Value },
}

/// A complete reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) number: usize,
    pub(super) model: String,
    pub(super) content: ReplyContent,
    pub(super) usage: ReportedUsage,
}

/// The most characters in one event of a stream.
const MAX_CHUNK_CHARS: usize = 2_000;

impl Reply {
    /// The reply as one object.
    pub(super) fn to_completion(&self) -> Value {
        let message = match &self.content {
            ReplyContent::Text(text) => json!({"role": "assistant", "content": text}),
            ReplyContent::ToolCall { id, tool, arguments } => {
                let function = json!({"name": tool, "arguments": arguments.to_string()});
                json!({"role": "assistant", "content": null, "tool_calls": [{"id": id, "type": "function", "function": function}]})
            }
        };
        let choice = json!({"index": 0, "message": message, "finish_reason": self.finish_reason()});
        json!({"id": self.id(), "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [choice], "usage": usage_json(self.usage)})
    }

    /// The reply as the chunks of a stream, the usage last.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Value> + Send + 'static {
        let first = self.chunk(&self.first_chunk(), None);
        let end = self.chunk(&json!({}), Some(self.finish_reason()));
        let mut last = self.envelope();
        last["choices"] = json!([]);
        last["usage"] = usage_json(self.usage);
        let text = match &self.content {
            ReplyContent::Text(text) => text.clone(),
            ReplyContent::ToolCall { arguments, .. } => arguments.to_string(),
        };
        let middle = split_chunks(text).map(move |piece| self.chunk(&self.content_chunk(&piece), None));
        std::iter::once(first).chain(middle).chain([end, last])
    }

    fn first_chunk(&self) -> Value {
        match &self.content {
            ReplyContent::Text(_) => json!({"role": "assistant", "content": ""}),
            ReplyContent::ToolCall { id, tool, .. } => {
                let function = json!({"name": tool, "arguments": ""});
                json!({"role": "assistant", "tool_calls": [{"index": 0, "id": id, "type": "function", "function": function}]})
            }
        }
    }

    fn content_chunk(&self, piece: &str) -> Value {
        match &self.content {
            ReplyContent::Text(_) => json!({"content": piece}),
            ReplyContent::ToolCall { .. } => json!({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}),
        }
    }

    fn chunk(&self, delta: &Value, finish: Option<&str>) -> Value {
        let mut chunk = self.envelope();
        chunk["choices"] = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        chunk
    }

    fn envelope(&self) -> Value {
        json!({"id": self.id(), "object": "chat.completion.chunk", "created": 0, "model": self.model})
    }

    fn id(&self) -> String {
        format!("chatcmpl-rehearsal-{}", self.number)
    }

    fn finish_reason(&self) -> &'static str {
        match self.content {
            ReplyContent::Text(_) => "stop",
            ReplyContent::ToolCall { .. } => "tool_calls",
        }
    }
}

/// Splits a text lazily into pieces of at most [`MAX_CHUNK_CHARS`] characters.
fn split_chunks(text: String) -> impl Iterator<Item = String> + Send + 'static {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let rest = text.get(offset..).filter(|rest| !rest.is_empty())?;
        let length = rest.char_indices().nth(MAX_CHUNK_CHARS).map_or(rest.len(), |(length, _)| length);
        offset += length;
        Some(rest[..length].to_owned())
    })
}

fn usage_json(usage: ReportedUsage) -> Value {
    let total = u64::from(usage.input) + u64::from(usage.output);
    let mut usage_object =
        json!({"prompt_tokens": usage.input, "completion_tokens": usage.output, "total_tokens": total});
    if let Some(cost) = usage.cost {
        usage_object["cost"] = json!(cost);
    }
    usage_object
}

/// The body of an HTTP error in OpenAI's format.
pub(super) fn error_body(status: u16, message: &str) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    };
    json!({"error": {"message": message, "type": kind, "param": null, "code": status.to_string()}})
}

/// The list of models, with one model: the prefix of all scripts.
pub(super) fn model_list(model: &str) -> Value {
    json!({"object": "list", "data": [{"id": model, "object": "model", "created": 0, "owned_by": "massgen-mcp"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(content: ReplyContent) -> Reply {
        let usage = ReportedUsage { input: 3, output: 4, cost: None };
        Reply { number: 1, model: "rehearsal".into(), content, usage }
    }

    #[test]
    fn a_request_is_parsed_leniently() {
        let request: ChatRequest = serde_json::from_value(json!({
            "model": "rehearsal", "temperature": 1, "tools": [{"type": "function", "function": {"name": "mcp__x__execute_command"}}],
            "messages": [{"role": "assistant", "content": null, "tool_calls": []},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}, {"type": "text", "text": "b"}]}],
        }))
        .unwrap();
        assert_eq!(request.messages[0].text(), "");
        assert_eq!(request.messages[1].text(), "ab");
        assert_eq!(request.find_tool_by_suffix("execute_command"), Some("mcp__x__execute_command"));
        assert!(!request.wants_stream() && !request.offers("vote") && request.choices("vote", "agent_id").is_empty());
    }

    #[test]
    fn a_streamed_text_is_complete() {
        let text = "wörter und ".repeat(1000);
        let chunks: Vec<Value> = reply(ReplyContent::Text(text.clone())).into_chunks().collect();
        let streamed: String =
            chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(streamed, text);
        assert!(chunks.len() > 5);
        assert_eq!(chunks[chunks.len() - 2]["choices"][0]["finish_reason"], "stop");
        assert_eq!(chunks[chunks.len() - 1]["usage"]["total_tokens"], 7);
    }

    #[test]
    fn a_streamed_tool_call_is_complete() {
        let arguments = json!({"content": "a \"b\" ".repeat(900)});
        let call = ReplyContent::ToolCall { id: "c1".into(), tool: "new_answer".into(), arguments: arguments.clone() };
        let whole = reply(call.clone()).to_completion();
        let chunks: Vec<Value> = reply(call).into_chunks().collect();
        let function = |chunk: &Value| {
            chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
        };
        let streamed: String = chunks.iter().filter_map(function).collect();
        assert_eq!(serde_json::from_str::<Value>(&streamed).unwrap(), arguments);
        assert_eq!(chunks[0]["choices"][0]["delta"]["tool_calls"][0]["id"], "c1");
        assert_eq!(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"], streamed);
        assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    }

    #[test]
    fn a_cost_is_reported_only_if_it_is_set() {
        assert!(usage_json(ReportedUsage { input: 1, output: 1, cost: None }).get("cost").is_none());
        assert_eq!(usage_json(ReportedUsage { input: u32::MAX, output: 1, cost: Some(0.5) })["cost"], 0.5);
    }
}
