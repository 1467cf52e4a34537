//! A session of raw lines, for messages that no correct client sends or shows.

use std::process::{ExitStatus, Stdio};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::lab::{Lab, PATIENCE};

/// A server and our ends of its pipes.
pub(crate) struct Raw {
    pub(crate) child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Raw {
    pub(crate) fn start(mut command: Command) -> Raw {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("starts");
        let (input, output) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        Raw { child, input, output: BufReader::new(output).lines() }
    }

    /// A session of the legacy protocol.
    pub(crate) async fn session(lab: &Lab) -> Raw {
        let mut raw = Raw::start(lab.command());
        raw.initialize("2025-11-25").await;
        raw
    }

    /// Sends raw bytes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.input.write_all(bytes.as_ref()).await.expect("written");
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.send(format!("{message}\n")).await;
    }

    pub(crate) async fn hear(&mut self) -> Value {
        serde_json::from_str(&self.line().await).expect("nothing but JSON on standard output")
    }

    /// The server's next line, unparsed.
    pub(crate) async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await.expect("in time").expect("read");
        line.expect("a line")
    }

    /// Sends a request; returns its answer and the notifications before it. Panics at an answer to another request.
    pub(crate) async fn ask(&mut self, id: u32, method: &str, params: Value) -> (Value, Vec<Value>) {
        self.say(&request(id, method, params)).await;
        self.answer(id).await
    }

    /// The answer to a request, and the notifications before it.
    pub(crate) async fn answer(&mut self, id: u32) -> (Value, Vec<Value>) {
        let mut notifications = Vec::new();
        loop {
            let message = self.hear().await;
            if message.get("id").is_none() {
                notifications.push(message);
                continue;
            }
            assert_eq!(message["id"], id, "{message}");
            return (message, notifications);
        }
    }

    /// Sends `initialize` with this protocol version; returns the answer.
    pub(crate) async fn initialize(&mut self, version: &str) -> Value {
        self.initialize_with(version, json!({})).await
    }

    pub(crate) async fn initialize_with(&mut self, version: &str, capabilities: Value) -> Value {
        self.initialize_as("raw", version, capabilities).await
    }

    /// Sends `initialize` with this client name.
    pub(crate) async fn initialize_as(&mut self, name: &str, version: &str, capabilities: Value) -> Value {
        let client = json!({"name": name, "version": "1"});
        let params = json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client});
        self.say(&json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": params})).await;
        let answer = self.hear().await;
        self.say(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"})).await;
        answer
    }

    pub(crate) async fn call(&mut self, id: u32, tool: &str, arguments: Value) {
        let params = json!({"name": tool, "arguments": arguments});
        self.say(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params})).await;
    }

    /// Starts a run; returns its id.
    pub(crate) async fn start_run(&mut self, arguments: Value) -> String {
        self.call(1_000_000, "run_massgen", arguments).await;
        let started = self.hear().await;
        started["result"]["structuredContent"]["run_id"].as_str().unwrap_or_else(|| panic!("{started}")).to_owned()
    }

    /// Checks that the server responds: the next message must be the answer to a ping.
    pub(crate) async fn lives(&mut self) {
        self.say(&json!({"jsonrpc": "2.0", "id": "alive?", "method": "ping"})).await;
        assert_eq!(self.hear().await["id"], "alive?");
    }

    /// Closes the input. The server must send nothing more and exit with success.
    pub(crate) async fn end(self) {
        assert_eq!(self.rest().await, Vec::<Value>::new());
    }

    /// Closes the input; returns the messages that the server sends before it ends.
    pub(crate) async fn rest(self) -> Vec<Value> {
        let Raw { mut child, input, output } = self;
        drop(input);
        let mut rest = String::new();
        let mut output = output.into_inner();
        tokio::time::timeout(PATIENCE, output.read_to_string(&mut rest)).await.expect("in time").expect("read");
        assert!(ended(&mut child).await.success());
        rest.lines().map(|line| serde_json::from_str(line).expect("nothing but JSON on standard output")).collect()
    }

    /// Closes the input and reads nothing, but keeps the output open until the server has ended.
    pub(crate) async fn end_unread(self) -> ExitStatus {
        let Raw { mut child, input, output } = self;
        drop(input);
        let status = ended(&mut child).await;
        drop(output);
        status
    }

    /// Closes the reading end of the server's output.
    pub(crate) fn deafen(self) -> (Child, ChildStdin) {
        (self.child, self.input)
    }
}

/// Parameters with the metadata of the stateless protocol (2026-07-28).
pub(crate) fn modern(version: &str, extensions: Value, mut params: Value) -> Value {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": version,
        "io.modelcontextprotocol/clientCapabilities": {"extensions": extensions},
        "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
    });
    params
}

pub(crate) fn request(id: u32, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(crate) async fn ended(child: &mut Child) -> ExitStatus {
    tokio::time::timeout(PATIENCE, child.wait()).await.expect("the server ends").expect("status")
}
