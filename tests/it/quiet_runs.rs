//! Diagnosis of quiet runs: the apparent state and its evidence, for faults of the stand-in and for real MassGen. No run is ended
//! because it is quiet.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake};

/// Waits until `seems` of a run begins with this text; returns the full status.
async fn wait_for_seems(client: &Client, id: &str, seems: &str) -> Value {
    let is = |run: &Value| run["seems"].as_str().is_some_and(|state| state.starts_with(seems));
    client.until(id, is).await;
    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0].take();
    assert!(full["state"] == "running" && is(&full), "{full}");
    assert!(full["quiet_s"].as_u64() >= Some(20), "{full}");
    full
}

async fn kill_all(client: &Client, ids: &[String]) {
    for id in ids {
        let receipt = client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        assert_eq!(receipt["receipts"][0]["state"], "killed", "{receipt}");
    }
}

#[tokio::test]
async fn a_quiet_run_reports_its_apparent_state() {
    let lab = Lab::fake();
    let hanging = TcpListener::bind("127.0.0.1:0").expect("port");
    let address = hanging.local_addr().expect("address");
    let nested = json!({"question": "#!fake\nannounce\nforever", "config": "@rehearsal"});
    let call = json!({"event_type": "tool_start", "agent_id": "agent_a",
        "data": {"tool_id": "1", "tool_name": "mcp__command_line__execute_command"}});
    let scripts = [
        "announce\nburn".to_owned(),
        format!("announce\nconnect {address}\nforever"),
        format!("announce\nconnect {address}\nevent {call}\nchild\nforever"),
        format!("announce\nnest {} {nested}\nforever", lab.project().join("nested").display()),
        "announce\nstop".to_owned(),
        "announce\nforever".to_owned(),
    ];
    let client = lab.client().await;
    let mut ids = Vec::new();
    for script in &scripts {
        ids.push(client.start(fake(script)).await);
    }
    let working = wait_for_seems(&client, &ids[0], "working").await;
    assert!(working["details"]["looked_at"]["cpu_percent"].as_u64() >= Some(20), "{working}");
    let model = wait_for_seems(&client, &ids[1], "waiting for a model").await;
    assert_eq!(model["details"]["looked_at"]["connections"], json!([address.to_string()]), "{model}");
    assert!(model.get("problem").is_none(), "a silent model is nothing unusual yet: {model}");
    let tool = wait_for_seems(&client, &ids[2], "waiting in a tool").await;
    let evidence = &tool["details"]["looked_at"];
    assert_eq!(evidence["tools"], json!(["agent_a: mcp__command_line__execute_command"]), "{tool}");
    assert_eq!((&evidence["processes"], &evidence["last_event"]), (&json!(2), &json!("tool_start")), "{tool}");
    let runs = wait_for_seems(&client, &ids[3], "waiting for runs").await;
    assert_eq!(runs["details"]["looked_at"]["live_children"], 1, "{runs}");
    let stopped = wait_for_seems(&client, &ids[4], "stopped").await;
    assert_eq!((&stopped["problem"]["code"], &stopped["problem"]["retry"]), (&json!("stopped"), &json!("now")));
    let wedged = wait_for_seems(&client, &ids[5], "wedged").await;
    assert_eq!((&wedged["problem"]["code"], wedged["quiet_s"].as_u64() >= Some(60)), (&json!("wedged"), true));
    kill_all(&client, &ids).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_end_of_a_problem_wakes_waiters() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let status = r#"status {"costs": {"total_input_tokens": 5, "total_output_tokens": 5}}"#;
    let id = client.start(fake(&format!("announce\nuntil {}\n{status}\nforever", gate.display()))).await;
    client.until(&id, |run| run["problem"]["code"] == "wedged").await;
    let seq = lab.record(&id)["seq"].clone();
    // More tokens alone are not a change; the end of the problem is.
    std::fs::write(gate, "").expect("written");
    let well = client.until(&id, |run| run.get("problem").is_none()).await;
    assert_eq!((well.get("quiet_s"), &well["tokens"]), (None, &json!(10)), "{well}");
    assert!(lab.record(&id)["seq"].as_u64() > seq.as_u64(), "a waiter is woken");
    kill_all(&client, &[id]).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn real_massgen_waits_for_a_model_that_hangs() {
    let lab = Lab::real().await;
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal/hang"})).await;
    let model = wait_for_seems(&client, &id, "waiting for a model: agent_a (rehearsal/").await;
    let evidence = &model["details"]["looked_at"];
    assert!(evidence["connections"][0].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{model}");
    assert!(evidence["cpu_percent"].as_u64() < Some(20), "{model}");
    kill_all(&client, &[id]).await;
    client.close().await;
    lab.nobody_is_left().await;
}
