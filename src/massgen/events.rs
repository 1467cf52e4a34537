//! Reads the end of events.jsonl (MassGen): the open tool calls, the last event, the last error. Pure and tolerant: a line that is not an
//! event is skipped. It never decides the outcome of a run.

use serde_json::Value;

use super::text;
use crate::secrets::Secrets;

/// How many bytes to read from the end of events.jsonl; the file contains whole answers.
pub const TAIL_BYTES: u64 = 256 << 10;
/// The most open calls to report.
const MAX_TOOLS: usize = 8;
/// The longest name of an agent and its tool, in characters.
const MAX_NAME_CHARS: usize = 80;
/// The longest error line, in characters.
const MAX_ERROR_CHARS: usize = 200;

/// What MassGen was doing at its last event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecentActivity {
    /// The tool calls that have started and not ended, as `AGENT: TOOL`, oldest first.
    pub open_tools: Vec<String>,
    /// The type of the last event.
    pub last_event: Option<String>,
    /// The last error among these events.
    pub last_error: Option<String>,
}

/// Reads the end of events.jsonl; the first line may be incomplete.
pub fn recent_activity(tail: &str, secrets: &Secrets) -> RecentActivity {
    let masked = |text: &str, max_chars| text::single_line(&secrets.mask(text), max_chars);
    let mut open: Vec<(String, String)> = Vec::new();
    let mut latest = RecentActivity::default();
    for event in tail.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(kind) = event["event_type"].as_str() else { continue };
        latest.last_event = Some(masked(kind, MAX_NAME_CHARS));
        let id = event["data"]["tool_id"].as_str().unwrap_or_default();
        match kind {
            "tool_start" => open.push((id.to_owned(), masked(&tool_label(&event), MAX_NAME_CHARS))),
            "tool_complete" => open.retain(|(known, _)| known != id),
            // Calls that the agent started in an earlier round have ended or were abandoned.
            "agent_restart" => open.retain(|(_, tool)| !is_tool_call_of(tool, &event)),
            _ => {}
        }
        if let Some(error) = error_text(&event) {
            latest.last_error = Some(masked(error, MAX_ERROR_CHARS));
        }
    }
    latest.open_tools = open.into_iter().map(|(_, tool)| tool).take(MAX_TOOLS).collect();
    latest
}

fn tool_label(event: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    format!("{}: {}", text(&event["agent_id"]), text(&event["data"]["tool_name"]))
}

fn is_tool_call_of(tool: &str, event: &Value) -> bool {
    event["agent_id"].as_str().is_some_and(|agent| tool.split_once(": ").is_some_and(|(caller, _)| caller == agent))
}

/// The error that an event reports.
fn error_text(event: &Value) -> Option<&str> {
    let data = &event["data"];
    let failed = data["is_error"] == true;
    shown_error(data).or_else(|| data["result"].as_str().filter(|_| failed))
}

/// MassGen shows model errors as text.
pub(super) fn shown_error(data: &Value) -> Option<&str> {
    let mut texts = [&data["content"], &data["message"]].into_iter().filter_map(Value::as_str);
    texts.rfind(|text| text.trim_start().starts_with('❌'))
}

/// What the last active agent said where MassGen expected an answer or a vote; empty if it said and did nothing. `None` without such an
/// event, or if the agent called tools: then it is unclear what its text refers to.
pub fn last_agent_text(tail: &str, secrets: &Secrets) -> Option<String> {
    let events = tail.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let events: Vec<Value> = events.collect();
    let (index, before) =
        events.iter().enumerate().find_map(|(index, event)| Some((index, text_before_retry_notice(event)?)))?;
    let mut earlier = events[index + 1..].iter().filter(|event| event["agent_id"] == events[index]["agent_id"]);
    let text = if before.is_empty() { preceding_text(earlier.next())? } else { before };
    Some(text::single_line(&secrets.mask(text), MAX_ERROR_CHARS))
}

/// Whether the last content an agent showed is model text or a tool call: its model call is working so far.
pub fn is_answering(tail: &str) -> bool {
    let events = tail.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut agent_events = events.filter(|event| event["agent_id"].is_string());
    agent_events.find_map(|event| model_call_success(&event)) == Some(true)
}

/// Whether an event shows a working model call or a failed one; `None` if it shows neither. MassGen's own messages begin with a symbol,
/// such as `🔧 [MCP] Registered 3 tools`.
fn model_call_success(event: &Value) -> Option<bool> {
    let content = event["data"]["content"].as_str().unwrap_or_default();
    let is_notice = content.trim_start().starts_with(|first: char| !first.is_ascii() && !first.is_alphanumeric());
    match event["event_type"].as_str()? {
        "text" | "thinking" if content.contains('❌') => Some(false),
        "text" | "thinking" => (!is_notice && !content.trim().is_empty()).then_some(true),
        "tool_start" | "tool_complete" => Some(true),
        _ => None,
    }
}

