//! A client program with rmcp: start a run, wait, read the result, and stop a run that is no longer needed.
//!
//! `cargo run --example client -- "a question" [config]` against the `massgen-mcp` in PATH, or the one in `MASSGEN_MCP`.
//! Without a config it uses the rehearsal: real MassGen, scripted model, no key.

use std::io::Write;

use anyhow::{Context, bail};
use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};
use tokio::process::Command;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let question = args.next().context("give a question")?;
    let config = args.next().unwrap_or_else(|| "@rehearsal".to_owned());
    let program = std::env::var("MASSGEN_MCP").unwrap_or_else(|_| "massgen-mcp".to_owned());
    let session = ().serve(TokioChildProcess::new(Command::new(program))?).await?;

    let run = call(&session, "run_massgen", json!({"question": question, "massgen_config": config})).await?;
    let id = &run["run_id"];
    let mut since = run["cursor"].clone();
    let ended = loop {
        let seen = call(&session, "check_status", json!({"run_id": id, "wait_s": 45, "since": since})).await?;
        let run = &seen["runs"][0];
        writeln!(std::io::stderr(), "{run}")?;
        if !matches!(run["state"].as_str(), Some("queued" | "starting" | "running" | "stopping")) {
            break run.clone();
        }
        since = seen["cursor"].clone();
    };
    if ended.get("answer_chars").is_none() {
        bail!("no answer: {}", ended["problem"]);
    }
    let mut offset = json!(0);
    while !offset.is_null() {
        let page = call(&session, "read_result", json!({"run_id": id, "offset": offset})).await?;
        write!(std::io::stdout(), "{}", page["text"].as_str().unwrap_or_default())?;
        offset = page["next_offset"].clone();
    }
    writeln!(std::io::stdout())?;
    session.cancel().await?;
    Ok(())
}

/// Calls a tool and returns its answer. A refusal is an error that contains the hint.
async fn call(session: &RunningService<RoleClient, ()>, tool: &'static str, arguments: Value) -> anyhow::Result<Value> {
    let arguments = arguments.as_object().cloned().unwrap_or_default();
    let answer = session.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await?;
    if answer.is_error == Some(true) {
        bail!("{tool}: {:?}", answer.content);
    }
    answer.structured_content.with_context(|| format!("{tool} gave nothing"))
}
