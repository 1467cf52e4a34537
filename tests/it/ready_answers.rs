//! An answer before the end of the run: it is announced and readable while MassGen's process is still ending, and the state stays
//! correct.

use serde_json::json;

use crate::lab::{Lab, fake, wait_until};

/// Presents an answer, prints the last line of MassGen, and ends only after the test permits it.
const SCRIPT: &str = "announce\nfinal agent_a forty-two\nprint FINAL_DIR: turn_1/attempt_1/final\nuntil @/go\nexit 0";

#[tokio::test]
async fn a_waiter_gets_a_ready_answer_before_the_process_ends() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let script = SCRIPT.replace('@', lab.project().to_str().expect("UTF-8"));
    let id = client.start(fake(&script)).await;
    for until in ["any_done", "all_done"] {
        let status = client.call("check_status", json!({"run_id": id, "wait_s": 50, "until": until})).await;
        let run = &status["runs"][0];
        assert_eq!((&run["state"], &run["answer_ready"]), (&json!("running"), &json!(true)), "{run}");
        assert_eq!((&run["winner"], &run["answer_chars"]), (&json!("agent_a"), &json!(9)), "{run}");
        assert_eq!(run["answer"], "forty-two", "a short answer is in the status: {run}");
        assert!(
            status["hint"].as_str().is_some_and(|hint| hint.contains("answer ready: call read_result")),
            "{status}"
        );
    }
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert_eq!((&page["text"], &page["partial"]), (&json!("forty-two"), &json!(false)), "{page}");

    // With a cursor that includes the answer, a wait lasts until the end.
    let status = client.call("check_status", json!({"run_id": id})).await;
    let end = client.call(
        "check_status",
        json!({"run_id": id, "wait_s": 50, "until": "any_done", "since": status["cursor"].clone()}),
    );
    let ((), ended) = tokio::join!(async { drop(lab.put("go", "")) }, end);
    let run = &ended["runs"][0];
    assert_eq!((&run["state"], run.get("exit")), (&json!("succeeded"), None), "{run}");
    assert!(run.get("answer_ready").is_none(), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// A process that takes a second to end after its last line.
const ENDING: &str = "announce\nfinal agent_a forty-two\nprint FINAL_DIR: turn_1/attempt_1/final\nsleep 1\nexit 0";

#[tokio::test]
async fn a_wait_for_the_answer_continues_to_the_end_of_the_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let mut arguments = fake(ENDING);
    arguments["wait_s"] = json!(50);
    let run = client.call("run_massgen", arguments).await;
    assert_eq!((&run["state"], &run["answer"]), (&json!("succeeded"), &json!("forty-two")), "{run}");
    assert!(run["cursor"].is_string() && run.get("hint").is_none() && run.get("exit").is_none(), "{run}");
    for until in ["any_done", "all_done"] {
        let id =
            client.start(json!({"question": format!("#!fake\n{ENDING}"), "config": "@rehearsal", "fresh": true})).await;
        let status = client.call("check_status", json!({"run_id": id, "wait_s": 50, "until": until})).await;
        assert_eq!((&status["runs"][0]["state"], status.get("hint")), (&json!("succeeded"), None), "{status}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_for_any_end_after_an_end_says_how_to_wait_for_the_next() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let ended = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&ended).await;
    let live = client.start(fake("announce\nforever")).await;
    let arguments = json!({"run_ids": [ended, live], "wait_s": 50, "until": "any_done"});
    let status = client.call("check_status", arguments).await;
    let hint = status["hint"].as_str().unwrap_or_default();
    assert!(hint.contains(&ended) && hint.contains("pass since"), "{status}");
    client.call("kill_run", json!({"run_id": live, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_printed_line_is_not_an_answer_and_a_kill_after_it_is_a_kill() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let script = SCRIPT.replace("final agent_a forty-two\n", "").replace('@', lab.project().to_str().expect("UTF-8"));
    let fake_run = client.start(fake(&script)).await;
    let log = lab.run_folder(&fake_run).join("stdout.log");
    wait_until("the line is printed", || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("FINAL_DIR")))
        .await;
    let run = client.until(&fake_run, |run| run["state"] == "running").await;
    assert!(run.get("answer_ready").is_none(), "the printed line alone is no evidence: {run}");
    client.call("kill_run", json!({"run_id": fake_run, "grace_s": 0})).await;

    let script = SCRIPT.replace('@', lab.project().to_str().expect("UTF-8"));
    let id = client.start(fake(&script)).await;
    client.until(&id, |run| run["answer_ready"] == true).await;
    let killed = client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["partial"]), (&json!("killed"), &json!(true)), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
