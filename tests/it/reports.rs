//! The report of a run (`read_result`, part `report`) is correct for real runs.

use serde_json::json;

use crate::lab::{Client, Lab, fake};

async fn report(client: &Client, id: &str) -> String {
    let page = client.call("read_result", json!({"run_id": id, "part": "report"})).await;
    let text = page["text"].as_str().expect("text").to_owned();
    assert!(text.len() <= 4096, "{} bytes", text.len());
    assert!(text.starts_with(&format!("Run {id}: ")), "{text}");
    assert!(page.get("next_offset").is_none(), "it is one page: {page}");
    text
}

/// The number in front of these words.
fn number_before(text: &str, following: &str) -> f64 {
    let (before, _) = text.split_once(following).unwrap_or_else(|| panic!("{following} in {text}"));
    let digits = before.rsplit(|c: char| !(c.is_ascii_digit() || c == '.')).next().unwrap_or_default();
    digits.parse().unwrap_or_else(|_| panic!("a number before {following} in {text}"))
}

fn assert_contains(text: &str, all: &[&str]) {
    for part in all {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
}

#[tokio::test]
async fn the_report_explains_a_real_run() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let config = "@rehearsal/tokens=120,30/cost=0.02/b:delay=1/b:command=ls%20nowhere";
    let id = client.start(json!({"question": "Who is there?", "config": config})).await;
    let live = report(&client, &id).await;
    assert_contains(&live, &["Asked: \"Who is there?\" of config @rehearsal/tokens=120,30", "[./spec.json]"]);
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["winner"]), (&json!("succeeded"), &json!("agent_a")), "{run}");

    let text = report(&client, &id).await;
    assert_contains(
        &text,
        &[
            "succeeded after ",
            // check_status can show one vote more: MassGen also counts votes that a new answer invalidated.
            "Winner: agent_a with 2 of 2 votes; presented from ",
            "[events.jsonl]",
            "[metrics_summary.json]",
            " s from the run's start to coordination, ",
            "Votes (2 stood, ",
            " agent_b for agent1.1 of agent_a: \"In a rehearsal agent_b",
            "always votes for the first answer there is",
            "/vote.json]",
            "/answer.txt]",
            "Waits on models, all agents: ",
            "mcp__command_line__execute_command: 1 call (agent_b 1), 1 failed",
            "ls: cannot access",
            "Change of agent_a from its first answer [",
            "similarity 0.",
        ],
    );
    assert!(!text.contains("Errors (") && !text.contains("Not known"), "{text}");
    let cost = run["cost_usd"].as_f64().expect("cost");
    assert!(text.contains(&format!("(in+out), ${cost:.2};")), "{cost}: {text}");
    let tokens = number_before(&text, "+");
    let written = number_before(&text, " tokens (in+out)");
    assert_eq!(Some(tokens + written), run["tokens"].as_f64(), "{text}");
    let calls = number_before(&text, " calls, ");
    assert!((cost - calls * 0.02).abs() < 1e-9, "each call cost the same: {calls} calls, {text}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_vote_invalidated_by_a_newer_answer_is_not_counted() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    // Two agents have voted when the third answers, and vote again: MassGen counts five votes of three agents.
    let id = client.start(json!({"question": "q", "config": "@rehearsal/agents=3/c:delay=4"})).await;
    let run = client.end(&id).await;
    assert_eq!(run["votes"], json!({"agent1.1": 3}), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_report_explains_a_killed_real_run_up_to_its_kill() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal/b:hang"})).await;
    client.until(&id, |run| run["agents"].to_string().contains("agent1.1")).await;
    client.call("kill_run", json!({"run_id": id, "grace_s": 0, "reason": "enough"})).await;
    client.end(&id).await;
    let text = report(&client, &id).await;
    assert_contains(&text, &["killed (enough) after ", "agent1.1 by agent_a", "agent_b round 0 from ", "not over"]);
    assert_contains(&text, &["[status.json]", "Not known:", "metrics_summary.json is not there"]);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_report_of_a_run_without_files_uses_its_record() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("exit 3")).await;
    client.end(&id).await;
    let text = report(&client, &id).await;
    assert_contains(&text, &["failed after ", "Problem: ", "Not known:"]);
    client.close().await;
    lab.nobody_is_left().await;
}
