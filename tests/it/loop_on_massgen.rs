//! The basic calls on real MassGen, offline: start, wait, read, stop.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lab::{Lab, is_over, wait_until};

#[tokio::test]
async fn a_run_is_started_followed_and_read_to_the_byte() {
    let lab = Lab::real_in(module_path!()).await;
    let client = lab.client().await;
    let run = client
        .call("run_massgen", json!({"question": "What is 6*7?", "config": "@rehearsal/chars=300000", "group": "g"}))
        .await;
    let id = run["run_id"].as_str().expect("run_id");
    assert!(matches!(run["state"].as_str(), Some("starting" | "running")), "{run}");
    assert!(lab.run_folder(id).join("spec.json").is_file(), "the run is on disk at the answer");

    client.call("check_status", json!({"group": "g", "wait_s": 50, "until": "any_done"})).await;
    let run = client.until(id, is_over).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!((run.get("exit"), &run["answer_chars"]), (None, &json!(300_000)));
    assert!(serde_json::to_string(&run).expect("JSON").len() <= 300, "{run}");

    let (text, last) = all_pages(&client, id).await;
    let file = std::fs::read(last["path"].as_str().expect("path")).expect("the answer's file");
    assert_eq!(text.as_bytes(), file);
    assert_eq!(last["sha256"], hex(&Sha256::digest(&file)));
    assert_eq!((&last["winner"], &last["partial"]), (&run["winner"], &json!(false)));

    let answers = client.call("read_result", json!({"run_id": id, "part": "answers", "limit": 200})).await;
    assert!(answers["text"].as_str().expect("text").starts_with("=== agent"), "{answers}");
    let log = client.call("read_result", json!({"run_id": id, "part": "log", "limit": 10})).await;
    assert!(log["total_chars"].as_u64() > Some(1000), "{log}");
    let winner = run["winner"].as_str().expect("winner");
    client.call("read_result", json!({"run_id": id, "part": format!("agent:{winner}")})).await;

    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    assert_eq!(full["runs"][0]["details"]["group"], "g");
    let again = client.call("kill_run", json!({"run_id": id})).await;
    assert_eq!(again["receipts"][0]["state"], "succeeded", "an ended run stays unchanged");
    client.close().await;
    lab.nobody_is_left().await;
}

async fn all_pages(client: &crate::lab::Client, id: &str) -> (String, Value) {
    let mut text = String::new();
    let mut offset = json!(0);
    loop {
        let page = client.call("read_result", json!({"run_id": id, "offset": offset, "limit": 40_000})).await;
        text.push_str(page["text"].as_str().expect("text"));
        match page.get("next_offset") {
            Some(next) => offset = next.clone(),
            None => return (text, page),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_kill_ends_a_nested_shell_command() {
    let lab = Lab::real_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(json!({"question": "run it", "config": "@rehearsal/command=sleep%20300"})).await;
    let sleeping = || lab.processes().iter().any(|line| line.trim_end().ends_with(" sleep 300"));
    wait_until("an agent's command runs", sleeping).await;
    assert!(lab.processes().iter().any(|line| line.contains("fastmcp")), "MassGen's own MCP servers run");

    let killed = client.call("kill_run", json!({"run_id": id, "grace_s": 1, "reason": "enough"})).await;
    let receipt = &killed["receipts"][0];
    assert_eq!((&receipt["state"], &receipt["survivors"]), (&json!("killed"), &json!([])), "{receipt}");
    assert!(receipt["processes"].as_u64() >= Some(4), "{receipt}");
    let left: Vec<_> = lab.processes().into_iter().filter(|line| !line.contains("massgen-mcp")).collect();
    assert!(left.is_empty(), "processes of the run are alive after kill_run: {left:?}");
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["reason"]), (&json!("killed"), &json!("enough")));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_run_outlives_its_server_and_another_server_reports_its_end() {
    let lab = Lab::real_in(module_path!()).await;
    let first = lab.client().await;
    let id = first.start(json!({"question": "Who is there?", "config": "@rehearsal/delay=1"})).await;
    first.until(&id, |run| run["state"] == "running").await;
    first.kill_server().await;

    let second = lab.client().await;
    let listed = second.call("check_status", json!({})).await;
    assert_eq!(listed["runs"][0]["run_id"], id.as_str());
    let run = second.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    let page = second.call("read_result", json!({"run_id": id})).await;
    assert!(page["text"].as_str().expect("text").contains("Who is there?"), "{page}");
    second.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_end_without_a_server_is_reported_by_the_next_server() {
    let lab = Lab::real_in(module_path!()).await;
    let first = lab.client().await;
    let id = first.start(json!({"question": "q", "config": "@rehearsal", "mode": "quick"})).await;
    first.kill_server().await;
    wait_until("the run ends with no server alive", || lab.record(&id)["state"] == "ended").await;
    let second = lab.client().await;
    let run = second.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("0")), "{run}");
    second.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_kill_during_the_presentation_keeps_the_best_answer_as_partial() {
    let lab = Lab::real_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal/final-delay=600"})).await;
    client.until(&id, |run| run["phase"] == "presentation").await;
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["partial"]), (&json!("killed"), &json!(true)), "status.json says completed: {run}");
    // On a stop MassGen saves the leading answer as the final one, if it has already called the model for the presentation.
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert_eq!(page["partial"], true, "{page}");
    // The presentation never completes, and an agent may call the model twice before its answer.
    assert!(page["text"].as_str().is_some_and(|text| text.starts_with("This is a rehearsal")), "{page}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_deadline_holds_without_a_server() {
    let lab = Lab::real_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal/hang", "timeout_s": 12})).await;
    client.kill_server().await;
    wait_until("the supervisor ends the run", || lab.record(&id)["state"] == "ended").await;
    let client = lab.client().await;
    assert_eq!(client.end(&id).await["state"], "timed_out");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn questions_are_read_from_files_and_context_paths_from_the_project() {
    let lab = Lab::real_in(module_path!()).await;
    lab.put("question.txt", &format!("first words ${{HOME}} {}", "and more ".repeat(20_000)));
    lab.put("material/notes.md", "notes");
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let config = massgen_mcp::rehearsal::config_yaml("@rehearsal", &rehearsal.base_url()).expect("config");
    let orchestrator = "orchestrator:\n  context_paths:\n    - path: ./material\n      permission: read\n";
    lab.put("two.yaml", &format!("{config}{orchestrator}"));

    let mut command = lab.command();
    command.env("OPENAI_API_KEY", "rehearsal").env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question_file": "question.txt", "config": "two.yaml"})).await;
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let effective = std::fs::read_to_string(lab.run_folder(&id).join("config.yaml")).expect("effective config");
    assert!(effective.contains(lab.project().join("./material").to_str().expect("UTF-8")), "{}", &effective[..400]);
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert!(page["text"].as_str().expect("text").contains("first words ${HOME} and more"), "{page}");
    client.close().await;
    lab.nobody_is_left().await;
}
