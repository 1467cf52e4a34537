//! Calls for all runs: the list of the latest, the live runs, the totals of the day, and a stop of all live runs. With the stand-in.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::lab::{Client, Lab, fake, has_open, wait_until};

fn script(lines: &str) -> String {
    format!("#!fake\nannounce\n{lines}")
}

/// A status with costs.
const SPENT: &str = r#"status {"costs": {"total_estimated_cost": 0.25, "total_input_tokens": 5, "total_output_tokens": 5}, "agents": {"agent_a": {"status": "answered", "token_usage": {"input_tokens": 5, "output_tokens": 5, "estimated_cost": 0.25}}}}"#;

/// Starts a run that does not end by itself; returns its id.
async fn start_endless(client: &Client, commands: &str) -> String {
    let id = client.start(json!({"question": script(&format!("{commands}\nforever")), "config": "@rehearsal"})).await;
    client.until(&id, |run| run["state"] == "running").await;
    id
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().expect("list").iter().map(|run| run["run_id"].as_str().expect("id")).collect()
}

/// "How much have I spent today, and on what? What is still running? Stop everything that is."
#[tokio::test]
async fn three_calls_read_the_day_totals_and_stop_all_live_runs() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let done = client.start(fake(&format!("announce\n{SPENT}\nfinal agent_a x"))).await;
    client.end(&done).await;
    let live = [start_endless(&client, "print one").await, start_endless(&client, "print two").await];

    let status = client.call("check_status", json!({})).await;
    let (run, today) = (&status["runs"][2], &status["today"]);
    assert_eq!(
        (&run["run_id"], &run["config"], &run["state"]),
        (&json!(done), &json!("@rehearsal"), &json!("succeeded"))
    );
    assert!(run["question"].as_str().is_some_and(|text| text.starts_with("#!fake announce status")), "{run}");
    assert!(run["question"].as_str().is_some_and(|text| text.chars().count() == 60 && text.ends_with('…')), "{run}");
    assert!(run["age_s"].is_u64() && run["cost_usd"] == 0.25, "{run}");
    assert_eq!(
        (&today["runs"], &today["live"], &today["cost_usd"], &today["tokens"]),
        (&json!(3), &json!(2), &json!(0.25), &json!(10))
    );
    assert!(
        today["day"].as_str().is_some_and(|day| day.len() == "2026-11-27 (UTC)".len() && day.ends_with("(UTC)")),
        "{today}"
    );

    let status = client.call("check_status", json!({"live": true})).await;
    assert_eq!(ids(&status["runs"]), [live[1].as_str(), &live[0]], "the latest first: {status}");
    let killed = client.call("kill_run", json!({"all": true, "grace_s": 0, "reason": "that is all"})).await;
    let receipts = killed["receipts"].as_array().expect("receipts");
    assert!(receipts.len() == 2 && receipts.iter().all(|receipt| receipt["state"] == "killed"), "{killed}");
    let status = client.call("check_status", json!({"live": true})).await;
    assert_eq!((&status["runs"], &status["today"]["live"]), (&json!([]), &json!(0)), "{status}");
    let repeated = client.call("kill_run", json!({"all": true})).await;
    assert_eq!(repeated, json!({"receipts": []}), "nothing is left to stop");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn kill_all_of_another_server_stops_an_experiment_and_its_planned_runs() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-runs", "2"]);
    let client = lab.client_of(command).await;
    let arguments = json!({"config": "@rehearsal", "question": script("forever"), "repeat": 20, "group": "many"});
    client.call("run_massgen", arguments).await;
    let other = lab.client().await;
    let two_started = || std::fs::read_dir(lab.state().join("runs")).expect("runs").flatten().count() >= 2;
    wait_until("two runs have started", two_started).await;
    let killed = other.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    let receipts = killed["receipts"].as_array().expect("receipts");
    assert!(!receipts.is_empty() && receipts.iter().all(|receipt| receipt["state"] == "killed"), "{killed}");
    assert!(killed["others"]["not_started"].as_u64() >= Some(17), "{killed}");
    let mut status = other.call("check_status", json!({"group": "many"})).await;
    assert!(
        status["runs"].as_array().is_some_and(|runs| runs.len() <= 3),
        "runs that never started are not listed: {status}"
    );
    let group = status["group"].take();
    assert!(group["closed"].as_str().is_some_and(|reason| reason.starts_with("stopped")), "{group}");
    other.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn kill_all_spares_the_runs_of_other_clients_and_says_so() {
    let lab = Lab::fake();
    let other = lab.client_of(under_a_shell(&lab.command())).await;
    let foreign = start_endless(&other, "print foreign").await;
    let own = start_endless(&lab.client().await, "print own").await;
    // The client has started its server again.
    let client = lab.client().await;
    let killed = client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    assert_eq!(ids(&killed["receipts"]), [own.as_str()]);
    let hint = killed["hint"].as_str().expect("a hint");
    assert!(hint.starts_with("live runs of other clients or projects go on: 1;") && hint.contains("run_ids"), "{hint}");
    let live = client.call("check_status", json!({"live": true})).await;
    assert_eq!(ids(&live["runs"]), [foreign.as_str()]);
    let killed = other.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    assert_eq!((ids(&killed["receipts"]), killed.get("hint")), (vec![foreign.as_str()], None));
    other.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn kill_all_spares_the_runs_of_the_same_client_in_another_project() {
    let lab = Lab::fake();
    let elsewhere = lab.state().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).expect("mkdir");
    let other = lab.client_of(server_in_project(&lab, &elsewhere)).await;
    let foreign = start_endless(&other, "print foreign").await;
    let client = lab.client().await;
    let own = start_endless(&client, "print own").await;
    let killed = client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    assert_eq!(ids(&killed["receipts"]), [own.as_str()], "{killed}");
    let killed = other.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    assert_eq!(ids(&killed["receipts"]), [foreign.as_str()], "{killed}");
    other.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// The experiment driver is in the middle of starting its second run while kill_run lists the runs to stop.
#[tokio::test]
async fn a_run_that_starts_during_kill_all_has_a_receipt() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-runs", "1"]);
    let client = lab.client_of(command).await;
    let gate = lab.project().join("gate");
    let first = script(&format!("until {}\nfinal agent_a done", gate.display()));
    let arguments = json!({"config": "@rehearsal", "questions": [first, script("forever")], "group": "g"});
    let started = client.call("run_massgen", arguments).await;
    let [first, second] = [0, 1].map(|index| started["run_ids"][index].as_str().expect("id").to_owned());
    client.until(&first, |run| run["state"] == "running").await;
    let driver = pid_of(&lab, " conduct ").expect("experiment driver");
    send_signal("-STOP", &driver);
    std::fs::write(&gate, "").expect("written");
    wait_until("the first run is over", || pid_of(&lab, " supervise ").is_none()).await;

    let ledger = lab.state().join("ledger.lock");
    let lock = std::fs::File::open(&ledger).expect("ledger.lock");
    lock.lock().expect("locked");
    send_signal("-CONT", &driver);
    wait_until("the experiment driver waits for the ledger", || has_open(driver.parse().expect("pid"), &ledger)).await;
    let killing = client.call("kill_run", json!({"all": true, "grace_s": 0}));
    let released = async {
        wait_until("the stop of the experiment is requested", || stop_is_requested(&lab)).await;
        drop(lock);
    };
    let (killed, ()) = tokio::join!(killing, released);
    assert_eq!(ids(&killed["receipts"]), [second.as_str()], "{killed}");
    assert_eq!((&killed["receipts"][0]["state"], killed.get("others")), (&json!("killed"), None), "{killed}");
    client.close().await;
    lab.nobody_is_left().await;
}

