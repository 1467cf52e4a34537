//! Arguments as clients and models send them: empty values, former parameter names, overrides by agent, misspelled names.
//! `src/server/arguments.rs` normalizes them.

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake};

/// A tool's arguments as a client with strict schemas sends them: every optional property, with the empty value of its type.
fn strict(tool: &str, arguments: Value) -> Value {
    let tools: Value = serde_json::from_str(include_str!("../data/tools.json")).expect("JSON");
    let tool = tools.as_array().expect("list").iter().find(|listed| listed["name"] == tool).expect("listed");
    let mut sent = empty(&tool["inputSchema"]);
    for (name, value) in arguments.as_object().expect("object") {
        sent[name] = value.clone();
    }
    sent
}

fn empty(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("string") => json!(""),
        Some("array") => json!([]),
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(0),
        Some("object") => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), empty(schema))).collect()
        }
        other => panic!("{other:?} has no empty value"),
    }
}

#[tokio::test]
async fn every_tool_accepts_empty_optional_parameters() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let call = async |tool: &str, arguments: Value| client.call(tool, strict(tool, arguments)).await;
    let listed = call("list_configs", json!({})).await;
    assert!(listed["configs"].is_array(), "{listed}");
    let script = |script: &str| json!({"question": format!("#!fake\n{script}"), "massgen_config": "@rehearsal"});
    let run = call("run_massgen", script("announce\nfinal agent_a done")).await;
    let id = run["run_id"].as_str().expect("run_id");
    let status = call("check_status", json!({"run_id": id, "wait_s": 45, "until": "all_done"})).await;
    assert_eq!(status["runs"][0]["state"], "succeeded", "{status}");
    assert_eq!(call("read_result", json!({"run_id": id})).await["text"], "done");
    let tooled = json!({"question": "#!fake\nannounce\nforever", "massgen_config": "@rehearsal/command=true"});
    let endless = call("run_massgen", tooled).await;
    let id = endless["run_id"].as_str().expect("run_id");
    let steered = call("steer_run", json!({"run_id": id, "message": "go on"})).await;
    assert_eq!(steered["delivered"], false, "{steered}");
    let killed = call("kill_run", json!({"run_id": id})).await;
    assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
    let all = call("check_status", json!({})).await;
    assert_eq!(all["runs"].as_array().map(Vec::len), Some(2), "{all}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_answer_names_the_config_used() {
    let lab = Lab::fake();
    let default = lab.home().join(".config/massgen/config.yaml");
    std::fs::create_dir_all(default.parent().expect("parent")).expect("mkdir");
    std::fs::write(&default, "agents: [{id: a, backend: {type: openai, model: m}}]\n").expect("written");
    let named = lab.put("team.yaml", "agents: [{id: a, backend: {type: openai, model: m}}]\n");
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_RUNS", "1");
    let client = lab.client_of(command).await;
    let go = lab.project().join("go");
    let question = format!("#!fake\nannounce\nuntil {}\nfinal agent_a done", go.display());
    let first = client.call("run_massgen", json!({"question": question})).await;
    assert_eq!(first["config"], "~/.config/massgen/config.yaml", "no config is named: {first}");
    let again = client.call("run_massgen", json!({"question": question})).await;
    assert_eq!((&again["reused"], &again["config"]), (&json!(true), &first["config"]), "{again}");
    let address = format!("file://{}", named.display());
    let mut queued = Vec::new();
    for (parameter, config) in
        [("massgen_config", "team.yaml"), ("config", "./team.yaml"), ("massgen_config", &address)]
    {
        let arguments = json!({"question": question, parameter: config, "fresh": true});
        let run = client.call("run_massgen", arguments).await;
        let config_used = run["config"].as_str().expect("config");
        assert!(run["state"] == "queued" && config_used.ends_with("team.yaml"), "{config}: {run}");
        queued.push(run["run_id"].clone());
    }
    let several =
        client.call("run_massgen", json!({"question": "#!fake\nannounce\nfinal agent_a x", "repeat": 2})).await;
    assert_eq!((&several["runs"], &several["config"]), (&json!(2), &first["config"]), "{several}");
    let both = json!({"question": "q", "config": "team.yaml", "massgen_config": "@rehearsal"});
    assert_eq!(client.refused("run_massgen", both).await, "arguments_conflict");
    std::fs::write(&go, "").expect("written");
    queued.extend(several["run_ids"].as_array().expect("run_ids").iter().cloned());
    for id in &queued {
        assert_eq!(client.end(id.as_str().expect("run_id")).await["state"], "succeeded");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

/// Makes a call that must be refused with this code; returns message and hint.
async fn refusal_text(client: &Client, code: &str, arguments: Value) -> String {
    let (refused, answer) = client.ask("run_massgen", arguments.clone()).await;
    assert!(refused && answer["code"] == code, "{arguments}: {answer}");
    format!("{} {}", answer["message"].as_str().unwrap_or_default(), answer["hint"].as_str().unwrap_or_default())
}

const TEAM: &str = "agents:\n- id: agent_a\n  backend: {type: openai, model: m, base_url: 'http://127.0.0.1:9/v1'}\n- id: agent_b\n  \
                    backend: {type: openai, model: n}\n";

#[tokio::test]
async fn overrides_select_an_agent_by_id_and_the_answer_lists_applied_keys() {
    let lab = Lab::fake();
    lab.put("team.yaml", TEAM);
    let client = lab.client().await;
    let patch = json!({"agents": {"agent_b": {"backend": {"model": "other"}}}, "orchestrator": {"max_new_answers_per_agent": 1}});
    let mut arguments = fake("announce\nfinal agent_a done");
    (arguments["config"], arguments["overrides"], arguments["wait_s"]) = (json!("team.yaml"), patch.clone(), json!(50));
    let run = client.call("run_massgen", arguments.clone()).await;
    let applied = json!(["agents.agent_b.backend.model", "orchestrator.max_new_answers_per_agent"]);
    assert_eq!((&run["state"], &run["applied"]), (&json!("succeeded"), &applied), "{run}");
    let folder = lab.run_folder(run["run_id"].as_str().expect("run_id"));
    let effective = std::fs::read_to_string(folder.join("config.yaml")).expect("config.yaml");
    assert!(effective.contains("model: m\n") && effective.contains("base_url"), "agent_a is unchanged: {effective}");
    assert!(effective.contains("model: \"other\"") && !effective.contains("model: n\n"), "{effective}");
    // A rehearsal has agents too, and the server accepts the object as JSON text.
    (arguments["config"], arguments["overrides"]) = (json!("@rehearsal"), json!(patch.to_string()));
    let run = client.call("run_massgen", arguments).await;
    assert_eq!((&run["state"], &run["applied"]), (&json!("succeeded"), &applied), "{run}");
    let arguments = json!({"question": "#!fake\nannounce\nfinal agent_a done", "config": "team.yaml", "wait_s": 50,
                       "variants": [{}, {"agents": {"agent_a": {"backend": {"model": "x"}}}}]});
    let started = client.call("run_massgen", arguments).await;
    assert_eq!(started["runs"], 2, "{started}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn invalid_overrides_are_refused_with_a_suggestion() {
    let lab = Lab::fake();
    lab.put("team.yaml", TEAM);
    let client = lab.client().await;
    for config in ["team.yaml", "@rehearsal"] {
        for (overrides, expected) in [
            (json!({"agents": {"agent_x": {"backend": {"model": "o"}}}}), "did you mean agent_"),
            (json!({"agents": {"nobody": {}}}), "its agents are agent_a, agent_b"),
            (json!({"max_new_answers_per_agent": 1}), "did you mean `orchestrator.max_new_answers_per_agent`?"),
            (json!({"orchestrator": {"voting_sensitivty": 1}}), "did you mean `orchestrator.voting_sensitivity`?"),
            (json!({"agents": {"agent_a": {"model": "o"}}}), "did you mean `agents.ID.backend.model`?"),
            (json!([1]), "an object is needed"),
            (
                (0..70).fold(json!(1), |inner, _| json!({"ui": inner})),
                "`overrides` cannot be applied: they have more than 60 levels of objects and lists",
            ),
        ] {
            let arguments = json!({"question": "q", "massgen_config": config, "overrides": overrides});
            let text = refusal_text(&client, "overrides_invalid", arguments).await;
            assert!(text.contains(expected), "{config} {overrides}: {text}");
        }
    }
    let both = json!({"question": "q", "overrides": {"ui": {}}, "variants": [{"ui": {"a": 1}}]});
    assert_eq!(client.refused("run_massgen", both).await, "arguments_conflict");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_policy_checks_only_values_that_overrides_change() {
    let lab = Lab::fake();
    let trusted = lab.put("trusted/team.yaml", &TEAM.replace("model: n", "model: n, exclude_tools: [x]"));
    let mut command = lab.command();
    command.env("MASSGEN_MCP_TRUSTED_CONFIGS", trusted);
    let client = lab.client_of(command).await;
    let agents = |model: &str, address: &str| {
        json!({"agents": [
            {"id": "agent_b", "backend": {"type": "openai", "model": model, "exclude_tools": ["x"]}},
            {"id": "agent_a", "backend": {"type": "openai", "model": "m", "base_url": address}},
        ]})
    };
    let question = "#!fake\nannounce\nfinal agent_a done";
    let arguments =
        |overrides: Value| json!({"question": question, "massgen_config": "trusted/team.yaml", "overrides": overrides});
    let run = client.call("run_massgen", arguments(agents("new", "http://127.0.0.1:9/v1"))).await;
    assert_eq!(run["applied"], json!(["agents"]), "{run}");
    let same = json!({"agents": {"agent_a": {"backend": {"base_url": "http://127.0.0.1:9/v1", "temperature": 0.1}}}});
    let other = client.start(arguments(same)).await;
    for id in [run["run_id"].as_str().expect("run_id"), &other] {
        assert_eq!(client.end(id).await["state"], "succeeded");
    }
    for (overrides, key) in [
        (agents("n", "http://elsewhere.example"), "agents[1].backend.base_url"),
        (
            json!({"agents": {"agent_b": {"backend": {"base_url": "http://elsewhere.example"}}}}),
            "agents[1].backend.base_url",
        ),
        (
            json!({"agents": {"agent_a": {"backend": {"mcp_servers": [{"command": "sh"}]}}}}),
            "agents[0].backend.mcp_servers",
        ),
        // This list replaces agent_a without its `model`, so it changes the agent.
        (
            json!({"agents": [{"id": "agent_a", "backend": {"type": "openai", "base_url": "http://127.0.0.1:9/v1"}}]}),
            "agents[0].backend.base_url",
        ),
    ] {
        let text = refusal_text(&client, "config_forbidden", arguments(overrides.clone())).await;
        assert!(text.contains(key), "{overrides}: {text}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_misspelled_name_is_refused_with_a_suggestion() {
    let lab = Lab::fake();
    lab.put("configs/team.yaml", TEAM);
    let client = lab.client().await;
    for (config, suggestion) in [
        ("configs/team.yml", "configs/team.yaml"),
        ("configs\\team.yaml", "configs/team.yaml"),
        ("team.yaml", "configs/team.yaml"),
        ("file://configs/team.yaml", "configs/team.yaml"),
        ("@rehersal", "@rehearsal"),
    ] {
        for arguments in [json!({"massgen_config": config}), json!({"configs": [config, "@rehearsal"]})] {
            let mut arguments = arguments;
            arguments["question"] = json!("q");
            let text = refusal_text(&client, "config_missing", arguments).await;
            assert!(
                text.contains(&format!("did you mean {suggestion}")) && text.contains("list_configs"),
                "{config}: {text}"
            );
        }
    }
    let text =
        refusal_text(&client, "config_missing", json!({"question": "q", "massgen_config": "wholly-other.yaml"})).await;
    assert!(text.contains("list_configs") && text.contains("~/.config/massgen/agents"), "{text}");
    let id = client.start(fake("announce\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    let (_, refusal) = client.ask("steer_run", json!({"run_id": id, "message": "m", "agents": ["agent-a"]})).await;
    assert!(refusal["hint"].as_str().is_some_and(|hint| hint.contains("did you mean agent_a")), "{refusal}");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn overrides_that_massgen_could_not_read_are_refused_before_the_start() {
    let lab = Lab::fake();
    lab.put("team.yaml", TEAM);
    let client = lab.client().await;
    let ids =
        ["agent_a", "agent_b"].map(|id| (id.to_owned(), Value::Null)).into_iter().collect::<serde_json::Map<_, _>>();
    for overrides in [
        json!({"agents": []}),
        json!({"agents": ids}),
        json!({"orchestrator": 5}),
        json!({"timeout_settings": [1]}),
        json!({"agents": {"agent_a": {"backend": null}}}),
        json!({"agents": {"agent_a": {"backend": "gpt-5"}}}),
    ] {
        for config in ["team.yaml", "@rehearsal"] {
            for dry_run in [false, true] {
                let asked =
                    json!({"question": "q", "massgen_config": config, "overrides": overrides, "dry_run": dry_run});
                assert_eq!(client.refused("run_massgen", asked.clone()).await, "overrides_invalid", "{asked}");
            }
        }
    }
    let runs = std::fs::read_dir(lab.state().join("runs")).map(|runs| runs.flatten().count()).unwrap_or_default();
    assert_eq!(runs, 0, "nothing was started");
    client.close().await;
}

#[tokio::test]
async fn a_byte_order_mark_is_removed_from_a_question_file() {
    let lab = Lab::fake();
    let file = lab.put("q.txt", "\u{feff}#!fake\nannounce\nfinal agent_a done");
    let client = lab.client().await;
    for name in ["q.txt".to_owned(), format!("file://{}", file.display())] {
        let arguments = json!({"question_file": name, "massgen_config": "@rehearsal", "wait_s": 50, "fresh": true});
        let run = client.call("run_massgen", arguments).await;
        assert_eq!(run["state"], "succeeded", "{name}: {run}");
        assert_eq!(client.call("read_result", json!({"run_id": run["run_id"]})).await["text"], "done");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_budget_out_of_range_is_refused_with_the_range() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for budget in [json!(-1), json!(2e9), json!(1e300), json!("1e10")] {
        let arguments = json!({"question": "q", "massgen_config": "@rehearsal", "budget_usd": budget});
        let text = refusal_text(&client, "out_of_range", arguments).await;
        assert!(text.contains("between 0.000001 and 1000000000") && text.len() < 300, "{budget}: {text}");
    }
    let arguments = json!({"question": "q", "massgen_config": "@rehearsal", "budget_usd": 1e9});
    assert_eq!(client.refused("run_massgen", arguments).await, "budget_not_allowed");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn only_secret_variables_are_masked_and_the_operator_can_change_which() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.env("GIT_CONFIG_KEY_0", "safe.directory").env("KEYCLOAK_URL", "http://localhost:8080");
    command.env("LAB_LOGIN", "canary-login").env("LAB_PUBLIC_KEY", "no-canary-at-all");
    command.args(["--pass-env", "LAB_*", "--mask-env", "LAB_LOGIN", "--show-env", "LAB_PUBLIC_KEY"]);
    let client = lab.client_of(command).await;
    // A rehearsal gets none of these variables, so the test uses a config.
    lab.put("team.yaml", TEAM);
    let question = "#!fake\nannounce\nprint safe.directory http://localhost:8080 no-canary-at-all\nenvironment\nfinal agent_a done";
    let arguments = json!({"question": question, "massgen_config": "team.yaml", "wait_s": 50});
    let run = client.call("run_massgen", arguments).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    let log = lab.run_folder(run["run_id"].as_str().expect("run_id")).join("stdout.log");
    let log = std::fs::read_to_string(log).expect("stdout.log");
    assert!(log.contains("LAB_LOGIN=************") && log.contains("LAB_PUBLIC_KEY=no-canary-at-all"), "{log}");
    let text = refusal_text(&client, "secret_in_arguments", json!({"question": "is it canary-login?"})).await;
    assert!(text.contains("LAB_LOGIN") && !text.contains("canary"), "{text}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Prints the config keys that MassGen declares as valid.
const KEYS: &str = r#"
import json
from massgen.agent_config import AgentConfig, CoordinationConfig, TimeoutConfig
from massgen.backend._excluded_params import BASE_EXCLUDED_CONFIG_PARAMS
print("\n" + json.dumps({
    "orchestrator": sorted(AgentConfig.valid_orchestrator_keys()),
    "coordination": sorted(CoordinationConfig.valid_coordination_keys()),
    "timeouts": sorted(TimeoutConfig.yaml_timeout_keys()),
    "backend": sorted(BASE_EXCLUDED_CONFIG_PARAMS),
}))
"#;

#[tokio::test]
async fn overrides_may_set_every_key_that_real_massgen_knows() {
    let lab = Lab::real().await;
    let mut command = tokio::process::Command::new(lab.massgen().with_file_name("python"));
    lab.surroundings(&mut command);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").args(["-c", KEYS]);
    let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await.expect("python");
    let output = String::from_utf8(output.stdout).expect("UTF-8");
    let known: Value = serde_json::from_str(output.lines().last().unwrap_or_default()).expect("JSON");
    let overrides_for = |section: &str, key: &str| match section {
        "orchestrator" => json!({"orchestrator": {key: 1}}),
        "coordination" => json!({"orchestrator": {"coordination": {key: 1}}}),
        "timeouts" => json!({"timeout_settings": {key: 1}}),
        _ => json!({"agents": {"a": {"backend": {key: 1}}}}),
    };
    for (section, keys) in known.as_object().expect("object") {
        for key in keys.as_array().expect("list").iter().filter_map(Value::as_str) {
            let overrides = overrides_for(section, key);
            assert_eq!(massgen_mcp::massgen::configs::unknown_key(&overrides, None), None, "{overrides}");
        }
    }
}

#[tokio::test]
async fn keys_of_overrides_that_massgen_does_not_read_are_a_warning() {
    let lab = Lab::fake();
    lab.put("team.yaml", TEAM);
    let client = lab.client().await;
    for config in ["team.yaml", "@rehearsal"] {
        let asked = json!({"question": "q", "massgen_config": config, "overrides": {"zzzzqq": 1, "ui": {"x": 1}}, "dry_run": true});
        let dry = client.call("run_massgen", asked).await;
        let warning =
            dry["warnings"].as_array().and_then(|all| all.iter().find(|one| one["code"] == "overrides_ignored"));
        let message = warning.and_then(|warning| warning["message"].as_str()).unwrap_or_default();
        assert!(message.ends_with("does not read these keys of `overrides`: zzzzqq"), "{dry}");
    }
    client.close().await;
}

#[tokio::test]
async fn a_number_out_of_range_and_a_text_nested_too_deep_name_the_range() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let deep = format!("{}1{}", "{\"a\":".repeat(1_000), "}".repeat(1_000));
    let levels = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
    for (tool, arguments, expected) in [
        ("run_massgen", json!({"question": "q", "max_tokens": -1}), "a whole number, 1 or more"),
        ("run_massgen", json!({"question": "q", "repeat": 1e30}), "a smaller whole number"),
        ("list_configs", json!({"limit": "-3"}), "a whole number, 1 or more"),
        ("read_result", json!({"run_id": "mg-aaaaaaaa", "offset": -1}), "a whole number, 0 or more"),
        ("run_massgen", json!({"question": "q", "overrides": deep}), "it may have 124 levels"),
        ("run_massgen", json!({"question": "q", "overrides": levels}), "more than 60 levels of objects and lists"),
        ("steer_run", json!({"run_id": "", "message": "m"}), "`run_id` is missing"),
        ("steer_run", json!({"run_id": "mg-aaaaaaaa", "message": " "}), "`message` is missing"),
        ("run_massgen", json!({"question": "q", "massgen_config": "@rehearsal/hagn"}), "did you mean `hang`?"),
        ("run_massgen", json!({"question": "q", "massgen_config": "@rehearsal/agnets=3"}), "did you mean `agents`?"),
    ] {
        let (is_refused, refusal) = client.ask(tool, arguments).await;
        let refusal = refusal.to_string();
        assert!(is_refused, "{refusal}");
        assert!(refusal.contains(expected), "{expected}: {refusal}");
    }
    client.close().await;
}
