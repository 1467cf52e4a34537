//! Server life: F14 to F20.

use serde_json::json;

use crate::lab::{Client, Dice, Lab, fake, wait_until};
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
    first.close().await;
    lab.put("go", "");
    wait_until("the run ends with no server alive", || lab.record(&id)["state"] == "ended").await;
    let second = lab.client().await;
    assert_eq!(second.end(&id).await["state"], "succeeded");
    second.close().await;
    lab.nobody_is_left().await;
}

/// What one server has told of a run's end, every server tells from then on.
#[tokio::test]
async fn f17_ten_servers_on_one_state_folder_never_contradict_each_other() {
    let lab = Lab::fake_in(module_path!()).await;
    let mut servers = Vec::new();
    for _ in 0..10 {
        servers.push(lab.client().await);
    }
    let mut dice = Dice::new(0x5eed);
    let mut ends: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    let mut runs: Vec<String> = Vec::new();
    for _ in 0..400 {
        let server = &servers[dice.roll(servers.len())];
        match dice.roll(10) {
            0 | 1 if runs.len() < 40 => runs.push(server.start(fake(SCRIPTS[dice.roll(SCRIPTS.len())])).await),
            2 if !runs.is_empty() => {
                let id = &runs[dice.roll(runs.len())];
                let (one, two) = (&servers[dice.roll(10)], &servers[dice.roll(10)]);
                let wish = json!({"run_id": id, "grace_s": 0});
                let (one, two) = tokio::join!(one.call("kill_run", wish.clone()), two.call("kill_run", wish));
                assert_eq!(one["receipts"][0]["state"], two["receipts"][0]["state"], "{id}");
            }
            3 => {
                let old = servers.swap_remove(dice.roll(servers.len()));
                old.kill_server().await;
                servers.push(lab.client().await);
            }
            4 if !runs.is_empty() => {
                let id = &runs[dice.roll(runs.len())];
                let waiting = server.call("check_status", json!({"run_id": id, "wait_s": 50, "until": "all_done"}));
                let killing = servers[dice.roll(10)].call("kill_run", json!({"run_id": id, "grace_s": 0}));
                let (waited, killed) = tokio::join!(waiting, killing);
                assert_eq!(waited["runs"][0]["state"], killed["receipts"][0]["state"], "{id}");
            }
            _ => note_ends(server, &mut ends).await,
        }
    }
    for id in &runs {
        servers[0].call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    }
    for server in &servers {
        note_ends(server, &mut ends).await;
    }
    assert!(runs.len() > 20, "{} runs", runs.len());
    assert!(!ends.values().any(|state| state == "lost"), "no supervisor was harmed: {ends:?}");
    for server in servers {
        server.close().await;
    }
    lab.nobody_is_left().await;
}

const SCRIPTS: [&str; 4] = [
    "announce\nfinal agent_a quick",
    "announce\nanswer agent_a partial\nstray\nforever",
    "announce\nignore\nforever",
    "complain Traceback (most recent call last)\nexit 1",
];

async fn note_ends(server: &Client, ends: &mut std::collections::BTreeMap<String, String>) {
    let seen = server.call("check_status", json!({})).await;
    for run in seen["runs"].as_array().expect("runs") {
        let (id, state) =
            (run["run_id"].as_str().expect("id").to_owned(), run["state"].as_str().expect("state").to_owned());
        if matches!(state.as_str(), "starting" | "running" | "stopping") {
            assert!(!ends.contains_key(&id), "{id} had ended as {:?} and is {state} now", ends.get(&id));
        } else {
            let before = ends.entry(id.clone()).or_insert_with(|| state.clone());
            assert_eq!(*before, state, "{id}");
        }
    }
}

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

#[tokio::test]
async fn f19_five_hundred_finished_runs_do_not_hide_the_latest() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    lab.only_servers_are_left().await;
    let (spec, run) = (read(&lab, &id, "spec.json"), read(&lab, &id, "run.json"));
    for number in 0..500 {
        let name = format!("mg-{number:08}");
        let folder = lab.run_folder(&name);
        std::fs::create_dir(&folder).expect("made");
        for (file, text) in
            [("lock", String::new()), ("spec.json", spec.replace(&id, &name)), ("run.json", run.clone())]
        {
            std::fs::write(folder.join(file), text).expect("written");
        }
    }
    let newest = client.start(fake("announce\nfinal agent_a newest")).await;
    let seen = client.call("check_status", json!({})).await;
    assert_eq!(seen["runs"].as_array().map(Vec::len), Some(20));
    assert_eq!(seen["runs"][0]["run_id"], newest.as_str());
    assert_eq!(client.end(&newest).await["state"], "succeeded");
    client.close().await;
    lab.nobody_is_left().await;
}

fn read(lab: &Lab, id: &str, file: &str) -> String {
    std::fs::read_to_string(lab.run_folder(id).join(file)).expect("read")
}

#[tokio::test]
async fn f20_when_a_supervisor_is_killed_its_run_stops_and_is_called_lost() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let id = client.start(fake("stray\nannounce\nanswer agent_a so far\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    wait_until("the stray sleeps", || lab.processes().iter().any(|line| line.contains("sleep 300"))).await;
    lab.kill_supervisor();

    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("lost"), &json!("unknown")), "{run}");
    assert_eq!((&run["problem"]["code"], &run["partial"]), (&json!("supervisor_died"), &json!(true)), "{run}");
    lab.only_servers_are_left().await;
    client.close().await;
    lab.nobody_is_left().await;
}
