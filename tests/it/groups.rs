//! What an agent learns about a group: the identity of each run, each ending once, the events during a wait, and the comparison of
//! the configs. With the stand-in.

use serde_json::{Value, json};

use crate::lab::{Client, Lab, has_open, wait_until};

/// Two configs, each with one agent.
const CONFIGS: [&str; 2] = ["team.yaml", "solo.yaml"];

fn put_configs(lab: &Lab) {
    for (name, model) in CONFIGS.iter().zip(["odd-model", "other-model"]) {
        lab.put(name, &format!("agents:\n  - id: agent_a\n    backend: {{type: openai, model: {model}}}\n"));
    }
}

fn script(lines: &str) -> String {
    format!("#!fake\nannounce\n{lines}")
}

fn fields_of(runs: &Value, field: &str) -> Vec<String> {
    let runs = runs.as_array().expect("runs").iter();
    runs.map(|run| run[field].as_str().unwrap_or_else(|| panic!("{field} in {run}")).to_owned()).collect()
}

/// Waits until this number of runs of a group are over; returns the answer that shows it.
async fn wait_for_ended(client: &Client, group: &str, count: u64) -> Value {
    let mut since = Value::Null;
    loop {
        let arguments = json!({"group": group, "wait_s": 40, "since": since});
        let mut status = client.call("check_status", arguments).await;
        let states = status["group"]["states"].as_object().expect("states").iter();
        let ended: u64 =
            states.filter(|(state, _)| *state == "succeeded").filter_map(|(_, count)| count.as_u64()).sum();
        if ended == count {
            return client.call("check_status", json!({"group": group})).await;
        }
        since = status["cursor"].take();
    }
}

/// "Compare team.yaml and solo.yaml on three questions. Spend at most $1 in all. Give me a small table."
#[tokio::test]
async fn two_configs_are_compared_on_three_questions_in_three_calls() {
    let lab = Lab::fake();
    put_configs(&lab);
    let client = lab.client().await;
    let questions = ["final agent_a 4", "final agent_a 2", "final agent_a Yes, it is."].map(script);
    let arguments = json!({"configs": CONFIGS, "questions": questions, "budget_usd": 1, "group": "trial"});
    let started = client.call("run_massgen", arguments).await;
    let plan = &started["plan"];
    assert_eq!(fields_of(plan, "run_id"), strings_of(&started["run_ids"]), "in the same order: {started}");
    let configs: Vec<&str> = CONFIGS.into_iter().cycle().take(6).collect();
    assert_eq!(fields_of(plan, "config"), configs);
    assert!(plan[2]["question"].as_str().is_some_and(|question| question.contains("final agent_a 2")), "{plan}");
    assert!(plan[0].get("repeat").is_none() && plan[0].get("variant").is_none(), "{plan}");

    let status = client.call("check_status", json!({"group": "trial", "until": "all_done", "wait_s": 45})).await;
    assert_eq!(status["group"]["states"], json!({"succeeded": 6}), "{status}");
    assert!(status["group"]["hint"].as_str().is_some_and(|hint| hint.contains("read_result")), "{status}");

    let page = client.call("read_result", json!({"group": "trial"})).await;
    let text = page["text"].as_str().expect("text");
    assert!(text.contains("a1 = team.yaml\na2 = solo.yaml\n"), "{text}");
    for arm in ["\na1 | all | 3/3/3 | ", "\na2 | all | 3/3/3 | "] {
        assert!(text.contains(arm), "success and time of each: {text}");
    }
    assert!(text.contains("a1 and a2: the same on 3 of 3 questions"), "{text}");
    assert!(text.contains("\nq3 a2: Yes, it is.\n"), "short answers are in the table: {text}");
    client.close().await;
    lab.nobody_is_left().await;
}

