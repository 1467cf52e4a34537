//! Progress notifications of waiting calls: sent to clients that gave a token, at each change and rarely otherwise, never after the
//! answer.

use serde_json::{Value, json};

use crate::lab::{Lab, fake};
use crate::raw::{Raw, modern, request};

fn call(tool: &str, arguments: Value) -> Value {
    json!({"name": tool, "arguments": arguments, "_meta": {"progressToken": "a token"}})
}

/// Whether each progress value exceeds the previous one by at least `least`.
fn increases(notifications: &[Value], minimum: f64) -> bool {
    let numbers: Vec<f64> = notifications
        .iter()
        .map(|notification| notification["params"]["progress"].as_f64().expect("a number"))
        .collect();
    numbers.windows(2).all(|pair| pair[1] > pair[0] && pair[1] - pair[0] >= minimum)
}

fn check_progress(notifications: &[Value]) {
    for notification in notifications {
        assert_eq!(notification["method"], "notifications/progress", "{notification}");
        assert_eq!(notification["params"]["progressToken"], "a token", "{notification}");
        let message = notification["params"]["message"].as_str().expect("words");
        assert!(!message.is_empty() && message.chars().count() <= 200, "{message}");
        assert!(message.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{message:?}");
    }
    assert!(increases(notifications, 0.0), "{notifications:?}");
}

/// A status.json in which an agent has this number of answers, with text that contains terminal escapes.
fn status_with_answers(times: u32) -> String {
    let long = "x".repeat(500);
    let agent = json!({"status": "answered", "answer_count": times, "latest_answer_label": format!("agent1.{times}")});
    let other = json!({"status": "answered", "answer_count": times, "latest_answer_label": format!("a\u{1b}[2J\u{202e}{long}")});
    format!("status {}", json!({"agents": {"agent_a": agent, format!("b\u{1b}]0;{long}"): other}}))
}

#[tokio::test]
async fn a_wait_sends_progress_at_each_change_only() {
    let lab = Lab::fake();
    let (go, stop) = (lab.project().join("go"), lab.project().join("stop"));
    let script = format!(
        "announce\n{}\nuntil {}\n{}\nuntil {}\nfinal agent_a done",
        status_with_answers(1),
        go.display(),
        status_with_answers(2),
        stop.display()
    );
    let mut raw = Raw::session(&lab).await;
    let run = raw.start_run(fake(&script)).await;
    // Calls without a token, until the first status is known: no notification precedes the answer.
    let mut since = json!("");
    loop {
        let wait = json!({"run_id": run, "wait_s": 50, "since": since});
        let (answer, notifications) =
            raw.ask(1, "tools/call", json!({"name": "check_status", "arguments": wait})).await;
        assert_eq!(notifications, Vec::<Value>::new());
        let checked = &answer["result"]["structuredContent"];
        if checked["runs"][0]["agents"].as_object().is_some_and(|agents| agents.len() == 2) {
            break;
        }
        since = checked["cursor"].clone();
    }
    raw.say(&json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call",
        "params": call("check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"}))}))
        .await;
    std::fs::write(&go, "").expect("written");
    let mut notifications = Vec::new();
    let says = |notification: &Value, text: &str| {
        notification["params"]["message"].as_str().is_some_and(|line| line.contains(text))
    };
    while !notifications.last().is_some_and(|notification| says(notification, "agent1.2")) {
        notifications.push(raw.hear().await);
    }
    assert!(says(&notifications[0], "running"), "{notifications:?}");
    std::fs::write(&stop, "").expect("written");
    let (answer, rest) = raw.answer(2).await;
    notifications.extend(rest);
    check_progress(&notifications);
    assert_eq!(answer["result"]["structuredContent"]["runs"][0]["state"], "succeeded");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_idle_wait_sends_progress_after_five_seconds_in_both_protocols() {
    let lab = Lab::fake();
    let arguments = |run: &str| json!({"run_id": run, "wait_s": 50, "until": "all_done"});
    let client = lab.client().await;
    let run = client.start(fake("announce\nforever")).await;
    client.until(&run, |run| run["state"] == "running").await;
    client.close().await;
    let mut old = Raw::session(&lab).await;
    old.say(&request(1, "tools/call", call("check_status", arguments(&run)))).await;
    let mut new = Raw::start(lab.command());
    let mut params = modern("2026-07-28", json!({}), call("check_status", arguments(&run)));
    params["_meta"]["progressToken"] = json!("a token");
    new.say(&request(1, "tools/call", params)).await;
    for raw in [&mut old, &mut new] {
        let notification = raw.hear().await;
        check_progress(std::slice::from_ref(&notification));
        assert!(notification["params"]["progress"].as_f64() >= Some(4.9), "too early for an idle wait: {notification}");
    }
    let kill = json!({"run_id": run, "grace_s": 0});
    // The answers of the two calls can arrive in either order.
    old.call(2, "kill_run", kill).await;
    let mut ids = Vec::new();
    while ids.len() < 2 {
        ids.extend(old.hear().await["id"].as_u64());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2]);
    check_progress(&new.answer(1).await.1);
    old.end().await;
    new.end().await;
    lab.nobody_is_left().await;
}

/// A run that changes its status continuously.
const CHANGING_SCRIPT: &str = r#"
    folder="$MASSGEN_LOG_BASE_DIR/log_1/turn_1/attempt_1"; mkdir -p "$folder"; n=0
    while :; do
        n=$((n + 1))
        printf '{"agents": {"a": {"status": "answered", "answer_count": %d}}}' $n > "$folder/draft"
        mv "$folder/draft" "$folder/status.json"
        sleep 0.01
    done"#;

#[tokio::test]
async fn frequent_changes_are_reported_together() {
    let lab = Lab::scripted(CHANGING_SCRIPT);
    let mut raw = Raw::session(&lab).await;
    // A start with `wait_s` sends progress too.
    let start = json!({"question": "q", "config": "@rehearsal", "wait_s": 4});
    let (answer, notifications) = raw.ask(1, "tools/call", call("run_massgen", start)).await;
    check_progress(&notifications);
    assert!(notifications.len() > 1 && increases(&notifications, 0.9), "{notifications:?}");
    let run = answer["result"]["structuredContent"]["run_id"].clone();
    let wait = json!({"run_id": run, "wait_s": 4, "until": "all_done"});
    let (_, notifications) = raw.ask(2, "tools/call", call("check_status", wait)).await;
    check_progress(&notifications);
    assert!(notifications.len() > 1 && increases(&notifications, 0.9), "{notifications:?}");
    // A call that does not wait sends no progress.
    assert_eq!(raw.ask(3, "tools/call", call("check_status", json!({}))).await.1, Vec::<Value>::new());
    check_progress(&raw.ask(4, "tools/call", call("kill_run", json!({"run_id": run, "grace_s": 1}))).await.1);
    raw.end().await;
    lab.nobody_is_left().await;
}
