//! What events.jsonl tells that no other file does, or tells of a live run: restarts, calls of tools, ignored votes, errors, the
//! presentation. It is read once, line by line; a line that is no event is passed over.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::clock::{Clock, local};
use super::desk::{Desk, amount};
use super::{Cast, MOST_FACTS, Presentation, Restart, Source, Story, ToolCall, Trouble};
use crate::massgen::events::shown_error;

/// How much of events.jsonl is read, in bytes, from its beginning; whole answers stand in it.
const EVENT_BYTES: u64 = 32 << 20;
/// How near to each other the same trouble is when two files tell of it, in seconds.
const SAME_S: f64 = 2.0;

/// An event. What it carries is parsed only where it matters: most events are pieces of text.
#[derive(Deserialize)]
struct Event {
    timestamp: String,
    event_type: String,
    agent_id: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// The local time of the first event.
pub(super) fn first_local(desk: &Desk<'_>) -> Option<f64> {
    let head = desk.files.head(&desk.layout.events(desk.files)?, 1 << 20).ok()?;
    let first = head.split(|byte| *byte == b'\n').find_map(|line| serde_json::from_slice::<Event>(line).ok())?;
    local(&first.timestamp)
}

pub(super) fn tell(desk: &Desk<'_>, clock: &Clock, story: &mut Story) {
    let opened = desk.layout.events(desk.files).and_then(|path| Some((desk.files.open_file(&path).ok()?, path)));
    let Some(((file, size), source)) = opened else {
        story.gaps.push("events.jsonl is not there, so that restarts and calls of tools are not known".to_owned());
        return calls_at_the_end(desk, clock, story);
    };
    let mut scribe = Scribe { desk, clock, source, story };
    let mut lines = BufReader::new(file.take(EVENT_BYTES));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        if let Ok(event) = serde_json::from_slice::<Event>(&line) {
            scribe.note(&event);
        }
        line.clear();
    }
    if size > EVENT_BYTES {
        story.gaps.push(format!("events.jsonl has {size} bytes, of which the first {EVENT_BYTES} were read"));
    }
}

struct Scribe<'a> {
    desk: &'a Desk<'a>,
    clock: &'a Clock,
    source: Source,
    story: &'a mut Story,
}

/// An event at hand: when, whose, and what it carries.
struct Fact {
    at: f64,
    agent: String,
    data: Value,
}

