//! Messages to the agents of live runs: accepted, delivered, refused, withdrawn. With the stand-in and on real MassGen.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, PATIENCE, fake, tooled, wait_until};

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn waiting_messages(lab: &Lab, id: &str) -> usize {
    std::fs::read_dir(lab.run_folder(id).join("inbox")).into_iter().flatten().count()
}

/// A file in the project, and the script command that waits for it.
fn wait_file(lab: &Lab, name: &str) -> (PathBuf, String) {
    let file = lab.project().join(name);
    (file.clone(), format!("until {}", file.display()))
}

#[tokio::test]
async fn messages_wait_in_order_and_count_as_delivered_when_read() {
    let lab = Lab::fake();
    let clients = [lab.client().await, lab.client().await];
    let (open, until) = wait_file(&lab, "gate");
    let messages_file = lab.project().join("taken");
    let take = format!("take {}\n", messages_file.display());
    let id = clients[0].start(tooled(&format!("announce\n{until}\n{}forever", take.repeat(4)))).await;
    clients[0].until(&id, |run| run["state"] == "running").await;

    for (number, client) in [0, 1, 0].into_iter().enumerate() {
        let message = json!({"run_id": id, "message": format!("message {number}\n\"\u{017c}\"")});
        let sent = clients[client].call("steer_run", message).await;
        assert_eq!((&sent["delivered"], &sent["messages_waiting"]), (&json!(false), &json!(number + 1)), "{sent}");
        assert!(sent["hint"].as_str().is_some_and(|hint| hint.contains("accepted")), "{sent}");
    }
    let run = clients[1].call("check_status", json!({"run_id": id})).await["runs"][0].take();
    assert_eq!(run["messages_waiting"], 3, "{run}");

    std::fs::write(open, "").expect("written");
    let arguments = json!({"run_id": id, "message": "the last", "agents": ["agent_b"], "wait_s": 50});
    let sent = clients[1].call("steer_run", arguments).await;
    assert_eq!(sent["delivered"], true, "{sent}");
    assert!(sent.get("messages_waiting").is_none() && sent.get("hint").is_none(), "{sent}");
    wait_until("all messages are read", || lines(&messages_file).len() == 4).await;
    let lines = lines(&messages_file);
    for (number, line) in lines[..3].iter().enumerate() {
        assert_eq!(line["content"], format!("message {number}\n\"\u{017c}\""), "in the order in which they were sent");
        assert!(line.get("target_agents").is_none(), "{line}");
    }
    assert_eq!((&lines[3]["content"], &lines[3]["target_agents"]), (&json!("the last"), &json!(["agent_b"])));
    let run = clients[0].call("check_status", json!({"run_id": id})).await["runs"][0].take();
    assert!(run.get("messages_waiting").is_none(), "{run}");

    clients[0].call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    assert_eq!(clients[0].refused("steer_run", json!({"run_id": id, "message": "late"})).await, "run_over");
    for client in clients {
        client.close().await;
    }
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_invalid_message_is_refused_and_leaves_no_file() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_RUNS", "1").env("OPENAI_API_KEY", "sk-canary-0123456789");
    let client = lab.client_of(command).await;
    let id = client.start(tooled("announce\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    let arguments = |message: &str| json!({"run_id": id, "message": message});
    for (arguments, code) in [
        (arguments(" \n"), "invalid_arguments"),
        (arguments("a\0b"), "message_invalid"),
        (arguments(&"x".repeat(8_001)), "message_invalid"),
        (arguments("use sk-canary-0123456789"), "secret_in_arguments"),
        (json!({"run_id": id, "message": "m", "agents": ["agent_a", "nobody"]}), "unknown_agent"),
        (json!({"run_id": id, "message": "m", "wait_s": -1}), "out_of_range"),
        (json!({"run_id": "mg-00000000", "message": "m"}), "unknown_run"),
        (json!({"run_id": id}), "invalid_arguments"),
    ] {
        assert_eq!(client.refused("steer_run", arguments.clone()).await, code, "{arguments}");
    }
    assert_eq!(waiting_messages(&lab, &id), 0);

    let queued = client.start(fake("announce\nfinal agent_a later")).await;
    client.until(&queued, |run| run["state"] == "queued").await;
    let sent = client.call("steer_run", json!({"run_id": queued, "message": "for later"})).await;
    assert_eq!(
        (&sent["state"], &sent["delivered"], waiting_messages(&lab, &queued)),
        (&json!("queued"), &json!(false), 1)
    );

    for number in 0..50 {
        client.call("steer_run", arguments(&format!("message {number}"))).await;
    }
    assert_eq!(client.refused("steer_run", arguments("one more")).await, "too_many_messages");
    assert_eq!(waiting_messages(&lab, &id), 50);
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.end(&queued).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_message_that_was_not_read_before_the_end_is_withdrawn() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (open, until) = wait_file(&lab, "gate");
    let id = client.start(tooled(&format!("announce\n{until}\nfinal agent_a done"))).await;
    let refused = client.refused("steer_run", json!({"run_id": id, "message": "wait", "wait_s": 50}));
    let end = async {
        wait_until("the message is in the inbox", || waiting_messages(&lab, &id) == 1).await;
        std::fs::write(open, "").expect("written");
    };
    let (code, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(refused, end) }).await.expect("in time");
    assert_eq!((code.as_str(), waiting_messages(&lab, &id)), ("never_delivered", 0));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_message_to_agents_without_tools_is_refused_at_once() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("announce\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    let arguments = json!({"run_id": id, "message": "in French, please", "wait_s": 50});
    assert_eq!(client.refused("steer_run", arguments).await, "agents_without_tools");
    assert_eq!(waiting_messages(&lab, &id), 0, "nothing was sent");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_ended_run_reports_a_message_that_was_never_delivered() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (open, until) = wait_file(&lab, "gate");
    let id = client.start(tooled(&format!("announce\n{until}\nfinal agent_a done"))).await;
    client.until(&id, |run| run["state"] == "running").await;
    let sent = client.call("steer_run", json!({"run_id": id, "message": "m"})).await;
    assert_eq!((&sent["delivered"], &sent["messages_waiting"]), (&json!(false), &json!(1)), "{sent}");
    std::fs::write(open, "").expect("written");
    let run = client.end(&id).await;
    assert_eq!((run.get("messages_waiting"), &run["never_delivered"]), (None, &json!(1)), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Starts runs until an agent executes its command. Under load MassGen does not wait long enough for its own shell server and continues
/// without it.
async fn start_until_command(lab: &Lab, client: &Client, config: &str, command: &str) -> String {
    for _ in 0..5 {
        let id = client.start(json!({"question": "run it", "config": config, "fresh": true})).await;
        let runs = || lab.processes().iter().any(|line| line.contains(command));
        wait_until("the command runs, or the run is over", || runs() || lab.record(&id)["state"] == "ended").await;
        if runs() {
            return id;
        }
    }
    panic!("MassGen never executed the command");
}

#[tokio::test]
async fn real_massgen_shows_a_message_to_an_agent_after_its_tool_call() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let (open, _) = wait_file(&lab, "gate");
    // The agent's command ends as soon as the message exists.
    let command = format!("until%20test%20-e%20{}%3B%20do%20sleep%200.1%3B%20done", open.display());
    let config = format!("@rehearsal/agents=1/command={}", command.replace('/', "%2F"));
    let id = start_until_command(&lab, &client, &config, "until test -e").await;
    let message = "Mind the blue cat, please.";
    let sent = client.call("steer_run", json!({"run_id": id, "message": message, "agents": ["agent_a"]})).await;
    assert_eq!(sent["messages_waiting"], 1, "{sent}");
    std::fs::write(open, "").expect("written");
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert!(run.get("messages_waiting").is_none(), "the message was read: {run}");
    let page = client.call("read_result", json!({"run_id": id, "part": "agent:agent_a"})).await;
    assert!(page["text"].as_str().is_some_and(|text| text.contains(message)), "the agent saw the message: {page}");
    client.close().await;
    lab.nobody_is_left().await;
}
