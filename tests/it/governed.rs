//! The operator's limits hold: slots and queue, one run for identical requests, policy, dry runs, configs, read-only servers.
//! Real MassGen is stopped at its budget.

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake};

async fn client_with(lab: &Lab, settings: &[(&str, &str)]) -> Client {
    let mut command = lab.command();
    for (name, value) in settings {
        command.env(format!("MASSGEN_MCP_{name}"), value);
    }
    lab.client_of(command).await
}

fn waiting_run(lab: &Lab, gate: &str, label: &str) -> Value {
    let (gate, starts) = (lab.project().join(gate), lab.project().join("starts"));
    fake(&format!("mark {}\nannounce\nuntil {}\nfinal agent_a {label}", starts.display(), gate.display()))
}

#[tokio::test]
async fn queued_runs_start_in_order_without_a_server() {
    let lab = Lab::fake();
    let limits = [("MAX_RUNS", "1"), ("MAX_QUEUE", "2")];
    let first = client_with(&lab, &limits).await;
    let mut ids = Vec::new();
    for n in ["1", "2", "3"] {
        ids.push(first.start(waiting_run(&lab, n, n)).await);
    }
    assert_eq!(first.refused("run_massgen", waiting_run(&lab, "4", "4")).await, "queue_full");
    let last = first.until(&ids[2], |run| run["state"] == "queued").await;
    assert_eq!(last["queue"], "1 ahead of it, 2 waiting for a slot (1 in all)", "{last}");
    first.kill_server().await;

    let started = || std::fs::read_to_string(lab.project().join("starts")).unwrap_or_default().lines().count();
    let second = client_with(&lab, &limits).await;
    for (index, id) in ids.iter().enumerate() {
        second.until(id, |run| run["state"] == "running").await;
        assert_eq!(started(), index + 1);
        std::fs::write(lab.project().join((index + 1).to_string()), "").expect("written");
        assert_eq!(second.end(id).await["state"], "succeeded");
    }
    second.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_queued_run_can_be_killed_and_a_dead_supervisor_does_not_block_the_queue() {
    let lab = Lab::fake();
    let client = client_with(&lab, &[("MAX_RUNS", "1")]).await;
    let mut ids = Vec::new();
    for n in ["1", "2", "3", "4"] {
        ids.push(client.start(waiting_run(&lab, n, n)).await);
    }
    client.until(&ids[3], |run| run["state"] == "queued").await;
    let killed = client.call("kill_run", json!({"run_id": ids[1]})).await;
    assert_eq!((&killed["receipts"][0]["state"], &killed["receipts"][0]["processes"]), (&json!("killed"), &json!(0)));
    let supervises =
        |id: &str| lab.processes().into_iter().find(|line| line.trim_end().ends_with(id)).expect("the run waits");
    let pid = supervises(&ids[2]).split(' ').next().expect("pid").to_owned();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill").success());
    for n in ["1", "4"] {
        std::fs::write(lab.project().join(n), "").expect("written");
    }
    assert_eq!(client.end(&ids[3]).await["state"], "succeeded");
    let lost = client.until(&ids[2], |run| run["state"] == "failed").await;
    assert_eq!(lost["problem"]["code"], "start_interrupted", "{lost}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn ten_servers_make_one_run_from_one_request() {
    let lab = Lab::fake();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(lab.client().await);
    }
    // Identical by `request_key`, and by equal arguments of the same client.
    for extra in [json!({"request_key": "mine"}), json!({})] {
        let mut arguments = waiting_run(&lab, "gate", if extra.get("request_key").is_some() { "a" } else { "b" });
        extra.as_object().expect("object").iter().for_each(|(name, value)| arguments[name] = value.clone());
        let starts = clients.iter().map(|client| client.call("run_massgen", arguments.clone()));
        let answers = futures_util::future::join_all(starts).await;
        let ids: std::collections::BTreeSet<_> = answers.iter().filter_map(|run| run["run_id"].as_str()).collect();
        assert_eq!((ids.len(), answers.iter().filter(|run| run["reused"] == true).count()), (1, 9), "{answers:?}");
        let mut fresh = arguments.clone();
        fresh["fresh"] = json!(true);
        let another = clients[0].call("run_massgen", fresh).await;
        assert_eq!(
            another.get("reused").is_some(),
            extra.get("request_key").is_some(),
            "a request key always selects the same run"
        );
    }
    std::fs::write(lab.project().join("gate"), "").expect("written");
    let mut other = waiting_run(&lab, "gate", "another question");
    other["request_key"] = json!("mine");
    assert_eq!(clients[3].refused("run_massgen", other).await, "request_key_taken");
    for client in clients {
        client.close().await;
    }
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_explicit_default_is_the_same_request() {
    let lab = Lab::fake();
    let client = client_with(&lab, &[("BUDGET_USD", "2"), ("MAX_TOKENS", "1000")]).await;
    let request = waiting_run(&lab, "gate", "a");
    let first = client.start(request.clone()).await;
    let question = format!("{}\n  ", request["question"].as_str().expect("question"));
    for (name, value) in [
        ("mode", json!("full")),
        ("context", json!("none")),
        ("timeout_s", json!(1800)),
        ("budget_usd", json!(2)),
        ("max_tokens", json!(1000)),
        ("repeat", json!(1)),
        ("variants", json!([])),
        ("wait_s", json!(0)),
        ("overrides", json!({})),
        ("question", json!(question)),
    ] {
        let mut explicit = request.clone();
        explicit[name] = value;
        let repeated = client.call("run_massgen", explicit).await;
        assert_eq!((&repeated["run_id"], &repeated["reused"]), (&json!(first), &json!(true)), "{name}: {repeated}");
    }
    for (name, value) in [("timeout_s", json!(60)), ("budget_usd", json!(1)), ("max_tokens", json!(999))] {
        let mut other = request.clone();
        other[name] = value;
        assert!(client.call("run_massgen", other).await.get("reused").is_none(), "{name}");
    }
    std::fs::write(lab.project().join("gate"), "").expect("written");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Under a shared budget a call without `budget_usd` gets a share; a call with `budget_usd` gets that amount.
#[tokio::test]
async fn an_explicit_budget_is_another_request_under_a_shared_budget() {
    let lab = Lab::fake();
    let client = client_with(&lab, &[("BUDGET_USD", "2"), ("DAY_BUDGET_USD", "10")]).await;
    let request = waiting_run(&lab, "gate", "a");
    client.start(request.clone()).await;
    let mut explicit = request;
    explicit["budget_usd"] = json!(2);
    let other = client.call("run_massgen", explicit).await;
    assert!(other.get("reused").is_none() && other["run_id"].is_string(), "{other}");
    std::fs::write(lab.project().join("gate"), "").expect("written");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_agents_get_the_question_trimmed() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let file = lab.project().join("asked");
    let script = format!("#!fake\nannounce\nasked {}\nfinal agent_a x", file.display());
    let padded = format!("\n {script} \n\n");
    let id = client.start(json!({"question": padded, "config": "@rehearsal"})).await;
    client.end(&id).await;
    assert_eq!(std::fs::read_to_string(&file).expect("asked"), script);
    let questions = |first: &str| json!({"questions": [first, "another"], "config": "@rehearsal", "group": "g"});
    client.call("run_massgen", questions(&padded)).await;
    assert_eq!(client.call("run_massgen", questions(&script)).await["reused"], true);
    let twice = json!({"questions": [padded, script], "config": "@rehearsal"});
    assert_eq!(client.refused("run_massgen", twice).await, "arguments_conflict");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn configs_that_an_agent_can_write_may_not_run_commands() {
    let lab = Lab::fake();
    let base = "agents:\n  - id: a\n    backend:\n      type: openai\n      model: m\n";
    lab.put("plain.yaml", base);
    lab.put("tools.yaml", &format!("{base}      mcp_servers:\n        - {{name: x, command: sh}}\n"));
    lab.put("reach.yaml", &format!("{base}orchestrator:\n  context_paths:\n    - {{path: /etc, permission: read}}\n"));
    lab.put("trusted/tools.yaml", &format!("{base}      mcp_servers:\n        - {{name: x, command: sh}}\n"));
    let outside = lab.state().parent().expect("lab").join("outside.yaml");
    std::fs::write(&outside, base).expect("written");
    std::os::unix::fs::symlink(&outside, lab.project().join("link.yaml")).expect("link");
    let trusted = lab.project().join("trusted");
    let client = client_with(&lab, &[("TRUSTED_CONFIGS", trusted.to_str().expect("UTF-8"))]).await;

    let outcome = |arguments: Value| {
        let client = &client;
        async move {
            let (refused, answer) = client.ask("run_massgen", arguments).await;
            let code = if refused { answer["code"].as_str().unwrap_or_default() } else { "done" };
            (code.to_owned(), answer["message"].as_str().unwrap_or_default().to_owned())
        }
    };
    for (config, key) in
        [("tools.yaml", "agents[0].backend.mcp_servers"), ("reach.yaml", "orchestrator.context_paths[0].path")]
    {
        let (code, message) = outcome(json!({"question": "q", "config": config})).await;
        assert!(code == "config_forbidden" && message.contains(key), "{config}: {code} {message}");
    }
    for config in ["link.yaml", outside.to_str().expect("UTF-8")] {
        assert_eq!(outcome(json!({"question": "q", "config": config})).await.0, "config_outside", "{config}");
    }
    std::os::unix::fs::symlink("/", lab.project().join("all")).expect("link");
    lab.put("through.yaml", &format!("{base}orchestrator:\n  context_paths:\n    - {{path: all, permission: read}}\n"));
    assert_eq!(outcome(json!({"question": "q", "config": "through.yaml"})).await.0, "config_forbidden");
    lab.put("configs/.env", "OPENAI_BASE_URL=https://elsewhere.example\n");
    let env_file = json!({"question": "q", "config": "plain.yaml", "context": "read"});
    let (code, message) = outcome(env_file).await;
    assert!(code == "env_file_forbidden" && message.contains("OPENAI_BASE_URL"), "{code} {message}");
    let question_file = json!({"question_file": outside, "config": "plain.yaml"});
    assert_eq!(outcome(question_file).await.0, "question_file_unreadable");
    let patch = json!({"agents": [{"id": "a", "backend": {"type": "openai", "model": "m", "hooks": {"x": []}}}]});
    for config in ["plain.yaml", "trusted/tools.yaml", "@rehearsal"] {
        let (code, message) = outcome(json!({"question": "q", "config": config, "overrides": patch})).await;
        assert!(
            code == "config_forbidden" && message.contains("agents[0].backend.hooks"),
            "{config}: {code} {message}"
        );
    }
    assert_eq!(outcome(json!({"question": "q", "config": "trusted/tools.yaml", "wait_s": 50})).await.0, "done");
    let patch = json!({"agents": [{"id": "b", "backend": {"type": "openai", "model": "n"}}], "ui": {"display": "yes"}});
    let run = client
        .call("run_massgen", json!({"question": "q", "config": "plain.yaml", "overrides": patch, "wait_s": 50}))
        .await;
    let id = run["run_id"].as_str().expect("run_id");
    let effective = std::fs::read_to_string(lab.run_folder(id).join("config.yaml")).expect("config.yaml");
    assert!(effective.contains("model: \"n\"") || effective.contains("\"model\": \"n\""), "{effective}");
    assert!(!effective.contains("model: m") && effective.contains("\"yes\""), "{effective}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn literal_keys_of_a_config_are_in_no_file_of_the_run() {
    let lab = Lab::fake();
    lab.put("keyed.yaml", "agents: []\napi_key: sk-canary-1234567\n");
    let client = lab.client().await;
    let id = client
        .start(json!({"question": "#!fake\nannounce\nenvironment\nfinal agent_a done", "config": "keyed.yaml"}))
        .await;
    assert_eq!(client.end(&id).await["state"], "succeeded");
    let folder = lab.run_folder(&id);
    for file in ["config.yaml", "spec.json", "run.json", "stdout.log", "stderr.log", "supervisor.log"] {
        let text = std::fs::read_to_string(folder.join(file)).expect(file);
        assert!(!text.contains("canary"), "{file}: {text}");
    }
    let effective = std::fs::read_to_string(folder.join("config.yaml")).expect("config.yaml");
    assert!(effective.contains("${MASSGEN_MCP_SECRET_1}"), "{effective}");
    let printed = std::fs::read_to_string(folder.join("stdout.log")).expect("stdout.log");
    assert!(printed.contains("MASSGEN_MCP_SECRET_1=****"), "MassGen gets the key: {printed}");
    // A secret that reaches a file without passing the supervisor is masked when the file is read.
    std::fs::write(folder.join("stdout.log"), "it printed sk-canary-1234567\n").expect("written");
    let page = client.call("read_result", json!({"run_id": id, "part": "log"})).await;
    assert!(!page.to_string().contains("canary"), "{page}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_read_only_server_shows_runs_and_changes_nothing() {
    let lab = Lab::fake();
    let full = lab.client().await;
    let id = full.start(fake("announce\nfinal agent_a done")).await;
    full.end(&id).await;
    let client = client_with(&lab, &[("READ_ONLY", "true")]).await;
    for tool in ["run_massgen", "kill_run", "steer_run"] {
        client.unknown_tool(tool).await;
    }
    assert_eq!(client.call("read_result", json!({"run_id": id})).await["text"], "done");
    full.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn agents_can_lower_the_operators_limits_but_not_raise_them() {
    let lab = Lab::fake();
    let client = client_with(&lab, &[("BUDGET_USD", "2"), ("MAX_TOKENS", "1000"), ("MAX_TIMEOUT_S", "60")]).await;
    for (limits, code) in [
        (json!({"budget_usd": 2.5}), "budget_not_allowed"),
        (json!({"max_tokens": 1001}), "budget_not_allowed"),
        (json!({"timeout_s": 61}), "out_of_range"),
        (json!({"budget_usd": -1}), "out_of_range"),
    ] {
        let mut arguments = fake("announce\nfinal agent_a done");
        limits.as_object().expect("object").iter().for_each(|(name, value)| arguments[name] = value.clone());
        assert_eq!(client.refused("run_massgen", arguments).await, code, "{limits}");
    }
    let mut arguments = fake("announce\nfinal agent_a done");
    (arguments["budget_usd"], arguments["wait_s"]) = (json!(0.5), json!(50));
    let id = client.start(arguments).await;
    let details =
        client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0]["details"].take();
    assert_eq!((&details["budget_usd"], &details["max_tokens"]), (&json!(0.5), &json!(1000)));
    let limited = client_with(&lab, &[("STARTS_PER_MINUTE", "1")]).await;
    assert_eq!(limited.refused("run_massgen", fake("announce\nfinal agent_a another")).await, "too_many_starts");
    limited.close().await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn real_massgen_is_stopped_at_its_budget_and_keeps_its_answer() {
    let lab = Lab::real().await;
    let client = lab.client().await;
    // Two agents answer without end; each call costs 0.3.
    let arguments = json!({"question": "q", "config": "@rehearsal/never-vote/delay=0.5/cost=0.3", "budget_usd": 1});
    let id = client.start(arguments).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("over_budget"), &json!("budget_spent")), "{run}");
    assert!(run["cost_usd"].as_f64() >= Some(1.0), "{run}");
    let page = client.call("read_result", json!({"run_id": id})).await;
    assert_eq!(page["partial"], true, "{page}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_dry_run_reports_massgens_validation_and_configs_are_listed() {
    let lab = Lab::real().await;
    lab.put("two.yaml", "agents:\n  - id: a\n    backend: {type: openai, model: gpt-4o-mini}\n");
    lab.put("bad.yaml", "agents:\n  - id: a\n    backend: {type: no-such-backend, model: m}\n");
    let client = lab.client().await;
    let dry = client.call("run_massgen", json!({"question": "q", "config": "two.yaml", "dry_run": true})).await;
    let problems = dry["problems"].to_string();
    assert!(dry["ok"] == false && problems.contains("OPENAI_API_KEY"), "{dry}");
    assert!(dry["effective_config"].as_str().is_some_and(|text| text.contains("gpt-4o-mini")), "{dry}");
    let invalid = client.call("run_massgen", json!({"question": "q", "config": "bad.yaml", "dry_run": true})).await;
    assert!(invalid["ok"] == false && invalid["problems"].to_string().contains("no-such-backend"), "{invalid}");
    let rehearsal = client.call("run_massgen", json!({"question": "q", "config": "@rehearsal", "dry_run": true})).await;
    assert_eq!(rehearsal["ok"], true, "{rehearsal}");
    let found = client.call("list_configs", json!({"query": "two.yaml"})).await;
    assert_eq!(found["configs"][0]["missing_keys"], json!(["OPENAI_API_KEY"]), "{found}");
    let all = client.call("list_configs", json!({"query": "gemini", "limit": 3})).await;
    assert!(all["total"].as_u64() > Some(270) && all["next_offset"] == 3, "{all}");
    assert!(
        client.call("check_status", json!({})).await["runs"].as_array().is_some_and(Vec::is_empty),
        "nothing was started"
    );
    client.close().await;
    lab.nobody_is_left().await;
}
