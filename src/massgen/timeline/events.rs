//! Facts that only events.jsonl contains, or that it alone contains during a run: restarts, tool calls, ignored votes, errors, the
//! presentation. It is read once, line by line; a line that is not an event is skipped.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::clock::{TimelineClock, parse_local};
use super::read_context::{ReadContext, amount};
use super::{ErrorEvent, MAX_EVENTS, Presentation, Restart, SourcePath, Timeline, ToolCall, VoteEvent};
use crate::massgen::events::shown_error;

/// How many bytes of events.jsonl are read, from its beginning; the file contains whole answers.
const MAX_EVENT_BYTES: u64 = 32 << 20;
/// The largest distance in seconds at which reports of an error in two files count as the same error.
const DUPLICATE_WINDOW_S: f64 = 2.0;

/// An event. Its payload is parsed only if needed: most events are pieces of text.
#[derive(Deserialize)]
struct LogEvent {
    timestamp: String,
    event_type: String,
    agent_id: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// The local time of the first event.
pub(super) fn first_local_time(context: &ReadContext<'_>) -> Option<f64> {
    let head = context.files.head(&context.layout.events(context.files)?, 1 << 20).ok()?;
    let first = head.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice::<LogEvent>(line).ok())?;
    parse_local(&first.timestamp)
}

pub(super) fn add_events(context: &ReadContext<'_>, clock: &TimelineClock, timeline: &mut Timeline) {
    let open_file =
        context.layout.events(context.files).and_then(|path| Some((context.files.open_file(&path).ok()?, path)));
    let Some(((file, size), source)) = open_file else {
        timeline.gaps.push("events.jsonl is not there, so that restarts and calls of tools are not known".to_owned());
        return add_final_tool_calls(context, clock, timeline);
    };
    let mut reader = EventReader { context, clock, source, timeline };
    let mut lines = BufReader::new(file.take(MAX_EVENT_BYTES));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if let Ok(event) = serde_json::from_slice::<LogEvent>(&line) {
            reader.handle(&event);
        }
        line.clear();
    }
    if size > MAX_EVENT_BYTES {
        timeline.gaps.push(format!("events.jsonl has {size} bytes, of which the first {MAX_EVENT_BYTES} were read"));
    }
}

struct EventReader<'a> {
    context: &'a ReadContext<'a>,
    clock: &'a TimelineClock,
    source: SourcePath,
    timeline: &'a mut Timeline,
}

/// The current event: time, agent and payload.
struct ParsedEvent {
    time_s: f64,
    agent: String,
    data: Value,
}