fn pid_of(lab: &Lab, part: &str) -> Option<String> {
    let processes = lab.processes();
    let line = processes.iter().find(|line| line.contains(part))?;
    line.split(' ').next().map(str::to_owned)
}

fn send_signal(name: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([name, pid]).status().expect("kill").success());
}

fn stop_is_requested(lab: &Lab) -> bool {
    let experiments = std::fs::read_dir(lab.state().join("experiments")).into_iter().flatten().flatten();
    experiments.into_iter().any(|entry| entry.path().join("stop.json").exists())
}

/// The lab's server, with another project.
fn server_in_project(lab: &Lab, folder: &std::path::Path) -> Command {
    let server = lab.command();
    let own = lab.project();
    let arguments =
        server.as_std().get_args().map(|argument| if argument == own { folder.as_os_str() } else { argument });
    let mut command = Command::new(server.as_std().get_program());
    command.args(arguments).stderr(std::process::Stdio::null());
    with_variables_of(&server, command)
}

/// The same server with a shell as its parent process, as another client would start it.
fn under_a_shell(server: &Command) -> Command {
    let mut command = Command::new("sh");
    let (program, arguments) = (server.as_std().get_program(), server.as_std().get_args());
    command.args(["-c", "\"$@\"; :", "sh"]).arg(program).args(arguments).stderr(std::process::Stdio::null());
    with_variables_of(server, command)
}