/// The text before the retry message that MassGen inserts into an agent's text (`❌ Retry (1/3): …`); `None` for other events.
fn text_before_retry_notice(event: &Value) -> Option<&str> {
    const REPROACHES: [&str; 2] = ["❌ Retry (", "❌ Agent failed to use workflow tools"];
    let content = event["data"]["content"].as_str().filter(|_| event["event_type"] == "text")?;
    REPROACHES.iter().find_map(|notice| content.find(notice)).map(|end| &content[..end])
}

/// The content of the event before a retry message: the agent's words, or that it said nothing.
fn preceding_text(event: Option<&Value>) -> Option<&str> {
    let Some(event) = event else { return Some("") };
    match event["event_type"].as_str()? {
        "text" if text_before_retry_notice(event).is_none() => event["data"]["content"].as_str(),
        "text" | "round_start" => Some(""),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> RecentActivity {
        recent_activity(&lines.join("\n"), &Secrets::default())
    }

    #[test]
    fn a_model_is_answering_if_its_text_is_the_last_agent_event() {
        let text =
            |content: &str| format!(r#"{{"event_type": "text", "agent_id": "a", "data": {{"content": "{content}"}}}}"#);
        let status = r#"{"event_type": "status", "agent_id": null, "data": {"message": "tick"}}"#;
        assert!(is_answering(&format!("{}\n{}\n{status}\n", text("❌ Error: 503"), text("word 0 word 1"))));
        assert!(!is_answering(&format!("{}\n{}\n", text("word 0"), text("❌ Error: 503"))));
        assert!(!is_answering(status) && !is_answering("") && !is_answering(&text("🔧 [MCP] Registered 3 tools")));
        assert!(is_answering(&format!("{}\n{}\n", text("word 0"), text("🔧 [MCP] Registered 3 tools"))));
    }

    #[test]
    fn a_call_is_open_from_its_start_to_its_end() {
        let start = r#"{"event_type": "tool_start", "agent_id": "a", "data": {"tool_id": "1", "tool_name": "mcp__command_line__execute_command"}}"#;
        let other = r#"{"event_type": "tool_start", "agent_id": "b", "data": {"tool_id": "2", "tool_name": "t"}}"#;
        let end = r#"{"event_type": "tool_complete", "agent_id": "b", "data": {"tool_id": "2", "result": "Error: no", "is_error": true}}"#;
        let restart = r#"{"event_type": "agent_restart", "agent_id": "a", "data": {}}"#;
        let activity = of(&["cut in the mid", start, other, end]);
        assert_eq!(activity.open_tools, ["a: mcp__command_line__execute_command"]);
        assert_eq!(
            (activity.last_event.as_deref(), activity.last_error.as_deref()),
            (Some("tool_complete"), Some("Error: no"))
        );
        assert!(of(&[start, restart]).open_tools.is_empty());
        assert_eq!(of(&[start, "{\"event", "[]", "7"]).open_tools.len(), 1, "what is no event is passed over");
        assert_eq!(of(&[]), RecentActivity::default());
    }

    #[test]
    fn a_text_in_place_of_a_tool_call_is_the_last_agent_text() {
        let event = |kind: &str, data: &str| format!(r#"{{"event_type": "{kind}", "agent_id": "a", "data": {data}}}"#);
        let text = |content: &str| event("text", &format!(r#"{{"content": "{content}"}}"#));
        let words = |lines: &[String]| last_agent_text(&lines.join("\n"), &Secrets::default());
        let (retry, failed) =
            (text("❌ Retry (2/3): You must"), text("❌ Agent failed to use workflow tools after 3 attempts"));
        let logged_out = text("Not logged in · Please run /login❌ Retry (1/3): You must use workflow tools");
        assert_eq!(words(&[text("hello"), logged_out]).as_deref(), Some("Not logged in · Please run /login"));
        assert_eq!(words(&[text("I think it is 42."), failed.clone()]).as_deref(), Some("I think it is 42."));
        assert_eq!(words(&[text("hello"), retry, failed.clone()]).as_deref(), Some(""));
        assert_eq!(words(&[event("round_start", "{}"), failed.clone()]).as_deref(), Some(""));
        assert_eq!(words(&[event("tool_complete", "{}"), failed]), None);
        assert_eq!(words(&[text("hello")]), None);
    }

    #[test]
    fn the_captured_events_have_no_open_tool_call() {
        let text = include_str!(
            "../../tests/data/logdir/success/massgen_logs/log_20261123_143807_483320/turn_1/attempt_1/events.jsonl"
        );
        let activity = recent_activity(text, &Secrets::default());
        assert!(activity.open_tools.is_empty() && activity.last_error.is_none(), "{activity:?}");
        let failed = r#"{"event_type": "text", "agent_id": "a", "data": {"content": "\n❌ Error: Error code: 500"}}"#;
        assert_eq!(of(&[failed]).last_error.as_deref(), Some("❌ Error: Error code: 500"));
    }
}
