//! Probes of an owner's lock do not disturb owners: an experiment is resumed while other processes look at its lock all the time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use massgen_mcp::registry::probe_owner;
use serde_json::json;

use crate::lab::{Lab, wait_until};

/// How often the driver is killed and the experiment resumed.
const ROUNDS: usize = 8;
const PROBING_THREADS: usize = 8;

/// Threads that probe a lock file until the storm ends.
struct Storm {
    is_over: Arc<AtomicBool>,
    probes: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    fn new(lock: &Path) -> Storm {
        let (is_over, probes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let probe = || {
            let (lock, is_over, probes) = (lock.to_owned(), Arc::clone(&is_over), Arc::clone(&probes));
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    let _owner = probe_owner(&lock);
                    probes.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..PROBING_THREADS).map(|_| probe()).collect();
        Storm { is_over, probes, threads }
    }

    /// Ends the storm; returns the number of probes.
    fn end(self) -> usize {
        self.is_over.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().expect("joined"));
        self.probes.load(Ordering::Relaxed)
    }
}

fn experiment_lock(lab: &Lab) -> PathBuf {
    let folders = std::fs::read_dir(lab.state().join("experiments")).expect("experiments");
    folders.flatten().map(|entry| entry.path().join("lock")).find(|lock| lock.exists()).expect("lock")
}

/// The driver of an experiment, as a line of the list of processes.
fn driver(lab: &Lab) -> Option<String> {
    lab.processes().into_iter().find(|line| line.contains(" conduct "))
}

async fn kill_driver(lab: &Lab, lock: &Path) {
    let line = driver(lab).expect("driver");
    let pid = line.split(' ').next().expect("pid");
    assert!(std::process::Command::new("kill").args(["-KILL", pid]).status().expect("kill").success());
    wait_until("the driver has ended and its lock is free", || driver(lab).is_none() && probe_owner(lock).is_free())
        .await;
}

#[tokio::test]
async fn an_experiment_is_resumed_while_its_lock_is_probed() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let question = format!("#!fake\nuntil {}\nfinal agent_a done", gate.display());
    let request = json!({"config": "@rehearsal", "question": question, "repeat": 2, "group": "g", "request_key": "k"});
    client.call("run_massgen", request.clone()).await;
    let lock = experiment_lock(&lab);
    for round in 0..ROUNDS {
        kill_driver(&lab, &lock).await;
        let storm = Storm::new(&lock);
        let again = client.call("run_massgen", request.clone()).await;
        assert!(storm.end() > 0, "the lock was probed");
        assert_eq!(again["resumed"], true, "round {round}: {again}");
    }
    std::fs::write(&gate, "").expect("written");
    wait_until("the experiment has ended", || driver(&lab).is_none()).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_interrupted_experiment_without_a_name_is_resumed_by_the_same_call_at_any_time() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let question = format!("#!fake\nuntil {}\nfinal agent_a done", gate.display());
    let request = json!({"config": "@rehearsal", "question": question, "repeat": 2});
    let begun = client.call("run_massgen", request.clone()).await;
    let lock = experiment_lock(&lab);
    kill_driver(&lab, &lock).await;
    let plan = lock.with_file_name("plan.json");
    let text = std::fs::read_to_string(&plan).expect("plan.json");
    let mut long_ago: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    long_ago["created"] = json!("2026-01-01T00:00:00Z");
    std::fs::write(&plan, long_ago.to_string()).expect("written");
    let again = client.call("run_massgen", request).await;
    assert_eq!((&again["resumed"], &again["run_ids"]), (&json!(true), &begun["run_ids"]), "{again}");
    std::fs::write(&gate, "").expect("written");
    wait_until("the experiment has ended", || driver(&lab).is_none()).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_for_an_interrupted_experiment_ends_when_its_started_runs_have_ended() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-runs", "1"]);
    let client = lab.client_of(command).await;
    let gate = lab.project().join("gate");
    let question = format!("#!fake\nannounce\nuntil {}\nfinal agent_a done", gate.display());
    client.call("run_massgen", json!({"config": "@rehearsal", "question": question, "repeat": 3, "group": "g"})).await;
    wait_until("a run has started", || lab.processes().iter().any(|line| line.contains(" supervise "))).await;
    let lock = experiment_lock(&lab);
    kill_driver(&lab, &lock).await;
    std::fs::write(&gate, "").expect("written");
    let status = client.call("check_status", json!({"group": "g", "until": "all_done", "wait_s": 45})).await;
    assert_eq!(status["group"]["problem"]["code"], "conductor_died", "{status}");
    assert!(!status["hint"].to_string().contains("go on waiting"), "it did not wait for its timeout: {status}");
    let command = lab.command().args(["wait", "--group", "g"]).output().await.expect("ran");
    let error = String::from_utf8_lossy(&command.stderr).into_owned();
    assert!(
        !command.status.success() && error.contains("(conductor_died)") && error.contains("`massgen-mcp kill`"),
        "{error}"
    );
    client.call("kill_run", json!({"group": "g"})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_supervisor_of_a_queued_run_ends_when_its_folder_is_removed() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-runs", "1"]);
    let client = lab.client_of(command).await;
    let endless =
        |text: &str| json!({"config": "@rehearsal", "question": format!("#!fake\nannounce\nprint {text}\nforever")});
    let live = client.start(endless("one")).await;
    client.until(&live, |run| run["state"] == "running").await;
    let queued = client.start(endless("two")).await;
    client.until(&queued, |run| run["state"] == "queued").await;
    let supervisor = || lab.processes().into_iter().any(|line| line.contains(" supervise ") && line.contains(&queued));
    assert!(supervisor());
    std::fs::remove_dir_all(lab.run_folder(&queued)).expect("removed");
    wait_until("its supervisor has ended", || !supervisor()).await;
    client.call("kill_run", json!({"run_id": live, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}
