//! Experiments: many runs in one call, with the scripted stand-in for MassGen. `tests/it/comparing.rs` uses real MassGen.

use std::time::Instant;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, PATIENCE, wait_until};

/// A question that is a script of the stand-in.
pub(crate) fn script(lines: &str) -> String {
    format!("#!fake\nannounce\n{lines}")
}

/// A line that writes a status with so many dollars.
fn costs(usd: &str) -> String {
    format!(
        r#"status {{"costs": {{"total_estimated_cost": {usd}, "total_input_tokens": 5, "total_output_tokens": 5}}, "agents": {{"agent_a": {{"status": "answered", "token_usage": {{"input_tokens": 5, "output_tokens": 5, "estimated_cost": {usd}}}}}}}}}"#
    )
}

const CONFIGS: [&str; 2] = ["@rehearsal", "@rehearsal/agents=3"];

/// Waits until all runs of a group have ended and its driver has recorded why; gives the group.
pub(crate) async fn all_done(client: &Client, group: &str) -> Value {
    let begun = Instant::now();
    loop {
        let asked = json!({"group": group, "wait_s": 40, "until": "all_done"});
        let mut answer = client.call("check_status", asked).await;
        if answer["group"]["closed"].is_string() {
            return answer["group"].take();
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
    }
}

pub(crate) fn ids(begun: &Value) -> Vec<String> {
    begun["run_ids"].as_array().expect("ids").iter().map(|id| id.as_str().expect("id").to_owned()).collect()
}

pub(crate) fn started(lab: &Lab) -> usize {
    // The folder of an unfinished start has another name.
    let is_run = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("mg-");
    std::fs::read_dir(lab.state().join("runs")).map(|all| all.flatten().filter(is_run).count()).unwrap_or_default()
}

/// A client of a server with these flags.
pub(crate) async fn client_with(lab: &Lab, flags: &[&str]) -> Client {
    let mut command = lab.command();
    command.args(flags);
    lab.client_of(command).await
}

#[tokio::test]
async fn configs_by_questions_by_repeats_are_one_call_and_one_table() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let questions = ["final agent_a forty-two", "final agent_b Forty two!"].map(script);
    let asked = json!({"configs": CONFIGS, "questions": questions, "repeat": 2, "group": "trial"});
    let begun = client.call("run_massgen", asked).await;
    assert_eq!((&begun["group"], &begun["runs"], ids(&begun).len()), (&json!("trial"), &json!(8), 8), "{begun}");
    let group = all_done(&client, "trial").await;
    assert_eq!((&group["states"], &group["runs"]), (&json!({"succeeded": 8}), &json!(8)), "{group}");
    assert!(group["closed"].as_str().is_some_and(|why| why.starts_with("done")), "{group}");
    let page = client.call("read_result", json!({"group": "trial"})).await;
    let told = page["text"].as_str().expect("text");
    assert!(told.contains("2 arms") && told.contains("8 runs planned, 8 ended, 8 succeeded"), "{told}");
    let json = page["path"].as_str().expect("path");
    let csv = std::fs::read_to_string(json.replace("table.json", "table.csv")).expect("CSV");
    assert_eq!(csv.lines().count(), 9, "{csv}");
    serde_json::from_slice::<Value>(&std::fs::read(json).expect("JSON")).expect("JSON");
    let page = client.call("read_result", json!({"group": "trial", "part": "manifest"})).await;
    let manifest: Value = serde_json::from_str(page["text"].as_str().expect("text")).expect("JSON");
    assert_eq!((&manifest["final"], manifest["runs"].as_array().map(Vec::len)), (&json!(true), Some(8)), "{manifest}");
    let arms = manifest["experiment"]["arms"].as_array().expect("arms");
    assert!(
        arms.iter().all(|arm| arm["models"]["agent_a"].is_string() && arm["config_hash"].is_string()),
        "{manifest}"
    );
    for (run, id) in manifest["runs"].as_array().expect("runs").iter().zip(ids(&begun)) {
        assert_eq!(run["run_id"], id.as_str(), "in the order of the plan: {manifest}");
        assert!(run["started"].is_string() && run["ended"].is_string() && run["manifest_sha256"].is_string(), "{run}");
    }
    assert_eq!(client.refused("read_result", json!({"group": "trial", "part": "answer"})).await, "bad_part");
    assert_eq!(client.refused("read_result", json!({"group": "nobody"})).await, "unknown_group");
    people_read_the_same(&lab, &ids(&begun)[3]).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// The commands for people: the page of a group, and the check of its files.
async fn people_read_the_same(lab: &Lab, run: &str) {
    let code = |arguments: &'static [&'static str]| {
        let mut command = lab.command();
        async move { command.args(arguments).output().await.expect("ran") }
    };
    let drawn = code(&["report", "trial"]).await;
    let path = String::from_utf8(drawn.stdout).expect("UTF-8");
    let page = std::fs::read_to_string(path.trim()).expect("page");
    assert!(page.contains("agents=3") && page.contains("Forty two!"), "{page}");
    wait_until("the driver has written the manifest", || {
        path.trim()
            .strip_suffix("report.html")
            .is_some_and(|folder| std::path::Path::new(folder).join("manifest.json").exists())
    })
    .await;
    assert_eq!(code(&["verify", "trial"]).await.status.code(), Some(0));
    std::fs::write(lab.run_folder(run).join("manifest.json"), "{}").expect("written");
    let verified = code(&["verify", "trial"]).await;
    let told = String::from_utf8(verified.stdout).expect("UTF-8");
    assert_eq!(verified.status.code(), Some(3), "{told}");
    assert!(told.contains(&format!("changed  manifest {run}")), "{told}");
    assert_eq!(code(&["report", "nobody"]).await.status.code(), Some(1));
}