impl EventReader<'_> {
    fn handle(&mut self, event: &LogEvent) {
        let Some(time) = parse_local(&event.timestamp) else { return };
        let at = self.clock.since_local(time);
        self.timeline.end = self.timeline.end.max(at);
        let data = || event.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
        let agent = || event.agent_id.as_deref().map(|agent| self.context.clean_name(agent)).unwrap_or_default();
        let fact = || ParsedEvent { time_s: at, agent: agent(), data: data() };
        match event.event_type.as_str() {
            "agent_restart" => self.restart(fact()),
            "tool_start" => self.tool_start(fact()),
            "tool_complete" => self.tool_complete(fact()),
            "final_presentation_start" => self.presentation(fact()),
            "final_presentation_end" => self.end_presentation(at),
            "text" | "status" | "system_status" | "error" | "backend_status" => self.handle_text(fact()),
            "orchestrator_timeout" => self.timeout(fact()),
            _ => {}
        }
    }

    fn restart(&mut self, fact: ParsedEvent) {
        let reason = self.context.clean_message(fact.data["restart_reason"].as_str().unwrap_or_default());
        let source = self.source.clone();
        push_bounded(&mut self.timeline.restarts, Restart { time_s: fact.time_s, agent: fact.agent, reason, source });
    }

    fn tool_start(&mut self, fact: ParsedEvent) {
        let call = ToolCall {
            time_s: fact.time_s,
            agent: fact.agent,
            tool: self.context.name_of(&fact.data["tool_name"]),
            source: self.source.clone(),
            ..ToolCall::default()
        };
        push_bounded(&mut self.timeline.tools, call);
    }

    /// Ends the oldest open call of this agent and tool, because ids are not always given. A call without a recorded start is included too.
    fn tool_complete(&mut self, fact: ParsedEvent) {
        let tool = self.context.name_of(&fact.data["tool_name"]);
        let error = failure_message(&fact.data).map(|error| self.context.clean_message(&error));
        let failed = error.is_some();
        let took = amount(&fact.data["elapsed_seconds"]);
        let is_match =
            |call: &&mut ToolCall| call.duration_s.is_none() && call.agent == fact.agent && call.tool == tool;
        if let Some(call) = self.timeline.tools.iter_mut().find(is_match) {
            call.duration_s = took.or(Some(fact.time_s - call.time_s));
            (call.failed, call.error) = (failed, error);
            return;
        }
        let (source, at) = (self.source.clone(), fact.time_s - took.unwrap_or_default());
        let took = took.or(Some(0.0));
        push_bounded(
            &mut self.timeline.tools,
            ToolCall { time_s: at.max(0.0), duration_s: took, agent: fact.agent, tool, failed, error, source },
        );
    }

    fn presentation(&mut self, fact: ParsedEvent) {
        let is_tie = fact.data["is_tie"] == true;
        let source = self.source.clone();
        self.timeline.presentation =
            Some(Presentation { agent: fact.agent, start: fact.time_s, end: 0.0, is_tie, source });
    }

    fn end_presentation(&mut self, at: f64) {
        self.timeline.presentation.iter_mut().for_each(|presentation| presentation.end = at);
    }

    /// Agents' texts, into which MassGen mixes its own messages about ignored votes and errors.
    fn handle_text(&mut self, fact: ParsedEvent) {
        if let Some(vote) = self.ignored_vote(&fact) {
            return push_bounded(&mut self.timeline.votes, vote);
        }
        let Some(error) = shown_error(&fact.data) else { return };
        let error = error.trim_start().trim_start_matches('❌').trim_start();
        self.add_error(fact.time_s, &fact.agent, error.strip_prefix("Error: ").unwrap_or(error));
    }

    fn timeout(&mut self, fact: ParsedEvent) {
        let reason = fact.data["timeout_reason"].as_str().unwrap_or("no reason given");
        self.add_error(fact.time_s, "", &format!("MassGen's own timeout: {reason}"));
    }

    /// status.json also contains model errors.
    fn add_error(&mut self, at: f64, agent: &str, message: &str) {
        let agent = Some(agent.to_owned()).filter(|agent| !agent.is_empty());
        let message = self.context.clean_message(message);
        let is_same = |existing: &ErrorEvent| {
            (existing.time_s - at).abs() < DUPLICATE_WINDOW_S
                && existing.agent == agent
                && (existing.message == message || agent.is_none())
        };
        if !self.timeline.errors.iter().any(is_same) {
            let source = self.source.clone();
            push_bounded(&mut self.timeline.errors, ErrorEvent { time_s: at, agent, message, source });
        }
    }

    /// `🔄 Vote for [agent_a] ignored (reason: …) - restarting due to new answers`.
    fn ignored_vote(&self, fact: &ParsedEvent) -> Option<VoteEvent> {
        let (_, rest) = fact.data["content"].as_str()?.split_once("Vote for [")?;
        let (agent, rest) = rest.split_once("] ignored (reason: ")?;
        let (reason, _) = rest.rsplit_once(") - ")?;
        Some(VoteEvent {
            time_s: fact.time_s,
            voter: fact.agent.clone(),
            agent: self.context.clean_name(agent),
            label: None,
            reason: self.context.clean_message(reason),
            counted: false,
            source: self.source.clone(),
        })
    }
}

/// The error of a call. MassGen treats a failed shell command as a success; only its result shows the failure.
fn failure_message(data: &Value) -> Option<String> {
    let result = data["result"].as_str().unwrap_or_default();
    if data["is_error"] == true {
        return Some(result.to_owned());
    }
    let result_json =
        serde_json::from_str::<Value>(result).ok().filter(|result_json| result_json["success"] == false)?;
    let message = [&result_json["stderr"], &result_json["error"]]
        .into_iter()
        .filter_map(Value::as_str)
        .find(|message| !message.trim().is_empty());
    let code = || result_json["exit_code"].as_i64().map_or("it says so".to_owned(), |code| format!("exit code {code}"));
    Some(message.map_or_else(code, str::to_owned))
}

/// One more than the limit, so that a gap can report the excess.
fn push_bounded<T>(facts: &mut Vec<T>, fact: T) {
    if facts.len() <= MAX_EVENTS {
        facts.push(fact);
    }
}

/// The tool calls that MassGen lists if it ends by itself.
fn add_final_tool_calls(context: &ReadContext<'_>, clock: &TimelineClock, timeline: &mut Timeline) {
    let name = "metrics_events.json";
    let listed = context.read_json(name, &mut timeline.gaps).unwrap_or_default();
    let calls = listed["tool_executions"].as_array().into_iter().flatten();
    let call = |call: &Value| ToolCall {
        time_s: amount(&call["start_time"]).map_or(0.0, |time| clock.since_unix(time)),
        duration_s: amount(&call["execution_time_ms"]).map(|ms| ms / 1e3),
        agent: context.name_of(&call["agent_id"]),
        tool: context.name_of(&call["tool_name"]),
        failed: call["success"] == false,
        error: call["error_message"].as_str().map(|error| context.clean_message(error)),
        source: context.attempt_path(name),
    };
    timeline.tools = calls.take(MAX_EVENTS + 1).map(call).collect();
}
