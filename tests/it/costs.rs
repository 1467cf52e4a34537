//! The cost of a status call in countable units: read calls and bytes of the server, independent of other runs on disk.
//! `benches/wire` measures times; a test of times would fail on a machine under load.

use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Client, Lab};

/// Identical calls per round.
const CALLS: u64 = 20;
/// Rounds per measurement.
const ROUNDS: usize = 3;
/// Runs on disk in addition to the first.
const OTHER_RUNS: u16 = 120;

/// The read calls and bytes of a process, as the kernel counts them.
#[derive(Debug, Clone, Copy)]
struct ReadCounters {
    calls: u64,
    bytes: u64,
}

fn read_counters(pid: u32) -> ReadCounters {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).expect("io");
    let number = |name: &str| {
        let rest = io.lines().find_map(|line| line.strip_prefix(name)).expect("a count");
        rest.trim().parse().expect("a number")
    };
    ReadCounters { calls: number("syscr:"), bytes: number("rchar:") }
}

/// What the server reads for repeated identical calls: the minimum over some rounds, because the server may do other work meanwhile.
async fn measure(client: &Client, arguments: Value) -> ReadCounters {
    let mut minimum = measure_round(client, &arguments).await;
    for _ in 1..ROUNDS {
        let next = measure_round(client, &arguments).await;
        minimum = ReadCounters { calls: minimum.calls.min(next.calls), bytes: minimum.bytes.min(next.bytes) };
    }
    minimum
}

async fn measure_round(client: &Client, arguments: &Value) -> ReadCounters {
    client.call("check_status", arguments.clone()).await;
    let before = read_counters(client.pid);
    for _ in 0..CALLS {
        client.call("check_status", arguments.clone()).await;
    }
    let after = read_counters(client.pid);
    ReadCounters { calls: after.calls - before.calls, bytes: after.bytes - before.bytes }
}

/// Copies a run's folder to another name of eight digits.
fn copy_run(from: &Path, old: &str, new: &str) {
    let to = from.with_file_name(new);
    std::fs::create_dir(&to).expect("made");
    for name in ["spec.json", "run.json", "lock"] {
        let text = std::fs::read_to_string(from.join(name)).expect("read");
        std::fs::write(to.join(name), text.replace(old, new)).expect("written");
    }
}

#[tokio::test]
async fn bytes_read_per_status_call_do_not_grow_with_the_runs_on_disk() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal"})).await;
    client.end(&id).await;
    let alone = measure(&client, json!({"run_id": id})).await;
    for number in 0..OTHER_RUNS {
        copy_run(&lab.run_folder(&id), &id, &format!("mg-{number:08}"));
    }
    let among_many = measure(&client, json!({"run_id": id})).await;
    // A read of an empty input counts too, so allow two more per call.
    assert!(among_many.calls <= alone.calls + 2 * CALLS, "{alone:?}, {among_many:?}");
    assert!(among_many.bytes <= alone.bytes + 1_000, "{alone:?}, {among_many:?}");

    let new_client = lab.client().await;
    let record = std::fs::metadata(lab.run_folder(&id).join("run.json")).expect("there").len();
    let before = read_counters(new_client.pid);
    let status = new_client.call("check_status", json!({})).await;
    let after = read_counters(new_client.pid);
    assert_eq!(status["runs"].as_array().map(Vec::len), Some(20));
    assert!(after.bytes - before.bytes < 30 * 2 * record, "only listed runs are read: {before:?}, {after:?}");
    new_client.close().await;
    client.close().await;
}

#[tokio::test]
async fn bytes_read_per_status_call_do_not_grow_with_status_json() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let go = lab.project().join("go");
    let small = r#"status {"agents": {"agent_a": {"status": "streaming"}}}"#;
    let script = format!("#!fake\nannounce\n{small}\nuntil {}\nbig-status 2\nforever", go.display());
    let id = client.start(json!({"question": script, "config": "@rehearsal"})).await;
    client.until(&id, |run| !run["agents"].is_null()).await;
    let with_small = measure(&client, json!({"run_id": id})).await;
    std::fs::write(&go, "").expect("written");
    client.until(&id, |run| run["agents"]["agent_a"] == "answered agent1.1").await;
    let with_large = measure(&client, json!({"run_id": id})).await;
    assert!(with_large.bytes <= with_small.bytes + CALLS * 500, "{with_small:?}, {with_large:?}");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}