#[tokio::test]
async fn overrides_that_are_a_list_are_variants() {
    let lab = Lab::fake();
    lab.put("two.yaml", "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m}\n");
    let client = lab.client().await;
    let variants = [1, 2, 3].map(|most| json!({"orchestrator": {"max_new_answers_per_agent": most}}));
    let asked = json!({"config": "two.yaml", "question": script("final agent_a x"), "overrides": variants});
    let begun = client.call("run_massgen", asked).await;
    let group = begun["group"].as_str().expect("a name was made up");
    assert!(group.starts_with("ex-"), "{begun}");
    assert_eq!(all_done(&client, group).await["states"], json!({"succeeded": 3}));
    for (id, most) in ids(&begun).iter().zip(1..) {
        let config = std::fs::read_to_string(lab.run_folder(id).join("config.yaml")).expect("config");
        let line = config.lines().find(|line| line.contains("max_new_answers_per_agent")).expect("the override");
        assert!(line.ends_with(&format!(": {most}")), "{config}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn contradictory_arguments_start_nothing() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let q = script("final agent_a x");
    let mut ten: Vec<String> = (1..10).map(|n| format!("@rehearsal/tokens={n},1")).collect();
    ten.insert(7, "nowhere.yaml".to_owned());
    let (error, told) = client.ask("run_massgen", json!({"configs": ten, "question": q})).await;
    assert!(error && told["code"] == "config_missing", "{told}");
    assert!(told["message"].as_str().is_some_and(|message| message.contains("nowhere.yaml")), "{told}");
    let many: Vec<String> = (0..600).map(|n| format!("{q}\nprint {n}")).collect();
    for (code, asked) in [
        ("arguments_conflict", json!({"config": "@rehearsal", "configs": CONFIGS, "question": q})),
        ("arguments_conflict", json!({"configs": CONFIGS, "question": q, "questions": [q]})),
        ("arguments_conflict", json!({"configs": CONFIGS, "question_file": "q.txt", "questions": [q]})),
        ("arguments_conflict", json!({"configs": ["@rehearsal", "@rehearsal"], "question": q})),
        ("arguments_conflict", json!({"config": "@rehearsal", "questions": [q, q]})),
        (
            "arguments_conflict",
            json!({"config": "@rehearsal", "question": q, "repeat": 2, "continue_run": "mg-00000000"}),
        ),
        ("question_missing", json!({"configs": CONFIGS})),
        ("question_empty", json!({"configs": CONFIGS, "questions": [q, " "]})),
        ("out_of_range", json!({"configs": CONFIGS, "question": q, "repeat": 2, "keep": 5})),
        ("out_of_range", json!({"configs": CONFIGS, "questions": many})),
        ("out_of_range", json!({"configs": CONFIGS, "question": q, "repeat": 5_000_000_000_u64})),
        ("invalid_arguments", json!({"config": "@rehearsal", "question": q, "repeat": -1})),
        ("invalid_arguments", json!({"configs": {"a": 7}, "question": q})),
    ] {
        assert_eq!(client.refused("run_massgen", asked.clone()).await, code, "{asked}");
    }
    assert_eq!(started(&lab), 0);
    assert!(!lab.state().join("experiments").exists(), "a refused call leaves no experiment");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_group_belongs_to_one_experiment_and_the_same_call_returns_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let q = script("final agent_a x");
    let first = json!({"configs": CONFIGS, "question": q, "group": "g"});
    let begun = client.call("run_massgen", first.clone()).await;
    let again = client.call("run_massgen", first).await;
    assert_eq!((&again["run_ids"], &again["reused"]), (&begun["run_ids"], &json!(true)));
    for asked in [
        json!({"configs": CONFIGS, "question": q, "group": "g", "repeat": 2}),
        json!({"configs": CONFIGS, "question": q, "group": "g", "fresh": true}),
        json!({"config": "@rehearsal", "question": q, "group": "g"}),
    ] {
        assert_eq!(client.refused("run_massgen", asked).await, "group_taken");
    }
    let alone = json!({"config": "@rehearsal", "question": q, "group": "other"});
    client.start(alone).await;
    assert_eq!(
        client.refused("run_massgen", json!({"configs": CONFIGS, "question": q, "group": "other"})).await,
        "group_taken"
    );
    let keyed = |n: u32, key: &str| json!({"config": "@rehearsal", "question": q, "repeat": n, "request_key": key});
    let begun = client.call("run_massgen", keyed(2, "k")).await;
    let again = client.call("run_massgen", keyed(2, "k")).await;
    assert_eq!(begun["run_ids"], again["run_ids"]);
    assert_eq!(client.refused("run_massgen", keyed(3, "k")).await, "request_key_taken");
    let single = json!({"config": "@rehearsal", "question": q, "request_key": "k"});
    assert_eq!(client.refused("run_massgen", single).await, "request_key_taken");
    client.call("run_massgen", json!({"config": "@rehearsal", "question": q, "request_key": "one"})).await;
    assert_eq!(client.refused("run_massgen", keyed(3, "one")).await, "request_key_taken");
    all_done(&client, "g").await;
    all_done(&client, begun["group"].as_str().expect("group")).await;
    client.close().await;
    lab.only_servers_are_left().await;
}

#[tokio::test]
async fn after_enough_successes_the_other_runs_are_stopped_and_their_budget_is_released() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "3"]).await;
    let gate = lab.project().join("gate");
    let quick = script(&format!("{}\nfinal agent_a done", costs("0.1")));
    let slow = script(&format!("{}\ntouch {}\nforever", costs("0.2"), gate.display()));
    // A run that never ends is live when two have succeeded.
    let asked = json!({"config": "@rehearsal", "questions": [slow, quick], "repeat": 9, "keep": 2, "budget_usd": 20, "group": "k"});
    client.call("run_massgen", asked).await;
    let group = all_done(&client, "k").await;
    assert!(group["closed"].as_str().is_some_and(|why| why.starts_with("enough")), "{group}");
    let count = |state: &str| group["states"][state].as_u64().unwrap_or_default();
    assert!(count("succeeded") >= 2 && count("killed") >= 1 && count("not_started") >= 1, "{group}");
    assert_eq!(count("succeeded") + count("killed") + count("not_started"), 18, "{group}");
    lab.only_servers_are_left().await;
    let book = std::fs::read_to_string(lab.state().join("ledger.json")).expect("ledger");
    let book: Value = serde_json::from_str(&book).expect("JSON");
    assert_eq!(book["entries"], json!([]), "nothing is kept for runs that are over: {book}");
    client.close().await;
}

