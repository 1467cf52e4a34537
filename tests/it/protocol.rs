//! The protocol by raw lines: standard output carries nothing else, the end of input ends the server at once, every version
//! that clients speak is answered.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lab::{Lab, PATIENCE};

struct Raw {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Raw {
    fn start(mut command: Command) -> Raw {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starts");
        let (input, output) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        Raw { child, input, output: BufReader::new(output).lines() }
    }

    async fn say(&mut self, message: &Value) {
        self.input.write_all(format!("{message}\n").as_bytes()).await.expect("written");
    }

    async fn hear(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("in time").expect("read");
        serde_json::from_str(&line.expect("a line")).expect("nothing but JSON on standard output")
    }

    async fn initialize(&mut self, version: &str) -> Value {
        let client = json!({"name": "raw", "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
        self.say(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})).await;
        let answer = self.hear().await;
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    async fn call(&mut self, id: u32, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments});
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await;
    }
}

#[tokio::test]
async fn every_version_of_the_first_era_is_answered_as_it_was_asked() {
    let lab = Lab::scripted("exit 0");
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut raw = Raw::start(lab.command());
        let answer = raw.initialize(version).await;
        assert_eq!(answer["result"]["protocolVersion"], version, "{answer}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "massgen-mcp");
        raw.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
        let tools = raw.hear().await;
        assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(4), "{tools}");
    }
}

#[tokio::test]
async fn the_second_era_is_discovered() {
    let lab = Lab::scripted("exit 0");
    let mut raw = Raw::start(lab.command());
    let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"}});
    raw.say(&json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}})).await;
    let answer = raw.hear().await;
    let versions = answer["result"]["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!("2026-07-28")), "{answer}");
    let params = json!({"name": "check_status", "arguments": {}, "_meta": meta});
    raw.say(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params})).await;
    let answer = raw.hear().await;
    assert_eq!(answer["result"]["structuredContent"]["runs"], json!([]), "{answer}");
}

#[tokio::test]
async fn standard_output_is_pure_with_all_logs_on() {
    let lab = Lab::scripted("echo noise; echo noise >&2; exit 1");
    let mut command = lab.command();
    command.env("RUST_LOG", "trace");
    let mut raw = Raw::start(command);
    raw.initialize("2025-11-25").await;
    raw.call(1, "run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 30})).await;
    assert_eq!(raw.hear().await["id"], 1);
    raw.call(2, "read_result", json!({"run_id": "mg-00000000"})).await;
    assert_eq!(raw.hear().await["id"], 2);
    drop(raw.input);
    let mut rest = String::new();
    raw.output.into_inner().read_to_string(&mut rest).await.expect("read");
    assert_eq!(rest, "");
}

#[tokio::test]
async fn options_that_were_left_empty_count_as_not_given() {
    let lab = Lab::scripted("exit 0");
    let mut command = lab.command();
    command
        .env("MASSGEN_MCP_MASSGEN", "")
        .env("MASSGEN_MCP_PROJECT", "${user_config.project}")
        .env("MASSGEN_MCP_MAX_WAIT_S", " ");
    let mut raw = Raw::start(command);
    assert_eq!(raw.initialize("2025-11-25").await["result"]["serverInfo"]["name"], "massgen-mcp");
}

#[tokio::test]
async fn the_end_of_input_ends_the_server_in_the_middle_of_a_wait_and_leaves_the_run() {
    let announce = "mkdir -p \"$MASSGEN_LOG_BASE_DIR/log_1/turn_1/attempt_1\"; exec sleep 300";
    let lab = Lab::scripted(announce);
    let mut raw = Raw::start(lab.command());
    raw.initialize("2025-11-25").await;
    raw.call(1, "run_massgen", json!({"question": "q", "config": "@rehearsal"})).await;
    let started = raw.hear().await;
    let id = started["result"]["structuredContent"]["run_id"].as_str().expect("run_id").to_owned();
    raw.call(2, "check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"})).await;
    raw.say(&json!({"jsonrpc": "2.0", "id": 3, "method": "ping"})).await;
    assert_eq!(raw.hear().await["id"], 3, "a wait holds nobody else up");
    drop(raw.input);
    // Far less than the wait that was asked for, and than the five seconds that rmcp would give it.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(40), raw.child.wait()).await.expect("it ends");
    assert!(ended.expect("status").success());

    let client = lab.client().await;
    let listed = client.call("check_status", json!({"run_id": id})).await;
    assert!(matches!(listed["runs"][0]["state"].as_str(), Some("starting" | "running")), "{listed}");
    client.call("kill_run", json!({"run_id": id})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_cancelled_wait_ends_and_an_unknown_tool_is_a_protocol_error() {
    let lab = Lab::scripted("exit 0");
    let mut raw = Raw::start(lab.command());
    raw.initialize("2025-11-25").await;
    raw.call(1, "soul_massgen", json!({})).await;
    let answer = raw.hear().await;
    assert!(answer["error"]["message"].as_str().expect("message").contains("check_status"), "{answer}");
}
