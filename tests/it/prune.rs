//! Pruning: runs are removed by the rule, live runs never, and servers prune automatically.

use std::path::Path;

use serde_json::Value;

use crate::lab::{Client, Lab, fake, wait_until};

/// Runs `massgen-mcp prune --json`; returns whether it succeeded, and its output.
fn prune(lab: &Lab, flags: &[&str]) -> (bool, Value) {
    let mut command = lab.command().into_std();
    let ended = command.args(["prune", "--json"]).args(flags).output().expect("ran");
    (ended.status.success(), serde_json::from_slice(&ended.stdout).expect("JSON"))
}

fn removed_ids(report: &Value) -> Vec<&str> {
    report["removed"].as_array().expect("list").iter().map(|run| run["run_id"].as_str().expect("id")).collect()
}

/// Three ended runs, the oldest first.
async fn run_three_to_end(lab: &Lab, client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = client.start(fake("announce\nfinal agent_a done")).await;
        client.end(&id).await;
        ids.push(id);
    }
    lab.only_servers_are_left().await;
    ids
}

fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("list").flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn prune_removes_ended_runs_by_rule_and_a_dry_run_removes_none() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let ids = run_three_to_end(&lab, &client).await;
    let runs = lab.state().join("runs");
    std::fs::create_dir(runs.join(".gone-mg-00000000")).expect("mkdir");
    let before = file_names(&runs);

    let (succeeded, report) = prune(&lab, &["--keep-runs", "1", "--dry-run"]);
    assert!(succeeded && report["dry_run"] == true && report["leftovers"] == 1, "{report}");
    assert_eq!((removed_ids(&report), &report["kept"]), (vec![ids[0].as_str(), &ids[1]], &1.into()));
    assert_eq!(file_names(&runs), before);

    let (succeeded, report) = prune(&lab, &["--keep-runs", "1"]);
    assert!(succeeded && report["freed_bytes"].as_u64() > Some(0), "{report}");
    assert_eq!(
        (removed_ids(&report), &report["removed"][0]["why"]),
        (vec![ids[0].as_str(), &ids[1]], &"keep_runs".into())
    );
    assert_eq!(file_names(&runs), [ids[2].clone()]);
    assert_eq!(client.refused("check_status", serde_json::json!({"run_id": ids[0]})).await, "unknown_run");
    client.close().await;
}

#[tokio::test]
async fn a_size_limit_removes_the_oldest_runs_and_keeps_the_latest() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let ids = run_three_to_end(&lab, &client).await;
    let outside = lab.put("outside", "not of any run");
    std::os::unix::fs::symlink(lab.project(), lab.run_folder(&ids[0]).join("work/link")).expect("link");
    let (succeeded, report) = prune(&lab, &["--keep-gb", "0.000000001"]);
    assert!(succeeded, "{report}");
    assert_eq!(
        (removed_ids(&report), &report["removed"][0]["why"]),
        (vec![ids[0].as_str(), &ids[1]], &"keep_gb".into())
    );
    assert!(outside.is_file(), "a link is not followed");
    assert_eq!(file_names(&lab.state().join("runs")), [ids[2].clone()]);
    client.close().await;
}

#[tokio::test]
async fn live_runs_and_runs_of_a_newer_version_are_never_removed() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let live = client.start(fake("announce\nforever")).await;
    client.until(&live, |run| run["state"] == "running").await;
    let ids = run_three_with_client(&client).await;
    let newer = lab.run_folder(&ids[0]).join("run.json");
    // A supervisor lives for a moment after the end of its run.
    wait_until("no other supervisor is running", || lab.processes().iter().filter(is_supervisor).count() == 1).await;
    let text = std::fs::read_to_string(&newer).expect("record").replacen("\"version\": 1", "\"version\": 9", 1);
    std::fs::write(&newer, &text).expect("written");
    let damaged = lab.run_folder(&ids[1]).join("run.json");
    std::fs::write(&damaged, "{").expect("written");
    // The rule keeps the latest ended run, which is the third.
    let (succeeded, report) = prune(&lab, &["--keep-runs", "1"]);
    assert!(!succeeded && removed_ids(&report).is_empty(), "{report}");
    assert_eq!(report["failed"][0]["name"], ids[1].as_str(), "{report}");
    let all: std::collections::BTreeSet<_> = ids.iter().chain([&live]).cloned().collect();
    assert_eq!(file_names(&lab.state().join("runs")), all.into_iter().collect::<Vec<_>>());
    assert_eq!(std::fs::read_to_string(&newer).expect("record"), text);
    client.call("kill_run", serde_json::json!({"run_id": live, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

fn is_supervisor(line: &&String) -> bool {
    line.contains(" supervise ")
}

async fn run_three_with_client(client: &Client) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = client.start(fake("announce\nfinal agent_a done")).await;
        client.end(&id).await;
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn a_run_without_supervisor_is_ended_first_and_then_removed_by_rule() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("announce\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    client.close().await;
    lab.kill_supervisor();
    lab.nobody_is_left().await;
    let (_, report) = prune(&lab, &["--keep-runs", "1", "--dry-run"]);
    assert_eq!((lab.record(&id)["state"].as_str(), &report["kept"]), (Some("running"), &0.into()));
    let (succeeded, report) = prune(&lab, &["--keep-runs", "1"]);
    assert!(succeeded && report["kept"] == 1, "{report}");
    assert_eq!(lab.record(&id)["ending"]["outcome"], "lost");
}

#[tokio::test]
async fn a_server_prunes_hourly_unless_it_is_read_only() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let ids = run_three_to_end(&lab, &client).await;
    client.close().await;
    let (runs, stamp) = (lab.state().join("runs"), lab.state().join("pruned"));
    let server = |flags: &'static [&'static str]| {
        let mut command = lab.command();
        command.args(["--keep-runs", "1"]).args(flags);
        lab.client_of(command)
    };

    assert!(stamp.is_file(), "the first server has pruned, and kept everything");
    server(&[]).await.close().await;
    assert_eq!(file_names(&runs).len(), 3, "not twice in an hour");

    std::fs::remove_file(&stamp).expect("removed");
    server(&["--read-only"]).await.close().await;
    assert!(!stamp.exists() && file_names(&runs).len() == 3, "a read-only server removes nothing");

    let client = server(&[]).await;
    wait_until("two runs are removed", || file_names(&runs) == [ids[2].clone()]).await;
    client.close().await;
}
