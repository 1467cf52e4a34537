//! Money and recursion: F34 to F40, with the scripted stand-in for MassGen; real MassGen is stopped at its budget in
//! `tests/it/governed.rs`.

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, is_over, refusal, wait_until};

/// A script's line that writes a status with so many dollars, and so many tokens of one agent.
fn costs(usd: &str, tokens: u64) -> String {
    let agent = format!(
        r#"{{"status": "answered", "answer_count": 1, "latest_answer_label": "agent1.1", "token_usage": {{"input_tokens": {tokens},
        "output_tokens": 0, "estimated_cost": {usd}}}}}"#
    );
    let costs =
        format!(r#"{{"total_estimated_cost": {usd}, "total_input_tokens": {tokens}, "total_output_tokens": 0}}"#);
    format!("status {{\"costs\": {costs}, \"agents\": {{\"agent_a\": {agent}}}}}").replace('\n', " ")
}

fn with(mut asked: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().expect("object") {
        asked[name] = value.clone();
    }
    asked
}

async fn full(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0]["details"].take()
}

#[tokio::test]
async fn f34_a_cost_that_jumps_past_the_ceiling_ends_the_run_and_says_by_how_much() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let script = format!("announce\nanswer agent_a the best so far\n{}\nforever", costs("1.75", 900));
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1.5}))).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("over_budget"), &json!("budget_spent")), "{run}");
    let told = run["problem"]["message"].as_str().expect("message");
    assert!(told.contains("$1.75 of $1.50 (over by $0.25)"), "{told}");
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert_eq!((&page["text"], &page["partial"]), (&json!("the best so far"), &json!(true)));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f34_at_80_percent_of_the_budget_agents_get_a_message_and_waits_return() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let script = format!("announce\n{}\nuntil {}\n{}\nforever", costs("0.5", 10), gate.display(), costs("0.8", 20));
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1}))).await;
    client.until(&id, |run| run["tokens"] == 10).await;
    assert!(!lab.run_folder(&id).join("inbox").exists());
    std::fs::write(&gate, "").expect("written");
    let run = client.until(&id, |run| run["budget"].is_string()).await;
    assert_eq!(run["budget"], "80 % of $1.00", "{run}");
    let inbox = std::fs::read_dir(lab.run_folder(&id).join("inbox")).expect("inbox").flatten();
    let messages: Vec<_> = inbox.map(|entry| entry.path()).collect();
    assert!(messages.len() == 1 && messages[0].to_string_lossy().ends_with("_budget.json"), "{messages:?}");
    assert!(run.get("messages_waiting").is_none(), "the message about the budget is not counted: {run}");
    let message = std::fs::read_to_string(&messages[0]).expect("message");
    assert!(message.contains("Finish now"), "{message}");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f34_the_cost_of_massgens_own_subagents_is_counted() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let subagent = costs("0.75", 7).replacen("status", "subagent", 1);
    let script = format!("announce\nanswer agent_a so far\n{}\n{subagent}\nforever", costs("0.5", 3));
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1.2}))).await;
    client.end(&id).await;
    let seen = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let run = &seen["runs"][0];
    assert_eq!(
        (&run["state"], &run["cost_usd"], &run["tokens"]),
        (&json!("over_budget"), &json!(1.25), &json!(10)),
        "{run}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f35_an_unknown_cost_is_shown_as_unknown_and_spending_never_decreases() {
    let lab = Lab::fake_in(module_path!()).await;
    lab.put("team.yaml", "agents:\n  - id: agent_a\n    backend: {type: openai, model: odd-model}\n");
    let client = lab.client().await;
    for odd in ["null", "0.0", "-3", "\"much\"", "NaN"] {
        let id = client
            .start(with(
                fake(&format!("announce\n{}\nforever", costs(odd, 7))),
                &json!({"fresh": true, "config": "team.yaml"}),
            ))
            .await;
        let run = client.until(&id, |run| run["tokens"] == 7).await;
        assert_eq!((run.get("cost_usd"), &run["cost_unknown"]), (None, &json!(true)), "{odd}: {run}");
        client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    }
    let gate = lab.project().join("gate");
    let script = format!("announce\n{}\nuntil {}\n{}\nforever", costs("0.5", 10), gate.display(), costs("0.25", 11));
    let id = client.start(fake(&script)).await;
    client.until(&id, |run| run["tokens"] == 10).await;
    std::fs::write(&gate, "").expect("written");
    client.until(&id, |run| run["tokens"] == 11).await;
    assert_eq!(full(&client, &id).await["tree_cost_usd"], 0.5);
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f35_the_operator_may_deny_models_without_a_price_or_estimate_them() {
    let lab = Lab::fake_in(module_path!()).await;
    lab.put("team.yaml", "agents:\n  - id: agent_a\n    backend: {type: openai, model: odd-model}\n");
    let settings = "unknown_cost = \"estimate\"\n[prices.\"odd-model\"]\ninput = 1000.0\noutput = 2000.0\n";
    let file = lab.put("settings.toml", settings);
    for (name, value, state, code) in [
        ("MASSGEN_MCP_UNKNOWN_COST", "deny".to_owned(), "over_budget", "cost_unknown"),
        ("MASSGEN_MCP_SETTINGS", file.display().to_string(), "over_budget", "budget_spent"),
    ] {
        let mut command = lab.command();
        command.env(name, value);
        let client = lab.client_of(command).await;
        let asked = with(fake(&format!("announce\n{}\nforever", costs("0.0", 2_000))), &json!({"config": "team.yaml"}));
        let id = client.start(with(asked, &json!({"budget_usd": 1.5, "fresh": true}))).await;
        let run = client.end(&id).await;
        assert_eq!((&run["state"], &run["problem"]["code"]), (&json!(state), &json!(code)), "{run}");
        client.close().await;
    }
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f36_of_ten_starts_at_once_against_a_budget_for_three_exactly_three_are_admitted() {
    let lab = Lab::fake_in(module_path!()).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        let mut command = lab.command();
        command.env("MASSGEN_MCP_DAY_BUDGET_USD", "3.5");
        clients.push(lab.client_of(command).await);
    }
    let asked = with(fake("announce\nforever"), &json!({"budget_usd": 1, "fresh": true}));
    let starts = (0..10).map(|n| clients[n % 5].ask("run_massgen", asked.clone()));
    let answers = futures_util::future::join_all(starts).await;
    let refused: Vec<_> = answers.iter().filter(|(refused, _)| *refused).map(|(_, told)| &told["code"]).collect();
    assert_eq!(refused, vec![&json!("budget_exhausted"); 7], "{answers:?}");

    // The killed runs release what they did not spend. A run without a requested budget gets half of what is left.
    let ids: Vec<_> = answers.iter().filter_map(|(_, told)| told["run_id"].as_str()).collect();
    for id in &ids {
        clients[0].call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    }
    lab.only_servers_are_left().await;
    let id = clients[1].start(fake("announce\nforever")).await;
    assert_eq!(full(&clients[1], &id).await["budget_usd"], 1.75);
    clients[1].call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    for client in clients {
        client.close().await;
    }
    lab.nobody_is_left().await;
}

/// What the ledger reserves for runs, in millionths of a dollar.
fn reserved(lab: &Lab) -> Vec<u64> {
    let text = std::fs::read_to_string(lab.state().join("ledger.json")).unwrap_or_else(|_| "{}".to_owned());
    let ledger: Value = serde_json::from_str(&text).expect("JSON");
    let entries = ledger["entries"].as_array().cloned().unwrap_or_default();
    entries.iter().filter_map(|entry| entry["budget_microusd"].as_u64()).collect()
}

/// The budget of a day is enough for one run. A start is interrupted after the ledger has reserved all of it, or just before; the
/// next start gets it, without any look in between.
#[tokio::test]
async fn f37_a_crash_between_reserving_and_starting_releases_the_budget() {
    for (point, is_reserved) in [("folder-named", false), ("supervisor-started", true), ("start-recorded", true)] {
        let lab = Lab::fake_in(module_path!()).await;
        let with_budget = || {
            let mut command = lab.command();
            command.env("MASSGEN_MCP_DAY_BUDGET_USD", "1");
            command
        };
        let asked = |question: &str| json!({"question": question, "config": "@rehearsal", "budget_usd": 1});
        let mut command = with_budget();
        lab.crash_at(&mut command, point);
        let dying = lab.client_of(command).await;
        dying.broken_off("run_massgen", asked("#!fake\nannounce\nforever")).await;
        lab.crashed(point, 1).await;
        assert_eq!(reserved(&lab), vec![1_000_000; usize::from(is_reserved)], "{point}");
        let client = lab.client_of(with_budget()).await;
        if point == "supervisor-started" {
            // The supervisor lives, and so does its run, which holds the money.
            assert_eq!(client.refused("run_massgen", asked("again")).await, "budget_exhausted");
            let runs = client.call("check_status", json!({})).await;
            client.call("kill_run", json!({"run_id": runs["runs"][0]["run_id"], "grace_s": 0})).await;
            lab.only_servers_are_left().await;
        }
        let run = client.call("run_massgen", with(asked("again"), &json!({"wait_s": 50}))).await;
        assert_eq!(run["state"], "succeeded", "{point}: {run}");
        client.close().await;
        lab.nobody_is_left().await;
    }
}

/// The answers that the stand-in got to its nested calls.
async fn nested(lab: &Lab, file: &str, lines: usize) -> Vec<Value> {
    let path = lab.project().join(file);
    let read = || std::fs::read_to_string(&path).unwrap_or_default();
    wait_until("the nested calls are answered", || read().lines().count() >= lines).await;
    let told = |line: &str| match serde_json::from_str(line) {
        Ok(Value::String(text)) => refusal(&text),
        Ok(answer) => answer,
        Err(_) => panic!("{line}"),
    };
    read().lines().map(told).collect()
}

fn nest(lab: &Lab, file: &str, arguments: &Value) -> String {
    format!("nest {} {arguments}", lab.project().join(file).display())
}

#[tokio::test]
async fn f38_a_nested_run_draws_on_what_its_parent_has_left() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let spends = format!("#!fake\nannounce\n{}\nfinal agent_a spent", costs("0.25", 5));
    let more = json!({"question": "more", "config": "@rehearsal", "budget_usd": 0.9});
    let some = json!({"question": spends, "config": "@rehearsal", "wait_s": 50});
    let gate = lab.project().join("gate");
    let script = format!(
        "announce\n{}\nuntil {}\n{}\n{}\nfinal agent_a done",
        costs("0.2", 5),
        gate.display(),
        nest(&lab, "answers", &more),
        nest(&lab, "answers", &some)
    );
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1}))).await;
    client.until(&id, |run| run["cost_usd"] == 0.2).await;
    std::fs::write(&gate, "").expect("written");
    let answers = nested(&lab, "answers", 2).await;
    assert_eq!(answers[0]["code"], "budget_exhausted", "{answers:?}");
    assert!(answers[0]["message"].as_str().is_some_and(|message| message.contains("$0.80 left")), "{answers:?}");
    assert_eq!(answers[1]["state"], "succeeded", "{answers:?}");
    let child = answers[1]["run_id"].as_str().expect("run_id").to_owned();
    client.end(&id).await;
    let (above, below) = (full(&client, &id).await, full(&client, &child).await);
    assert_eq!((&above["children"], &below["parent"]), (&json!([child]), &json!(id)));
    assert_eq!((&above["tree_cost_usd"], &below["tree_cost_usd"]), (&json!(0.45), &json!(0.25)));
    assert_eq!(below["budget_usd"], 0.4, "half of the 0.8 that were left");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f38_the_spending_of_child_runs_ends_their_parent() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let spends = format!("#!fake\nannounce\n{}\nforever", costs("0.5", 5));
    let below = json!({"question": spends, "config": "@rehearsal", "budget_usd": 0.6});
    let gate = lab.project().join("gate");
    let script =
        format!("announce\n{}\nuntil {}\n{}\nforever", nest(&lab, "answers", &below), gate.display(), costs("0.6", 5));
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1}))).await;
    let child = nested(&lab, "answers", 1).await[0]["run_id"].as_str().expect("run_id").to_owned();
    client.until(&child, |run| run["tokens"] == 5).await;
    std::fs::write(&gate, "").expect("written");
    assert_eq!(client.end(&id).await["state"], "over_budget");
    assert_eq!(client.end(&child).await["state"], "killed");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f38_a_child_of_a_run_that_was_stopped_alone_spends_the_budget_above_it() {
    let lab = Lab::fake_in(module_path!()).await;
    let client = lab.client().await;
    let gate = lab.project().join("gate");
    let lowest = format!("#!fake\nannounce\nuntil {}\n{}\nforever", gate.display(), costs("0.3", 5));
    let lowest = nest(&lab, "lowest", &json!({"question": lowest, "config": "@rehearsal", "budget_usd": 0.35}));
    let middle =
        json!({"question": format!("#!fake\nannounce\n{lowest}\nforever"), "config": "@rehearsal", "budget_usd": 0.5});
    let counted = lab.project().join("counted");
    let middle = nest(&lab, "middle", &middle);
    let script = format!("announce\n{}\nuntil {}\n{middle}\nforever", costs("0.75", 5), counted.display());
    // It has spent 0.75 of 1.05 itself, so 0.30 are left for its children.
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1.05}))).await;
    client.until(&id, |run| run["cost_usd"] == 0.75).await;
    std::fs::write(&counted, "").expect("written");
    let told = nested(&lab, "middle", 1).await;
    assert_eq!(told[0]["code"], "budget_exhausted", "{told:?}");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    let script = script.replace("0.75", "0.5");
    let id = client.start(with(fake(&script), &json!({"budget_usd": 1.05, "group": "second"}))).await;
    let middle = nested(&lab, "middle", 2).await[1]["run_id"].as_str().expect("run_id").to_owned();
    let lowest = nested(&lab, "lowest", 1).await[0]["run_id"].as_str().expect("run_id").to_owned();
    client.call("kill_run", json!({"run_id": middle, "grace_s": 0, "tree": false})).await;
    assert_eq!(client.end(&middle).await["state"], "killed");
    std::fs::write(&gate, "").expect("written");
    client.until(&lowest, |run| run["cost_usd"] == 0.3).await;
    crate::lab::wait_until("it is counted above", || lab.record(&id)["spent_below"]["microusd"] == 300_000).await;
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f39_depth_breadth_and_circles_are_refused_for_good() {
    let lab = Lab::fake_in(module_path!()).await;
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_DEPTH", "1").env("MASSGEN_MCP_MAX_TREE_RUNS", "2");
    let client = lab.client_of(command).await;
    let deeper = format!(
        "#!fake\nannounce\n{}\nfinal agent_a done",
        nest(&lab, "deep", &json!({"question": "x", "config": "@rehearsal"}))
    );
    let deep = json!({"question": deeper, "config": "@rehearsal", "wait_s": 50});
    let wide = |n: u32| json!({"question": format!("#!fake\nannounce\nforever\n{n}"), "config": "@rehearsal"});
    let calls = [deep, wide(1), wide(2), wide(3)].map(|call| nest(&lab, "wide", &call)).join("\n");
    let circle = lab.project().join("circle");
    // A script in a file can start a run with the question that started it.
    let question = format!("#!fake\ndo {}", circle.display());
    let again = nest(&lab, "wide", &json!({"question": question, "config": "@rehearsal"}));
    std::fs::write(&circle, format!("announce\n{calls}\n{again}\nfinal agent_a done")).expect("written");
    let id = client.start(json!({"question": question, "config": "@rehearsal"})).await;
    let told = nested(&lab, "wide", 5).await;
    let deeper = nested(&lab, "deep", 1).await;
    assert_eq!(deeper[0]["code"], "too_deep");
    assert!(deeper[0]["hint"].as_str().is_some_and(|hint| hint.starts_with("this is final")), "{deeper:?}");
    assert_eq!(told[0]["state"], "succeeded", "{told:?}");
    assert_eq!((told[1].get("code"), told[2].get("code")), (None, None), "{told:?}");
    assert_eq!((&told[3]["code"], &told[4]["code"]), (&json!("tree_full"), &json!("same_as_ancestor")), "{told:?}");
    assert!(told[4]["hint"].as_str().is_some_and(|hint| hint.starts_with("this is final")), "{told:?}");
    client.end(&id).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// Every run on disk, also those that no list of the latest shows.
fn all_runs(lab: &Lab) -> Vec<String> {
    let entries = std::fs::read_dir(lab.state().join("runs")).expect("runs").flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).collect()
}

#[tokio::test]
async fn f40_a_kill_of_a_tree_that_is_still_spawning_ends_all_of_it() {
    let lab = Lab::fake_in(module_path!()).await;
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_TREE_RUNS", "1000");
    let client = lab.client_of(command).await;
    let file = lab.project().join("spawned");
    let below = json!({"question": "#!fake\nannounce\nforever", "config": "@rehearsal", "fresh": true});
    let id = client.start(fake(&format!("announce\nnest-for-ever {} {below}", file.display()))).await;
    nested(&lab, "spawned", 4).await;
    let killed = client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    assert_eq!(
        (&killed["receipts"][0]["state"], &killed["receipts"][0]["survivors"]),
        (&json!("killed"), &json!([])),
        "{killed}"
    );
    lab.only_servers_are_left().await;
    let runs = all_runs(&lab);
    assert!(runs.len() > 4, "{runs:?}");
    for run in &runs {
        let seen = client.call("check_status", json!({"run_id": run})).await;
        assert!(is_over(&seen["runs"][0]), "{seen}");
    }
    client.close().await;
    lab.nobody_is_left().await;
    assert_eq!(all_runs(&lab).len(), runs.len(), "nothing starts after the kill");
}