impl Scribe<'_> {
    fn note(&mut self, event: &Event) {
        let Some(time) = local(&event.timestamp) else { return };
        let at = self.clock.local(time);
        self.story.end = self.story.end.max(at);
        let data = || event.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
        let agent = || event.agent_id.as_deref().map(|agent| self.desk.name(agent)).unwrap_or_default();
        let fact = || Fact { at, agent: agent(), data: data() };
        match event.event_type.as_str() {
            "agent_restart" => self.restart(fact()),
            "tool_start" => self.tool_start(fact()),
            "tool_complete" => self.tool_complete(fact()),
            "final_presentation_start" => self.presentation(fact()),
            "final_presentation_end" => self.presented(at),
            "text" | "status" | "system_status" | "error" | "backend_status" => self.said(fact()),
            "orchestrator_timeout" => self.timeout(fact()),
            _ => {}
        }
    }

    fn restart(&mut self, fact: Fact) {
        let reason = self.desk.said(fact.data["restart_reason"].as_str().unwrap_or_default());
        let source = self.source.clone();
        push(&mut self.story.restarts, Restart { at: fact.at, agent: fact.agent, reason, source });
    }

    fn tool_start(&mut self, fact: Fact) {
        let call = ToolCall {
            at: fact.at,
            agent: fact.agent,
            tool: self.desk.word(&fact.data["tool_name"]),
            source: self.source.clone(),
            ..ToolCall::default()
        };
        push(&mut self.story.tools, call);
    }

    /// Ends the oldest open call of this agent and tool: ids are not always given. One whose start was not noted is told as well.
    fn tool_complete(&mut self, fact: Fact) {
        let tool = self.desk.word(&fact.data["tool_name"]);
        let error = failure(&fact.data).map(|error| self.desk.said(&error));
        let failed = error.is_some();
        let took = amount(&fact.data["elapsed_seconds"]);
        let is_it = |call: &&mut ToolCall| call.took.is_none() && call.agent == fact.agent && call.tool == tool;
        if let Some(call) = self.story.tools.iter_mut().find(is_it) {
            call.took = took.or(Some(fact.at - call.at));
            (call.failed, call.error) = (failed, error);
            return;
        }
        let (source, at) = (self.source.clone(), fact.at - took.unwrap_or_default());
        let took = took.or(Some(0.0));
        push(&mut self.story.tools, ToolCall { at: at.max(0.0), took, agent: fact.agent, tool, failed, error, source });
    }

    fn presentation(&mut self, fact: Fact) {
        let is_tie = fact.data["is_tie"] == true;
        let source = self.source.clone();
        self.story.presentation = Some(Presentation { agent: fact.agent, from: fact.at, to: 0.0, is_tie, source });
    }

    fn presented(&mut self, at: f64) {
        self.story.presentation.iter_mut().for_each(|shown| shown.to = at);
    }

    /// Texts of agents, among which MassGen mixes its own about ignored votes and errors.
    fn said(&mut self, fact: Fact) {
        if let Some(vote) = self.ignored_vote(&fact) {
            return push(&mut self.story.votes, vote);
        }
        let Some(error) = shown_error(&fact.data) else { return };
        let error = error.trim_start().trim_start_matches('❌').trim_start();
        self.trouble(fact.at, &fact.agent, error.strip_prefix("Error: ").unwrap_or(error));
    }

    fn timeout(&mut self, fact: Fact) {
        let reason = fact.data["timeout_reason"].as_str().unwrap_or("no reason given");
        self.trouble(fact.at, "", &format!("MassGen's own timeout: {reason}"));
    }

    /// Errors of models stand in status.json as well.
    fn trouble(&mut self, at: f64, agent: &str, message: &str) {
        let agent = Some(agent.to_owned()).filter(|agent| !agent.is_empty());
        let message = self.desk.said(message);
        let is_same = |known: &Trouble| {
            (known.at - at).abs() < SAME_S && known.agent == agent && (known.message == message || agent.is_none())
        };
        if !self.story.troubles.iter().any(is_same) {
            let source = self.source.clone();
            push(&mut self.story.troubles, Trouble { at, agent, message, source });
        }
    }

    /// `🔄 Vote for [agent_a] ignored (reason: …) - restarting due to new answers`.
    fn ignored_vote(&self, fact: &Fact) -> Option<Cast> {
        let (_, rest) = fact.data["content"].as_str()?.split_once("Vote for [")?;
        let (agent, rest) = rest.split_once("] ignored (reason: ")?;
        let (reason, _) = rest.rsplit_once(") - ")?;
        Some(Cast {
            at: fact.at,
            voter: fact.agent.clone(),
            agent: self.desk.name(agent),
            label: None,
            reason: self.desk.said(reason),
            counted: false,
            source: self.source.clone(),
        })
    }
}

/// What a call said when it failed. A shell command that fails is a success to MassGen; its result says otherwise.
fn failure(data: &Value) -> Option<String> {
    let result = data["result"].as_str().unwrap_or_default();
    if data["is_error"] == true {
        return Some(result.to_owned());
    }
    let own = serde_json::from_str::<Value>(result).ok().filter(|own| own["success"] == false)?;
    let said =
        [&own["stderr"], &own["error"]].into_iter().filter_map(Value::as_str).find(|said| !said.trim().is_empty());
    let code = || own["exit_code"].as_i64().map_or("it says so".to_owned(), |code| format!("exit code {code}"));
    Some(said.map_or_else(code, str::to_owned))
}

/// One more than is told, so that a gap can say so.
fn push<T>(facts: &mut Vec<T>, fact: T) {
    if facts.len() <= MOST_FACTS {
        facts.push(fact);
    }
}

/// The calls of tools as MassGen lists them when it ends by itself.
fn calls_at_the_end(desk: &Desk<'_>, clock: &Clock, story: &mut Story) {
    let name = "metrics_events.json";
    let listed = desk.json(name, &mut story.gaps).unwrap_or_default();
    let calls = listed["tool_executions"].as_array().into_iter().flatten();
    let call = |call: &Value| ToolCall {
        at: amount(&call["start_time"]).map_or(0.0, |time| clock.unix(time)),
        took: amount(&call["execution_time_ms"]).map(|ms| ms / 1e3),
        agent: desk.word(&call["agent_id"]),
        tool: desk.word(&call["tool_name"]),
        failed: call["success"] == false,
        error: call["error_message"].as_str().map(|error| desk.said(error)),
        source: desk.place(name),
    };
    story.tools = calls.take(MOST_FACTS + 1).map(call).collect();
}