#[tokio::test]
async fn a_budget_for_all_runs_is_granted_run_by_run_and_starts_no_run_that_it_cannot_pay() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "2"]).await;
    let question = script(&format!("{}\nfinal agent_a done", costs("0.3")));
    // The first experiment shows what such a run costs.
    let known = json!({"config": "@rehearsal", "question": question, "repeat": 2, "group": "known"});
    client.call("run_massgen", known).await;
    all_done(&client, "known").await;
    let asked = json!({"config": "@rehearsal", "question": question, "repeat": 10, "budget_usd": 1.0, "group": "b"});
    let begun = client.call("run_massgen", asked).await;
    assert_eq!(begun["forecast"]["cost_usd"], 3.0, "{begun}");
    let group = all_done(&client, "b").await;
    assert_eq!(group["states"], json!({"succeeded": 3, "not_started": 7}), "{group}");
    assert!(group["closed"].as_str().is_some_and(|why| why.starts_with("spent")), "{group}");
    assert_eq!((&group["cost_usd"], &group["budget"]), (&json!(0.9), &json!("$0.90 of $1.00")), "{group}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_planned_run_is_listed_as_queued() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "1"]).await;
    let question = script("forever");
    let asked = json!({"config": "@rehearsal", "question": question, "repeat": 30, "group": "p"});
    let begun = client.call("run_massgen", asked).await;
    let last = ids(&begun).pop().expect("id");
    let seen = client.call("check_status", json!({"run_id": last})).await;
    assert_eq!(seen["runs"][0]["state"], "queued", "{seen}");
    assert_eq!(client.refused("read_result", json!({"run_id": last})).await, "nothing_to_read");
    assert_eq!(client.refused("steer_run", json!({"run_id": last, "message": "hello"})).await, "not_started");
    let kill = client.ask("kill_run", json!({"run_ids": [last]})).await.1;
    assert!(kill["code"] == "not_started" && kill["message"].to_string().contains("nothing was stopped"), "{kill}");
    let by_command = lab.command().args(["kill", &last]).output().await.expect("ran");
    assert!(!by_command.status.success() && String::from_utf8_lossy(&by_command.stderr).contains("(not_started)"));
    assert!(!lab.run_folder(&last).exists(), "a planned run has no folder");
    wait_until("one has begun", || started(&lab) == 1).await;
    let killed = client.call("kill_run", json!({"group": "p", "grace_s": 0, "reason": "seen enough"})).await;
    assert_eq!(killed["receipts"].as_array().map(Vec::len), Some(1), "{killed}");
    assert_eq!(killed["others"], json!({"not_started": 29}), "{killed}");
    let group = client.call("check_status", json!({"group": "p"})).await["group"].take();
    assert_eq!(group["closed"], "stopped: seen enough", "{group}");
    let seen = client.call("check_status", json!({"run_id": last})).await;
    assert_eq!(
        (&seen["runs"][0]["state"], &seen["runs"][0]["reason"]),
        (&json!("killed"), &json!("not started: seen enough")),
        "{seen}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_run_that_is_killed_in_the_queue_is_killed_in_the_group_as_well() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "1"]).await;
    let before = client.start(json!({"config": "@rehearsal", "question": script("forever")})).await;
    client.until(&before, |run| run["state"] == "running").await;
    let asked = json!({"config": "@rehearsal", "question": script("print one\nforever"), "repeat": 3, "group": "p"});
    let begun = client.call("run_massgen", asked).await;
    client.until(&ids(&begun)[0], |run| run["queue"].is_string()).await;
    let killed = client.call("kill_run", json!({"group": "p", "grace_s": 0})).await;
    assert_eq!((&killed["receipts"][0]["state"], &killed["others"]), (&json!("killed"), &json!({"not_started": 2})));
    let states = client.call("check_status", json!({"group": "p"})).await["group"]["states"].take();
    assert_eq!(states, json!({"killed": 1, "not_started": 2}));
    let table = client.call("read_result", json!({"group": "p"})).await;
    assert!(table["text"].as_str().is_some_and(|text| text.contains("\na1 | q1 | 0/1/3 | - | - | ")), "{table}");
    client.call("kill_run", json!({"run_id": before, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn people_stop_an_experiment_as_agents_do() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "1"]).await;
    let asked = json!({"config": "@rehearsal", "question": script("forever"), "repeat": 3, "group": "p"});
    client.call("run_massgen", asked).await;
    wait_until("one has begun", || started(&lab) == 1).await;
    let killed = lab.command().args(["kill", "--group", "p", "--grace-s", "0"]).output().await.expect("ran");
    let told = String::from_utf8(killed.stdout).expect("UTF-8");
    assert!(killed.status.success() && told.contains("2 planned runs were not started"), "{told}");
    assert_eq!(all_done(&client, "p").await["states"], json!({"killed": 1, "not_started": 2}));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_agent_of_a_run_has_an_experiment_that_is_part_of_that_run() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (told, gate) = (lab.project().join("told"), lab.project().join("gate"));
    let quick = script(&format!("{}\nfinal agent_a x", costs("0.1")));
    let nested = json!({"config": "@rehearsal", "questions": [quick, script("forever")], "group": "inner"});
    let outer = format!("nest {} {nested}\nuntil {}\nfinal agent_a done", told.display(), gate.display());
    let id = client.start(json!({"question": script(&outer), "config": "@rehearsal", "budget_usd": 5})).await;
    wait_until("the agent has its answer", || std::fs::read_to_string(&told).is_ok_and(|text| text.ends_with('\n')))
        .await;
    let begun: Value = serde_json::from_str(std::fs::read_to_string(&told).expect("told").trim()).expect("JSON");
    assert_eq!(begun["runs"], 2, "{begun}");
    client.until(&ids(&begun)[0], |run| run["state"] == "succeeded").await;
    let forever = ids(&begun).pop().expect("id");
    client.until(&forever, |run| run["state"] == "running").await;
    let details =
        client.call("check_status", json!({"run_id": forever, "detail": "full"})).await["runs"][0]["details"].take();
    assert_eq!(details["parent"], id.as_str(), "{details}");
    std::fs::write(&gate, "").expect("written");
    let run = client.end(&id).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let spent = client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0]["details"].take();
    assert_eq!(spent["tree_cost_usd"], 0.1, "{spent}");
    assert_eq!(client.end(&forever).await["state"], "killed", "it ends with the run that it is part of");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Follows a group until the condition holds. Each answer is small, and a closed group has no live runs.
async fn followed(client: &Client, group: &str, good: impl Fn(&Value) -> bool) -> Value {
    let (begun, mut cursor) = (Instant::now(), Value::Null);
    loop {
        let asked = json!({"group": group, "wait_s": 40, "until": "change", "since": cursor});
        let mut answer = client.call("check_status", asked).await;
        let bytes = answer.to_string().len();
        assert!(bytes < 4_500, "{bytes} bytes");
        let seen = answer["group"].take();
        let states = seen["states"].as_object().expect("states");
        let is_over = |state: &String| matches!(state.as_str(), "succeeded" | "killed" | "not_started");
        assert!(seen["closed"].is_null() || states.keys().all(is_over), "{seen}");
        if good(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen}");
        cursor = answer["cursor"].take();
    }
}

#[tokio::test]
async fn two_hundred_runs_start_follow_and_compare_in_bounds() {
    let lab = Lab::fake();
    let client = client_with(&lab, &["--max-runs", "8"]).await;
    let gate = lab.project().join("gate");
    let question = |n: u32| script(&format!("print {n}\nuntil {}\nfinal agent_a {}", gate.display(), n % 3));
    let questions: Vec<String> = (0..20).map(question).collect();
    let configs: Vec<String> = (1..6).map(|n| format!("@rehearsal/tokens={n},1")).collect();
    let asked = json!({"configs": configs, "questions": questions, "repeat": 2, "group": "many", "keep": 150});
    // No run ends while the gate is closed, so none of these calls waits for runs.
    let begun = client.call("run_massgen", asked).await;
    assert_eq!(ids(&begun).len(), 200);
    assert!(begun.to_string().len() < 200 * 15 + 20 * 150 + 400, "{} bytes", begun.to_string().len());
    let seen = client.call("check_status", json!({"group": "many"})).await;
    assert!(seen["group"]["runs"] == 200 && seen["group"]["states"]["queued"].as_u64() >= Some(192), "{seen}");
    let page = client.call("read_result", json!({"group": "many"})).await;
    assert!(page["text"].as_str().is_some_and(|text| text.contains("200 runs planned, 0 ended")), "{page}");
    assert!(started(&lab) <= 8, "the rest has no folder yet");

    std::fs::write(&gate, "").expect("written");
    let succeeded = |group: &Value| group["states"]["succeeded"].as_u64().unwrap_or_default();
    followed(&client, "many", |group| succeeded(group) >= 60).await;
    client.kill_server().await;
    let client = client_with(&lab, &["--max-runs", "8"]).await;
    let group = followed(&client, "many", |group| group["closed"].is_string()).await;
    assert!(
        succeeded(&group) >= 150 && group["closed"].as_str().is_some_and(|why| why.starts_with("enough")),
        "{group}"
    );
    let page = client.call("read_result", json!({"group": "many"})).await;
    assert!(page.to_string().len() < 45_000, "{} bytes", page.to_string().len());
    let told = format!("{} succeeded", succeeded(&group));
    assert!(page["text"].as_str().is_some_and(|text| text.contains(&told)), "{page}");
    client.close().await;
    lab.nobody_is_left().await;
}