fn with_variables_of(server: &Command, mut command: Command) -> Command {
    for (name, value) in server.as_std().get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

#[tokio::test]
async fn receipts_of_many_stops_are_bounded_and_the_others_are_counted() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let arguments = json!({"config": "@rehearsal", "question": script("forever"), "repeat": 23, "group": "g"});
    client.call("run_massgen", arguments).await;
    let running = |status: &Value| status["group"]["states"]["running"] == 23;
    let mut status = client.call("check_status", json!({"group": "g"})).await;
    while !running(&status) {
        status = client.call("check_status", json!({"group": "g", "wait_s": 40, "since": status["cursor"]})).await;
    }
    let live = client.call("check_status", json!({"live": true})).await;
    assert_eq!((live["runs"].as_array().map(Vec::len), &live["today"]["live"]), (Some(20), &json!(23)), "{live}");
    assert!(live.to_string().len() < 8_000, "{} bytes", live.to_string().len());
    let killed = client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    assert_eq!((ids(&killed["receipts"]).len(), &killed["others"]), (20, &json!({"killed": 3})), "{killed}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn kill_all_by_an_agent_of_a_run_stops_only_the_runs_below_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let sibling = start_endless(&client, "print beside").await;
    let (answers, gate) = (lab.project().join("told"), lab.project().join("gate"));
    let file = answers.display();
    let nested = json!({"config": "@rehearsal", "question": script("print below\nforever")});
    let outer = format!(
        "nest {file} {nested}\nuntil {}\nnest-call {file} check_status {{\"live\": true}}\nnest-call {file} kill_run {{\"all\": true, \"grace_s\": 0}}\nfinal agent_a done",
        gate.display()
    );
    let id = client.start(json!({"question": script(&outer), "config": "@rehearsal"})).await;
    let lines = || std::fs::read_to_string(&answers).unwrap_or_default().lines().count();
    wait_until("the agent has started a run", || lines() == 1).await;
    let line = |n: usize| {
        let text = std::fs::read_to_string(&answers).expect("told");
        serde_json::from_str::<Value>(text.lines().nth(n).expect("a line")).expect("JSON")
    };
    let below = line(0)["run_id"].as_str().expect("id").to_owned();
    client.until(&below, |run| run["state"] == "running").await;
    std::fs::write(&gate, "").expect("written");
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "the run has not stopped itself: {run}");
    assert_eq!(ids(&line(1)["runs"]), [below.as_str()]);
    assert_eq!(ids(&line(2)["receipts"]), [below.as_str()]);
    assert_eq!(client.end(&below).await["state"], "killed");
    let status = client.call("check_status", json!({"live": true})).await;
    assert_eq!(ids(&status["runs"]), [sibling.as_str()]);
    client.call("kill_run", json!({"run_id": sibling, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_wait_for_all_live_runs_shows_the_run_that_ends() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let other = start_endless(&client, "print held").await;
    let question = script(&format!("until {}\nfinal agent_a done", gate.display()));
    let id = client.start(json!({"question": question, "config": "@rehearsal"})).await;
    client.until(&id, |run| run["state"] == "running").await;
    let waiting = client.call("check_status", json!({"live": true, "until": "any_done", "wait_s": 45}));
    let opened = async { std::fs::write(&gate, "").expect("written") };
    let (status, ()) = tokio::join!(waiting, opened);
    let ended = status["runs"].as_array().expect("runs").iter().find(|run| run["run_id"] == id.as_str());
    // The run may have ended before the wait took its first snapshot; then the wait is for the other run.
    assert!(ended.is_none_or(|run| run["state"] == "succeeded" || run["answer_ready"] == true), "{status}");
    client.call("kill_run", json!({"run_ids": [other, id], "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn day_totals_include_removed_runs() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for _ in 0..2 {
        let mut arguments = fake(&format!("announce\n{SPENT}\nfinal agent_a x"));
        arguments["fresh"] = json!(true);
        let id = client.start(arguments).await;
        client.end(&id).await;
    }
    lab.only_servers_are_left().await;
    let pruned = lab.command().args(["prune", "--keep-runs", "1"]).output().await.expect("ran");
    assert!(pruned.status.success());
    let status = client.call("check_status", json!({})).await;
    assert_eq!(
        (ids(&status["runs"]).len(), &status["today"]["runs"], &status["today"]["cost_usd"]),
        (1, &json!(2), &json!(0.5)),
        "{status}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn naming_runs_together_with_all_is_refused() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for (tool, arguments) in [
        ("check_status", json!({"live": true, "group": "g"})),
        ("check_status", json!({"live": true, "run_id": "mg-00000000"})),
        ("kill_run", json!({})),
        ("kill_run", json!({"all": true, "group": "g"})),
        ("kill_run", json!({"run_id": "mg-00000000", "run_ids": ["mg-00000001"]})),
    ] {
        assert_eq!(client.refused(tool, arguments.clone()).await, "selection_unclear", "{arguments}");
    }
    assert_eq!(client.refused("kill_run", json!({"run_ids": ["mg-00000000"]})).await, "unknown_run");
    client.close().await;
}

#[tokio::test]
async fn the_kill_command_stops_all_live_runs() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = start_endless(&client, "print one").await;
    let printed = |arguments: &'static [&'static str]| {
        let mut command = lab.command();
        async move { String::from_utf8(command.args(arguments).output().await.expect("ran").stdout).expect("UTF-8") }
    };
    let listed = printed(&["runs", "--live"]).await;
    assert!(
        listed.contains(&id) && listed.contains("@rehearsal: #!fake") && listed.contains("1 of them live"),
        "{listed}"
    );
    assert!(printed(&["kill", "--all", "--grace-s", "0"]).await.starts_with(&id));
    assert_eq!(printed(&["kill", "--all"]).await, "no run goes on\n");
    assert!(printed(&["runs", "--live"]).await.starts_with("no run goes on\n"));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_cursor_of_live_runs_waits_for_the_next_end() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let second = start_endless(&client, "print two").await;
    let first = client.start(fake(&format!("announce\nuntil {}\nfinal agent_a done", gate.display()))).await;
    client.until(&first, |run| run["state"] == "running").await;
    let wait =
        |wait_s: f64, since: &Value| json!({"live": true, "until": "any_done", "wait_s": wait_s, "since": since});
    let waiting = client.call("check_status", wait(10.0, &Value::Null));
    let opened = async { std::fs::write(&gate, "").expect("written") };
    let (ended, ()) = tokio::join!(waiting, opened);
    // The cursor of an answer that still shows the ended run; if the run ended before the wait began, the answer does not.
    client.until(&first, |run| run["state"] == "succeeded").await;
    let again = client.call("check_status", wait(0.3, &ended["cursor"])).await;
    let hint = again["hint"].as_str().unwrap_or_default();
    assert!(ids(&again["runs"]) == [second.as_str()] && hint.starts_with("after 0 s: "), "it waited: {again}");
    let refusal = client.ask("kill_run", json!({"run_ids": [second, "mg-00000000"]})).await.1;
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains("; nothing was stopped")), "{refusal}");
    client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}
