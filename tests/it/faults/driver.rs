//! The experiment driver: F51 and F52. An experiment survives the kill of its server and, at every step, the kill of its driver.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use massgen_mcp::crash;
use serde_json::{Value, json};

use crate::experiments::{all_done, client_with, ids, script, started};
use crate::lab::{Client, Lab, PATIENCE, wait_until};

/// A file in which each MassGen process writes one line when it starts.
struct Starts(PathBuf);

impl Starts {
    fn of(lab: &Lab) -> Starts {
        Starts(lab.project().join("starts"))
    }

    /// A script that writes the line, and then does these lines.
    fn script(&self, lines: &str) -> String {
        script(&format!("mark {}\n{lines}", self.0.display()))
    }

    fn count(&self) -> usize {
        std::fs::read_to_string(&self.0).unwrap_or_default().lines().count()
    }
}

#[tokio::test]
async fn f51_an_experiment_goes_on_when_its_server_is_killed() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "2"]).await;
    let (gate, starts) = (lab.project().join("gate"), Starts::of(&lab));
    let question = starts.script(&format!("until {}\nfinal agent_a done", gate.display()));
    let asked = json!({"config": "@rehearsal", "question": question, "repeat": 6, "group": "s"});
    client.call("run_massgen", asked).await;
    wait_until("two runs have started", || starts.count() == 2).await;
    client.kill_server().await;
    std::fs::write(&gate, "").expect("written");
    let client = lab.client().await;
    assert_eq!(all_done(&client, "s").await["states"], json!({"succeeded": 6}));
    assert_eq!((started(&lab), starts.count()), (6, 6), "each run exists once and starts MassGen once");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Looks at a group until it reports that its driver died.
async fn driver_died(client: &Client, group: &str) -> Value {
    let begun = Instant::now();
    loop {
        let seen = client.call("check_status", json!({"group": group})).await["group"].take();
        if seen["problem"]["code"] == "conductor_died" {
            return seen;
        }
        // The kernel may release the lock of a killed process a moment later.
        assert!(seen["problem"].is_null() && begun.elapsed() < PATIENCE, "{seen}");
    }
}

#[tokio::test]
async fn f52_the_same_call_resumes_an_experiment_whose_driver_was_killed() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "2"]).await;
    let (gate, starts) = (lab.project().join("gate"), Starts::of(&lab));
    let question = starts.script(&format!("until {}\nfinal agent_a done", gate.display()));
    let asked = json!({"config": "@rehearsal", "question": question, "repeat": 5, "group": "c", "request_key": "k"});
    let begun = client.call("run_massgen", asked.clone()).await;
    wait_until("two runs have started", || starts.count() == 2).await;
    let driver = || lab.processes().into_iter().find(|line| line.contains(" conduct "));
    let pid = driver().and_then(|line| line.split(' ').next().map(str::to_owned)).expect("driver");
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill").success());
    wait_until("the driver is gone", || driver().is_none()).await;
    std::fs::write(&gate, "").expect("written");
    let group = driver_died(&client, "c").await;
    assert!(group["problem"]["hint"].as_str().is_some_and(|hint| hint.contains("run_massgen")), "{group}");
    lab.only_servers_are_left().await;
    let group = client.call("check_status", json!({"group": "c"})).await["group"].take();
    assert_eq!(group["states"], json!({"succeeded": 2, "queued": 3}), "the live runs end and no other starts: {group}");
    let again = client.call("run_massgen", asked).await;
    assert_eq!((&again["resumed"], &again["run_ids"]), (&json!(true), &begun["run_ids"]), "{again}");
    assert_eq!(all_done(&client, "c").await["states"], json!({"succeeded": 5}));
    assert_eq!((started(&lab), starts.count()), (5, 5), "each run exists once and starts MassGen once");
    client.close().await;
    lab.nobody_is_left().await;
}

/// The points at which the driver is killed: its own, and those of a start that it makes itself.
fn driver_points() -> impl Iterator<Item = &'static str> {
    const OF_A_START: [&str; 5] = ["folder-made", "lock-taken", "spec-written", "folder-named", "supervisor-started"];
    crash::DRIVER_POINTS.into_iter().chain(OF_A_START)
}

/// The driver kills itself at a point, and the same call resumes the experiment: the folder of each planned run exists exactly once,
/// and MassGen starts once for each run that was not interrupted before it.
#[tokio::test]
async fn f52_a_driver_killed_at_any_step_loses_no_run_and_starts_none_twice() {
    for point in driver_points() {
        let lab = Lab::fake();
        let starts = Starts::of(&lab);
        let question = starts.script("final agent_a done");
        let asked =
            json!({"config": "@rehearsal", "question": question, "repeat": 4, "group": "c", "request_key": "k"});
        let mut command = lab.command();
        command.args(["--max-runs", "2"]);
        lab.crash_at(&mut command, point);
        let first = lab.client_of(command).await;
        let server = first.pid;
        // A server starts the driver as a driver starts a supervisor, and crashes there itself.
        let is_server_killed = point == "supervisor-started";
        let mut run_ids = None;
        if is_server_killed {
            first.broken_off("run_massgen", asked.clone()).await;
        } else {
            // The driver may die before it is ready: then the call is refused, and its hint says to repeat it.
            let (is_refused, begun) = first.ask("run_massgen", asked.clone()).await;
            assert_eq!(is_refused, point == "plan-loaded", "{point}: {begun}");
            let told = &begun["hint"];
            assert!(
                !is_refused || told.as_str().is_some_and(|hint| hint.contains("call run_massgen again")),
                "{begun}"
            );
            run_ids = (!is_refused).then(|| begun["run_ids"].clone());
            first.close().await;
        }
        let crashed = lab.crashed(point, 1 + usize::from(is_server_killed)).await;
        assert_eq!(crashed.contains(&server), is_server_killed, "{point}: {crashed:?}, server {server}");

        let client = client_with(&lab, &["--max-runs", "2"]).await;
        let is_closed = point == "experiment-closed";
        if !is_closed {
            driver_died(&client, "c").await;
        }
        let again = client.call("run_massgen", asked).await;
        assert_eq!((&again["reused"], again["resumed"] == true), (&json!(true), !is_closed), "{point}: {again}");
        assert!(run_ids.is_none_or(|ids| ids == again["run_ids"]), "{point}: {again}");
        let group = all_done(&client, "c").await;
        // A run whose start was interrupted before it had a supervisor failed without MassGen.
        let lost = usize::from(point == "folder-named");
        let succeeded = group["states"]["succeeded"].as_u64().unwrap_or_default() as usize;
        assert_eq!((succeeded, group["states"]["failed"] == 1), (4 - lost, lost == 1), "{point}: {group}");
        assert_eq!(folders(&lab), ids(&again).into_iter().collect(), "{point}: each planned run has its folder");
        assert_eq!(starts.count(), 4 - lost, "{point}");
        let page = client.call("read_result", json!({"group": "c"})).await;
        assert!(page["text"].as_str().is_some_and(|text| text.contains("4 runs planned, 4 ended")), "{point}: {page}");
        let page = client.call("read_result", json!({"group": "c", "part": "manifest"})).await;
        let manifest: Value = serde_json::from_str(page["text"].as_str().expect("text")).expect("JSON");
        assert_eq!(manifest["final"], true, "{point}: {manifest}");
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// The names in the folder of runs, and those of unfinished drafts.
fn folders(lab: &Lab) -> BTreeSet<String> {
    let entries = std::fs::read_dir(lab.state().join("runs")).expect("runs").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
