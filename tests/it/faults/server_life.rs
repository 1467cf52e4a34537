//! Server life: F14 to F20.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::lab::{Client, Dice, Lab, fake, is_over, wait_until, watches};
use crate::raw::{Raw, request};

/// The points of a start at which the server is the process that crashes. At the others it is the supervisor.
const SERVER_POINTS: usize = 5;

/// Wherever a start is interrupted, the run is started at most once per request key, it is listed from the moment its folder has its
/// name, and no process runs without a folder.
#[tokio::test]
async fn f14_a_start_killed_at_every_step_is_recovered() {
    for (place, point) in massgen_mcp::crash::POINTS.into_iter().enumerate() {
        let lab = Lab::fake_in(module_path!()).await;
        let starts = lab.project().join("starts");
        let mut asked = fake(&format!("mark {}\nannounce\nforever", starts.display()));
        asked["request_key"] = json!("key");
        let mut command = lab.command();
        lab.crash_at(&mut command, point);
        let server = lab.client_of(command).await;
        let pid = server.pid;
        server.broken_off("run_massgen", asked.clone()).await;
        let crashed = lab.crashed(point, 1).await;
        assert_eq!(crashed == [pid], place < SERVER_POINTS, "{point}: {crashed:?}, server {pid}");

        let client = lab.client().await;
        let seen = client.call("check_status", json!({})).await;
        let listed: Vec<&str> =
            seen["runs"].as_array().expect("runs").iter().filter_map(|run| run["run_id"].as_str()).collect();
        let is_named = !["folder-made", "lock-taken", "spec-written"].contains(&point);
        assert_eq!(listed.len(), usize::from(is_named), "{point}: {seen}");
        // A supervisor whose server died goes on; one that died may have started MassGen.
        let may_have_started = ["supervisor-started", "massgen-started", "massgen-recorded"].contains(&point);
        let again = client.call("run_massgen", asked).await["run_id"].take();
        assert!(!may_have_started || again == listed[0], "{point}: the key starts a second run: {again} {seen}");
        for id in listed.into_iter().chain(again.as_str()) {
            client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
            let run = client.end(id).await;
            let is_expected = matches!(run["state"].as_str(), Some("killed" | "lost" | "failed"));
            assert!(is_expected && run["exit"] != "0", "{point}: {run}");
        }
        lab.only_servers_are_left().await;
        let started = std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
        assert!(started <= 1, "{point}: {started} starts");

        let id = client.start(fake("announce\nfinal agent_a again")).await;
        assert_eq!(client.end(&id).await["state"], "succeeded", "{point}: the next start succeeds");
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// The server is killed after MassGen has started: once before the client gets the reply, which a full pipe holds back, and once
/// after. The same request then returns the same run.
#[tokio::test]
async fn f14_a_server_killed_before_or_after_its_reply_leaves_one_run() {
    for is_replied in [false, true] {
        let lab = Lab::fake_in(module_path!()).await;
        let starts = lab.project().join("starts");
        let mut asked = fake(&format!("announce\nmark {}\nforever", starts.display()));
        asked["request_key"] = json!("key");
        let count = || std::fs::read_to_string(&starts).unwrap_or_default().lines().count();
        let mut server = Raw::session(&lab).await;
        if is_replied {
            server.start_run(asked.clone()).await;
        } else {
            for id in 1..=TOOL_LISTS {
                server.say(&request(id, "tools/list", json!({}))).await;
            }
            server.call(0, "run_massgen", asked.clone()).await;
        }
        wait_until("MassGen runs", || count() == 1).await;
        let first = if is_replied { 0 } else { server.line().await.len() };
        assert!(is_replied || (TOOL_LISTS as usize - 1) * first > PIPE_BYTES, "{first} bytes leave room for the reply");
        server.child.kill().await.expect("killed");

        let client = lab.client().await;
        let again = client.call("run_massgen", asked).await;
        assert_eq!(again["reused"], true, "{again}");
        let id = again["run_id"].as_str().expect("run_id");
        let run = client.until(id, |run| run["state"] == "running").await;
        assert_eq!(client.call("check_status", json!({})).await["runs"].as_array().map(Vec::len), Some(1), "{run}");
        client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        assert_eq!((&client.end(id).await["state"], count()), (&json!("killed"), 1));
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// How many lists of tools the client requests and does not read.
const TOOL_LISTS: u32 = 20;
/// How much a pipe holds.
const PIPE_BYTES: usize = 64 << 10;

#[tokio::test]
async fn f16_a_client_that_is_gone_ends_the_server_and_no_run() {
    let lab = Lab::fake_in(module_path!()).await;
    let first = lab.client().await;
    let go = lab.project().join("go");
    let id = first.start(fake(&format!("announce\nuntil {}\nfinal agent_a done", go.display()))).await;
    first.until(&id, |run| run["state"] == "running").await;
    first.close().await;
    let has_server = || lab.processes().iter().any(|line| line.contains("massgen-mcp --home"));
    wait_until("the server ends", || !has_server()).await;
    assert_eq!(lab.record(&id)["state"], "running");
    lab.put("go", "");
    wait_until("the run ends without a server", || lab.record(&id)["state"] == "ended").await;
    assert!(!has_server());
    let second = lab.client().await;
    assert_eq!(second.end(&id).await["state"], "succeeded");
    second.close().await;
    lab.nobody_is_left().await;
}

/// Runs that several servers start, stop and look at, and what the servers have reported so far.
struct SharedRuns {
    ids: Vec<String>,
    /// The file in which each MassGen process writes a line when it starts, one file for each request.
    starts: Vec<PathBuf>,
    ends: BTreeMap<String, String>,
}

impl SharedRuns {
    /// Two servers get the same request at once: both return the same run.
    async fn start(&mut self, lab: &Lab, servers: [&Client; 2], dice: &mut Dice) {
        let number = self.ids.len();
        let starts = lab.project().join(format!("starts-{number}"));
        let script = SCRIPTS[dice.roll(SCRIPTS.len())];
        let mut asked = fake(&format!("mark {}\n{script}", starts.display()));
        asked["request_key"] = json!(format!("request {number}"));
        let [one, two] = servers.map(|server| server.start(asked.clone()));
        let (one, two) = tokio::join!(one, two);
        assert_eq!(one, two, "one request, one run");
        self.ids.push(one);
        self.starts.push(starts);
    }

    /// Looks at every run, and compares each state with what was reported before: an end does not change.
    async fn look(&mut self, server: &Client) {
        for some in self.ids.chunks(10) {
            let seen = server.call("check_status", json!({"run_ids": some})).await;
            let runs = seen["runs"].as_array().expect("runs");
            assert_eq!(runs.len(), some.len(), "every run is shown: {seen}");
            for (run, id) in runs.iter().zip(some) {
                assert_eq!(run["run_id"], id.as_str(), "{seen}");
                let state = run["state"].as_str().expect("state");
                if is_over(run) {
                    let before = self.ends.entry(id.clone()).or_insert_with(|| state.to_owned());
                    assert_eq!(before, state, "{id}");
                } else {
                    assert!(
                        !self.ends.contains_key(id),
                        "{id} had ended as {:?} and is {state} now",
                        self.ends.get(id)
                    );
                }
            }
        }
    }
}

/// Ten servers start, stop and look at forty runs at random while some are killed. The end that one server reports is the end that
/// every server reports from then on.
#[tokio::test]
async fn f17_ten_servers_on_one_state_folder_never_contradict_each_other() {
    let lab = Lab::fake_in(module_path!()).await;
    let mut servers = Vec::new();
    for _ in 0..10 {
        servers.push(lab.client().await);
    }
    let mut dice = Dice::new(0x5eed);
    let mut runs = SharedRuns { ids: Vec::new(), starts: Vec::new(), ends: BTreeMap::new() };
    for _ in 0..400 {
        let [one, two] = [(); 2].map(|()| &servers[dice.roll(10)]);
        let any = (!runs.ids.is_empty()).then(|| runs.ids[dice.roll(runs.ids.len())].clone());
        match (dice.roll(10), any) {
            (0 | 1, _) if runs.ids.len() < 40 => runs.start(&lab, [one, two], &mut dice).await,
            (2, Some(id)) => {
                let stop = json!({"run_id": id, "grace_s": 0});
                let (one, two) = tokio::join!(one.call("kill_run", stop.clone()), two.call("kill_run", stop));
                assert_eq!(one["receipts"][0]["state"], two["receipts"][0]["state"], "{id}");
            }
            (3, _) => {
                let old = servers.swap_remove(dice.roll(10));
                old.kill_server().await;
                servers.push(lab.client().await);
            }
            (4, Some(id)) => {
                let waiting = one.call("check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"}));
                let killing = two.call("kill_run", json!({"run_id": id, "grace_s": 0}));
                let (waited, killed) = tokio::join!(waiting, killing);
                assert_eq!(waited["runs"][0]["state"], killed["receipts"][0]["state"], "{id}");
            }
            _ => runs.look(one).await,
        }
    }
    assert_eq!(runs.ids.len(), 40);
    for id in runs.ids.clone() {
        servers[0].call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    }
    for server in servers {
        runs.look(&server).await;
        server.close().await;
    }
    assert_eq!(runs.ends.len(), 40, "every run has ended: {:?}", runs.ends);
    assert!(!runs.ends.values().any(|state| state == "lost"), "no supervisor was killed: {:?}", runs.ends);
    for file in &runs.starts {
        let started = std::fs::read_to_string(file).unwrap_or_default().lines().count();
        assert!(started <= 1, "{}: {started} starts", file.display());
    }
    lab.nobody_is_left().await;
}

const SCRIPTS: [&str; 4] = [
    "announce\nfinal agent_a quick",
    "announce\nanswer agent_a partial\nstray\nforever",
    "announce\nignore\nforever",
    "complain Traceback (most recent call last)\nexit 1",
];

#[tokio::test]
async fn f18_a_record_of_a_newer_version_is_shown_and_never_written_back() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    lab.only_servers_are_left().await;
    let path = lab.run_folder(&id).join("run.json");
    for (state, shown) in [("hibernating", "hibernating"), ("running", "lost")] {
        let leader = json!({"pid": 1, "start_ticks": 1, "boot_id": "another"});
        let started = json!({"wall": "2026-01-01T00:00:00Z", "boot_ms": 1, "boot_id": "another"});
        let newer =
            json!({"version": 9, "seq": 7, "state": state, "leader": leader, "started": started, "dreams": [1]})
                .to_string();
        std::fs::write(&path, &newer).expect("written");
        client.until(&id, |run| run["state"] == shown).await;
        assert_eq!(std::fs::read_to_string(&path).expect("record"), newer, "not written back");
    }
    client.close().await;
}

/// 500 copies of an ended run, whose specs were written in another order than that of their names, and two runs after them.
#[tokio::test]
async fn f19_five_hundred_finished_runs_do_not_hide_the_latest() {
    const COPIES: u64 = 500;
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    lab.only_servers_are_left().await;
    let (spec, run) = (read(&lab, &id, "spec.json"), read(&lab, &id, "run.json"));
    let long_ago = SystemTime::now() - Duration::from_secs(COPIES + 3600);
    // The copy whose spec is `age` seconds younger than the oldest.
    let copy = |age: u64| format!("mg-{:08}", age * 7 % COPIES);
    for age in 0..COPIES {
        let (name, folder) = (copy(age), lab.run_folder(&copy(age)));
        std::fs::create_dir(&folder).expect("made");
        for (file, text) in
            [("lock", String::new()), ("spec.json", spec.replace(&id, &name)), ("run.json", run.clone())]
        {
            std::fs::write(folder.join(file), text).expect("written");
        }
        let written = File::options().append(true).open(folder.join("spec.json")).expect("spec");
        written.set_modified(long_ago + Duration::from_secs(age)).expect("dated");
    }
    let newest = client.start(fake("announce\nfinal agent_a newest")).await;
    let copies = (0..COPIES).rev().map(copy);
    let expected: Vec<String> = [newest.clone(), id].into_iter().chain(copies).take(20).collect();
    // The server that was there before, and one that has just begun.
    let fresh = lab.client().await;
    for server in [&client, &fresh] {
        let seen = server.call("check_status", json!({})).await;
        let listed: Vec<_> = seen["runs"].as_array().expect("runs").iter().map(|run| run["run_id"].clone()).collect();
        assert_eq!(listed, expected, "the latest 20, the newest first");
        let oldest = server.call("check_status", json!({"run_id": copy(0)})).await;
        assert_eq!(oldest["runs"][0]["state"], "succeeded", "the others are found by their names: {oldest}");
    }
    assert_eq!(client.end(&newest).await["state"], "succeeded");
    fresh.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

fn read(lab: &Lab, id: &str, file: &str) -> String {
    std::fs::read_to_string(lab.run_folder(id).join(file)).expect("read")
}

/// A wait that began before is answered with the end, and the best answer stays readable.
#[tokio::test]
async fn f20_a_run_whose_supervisor_is_killed_stops_and_is_lost() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("stray\nannounce\nanswer agent_a so far\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    wait_until("the stray sleeps", || lab.processes().iter().any(|line| line.contains("sleep 300"))).await;
    let kill = async {
        wait_until("the server waits", || watches(client.pid) > 0).await;
        lab.kill_supervisor();
    };
    let waiting = client.call("check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"}));
    let (waited, ()) = tokio::join!(waiting, kill);
    assert_eq!(waited["runs"][0]["state"], "lost", "{waited}");

    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("lost"), &json!("unknown")), "{run}");
    assert_eq!((&run["problem"]["code"], &run["partial"]), (&json!("supervisor_died"), &json!(true)), "{run}");
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert_eq!((&page["text"], &page["partial"]), (&json!("so far"), &json!(true)), "{page}");
    lab.only_servers_are_left().await;
    client.close().await;
    lab.nobody_is_left().await;
}
