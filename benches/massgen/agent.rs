//! The token cost of an agent that uses MassGen: the tool descriptions, its calls, and the answers that it reads.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context, ensure};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tiktoken_rs::o200k_base_singleton;

/// The phases of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Tools,
    Start,
    Wait,
    Result,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Tools => "tools",
            Phase::Start => "start",
            Phase::Wait => "wait",
            Phase::Result => "result",
        }
    }
}

/// The cost of a phase.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) calls: usize,
    /// Tokens that the model wrote: a tool's name and its arguments.
    pub(crate) written: usize,
    /// Tokens that the model read.
    pub(crate) read: usize,
    pub(crate) bytes_read: usize,
    /// Tokens of the largest answer.
    pub(crate) largest: usize,
}

/// The cost of a run by phase.
#[derive(Debug, Default)]
pub(crate) struct PhaseCosts(pub(crate) BTreeMap<Phase, Cost>);

impl PhaseCosts {
    /// Adds the description of an offered tool, which the model reads.
    pub(crate) fn tool(&mut self, name: &str, description: &str, input: &Value) {
        for text in [name, description, &input.to_string()] {
            self.add_read(Phase::Tools, text);
        }
    }

    pub(crate) fn call(&mut self, phase: Phase, tool: &str, arguments: &Value, answer: &str) {
        let cost = self.0.entry(phase).or_default();
        cost.calls += 1;
        cost.written += tokens(tool) + tokens(&arguments.to_string());
        self.add_read(phase, answer);
    }

    fn add_read(&mut self, phase: Phase, text: &str) {
        let cost = self.0.entry(phase).or_default();
        let read = tokens(text);
        cost.read += read;
        cost.bytes_read += text.len();
        cost.largest = cost.largest.max(read);
    }

    pub(crate) fn total(&self) -> Cost {
        self.0.values().fold(Cost::default(), |sum, cost| Cost {
            calls: sum.calls + cost.calls,
            written: sum.written + cost.written,
            read: sum.read + cost.read,
            bytes_read: sum.bytes_read + cost.bytes_read,
            largest: sum.largest.max(cost.largest),
        })
    }
}

fn tokens(text: &str) -> usize {
    o200k_base_singleton().encode_ordinary(text).len()
}

/// A session with an MCP server that records the cost of everything.
pub(crate) struct Session {
    session: RunningService<RoleClient, ()>,
    pub(crate) pid: Option<u32>,
    pub(crate) costs: PhaseCosts,
}

impl Session {
    pub(crate) async fn with(server: std::process::Command) -> anyhow::Result<Session> {
        let server = TokioChildProcess::builder(tokio::process::Command::from(server)).stderr(Stdio::null());
        let (server, _) = server.spawn()?;
        let pid = server.id();
        let mut session = Session { session: ().serve(server).await?, pid, costs: PhaseCosts::default() };
        for tool in session.session.list_all_tools().await? {
            let description = tool.description.as_deref().unwrap_or_default();
            session.costs.tool(&tool.name, description, &json!(tool.input_schema));
        }
        Ok(session)
    }

    /// A call that must succeed; returns its answer, which the model reads as text.
    pub(crate) async fn call(&mut self, phase: Phase, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        let object = arguments.as_object().cloned().context("arguments")?;
        let call = CallToolRequestParams::new(tool.to_owned()).with_arguments(object);
        let answer = self.session.call_tool(call).await?;
        let text = answer.content.first().and_then(|content| content.as_text()).context("text")?;
        ensure!(answer.is_error != Some(true), "{tool} {arguments}: {}", text.text);
        self.costs.call(phase, tool, &arguments, &text.text);
        Ok(serde_json::from_str(&text.text)?)
    }

    pub(crate) async fn end(self) -> anyhow::Result<PhaseCosts> {
        self.session.cancel().await?;
        Ok(self.costs)
    }
}
