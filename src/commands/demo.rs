//! The demo: a client of this program's server, over the real protocol. It starts a run of real MassGen with the rehearsal
//! model, waits for it, reads its answer, and stops a second run. It needs no key and no network.

use std::path::Path;
use std::time::Instant;

use rmcp::ServiceExt;
use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Map, Value, json};
use tokio::process::Command;

use super::output::print_line;
use crate::massgen::program;
use crate::settings::Settings;

/// A demo that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// The server did not start.
    #[error("the server did not start")]
    Spawn(#[source] std::io::Error),
    /// The MCP session could not be initialized.
    #[error("the server did not answer as an MCP server does")]
    Session(#[source] Box<rmcp::service::ClientInitializeError>),
    /// A call failed with a protocol error.
    #[error("the call of {tool} was not answered")]
    Call {
        /// The tool.
        tool: &'static str,
        /// The cause.
        source: Box<rmcp::ServiceError>,
    },
    /// The answer to a call is an error or is unusable.
    #[error("{tool} answered: {answer}")]
    Answer {
        /// The tool.
        tool: &'static str,
        /// The text of the answer.
        answer: String,
    },
    /// The run did not succeed.
    #[error("the rehearsal ended as `{0}`")]
    Outcome(String),
}

/// Runs the demo.
pub(super) async fn run_demo(settings: &Settings, program_path: &Path, massgen: &Path) -> Result<(), DemoError> {
    let version = program::version(massgen).unwrap_or_else(|| "(unknown version)".to_owned());
    print_line(format_args!("MassGen {version}, a scripted model on loopback: no key, no cost, no network.\n"));
    let client = DemoClient::connect(settings, program_path, massgen).await?;
    client.introduce().await?;
    print_line("\n--- a run, from start to answer ---");
    let (id, cursor) = client.start("What is 6 times 7, and why?", "@rehearsal/delay=0.3").await?;
    let state = client.wait_for_end(&id, cursor).await?;
    client.read(&id).await?;
    if state != "succeeded" {
        return Err(DemoError::Outcome(state));
    }
    print_line("\n--- another one, whose model never answers, stopped ---");
    let (stuck, cursor) = client.start("What will never be answered?", "@rehearsal/hang").await?;
    client.call("check_status", json!({"run_id": stuck, "wait_s": 45, "since": cursor})).await?;
    client.call("kill_run", json!({"run_id": stuck, "reason": "the demo is over"})).await?;
    print_line("\nThat is the loop: start, wait, read. Add the server to a client as the README shows.");
    client.close().await;
    Ok(())
}

struct DemoClient {
    session: RunningService<RoleClient, ()>,
    started: Instant,
}

impl DemoClient {
    async fn connect(settings: &Settings, program_path: &Path, massgen: &Path) -> Result<DemoClient, DemoError> {
        let mut command = Command::new(program_path);
        // Without warm starts: a warm process would continue after the demo.
        command.arg("--home").arg(&settings.state_folder).arg("--massgen").arg(massgen).arg("--warm=false");
        if let Some(project) = settings.project_folder() {
            command.arg("--project").arg(project);
        }
        if let Some(file) = &settings.file {
            command.arg("--settings").arg(file);
        }
        let server = TokioChildProcess::new(command).map_err(DemoError::Spawn)?;
        let session = ().serve(server).await.map_err(|error| DemoError::Session(Box::new(error)))?;
        Ok(DemoClient { session, started: Instant::now() })
    }

    async fn introduce(&self) -> Result<(), DemoError> {
        let listed = self.session.list_all_tools().await;
        let tools = listed.map_err(|source| DemoError::Call { tool: "tools/list", source: Box::new(source) })?;
        print_line("The server offers:");
        for tool in tools {
            print_line(format_args!(
                "  {:<13} {}",
                tool.name,
                first_sentence(tool.description.as_deref().unwrap_or_default())
            ));
        }
        Ok(())
    }

    /// Starts a run; gives its id and the cursor for the next wait.
    async fn start(&self, question: &str, config: &str) -> Result<(String, Value), DemoError> {
        let answer =
            self.call("run_massgen", json!({"question": question, "massgen_config": config, "group": "demo"})).await?;
        let id = answer["run_id"].as_str().map(|id| (id.to_owned(), answer["cursor"].clone()));
        id.ok_or_else(|| DemoError::Answer { tool: "run_massgen", answer: answer.to_string() })
    }

    /// Waits from change to change, as an agent would; gives the final state.
    async fn wait_for_end(&self, id: &str, mut since: Value) -> Result<String, DemoError> {
        loop {
            let answer = self.call("check_status", json!({"run_id": id, "wait_s": 45, "since": since})).await?;
            since = answer["cursor"].clone();
            let state = answer["runs"][0]["state"].as_str().unwrap_or_default();
            if !matches!(state, "starting" | "running" | "stopping") {
                return Ok(state.to_owned());
            }
        }
    }

    async fn read(&self, id: &str) -> Result<(), DemoError> {
        let page = self.call_silently("read_result", json!({"run_id": id})).await?;
        let text = page["text"].as_str().unwrap_or_default().to_owned();
        let mut rest = page;
        rest["text"] = json!("(below)");
        self.print("<-", &rest);
        text.lines().for_each(|line| print_line(format_args!("          | {line}")));
        Ok(())
    }

    async fn call(&self, tool: &'static str, arguments: Value) -> Result<Value, DemoError> {
        let answer = self.call_silently(tool, arguments).await?;
        self.print("<-", &answer);
        Ok(answer)
    }

    async fn call_silently(&self, tool: &'static str, arguments: Value) -> Result<Value, DemoError> {
        print_line(format_args!("[{:>5.1} s] -> {tool} {arguments}", self.seconds()));
        let object = arguments.as_object().cloned().unwrap_or_else(Map::new);
        let called = self.session.call_tool(CallToolRequestParams::new(tool).with_arguments(object)).await;
        let answer = called.map_err(|source| DemoError::Call { tool, source: Box::new(source) })?;
        structured_content(tool, answer)
    }

    fn print(&self, arrow: &str, answer: &Value) {
        print_line(format_args!("[{:>5.1} s] {arrow} {answer}", self.seconds()));
    }

    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    async fn close(self) {
        // The server ends with its input; the result of the client's own task does not matter.
        let _result = self.session.cancel().await;
    }
}

fn structured_content(tool: &'static str, answer: CallToolResult) -> Result<Value, DemoError> {
    if answer.is_error == Some(true) {
        let text = answer.content.first().and_then(|content| content.as_text());
        return Err(DemoError::Answer { tool, answer: text.map(|text| text.text.clone()).unwrap_or_default() });
    }
    Ok(answer.structured_content.unwrap_or_default())
}

fn first_sentence(text: &str) -> &str {
    text.split_once(": ").or_else(|| text.split_once(". ")).map_or(text, |(first, _)| first)
}
