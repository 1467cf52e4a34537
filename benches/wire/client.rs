//! A minimal client that measures the time between a request line and its answer line. It parses the answer after the measurement.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

/// A session with a server process of its own.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    requests: u64,
    /// The time from before the start of the process to the answer to `initialize`.
    pub(crate) ready: Duration,
}

impl Client {
    pub(crate) fn start(mut command: Command) -> anyhow::Result<Client> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let about = json!({"name": "wire", "version": "1"});
        let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": about});
        let hello = request(0, "initialize", &hello);
        let started = Instant::now();
        let mut child = command.spawn().context("the server does not start")?;
        let (input, output) = (child.stdin.take().context("input")?, child.stdout.take().context("output")?);
        let mut client = Client { child, input, output: BufReader::new(output), requests: 0, ready: Duration::ZERO };
        client.input.write_all(hello.as_bytes())?;
        client.line()?;
        client.ready = started.elapsed();
        client.input.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n")?;
        Ok(client)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A call that must succeed; returns its answer and duration.
    pub(crate) fn call(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<(Value, Duration)> {
        let sent = self.ask(tool, arguments)?;
        let (answer, at) = self.answer()?;
        Ok((answer, at - sent))
    }

    /// Sends a call; returns the time before the write.
    pub(crate) fn ask(&mut self, tool: &str, arguments: &Value) -> anyhow::Result<Instant> {
        self.requests += 1;
        let line = request(self.requests, "tools/call", &json!({"name": tool, "arguments": arguments}));
        let started = Instant::now();
        self.input.write_all(line.as_bytes())?;
        Ok(started)
    }

    /// The answer to the pending call, and its time of arrival.
    pub(crate) fn answer(&mut self) -> anyhow::Result<(Value, Instant)> {
        let line = self.line()?;
        let at = Instant::now();
        let answer: Value = serde_json::from_str(&line)?;
        ensure!(answer["id"] == self.requests && answer["result"]["isError"] != true, "not an answer: {line}");
        Ok((answer["result"]["structuredContent"].clone(), at))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the server is gone");
        Ok(line)
    }

    /// Closes the server's input and waits for the end of the process.
    pub(crate) fn end(self) -> anyhow::Result<()> {
        let Client { mut child, input, output, .. } = self;
        drop(input);
        let ended = child.wait()?;
        drop(output);
        ensure!(ended.success(), "the server ended with {ended}");
        Ok(())
    }
}

fn request(id: u64, method: &str, params: &Value) -> String {
    format!("{}\n", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
}
