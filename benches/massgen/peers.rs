//! The same run in four ways: with this server, with a FastMCP server around MassGen's own shell manager, and with a plain shell tool
//! that either polls status.json or blocks until the run is over. Ways without a wait poll every [`POLL_INTERVAL`], which is generous
//! to them: an agent that cannot sleep polls again immediately.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::agent::{Bill, Phase, Session};
use crate::world::{Place, World};

/// The pause between two polls of the ways without a wait.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Much longer than any run here takes.
const PATIENCE: Duration = Duration::from_secs(300);
/// A short description of a shell tool.
const SHELL: &str = "Run a command in a bash shell and return what it prints.";

/// The run with this server: start, wait, read.
pub(crate) async fn this_server(world: &World<'_>, question: &str) -> anyhow::Result<Bill> {
    let mut agent = Session::with(world.server(false)).await?;
    let started = agent.call(Phase::Start, "run_massgen", json!({"question": question, "config": "team.yaml"})).await?;
    let (id, mut since) = (started["run_id"].clone(), started["cursor"].clone());
    loop {
        let wait = json!({"run_id": id, "wait_s": 45, "until": "any_done", "since": since});
        let mut seen = agent.call(Phase::Wait, "check_status", wait).await?;
        let run = &seen["runs"][0];
        if crate::starts::is_over(run) {
            ensure!(run["state"] == "succeeded", "{run}");
            break;
        }
        since = seen["cursor"].take();
    }
    agent.call(Phase::Result, "read_result", json!({"run_id": id})).await?;
    agent.end().await
}

/// The run with a server that a user could write in an hour.
pub(crate) async fn fastmcp(world: &World<'_>, place: &Place, question: &str) -> anyhow::Result<Bill> {
    let mut command = world.command(&place.python()?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/fastmcp_server.py"));
    let mut agent = Session::with(command).await?;
    let started = agent.call(Phase::Start, "run_massgen", json!({"question": question, "config": "team.yaml"})).await?;
    let id = started["run_id"].clone();
    let over = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let seen = agent.call(Phase::Wait, "check_status", json!({"run_id": id})).await?;
            if seen["process"]["status"] != "running" {
                return anyhow::Ok(seen);
            }
        }
    };
    tokio::time::timeout(PATIENCE, over).await??;
    agent.call(Phase::Result, "read_result", json!({"run_id": id})).await?;
    agent.end().await
}

/// The run with a shell tool, MassGen in the background, and `cat`.
pub(crate) async fn looking_shell(world: &World<'_>, question: &str) -> anyhow::Result<Bill> {
    let mut agent = Shell::new(world);
    let run = format!("massgen --automation --config team.yaml {} > out.log 2>&1 &", quoted(question));
    agent.does(Phase::Start, &run).await?;
    let look = "grep -E '^(COMPLETED|ANSWER):' out.log; cat \"$(sed -n 's/^STATUS: //p' out.log)\"";
    let over = async {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let seen = agent.does(Phase::Wait, look).await?;
            if let Some(answer) = seen.lines().find_map(|line| line.strip_prefix("ANSWER: ")) {
                return anyhow::Ok(answer.to_owned());
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, over).await??;
    agent.does(Phase::Result, &format!("cat {answer}")).await?;
    Ok(agent.bill)
}

/// The run with a shell tool that blocks until MassGen ends.
pub(crate) async fn blocking_shell(world: &World<'_>, question: &str) -> anyhow::Result<Bill> {
    let mut agent = Shell::new(world);
    let said =
        agent.does(Phase::Wait, &format!("massgen --automation --config team.yaml {}", quoted(question))).await?;
    let answer = said.lines().find_map(|line| line.strip_prefix("ANSWER: ")).context("an answer")?;
    agent.does(Phase::Result, &format!("cat {answer}")).await?;
    Ok(agent.bill)
}

fn quoted(question: &str) -> String {
    format!("'{question}'")
}

/// A shell tool that executes each command in a new shell, as most do.
struct Shell<'a> {
    world: &'a World<'a>,
    bill: Bill,
}

impl<'a> Shell<'a> {
    fn new(world: &'a World<'a>) -> Shell<'a> {
        let input = json!({"type": "object", "required": ["command"],
            "properties": {"command": {"type": "string", "description": "The command."}}});
        let mut bill = Bill::default();
        bill.tool("bash", SHELL, &input);
        Shell { world, bill }
    }

    /// Executes a command; returns its output.
    async fn does(&mut self, phase: Phase, command: &str) -> anyhow::Result<String> {
        let mut shell = tokio::process::Command::from(self.world.command(Path::new("/bin/bash")));
        shell.args(["-c", &format!("{{ {command}\n}} 2>&1")]).stdin(Stdio::null());
        let done = tokio::time::timeout(PATIENCE, shell.output()).await??;
        let printed = String::from_utf8_lossy(&done.stdout).into_owned();
        self.bill.call(phase, "bash", &Value::from_iter([("command", command)]), &printed);
        Ok(printed)
    }
}