fn strings_of(list: &Value) -> Vec<String> {
    list.as_array().expect("list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn variants_and_repeats_are_distinguished_and_a_large_group_is_bounded() {
    let lab = Lab::fake();
    put_configs(&lab);
    let client = lab.client().await;
    let variants = [1, 2].map(|limit| json!({"orchestrator": {"max_new_answers_per_agent": limit}}));
    let question = script("final agent_a x");
    let arguments =
        json!({"config": "team.yaml", "overrides": variants, "question": question, "repeat": 12, "keep": 24});
    let started = client.call("run_massgen", arguments).await;
    let plan = started["plan"].as_array().expect("plan");
    assert_eq!((plan.len(), started["run_ids"].as_array().map(Vec::len)), (20, Some(24)), "{started}");
    assert!(plan[0]["variant"].as_str().is_some_and(|variant| variant.contains(":1}")), "{started}");
    assert_eq!(
        (&plan[1]["config"], &plan[2]["repeat"], &started["keep"]),
        (&json!("team.yaml"), &json!(2), &json!(24))
    );
    client.call("kill_run", json!({"group": started["group"], "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_ended_run_is_shown_once_and_then_counted() {
    let lab = Lab::fake();
    put_configs(&lab);
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let late = script(&format!("until {}\nfinal agent_a late", gate.display()));
    let arguments = json!({"config": "team.yaml", "questions": [script("final agent_a soon"), late], "group": "g"});
    let started = client.call("run_massgen", arguments).await;
    // A planned run is not listed, so wait until it has started.
    client.until(started["run_ids"][1].as_str().expect("id"), |run| run["state"] == "running").await;
    let first = wait_for_ended(&client, "g", 1).await;
    assert_eq!(first["runs"].as_array().map(Vec::len), Some(2), "without since all are shown: {first}");
    assert!(first["group"].get("latest").is_none(), "the group does not repeat the ending: {first}");
    assert!(fields_of(&first["runs"], "question").iter().any(|question| question.contains("soon")), "{first}");
    assert_eq!(fields_of(&first["runs"], "config"), ["team.yaml"; 2]);

    let arguments = json!({"group": "g", "until": "all_done", "since": first["cursor"], "wait_s": 1});
    let waited = client.call("check_status", arguments.clone()).await;
    assert_eq!(fields_of(&waited["runs"], "run_id"), [started["run_ids"][1].as_str().expect("id")], "{waited}");
    assert_eq!(waited["group"]["states"]["succeeded"], 1, "{waited}");
    let hint = waited["hint"].as_str().expect("hint");
    assert!(hint.contains("1 of 2 runs are over") && hint.contains("since"), "{hint}");

    std::fs::write(&gate, "").expect("written");
    let last = wait_for_ended(&client, "g", 2).await;
    let arguments = json!({"group": "g", "since": waited["cursor"]});
    let update = client.call("check_status", arguments).await;
    assert_eq!(fields_of(&update["runs"], "run_id"), [started["run_ids"][1].as_str().expect("id")], "{update}");
    let none = client.call("check_status", json!({"group": "g", "since": last["cursor"]})).await;
    assert_eq!((&none["runs"], &none["group"]["states"]), (&json!([]), &json!({"succeeded": 2})), "{none}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn answers_of_a_group_are_side_by_side() {
    let lab = Lab::fake();
    put_configs(&lab);
    let client = lab.client().await;
    let questions = ["raw \"final agent_a Forty-two.\\nSurely.\"", "final agent_a x"];
    let questions = questions
        .map(|lines| script(&lines.replace("raw \"final agent_a Forty-two.\\nSurely.\"", "final agent_a Forty-two.")));
    let arguments = json!({"configs": CONFIGS, "questions": questions, "group": "g", "wait_s": 45});
    let started = client.call("run_massgen", arguments).await;
    assert_eq!(started["status"]["states"], json!({"succeeded": 4}), "{started}");
    let page = client.call("read_result", json!({"group": "g", "part": "answers"})).await;
    let text = page["text"].as_str().expect("text");
    let ids = strings_of(&started["run_ids"]);
    let expected = format!(
        "a1 and a2: the same\na1 {} by agent_a:\n    Forty-two.\na2 {} by agent_a:\n    Forty-two.\n",
        ids[0], ids[1]
    );
    assert!(text.contains(&expected), "{text}");
    assert_eq!((&page["part"], &page["group"]), (&json!("answers"), &json!("g")));
    assert_eq!(client.refused("read_result", json!({"group": "nobody", "part": "answers"})).await, "unknown_group");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_cost_of_models_without_a_price_is_unknown() {
    let lab = Lab::fake();
    put_configs(&lab);
    let client = lab.client().await;
    let tokens = r#"status {"costs": {"total_estimated_cost": 0.0, "total_input_tokens": 5, "total_output_tokens": 5}, "agents": {"agent_a": {"status": "answered", "token_usage": {"input_tokens": 5, "output_tokens": 5, "estimated_cost": 0.0}}}}"#;
    let question = script(&format!("{tokens}\nfinal agent_a x"));
    let arguments = json!({"configs": CONFIGS, "question": question, "budget_usd": 1, "group": "g", "wait_s": 45});
    let started = client.call("run_massgen", arguments).await;
    let group = &started["status"];
    assert!(group["budget"].as_str().is_some_and(|budget| budget.starts_with("unknown of $1.00")), "{group}");
    assert_eq!((group.get("cost_usd"), &group["cost_unknown"]), (None, &json!(true)), "{group}");
    let page = client.call("read_result", json!({"group": "g"})).await;
    let text = page["text"].as_str().expect("text");
    assert!(text.contains("| - (1 unpriced) |") && !text.contains("$0.00"), "{text}");
    let today = client.call("check_status", json!({})).await["today"].take();
    assert_eq!((today.get("cost_usd"), &today["cost_unknown"], &today["tokens"]), (None, &json!(true), &json!(20)));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn adding_a_run_to_an_existing_group_is_refused_with_a_hint() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let question = script("final agent_a x");
    let first = json!({"config": "@rehearsal", "question": question, "repeat": 2, "group": "g", "wait_s": 45});
    client.call("run_massgen", first).await;
    for change in [json!({"repeat": 3}), json!({"request_key": "k"})] {
        let mut arguments = json!({"config": "@rehearsal", "question": question, "group": "g"});
        arguments.as_object_mut().expect("object").extend(change.as_object().expect("object").clone());
        let (refused, refusal) = client.ask("run_massgen", arguments).await;
        assert!(refused && refusal["code"] == "group_taken", "{refusal}");
        assert!(refusal["hint"].as_str().is_some_and(|hint| hint.contains("can be added")), "{refusal}");
    }
    wait_until("all are over", || !lab.processes().iter().any(|line| line.contains(" conduct "))).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// A client with a small limit: endings that do not fit into one answer are in the next.
#[tokio::test]
async fn each_ended_run_is_named_once_to_a_client_with_a_small_limit() {
    let lab = Lab::fake();
    put_configs(&lab);
    let mut command = lab.command();
    command.env("MASSGEN_MCP_PAGE_CHARS", "2000");
    let client = lab.client_of(command).await;
    let arguments =
        json!({"config": "team.yaml", "question": script("final agent_a x"), "repeat": 12, "group": "g", "wait_s": 40});
    let started = client.call("run_massgen", arguments).await;
    let (mut named, mut since) = (Vec::new(), started["cursor"].clone());
    for _ in 0..12 {
        let arguments = json!({"group": "g", "since": since, "wait_s": 40, "until": "any_done"});
        let status = client.call("check_status", arguments).await;
        let runs = status["runs"].as_array().expect("runs");
        let ended = runs.iter().filter(|run| run["state"] == "succeeded");
        named.extend(ended.map(|run| run["run_id"].as_str().expect("id").to_owned()));
        since = status["cursor"].clone();
    }
    named.sort();
    let mut all = strings_of(&started["run_ids"]);
    all.sort();
    assert_eq!(named, all, "each ending once");
    let none = client.call("check_status", json!({"group": "g", "since": since})).await;
    assert_eq!(none["runs"], json!([]), "{none}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn configs_have_the_names_that_list_configs_gives() {
    let lab = Lab::fake();
    put_configs(&lab);
    let own = lab.home().join(".config/massgen/agents/mine.yaml");
    std::fs::create_dir_all(own.parent().expect("parent")).expect("mkdir");
    std::fs::copy(lab.project().join("solo.yaml"), &own).expect("copied");
    let client = lab.client().await;
    let path = lab.project().join("team.yaml");
    let arguments = json!({"configs": [path, own], "question": script("final agent_a x"), "group": "g"});
    let started = client.call("run_massgen", arguments).await;
    assert_eq!(fields_of(&started["plan"], "config"), ["team.yaml", "mine"], "{started}");
    let status = wait_for_ended(&client, "g", 2).await;
    let mut names = fields_of(&status["runs"], "config");
    names.sort();
    assert_eq!(names, ["mine", "team.yaml"], "{status}");
    let page = client.call("read_result", json!({"group": "g"})).await;
    assert!(page["text"].as_str().is_some_and(|text| text.contains("a1 = team.yaml\na2 = mine\n")), "{page}");
    let arguments = json!({"config": own, "question": script("final agent_a x"), "repeat": 2, "dry_run": false});
    let started = client.call("run_massgen", arguments).await;
    assert_eq!(started["config"], "mine", "{started}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// A cursor depends on that order.
#[tokio::test]
async fn a_run_that_waits_for_the_ledger_lock_is_created_after_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let arguments = |script_of: &str| json!({"config": "@rehearsal", "question": script(script_of), "group": "g"});
    client.start(arguments("final agent_a first")).await;
    lab.only_servers_are_left().await;
    let ledger = lab.state().join("ledger.lock");
    let lock = std::fs::File::open(&ledger).expect("ledger.lock");
    lock.lock().expect("locked");
    let starting = client.start(arguments("final agent_a second"));
    let released = async {
        wait_until("the server waits for the ledger", || has_open(client.pid, &ledger)).await;
        let released = jiff::Timestamp::now();
        drop(lock);
        released
    };
    let (id, released) = tokio::join!(starting, released);
    let spec = std::fs::read(lab.run_folder(&id).join("spec.json")).expect("spec.json");
    let spec: Value = serde_json::from_slice(&spec).expect("JSON");
    let created: jiff::Timestamp = spec["created"].as_str().expect("created").parse().expect("time");
    assert!(created >= released, "{created} is before {released}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_dry_run_says_that_a_group_is_taken() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let request = json!({"config": "@rehearsal", "question": script("final agent_a x"), "repeat": 2, "group": "g"});
    let dry = |request: &Value, question: &str| {
        let mut dry = request.clone();
        (dry["dry_run"], dry["question"]) = (json!(true), json!(script(question)));
        dry
    };
    let free = client.call("run_massgen", dry(&request, "final agent_a x")).await;
    assert!(free["ok"] == true && free["problems"].is_null() && free["notes"].is_null(), "{free}");
    client.call("run_massgen", request.clone()).await;
    wait_for_ended(&client, "g", 2).await;
    let same = client.call("run_massgen", dry(&request, "final agent_a x")).await;
    assert!(same["ok"] == true && same["notes"][0].as_str().is_some_and(|note| note.contains("group g")), "{same}");
    let other = client.call("run_massgen", dry(&request, "final agent_a y")).await;
    assert!(
        other["ok"] == false && other["problems"][0].as_str().is_some_and(|why| why.starts_with("group_taken")),
        "{other}"
    );
    let alone = json!({"config": "@rehearsal", "question": "q", "group": "g", "dry_run": true});
    let alone = client.call("run_massgen", alone).await;
    assert!(
        alone["ok"] == false && alone["problems"][0].as_str().is_some_and(|why| why.starts_with("group_taken")),
        "{alone}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

/// The limits of the whole are not those of one run, and runs that have to wait are no problem.
#[tokio::test]
async fn a_dry_run_of_several_runs_is_accepted_as_the_start_is() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--budget-usd", "1", "--max-tokens", "1000", "--max-runs", "1", "--max-queue", "0"]);
    let client = lab.client_of(command).await;
    let request = |question: &str, dry_run: bool| json!({"config": "@rehearsal", "question": script(question), "repeat": 3, "budget_usd": 3, "max_tokens": 5000, "dry_run": dry_run});
    let free = client.call("run_massgen", request("forever", true)).await;
    assert!(free["ok"] == true && free["problems"].is_null(), "{free}");
    let limits = &free["arms"][0]["dry_run"]["limits"];
    assert_eq!((&limits["budget_usd"], &limits["max_tokens"]), (&json!(1), &json!(1000)), "of each run: {free}");
    let group = client.call("run_massgen", request("forever", false)).await["group"].take();
    wait_until("a run has taken the slot", || lab.processes().iter().any(|line| line.contains(" supervise "))).await;
    let busy = client.call("run_massgen", request("final agent_a x", true)).await;
    assert!(busy["ok"] == true && busy["problems"].is_null(), "{busy}");
    client.call("kill_run", json!({"group": group, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}
