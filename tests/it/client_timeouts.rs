//! The duration of waits: after a client timeout the server shortens the next waits, and it limits waits to the maximum. Each such
//! answer says so.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Lab, fake};
use crate::raw::{Raw, modern, request};

/// The call timeout of the clients of these tests. The server ignores timeouts below one second.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(6);

/// A client with a call timeout, for one of the two protocols, and a run that does not end by itself.
struct ClientWithTimeout {
    raw: Raw,
    is_modern: bool,
    run: String,
    id: u32,
}

impl ClientWithTimeout {
    async fn new(lab: &Lab, is_modern: bool) -> ClientWithTimeout {
        let starter = lab.client().await;
        let run = starter.start(fake("announce\nforever")).await;
        starter.until(&run, |run| run["state"] == "running").await;
        starter.close().await;
        let mut raw = Raw::start(lab.command());
        if !is_modern {
            raw.initialize("2025-11-25").await;
        }
        ClientWithTimeout { raw, is_modern, run, id: 0 }
    }

    async fn send(&mut self, tool: &str, arguments: Value) {
        self.id += 1;
        let call = json!({"name": tool, "arguments": arguments});
        let call = if self.is_modern { modern("2026-07-28", json!({}), call) } else { call };
        self.raw.say(&request(self.id, "tools/call", call)).await;
    }

    /// The structured content of a call's answer.
    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.send(tool, arguments).await;
        let (answer, _) = self.raw.answer(self.id).await;
        answer["result"]["structuredContent"].clone()
    }

    /// A long wait that the client cancels.
    async fn time_out(&mut self, after: Duration, reason: Option<&str>) {
        let wait = self.wait();
        self.send("check_status", wait).await;
        tokio::time::sleep(after).await;
        let mut params = json!({"requestId": self.id});
        if let Some(reason) = reason {
            params["reason"] = json!(reason);
        }
        self.raw.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).await;
    }

    fn wait(&self) -> Value {
        json!({"run_id": self.run, "wait_s": 45, "until": "all_done"})
    }

    async fn end(mut self, lab: &Lab) {
        let killed = self.call("kill_run", json!({"run_id": self.run, "grace_s": 0})).await;
        assert!(killed["receipts"][0]["state"].is_string(), "{killed}");
        self.raw.end().await;
        lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn after_a_client_timeout_waits_are_shorter_and_say_so() {
    for is_modern in [false, true] {
        let lab = Lab::fake();
        let mut client = ClientWithTimeout::new(&lab, is_modern).await;
        client.time_out(CLIENT_TIMEOUT, Some("timed out after 6s")).await;
        let wait = client.wait();
        let status = tokio::time::timeout(Duration::from_secs(30), client.call("check_status", wait)).await;
        let status = status.expect("the wait is shortened");
        let hint = status["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("this client gives up after") && hint.contains("raise its timeout"), "{status}");
        // Waits of the other tools are shortened too.
        let question = "#!fake\nannounce\nforever";
        let start = json!({"question": question, "config": "@rehearsal", "wait_s": 45, "fresh": true});
        let started = client.call("run_massgen", start).await;
        assert!(started["hint"].as_str().is_some_and(|hint| hint.contains("gives up after")), "{started}");
        let steered = json!({"question": question, "config": "@rehearsal/command=true"});
        let tooled = client.call("run_massgen", steered).await["run_id"].clone();
        let steer = json!({"run_id": tooled, "message": "m", "wait_s": 45});
        let steered = client.call("steer_run", steer).await;
        assert!(steered["hint"].as_str().is_some_and(|hint| hint.contains("gives up after")), "{steered}");
        for id in [&started["run_id"], &tooled] {
            client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        }
        client.end(&lab).await;
    }
}

#[tokio::test]
async fn a_kill_longer_than_the_client_timeout_is_answered_and_continues() {
    let lab = Lab::fake();
    let mut client = ClientWithTimeout::new(&lab, false).await;
    let slow = client.call("run_massgen", fake("ignore\nannounce\nforever")).await["run_id"].clone();
    let until = json!({"run_id": slow, "wait_s": 1});
    while client.call("check_status", until.clone()).await["runs"][0]["state"] != "running" {}
    client.time_out(CLIENT_TIMEOUT, None).await;
    let killed = client.call("kill_run", json!({"run_id": slow, "grace_s": 60})).await;
    assert_eq!(killed["receipts"][0]["state"], "stopping", "{killed}");
    let hint = killed["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("still under way") && hint.contains("gives up after"), "{killed}");
    client.call("kill_run", json!({"run_id": slow, "grace_s": 0})).await;
    client.end(&lab).await;
}

#[tokio::test]
async fn a_cancel_by_the_user_does_not_shorten_waits() {
    let lab = Lab::fake();
    let mut client = ClientWithTimeout::new(&lab, false).await;
    client.time_out(Duration::from_millis(100), None).await;
    client.time_out(CLIENT_TIMEOUT, Some("AbortError: This operation was aborted")).await;
    let run = client.run.clone();
    let status = client.call("check_status", json!({"run_id": run, "wait_s": 3, "until": "all_done"})).await;
    let hint = status["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("after 3 s") && !hint.contains("gives up"), "{status}");
    client.end(&lab).await;
}

#[tokio::test]
async fn a_wait_above_the_maximum_is_shortened_and_a_negative_one_refused() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-wait-s", "1"]);
    let client = lab.client_of(command).await;
    let id = client.start(fake("announce\nforever")).await;
    let status = client.call("check_status", json!({"run_id": id, "wait_s": 45, "until": "all_done"})).await;
    let hint = status["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("cut to 1 s") && hint.contains("max_wait_s"), "{status}");
    assert_eq!(client.refused("check_status", json!({"run_id": id, "wait_s": -1})).await, "out_of_range");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;

    let mut command = lab.command();
    command.args(["--max-wait-s", "4"]);
    let mut raw = Raw::start(command);
    let hello = raw.initialize("2025-11-25").await;
    let instructions = hello["result"]["instructions"].as_str().expect("instructions");
    assert!(instructions.contains("wait_s: 4,") && !instructions.contains("wait_s: 45"), "{instructions}");
    raw.end().await;
    lab.nobody_is_left().await;
}
