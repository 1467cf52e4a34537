//! Several runs, servers and supervisors, with a shell script instead of MassGen. No process of a run outlives the run.

use serde_json::json;

use crate::lab::Lab;

/// Creates the log folder as MassGen does.
const ANNOUNCE: &str = "mkdir -p \"$MASSGEN_LOG_BASE_DIR/log_20260101_000000_000000/turn_1/attempt_1\"";

#[tokio::test]
async fn a_nested_massgen_is_not_mistaken_for_the_run() {
    let lab = Lab::scripted(
        "cd \"$MASSGEN_LOG_BASE_DIR\"; for log in log_2_own log_3_other; do mkdir -p $log/turn_1/final/$log; \
         printf $log > $log/turn_1/final/$log/answer.txt; done",
    );
    let client = lab.client().await;
    let run = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 30})).await;
    assert_eq!((&run["state"], &run["winner"]), (&json!("succeeded"), &json!("log_2_own")), "{run}");
    client.close().await;
}

#[tokio::test]
async fn any_done_waits_for_another_end_when_the_cursor_is_given() {
    let lab =
        Lab::scripted(&format!("{ANNOUNCE}; case \"$(cat \"$4\")\" in *short\\\"*) exit 0;; esac; exec sleep 300"));
    let client = lab.client().await;
    let short = client.start(json!({"question": "short", "config": "@rehearsal", "group": "g"})).await;
    let long = client.start(json!({"question": "long", "config": "@rehearsal", "group": "g"})).await;
    client.end(&short).await;
    let status = client.call("check_status", json!({"group": "g", "wait_s": 50, "until": "any_done"})).await;
    let arguments = json!({"group": "g", "wait_s": 1, "until": "any_done", "since": status["cursor"]});
    let waited = client.call("check_status", arguments).await;
    assert!(waited["hint"].as_str().is_some(), "no other run has ended: {waited}");
    let arguments = json!({"group": "g", "wait_s": 50, "until": "any_done", "since": waited["cursor"]});
    let (woken, _) =
        tokio::join!(client.call("check_status", arguments), client.call("kill_run", json!({"run_id": long})));
    assert_eq!(woken.get("hint"), None, "{woken}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn two_servers_see_wait_for_and_stop_the_same_runs() {
    let lab = Lab::scripted(&format!("{ANNOUNCE}; exec sleep 300"));
    let (first, second) = (lab.client().await, lab.client().await);
    let id = first.start(json!({"question": "q", "config": "@rehearsal", "group": "pair"})).await;
    second.until(&id, |run| run["state"] == "running").await;
    let waiting = first.call("check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"}));
    let (waited, killed) = tokio::join!(waiting, second.call("kill_run", json!({"group": "pair"})));
    assert_eq!(waited["runs"][0]["state"], "killed", "{waited}");
    assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
    first.close().await;
    second.close().await;
    lab.nobody_is_left().await;
}
