//! An experiment with real MassGen and the rehearsal model. Answers, costs and delays are scripted, so the expected table is known.
//! The server is killed half-way. A second experiment stops at `keep`, a third at its budget.

use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, PATIENCE, wait_until};

/// Short answers by two cheap agents, and long answers by two expensive agents. The first agent answers first and gets the votes.
const ARMS: [&str; 2] = [
    "@rehearsal/chars=200/cost=0.01/tokens=100,10/b:delay=1",
    "@rehearsal/chars=400/cost=0.03/tokens=200,20/b:delay=1",
];
const QUESTIONS: [&str; 3] = ["Which colour is best?", "Which number is best?", "Which day is best?"];

async fn client(lab: &Lab) -> Client {
    let mut command = lab.command();
    command.args(["--max-runs", "3"]);
    lab.client_of(command).await
}

async fn wait_until_closed(client: &Client, group: &str) -> Value {
    let started = Instant::now();
    loop {
        let arguments = json!({"group": group, "wait_s": 40, "until": "all_done"});
        let mut answer = client.call("check_status", arguments).await;
        if answer["group"]["closed"].is_string() {
            return answer["group"].take();
        }
        assert!(started.elapsed() < PATIENCE, "{answer}");
    }
}

fn count(group: &Value, state: &str) -> u64 {
    group["states"][state].as_u64().unwrap_or_default()
}

#[tokio::test]
async fn real_massgen_compares_two_configs_on_three_questions_twice() {
    let lab = Lab::real().await.warm();
    let first = client(&lab).await;
    let arguments = json!({"configs": ARMS, "questions": QUESTIONS, "repeat": 2, "group": "trial", "budget_usd": 5});
    let started = first.call("run_massgen", arguments).await;
    assert_eq!(started["runs"], 12, "{started}");
    let ended = || std::fs::read_dir(lab.state().join("runs")).expect("runs").flatten().filter(is_over).count();
    wait_until("some are over", || ended() >= 3).await;
    first.kill_server().await;

    let client = client(&lab).await;
    let group = wait_until_closed(&client, "trial").await;
    assert_eq!(group["states"], json!({"succeeded": 12}), "{group}");
    check_table(&lab, &client, &started).await;
    check_stop_at_keep(&client).await;
    check_stop_at_budget(&client, &group).await;
    client.close().await;
    lab.nobody_is_left().await;
}

fn is_over(run: &std::fs::DirEntry) -> bool {
    std::fs::read_to_string(run.path().join("run.json")).is_ok_and(|text| text.contains("\"state\": \"ended\""))
}

async fn check_table(lab: &Lab, client: &Client, started: &Value) {
    let page = client.call("read_result", json!({"group": "trial"})).await;
    let path = page["path"].as_str().expect("path");
    let table: Value = serde_json::from_slice(&std::fs::read(path).expect("file")).expect("JSON");
    let rows = table["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 6, "{table}");
    for row in rows {
        let chars = if row["arm"] == "a1" { 200.0 } else { 400.0 };
        assert_eq!((&row["succeeded"], &row["planned"]), (&json!(2), &json!(2)), "{row}");
        assert_eq!(row["answer_chars"]["mean"], json!(chars), "{row}");
        assert_eq!(row["agreement"]["same_share"], json!(1.0), "the same agent presents the same: {row}");
        assert_eq!(row["winners"][0]["agent"], "agent_a", "{row}");
        assert_eq!(row["margin_share"]["mean"], json!(1.0), "{row}");
    }
    for run in table["runs"].as_array().expect("runs") {
        // Only votes for the latest answers count: MassGen's own status also counts the vote that the second answer invalidated.
        assert_eq!(run["votes"], json!({"agent1.1": 2}), "{run}");
    }
    // The cost of an arm is the sum of the costs that MassGen reported for its runs.
    for (arm, key) in ["a1", "a2"].iter().enumerate() {
        let ids: Vec<&Value> = started["run_ids"].as_array().expect("ids").iter().skip(arm).step_by(2).collect();
        let mut sum = 0.0;
        for id in &ids {
            let record = lab.record(id.as_str().expect("id"));
            sum += record["spent"]["microusd"].as_f64().expect("spent") / 1e6;
        }
        let arm_row =
            table["over_all_questions"].as_array().expect("arms").iter().find(|row| row["arm"] == *key).expect("arm");
        let mean = arm_row["cost_usd"]["mean"].as_f64().expect("mean");
        assert!((mean - sum / 6.0).abs() < 1e-9, "{mean} of {arm_row}, {sum} in all");
    }
    let csv = std::fs::read_to_string(path.replace("table.json", "table.csv")).expect("CSV");
    assert_eq!(csv.lines().count(), 13, "{csv}");
    assert!(page["text"].as_str().is_some_and(|text| text.contains("too few to tell (3 questions)")), "{page}");
}

async fn check_stop_at_keep(client: &Client) {
    let arguments = json!({"configs": ARMS, "questions": QUESTIONS, "keep": 2, "group": "enough"});
    client.call("run_massgen", arguments).await;
    let group = wait_until_closed(client, "enough").await;
    assert!(group["closed"].as_str().is_some_and(|reason| reason.starts_with("enough")), "{group}");
    assert!(count(&group, "succeeded") >= 2 && count(&group, "not_started") >= 1, "{group}");
    assert_eq!(group["runs"], 6);
}

/// The cost of a run is taken from the previous experiment.
async fn check_stop_at_budget(client: &Client, previous: &Value) {
    let spent = previous["cost_usd"].as_f64().expect("cost");
    let budget = spent / 5.0;
    let arguments = json!({"configs": ARMS, "questions": QUESTIONS, "budget_usd": budget, "group": "dear"});
    let started = client.call("run_massgen", arguments).await;
    let forecast = started["forecast"]["cost_usd"].as_f64().expect("forecast");
    assert!((2.0 * forecast - spent).abs() < spent / 2.0, "forecast {forecast} for half of the runs that cost {spent}");
    let group = wait_until_closed(client, "dear").await;
    assert!(group["closed"].as_str().is_some_and(|reason| reason.starts_with("spent")), "{group}");
    assert!(count(&group, "succeeded") >= 1 && count(&group, "not_started") >= 1, "{group}");
    assert!(group["cost_usd"].as_f64().is_some_and(|cost| cost <= budget * 1.1), "{budget} for {group}");
}
