//! A real meta-agent: real MassGen with examples/meta_agent.yaml starts a nested real MassGen through this server and its own MCP
//! client, waits for it, reads its answer and reports it. Offline, with the rehearsal model.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, PATIENCE, PROGRAM, is_over};

/// The example config; only the model and the paths of the server are replaced.
fn config(lab: &Lab, base_url: &str, model: &str) -> String {
    let example = include_str!("../../examples/meta_agent.yaml");
    let massgen = lab.massgen().to_str().expect("UTF-8");
    let changes = [
        ("type: openai\n".to_owned(), format!("type: chatcompletion\n      base_url: \"{base_url}\"\n")),
        ("model: gpt-5-mini ".to_owned(), format!("model: \"{model}\" ")),
        ("command: massgen-mcp ".to_owned(), format!("command: \"{PROGRAM}\" ")),
        ("args: [] ".to_owned(), format!("args: [\"--massgen\", \"{massgen}\"] ")),
    ];
    changes.iter().fold(example.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from.as_str()).count(), 1, "the example contains `{from}` once");
        text.replace(from.as_str(), to)
    })
}

async fn client(lab: &Lab) -> Client {
    let mut command = lab.command();
    // The example names this key, so it must be set.
    command.env("OPENAI_API_KEY", "no-key-at-all");
    block_network(&mut command);
    lab.client_of(command).await
}

/// Keeps MassGen's requests for price lists on this machine.
fn block_network(command: &mut tokio::process::Command) {
    let closed = "http://127.0.0.1:9";
    for (name, value) in [("HTTP_PROXY", closed), ("HTTPS_PROXY", closed), ("NO_PROXY", "127.0.0.1,localhost")] {
        command.env(name, value).env(name.to_lowercase(), value);
    }
}

async fn client_of_lead(lab: &Lab, base_url: &str, model: &str) -> (Client, String) {
    lab.put("lead.yaml", &config(lab, base_url, model));
    let client = client(lab).await;
    let id = client.start(json!({"question": "Which colour is best?", "config": "lead.yaml"})).await;
    (client, id)
}

async fn full_status(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0].take()
}

#[tokio::test]
async fn a_massgen_agent_starts_massgen_and_reports_its_answer() {
    let lab = Lab::real().await;
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    // `cost=` is the price of each call of the lead; the encoded one is that of its team.
    let model = "rehearsal/name=lead/cost=0.01/meta=%40rehearsal%2Fcost%3D0.02";
    let (client, id) = client_of_lead(&lab, &rehearsal.base_url(), model).await;
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "{run}");

    let details = full_status(&client, &id).await["details"].take();
    let children = details["children"].as_array().cloned().unwrap_or_default();
    assert_eq!(children.len(), 1, "{details}");
    let child = children[0].as_str().expect("run_id").to_owned();
    let nested = full_status(&client, &child).await;
    assert_eq!((&nested["state"], &nested["details"]["parent"]), (&json!("succeeded"), &json!(id)), "{nested}");
    assert_eq!(nested["details"]["group"], "lead", "{nested}");

    // The lead reports the complete answer of the nested run, with its run id.
    let nested_answer =
        client.call("read_result", json!({"run_id": child})).await["text"].as_str().expect("text").to_owned();
    let reported = client.call("read_result", json!({"run_id": id})).await;
    let text = reported["text"].as_str().expect("text");
    assert!(nested_answer.contains("Which colour is best?") && text.contains(&child), "{nested_answer}\n{reported}");
    assert!(text.contains(nested_answer.trim()), "{nested_answer}\n{reported}");

    // The cost of the tree is the sum of both costs.
    let (own, below) = (run["cost_usd"].as_f64().expect("cost"), nested["cost_usd"].as_f64().expect("cost"));
    let tree = details["tree_cost_usd"].as_f64().expect("cost");
    assert!(own > 0.0 && below > 0.0 && (tree - own - below).abs() < 1e-6, "{tree} is {own} and {below}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// MassGen's MCP client passes six variables to the nested server, without the `LANG` that the outer server has.
#[tokio::test]
async fn a_nested_run_is_warm_with_fewer_variables() {
    let lab = Lab::real().await.with_warm_starts();
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    lab.put("lead.yaml", &config(&lab, &rehearsal.base_url(), "rehearsal/name=lead/meta=%40rehearsal"));
    let mut command = lab.command_with(&[("LANG", "C.UTF-8"), ("OPENAI_API_KEY", "no-key-at-all")]);
    block_network(&mut command);
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "Which colour is best?", "config": "lead.yaml"})).await;
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let details = full_status(&client, &id).await["details"].take();
    let nested = full_status(&client, details["children"][0].as_str().expect("a child")).await;
    for details in [&details, &nested["details"]] {
        assert_eq!((&details["start"], &details["cold_because"]), (&json!("warm"), &Value::Null), "{details}");
    }
    assert_eq!(lab.warm_processes().len(), 1, "the nested server started no warm process");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_lead_reports_waiting_for_a_hanging_team_and_both_end_together() {
    let lab = Lab::real().await;
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let model = "rehearsal/name=lead/meta=%40rehearsal%2Fhang";
    let (client, id) = client_of_lead(&lab, &rehearsal.base_url(), model).await;
    // The lead checks its team every 45 seconds and is quiet in between.
    let started = Instant::now();
    let waiting = loop {
        let run = full_status(&client, &id).await;
        if run["seems"] == "waiting for runs" {
            break run;
        }
        assert!(!is_over(&run) && started.elapsed() < PATIENCE, "{run}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    let evidence = &waiting["details"]["looked_at"];
    let called = evidence["tools"][0].as_str().unwrap_or_default();
    assert!(called.starts_with("lead: ") && called.ends_with("check_status"), "{waiting}");
    assert_eq!(evidence["live_children"], 1, "{waiting}");
    let child = waiting["details"]["children"][0].as_str().expect("run_id").to_owned();
    client
        .until(&child, |run| run["seems"].as_str().is_some_and(|seems| seems.starts_with("waiting for a model")))
        .await;
    client.call("kill_run", json!({"run_id": id, "grace_s": 1})).await;
    assert_eq!(client.end(&child).await["state"], "killed");
    client.close().await;
    lab.nobody_is_left().await;
}
