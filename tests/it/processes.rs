//! Processes that behave badly, with a shell script in MassGen's place: nothing of a run outlives its end.

use serde_json::json;

use crate::lab::Lab;

/// Announces itself as MassGen does.
const ANNOUNCE: &str = "mkdir -p \"$MASSGEN_LOG_BASE_DIR/log_20260101_000000_000000/turn_1/attempt_1\"";

async fn killed(script: &str) -> serde_json::Value {
    let lab = Lab::scripted(script);
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    client.until(&id, |run| run["state"] == "running").await;
    let killed = client.call("kill_run", json!({"run_id": id, "grace_s": 0.2})).await;
    let left: Vec<_> = lab.processes().into_iter().filter(|line| !line.contains("massgen-mcp")).collect();
    assert!(left.is_empty(), "{left:?}");
    client.close().await;
    lab.nobody_is_left().await;
    killed["receipts"][0].clone()
}

#[tokio::test]
async fn a_leader_that_ignores_all_signals_is_killed() {
    let receipt = killed(&format!("trap '' INT TERM; {ANNOUNCE}; while :; do sleep 1; done")).await;
    assert_eq!((&receipt["state"], &receipt["force"]), (&json!("killed"), &json!("SIGKILL")), "{receipt}");
}

#[tokio::test]
async fn a_grandchild_in_a_session_of_its_own_is_found() {
    let receipt =
        killed(&format!("(setsid sh -c 'trap \"\" TERM; sleep 300 & sleep 300' &) ; {ANNOUNCE}; exec sleep 300")).await;
    assert_eq!((&receipt["state"], &receipt["survivors"]), (&json!("killed"), &json!([])), "{receipt}");
    assert!(receipt["processes"].as_u64() >= Some(4), "{receipt}");
}

#[tokio::test]
async fn what_a_leader_leaves_behind_is_swept_and_its_pipes_hold_nobody_up() {
    let lab = Lab::scripted(&format!("{ANNOUNCE}; setsid sleep 300 & exit 3"));
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("failed"), &json!("3")), "{run}");
    assert_eq!(run["problem"]["code"], "crashed");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_start_that_dies_is_answered_with_its_reason() {
    let lab = Lab::scripted("echo 'one' >&2; echo '❌ Configuration error: broken on purpose' >&2; exit 1");
    let client = lab.client().await;
    for _ in 0..10 {
        let run = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 30})).await;
        assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("config_invalid")), "{run}");
        assert!(run["problem"]["message"].as_str().expect("message").contains("broken on purpose"));
    }
    client.close().await;
}

#[tokio::test]
async fn a_long_question_that_the_config_cannot_take_starts_nothing() {
    let lab = Lab::scripted("exit 0");
    lab.put("long.txt", &"words ".repeat(20_000));
    lab.put("bad.yaml", "agents: [");
    let client = lab.client().await;
    let asked = json!({"question_file": "long.txt", "config": "bad.yaml", "wait_s": 30});
    let run = client.call("run_massgen", asked).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("config_invalid")), "{run}");
    assert_eq!(run.get("exit"), None, "MassGen without a question would never end");
    client.close().await;
}

#[tokio::test]
async fn another_massgen_inside_is_not_taken_for_the_run() {
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
async fn what_forks_without_pause_is_ended_to_the_last() {
    let chain =
        "chain() { setsid sh -c \"$1\" chain \"$1\" & }; chain 'sleep 0.01; setsid sh -c \"$1\" chain \"$1\" &'";
    let receipt = killed(&format!("{chain}; {ANNOUNCE}; exec sleep 300")).await;
    assert_eq!((&receipt["state"], &receipt["survivors"]), (&json!("killed"), &json!([])), "{receipt}");
}

#[tokio::test]
async fn a_second_kill_with_less_grace_hastens_the_first() {
    let lab = Lab::scripted(&format!("trap '' INT TERM; {ANNOUNCE}; while :; do sleep 1; done"));
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    client.until(&id, |run| run["state"] == "running").await;
    let (first, second) = tokio::join!(
        client.call("kill_run", json!({"run_id": id, "grace_s": 60})),
        client.call("kill_run", json!({"run_id": id, "grace_s": 0})),
    );
    for answer in [first, second] {
        assert_eq!(answer["receipts"][0]["state"], "killed", "long before the minute is over: {answer}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn any_done_waits_for_another_end_when_the_cursor_is_given() {
    let lab = Lab::scripted(&format!("{ANNOUNCE}; case \"$*\" in *short) exit 0;; esac; exec sleep 300"));
    let client = lab.client().await;
    let short = client.start(json!({"question": "short", "config": "@rehearsal", "group": "g"})).await;
    let long = client.start(json!({"question": "long", "config": "@rehearsal", "group": "g"})).await;
    client.end(&short).await;
    let seen = client.call("check_status", json!({"group": "g", "wait_s": 50, "until": "any_done"})).await;
    let asked = json!({"group": "g", "wait_s": 1, "until": "any_done", "since": seen["cursor"]});
    let waited = client.call("check_status", asked).await;
    assert!(waited["hint"].as_str().is_some(), "no other has ended: {waited}");
    let asked = json!({"group": "g", "wait_s": 50, "until": "any_done", "since": waited["cursor"]});
    let (woken, _) = tokio::join!(client.call("check_status", asked), client.call("kill_run", json!({"run_id": long})));
    assert_eq!(woken.get("hint"), None, "{woken}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_program_with_a_missing_interpreter_is_program_missing() {
    let lab = Lab::scripted("");
    std::fs::write(lab.state().parent().expect("root").join("bin/massgen"), "#!/no/such/interpreter\n").expect("write");
    let client = lab.client().await;
    let run = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "wait_s": 30})).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("program_missing")), "{run}");
    client.close().await;
}

#[tokio::test]
async fn two_servers_see_wait_for_and_stop_the_same_runs() {
    let lab = Lab::scripted(&format!("{ANNOUNCE}; exec sleep 300"));
    let (one, two) = (lab.client().await, lab.client().await);
    let id = one.start(json!({"question": "q", "config": "@rehearsal", "group": "pair"})).await;
    two.until(&id, |run| run["state"] == "running").await;
    let waiting = one.call("check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"}));
    let (waited, killed) = tokio::join!(waiting, two.call("kill_run", json!({"group": "pair"})));
    assert_eq!(waited["runs"][0]["state"], "killed", "{waited}");
    assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
    one.close().await;
    two.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_signal_from_outside_is_told() {
    let lab = Lab::scripted(&format!("{ANNOUNCE}; kill -TERM $$; sleep 300"));
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("killed"), &json!("SIGTERM")), "{run}");
    assert_eq!(run["problem"]["code"], "killed_from_outside");
    client.close().await;
}
