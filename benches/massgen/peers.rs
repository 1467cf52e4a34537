//! The same run in four ways: with this server, with a FastMCP server around MassGen's own shell manager, and with a plain shell tool
//! that either polls status.json or blocks until the run is over. Ways without a wait poll every [`POLL_INTERVAL`], which is generous
//! to them: an agent that cannot sleep polls again immediately.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::{Phase, PhaseCosts, Session};
use crate::workspace::{Programs, Workspace};

/// The pause between two polls of the ways without a wait.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Much longer than any run here takes.
const TIMEOUT: Duration = Duration::from_secs(300);
/// A short description of a shell tool.
const SHELL: &str = "Run a command in a bash shell and return what it prints.";

/// The run with this server: start, wait, read.
pub(crate) async fn this_server(workspace: &Workspace<'_>, question: &str) -> anyhow::Result<PhaseCosts> {
    let mut agent = Session::with(workspace.server(false)).await?;
    let started = agent.call(Phase::Start, "run_massgen", json!({"question": question, "config": "team.yaml"})).await?;
    let (id, mut since) = (started["run_id"].clone(), started["cursor"].clone());
    loop {
        let wait = json!({"run_id": id, "wait_s": 45, "until": "any_done", "since": since});
        let mut status = agent.call(Phase::Wait, "check_status", wait).await?;
        let run = &status["runs"][0];
        if crate::starts::is_over(run) {
            ensure!(run["state"] == "succeeded", "{run}");
            break;
        }
        since = status["cursor"].take();
    }
    agent.call(Phase::Result, "read_result", json!({"run_id": id})).await?;
    agent.end().await
}

/// The run with a server that a user could write in an hour.
pub(crate) async fn fastmcp(
    workspace: &Workspace<'_>,
    programs: &Programs,
    question: &str,
) -> anyhow::Result<PhaseCosts> {
    let mut command = workspace.command(&programs.python()?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/fastmcp_server.py"));
    let mut agent = Session::with(command).await?;
    let started = agent.call(Phase::Start, "run_massgen", json!({"question": question, "config": "team.yaml"})).await?;
    let id = started["run_id"].clone();
    let ended = async {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let status = agent.call(Phase::Wait, "check_status", json!({"run_id": id})).await?;
            if status["process"]["status"] != "running" {
                return anyhow::Ok(status);
            }
        }
    };
    tokio::time::timeout(TIMEOUT, ended).await??;
    agent.call(Phase::Result, "read_result", json!({"run_id": id})).await?;
    agent.end().await
}

/// The run with a shell tool, MassGen in the background, and `cat`.
pub(crate) async fn polling_shell(workspace: &Workspace<'_>, question: &str) -> anyhow::Result<PhaseCosts> {
    let mut agent = Shell::new(workspace);
    let run = format!("massgen --automation --config team.yaml {} > out.log 2>&1 &", quoted(question));
    agent.execute(Phase::Start, &run).await?;
    let poll = "grep -E '^(COMPLETED|ANSWER):' out.log; cat \"$(sed -n 's/^STATUS: //p' out.log)\"";
    let ended = async {
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let status = agent.execute(Phase::Wait, poll).await?;
            if let Some(answer) = status.lines().find_map(|line| line.strip_prefix("ANSWER: ")) {
                return anyhow::Ok(answer.to_owned());
            }
        }
    };
    let answer = tokio::time::timeout(TIMEOUT, ended).await??;
    agent.execute(Phase::Result, &format!("cat {answer}")).await?;
    Ok(agent.costs)
}

/// The run with a shell tool that blocks until MassGen ends.
pub(crate) async fn blocking_shell(workspace: &Workspace<'_>, question: &str) -> anyhow::Result<PhaseCosts> {
    let mut agent = Shell::new(workspace);
    let output =
        agent.execute(Phase::Wait, &format!("massgen --automation --config team.yaml {}", quoted(question))).await?;
    let answer = output.lines().find_map(|line| line.strip_prefix("ANSWER: ")).context("an answer")?;
    agent.execute(Phase::Result, &format!("cat {answer}")).await?;
    Ok(agent.costs)
}

fn quoted(question: &str) -> String {
    format!("'{question}'")
}

/// A shell tool that executes each command in a new shell, as most do.
struct Shell<'a> {
    workspace: &'a Workspace<'a>,
    costs: PhaseCosts,
}

impl<'a> Shell<'a> {
    fn new(workspace: &'a Workspace<'a>) -> Shell<'a> {
        let input = json!({"type": "object", "required": ["command"],
            "properties": {"command": {"type": "string", "description": "The command."}}});
        let mut costs = PhaseCosts::default();
        costs.tool("bash", SHELL, &input);
        Shell { workspace, costs }
    }

    /// Executes a command; returns its output.
    async fn execute(&mut self, phase: Phase, command: &str) -> anyhow::Result<String> {
        let mut shell = tokio::process::Command::from(self.workspace.command(Path::new("/bin/bash")));
        shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).stdin(Stdio::null());
        let done = tokio::time::timeout(TIMEOUT, shell.output()).await??;
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        self.costs.call(phase, "bash", &Value::from_iter([("command", command)]), &printed);
        Ok(printed)
    }
}
