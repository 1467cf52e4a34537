//! Hints of warnings and of problems: a warning before a start is gone when the call follows its hint, and a run that ends badly, or
//! succeeds with a warning, says what to do next.

use serde_json::{Value, json};

use super::hints::{put_team, start};
use crate::lab::{Lab, fake};

/// Whether an answer has a warning with this code and this part of a hint.
fn warns(answer: &Value, code: &str, hint: &str) -> bool {
    let is_meant =
        |warning: &Value| warning["code"] == code && warning["hint"].as_str().is_some_and(|told| told.contains(hint));
    answer["warnings"].as_array().is_some_and(|all| all.iter().any(is_meant))
}

#[tokio::test]
async fn a_warning_before_a_start_says_what_removes_it() {
    let lab = Lab::fake();
    put_team(&lab);
    let agent = |backend: &str| format!("agents:\n  - id: a\n    backend: {{type: vllm, model: m{backend}}}\n");
    lab.put("human.yaml", &format!("{}orchestrator: {{coordination: {{broadcast: human}}}}\n", agent("")));
    let docker = ", cwd: w, enable_mcp_command_line: true, command_line_execution_mode: docker";
    let folders = "orchestrator: {snapshot_storage: s, agent_temporary_workspace: t}\n";
    lab.put("docker.yaml", &format!("{}{folders}", agent(docker)));
    lab.put("folders.yaml", &agent(", cwd: w"));
    let in_container = std::path::Path::new("/.dockerenv").exists();
    let docker = match in_container {
        true => ("docker_runs_local", "take it as local execution, or run the server outside of the container"),
        false => ("docker_unreachable", "set command_line_execution_mode to \"local\" by overrides"),
    };
    let mut command = lab.command();
    // Without `allow_commands`, an override may not change where commands run.
    command.env("DOCKER_HOST", "unix:///nowhere/docker.sock").env("MASSGEN_MCP_ALLOW_COMMANDS", "true");
    let client = lab.client_of(command).await;
    let overrides = |config: &str, overrides: Value| start(json!({"massgen_config": config, "overrides": overrides}));
    let of = |config: &str| start(json!({"massgen_config": config}));
    let local = json!({"agents": {"a": {"backend": {"command_line_execution_mode": "local"}}}});
    let agents = json!({"orchestrator": {"coordination": {"broadcast": "agents"}}});
    let two =
        json!({"orchestrator": {"snapshot_storage": "snapshots", "agent_temporary_workspace": "temp_workspaces"}});
    let mut wrong = Vec::new();
    for (asked, code, hint, followed) in [
        (
            of("human.yaml"),
            "broadcast_unanswered",
            "set orchestrator.coordination.broadcast to \"agents\"",
            overrides("human.yaml", agents),
        ),
        (of("docker.yaml"), docker.0, docker.1, overrides("docker.yaml", local)),
        (
            of("folders.yaml"),
            "config_fails",
            "add `snapshot_storage: snapshots` and `agent_temporary_workspace: temp_workspaces`",
            overrides("folders.yaml", two),
        ),
        (
            start(json!({"question": "read @notes.md"})),
            "reference_not_read",
            "give `context`: \"read\", and name the files without @",
            start(json!({"question": "read notes.md", "context": "read"})),
        ),
        (
            start(json!({"budget_usd": 1})),
            "budget_blind",
            "set max_tokens as well",
            start(json!({"budget_usd": 1, "max_tokens": 9})),
        ),
    ] {
        let warned = client.call("run_massgen", asked.clone()).await;
        let quiet = client.call("run_massgen", followed).await;
        if !warns(&warned, code, hint) || warns(&quiet, code, "") {
            wrong.push(format!("{asked}: {code} {hint:?}: {warned} {quiet}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    // The hint holds the overrides themselves.
    let warned = client.call("run_massgen", start(json!({"context": "read"}))).await;
    let told = warned["warnings"].as_array().expect("warnings").iter().find(|told| told["code"] == "context_unused");
    let (_, patch) = told.and_then(|told| told["hint"].as_str()?.split_once("overrides: ")).expect("overrides");
    let patch: Value = serde_json::from_str(patch).expect("JSON");
    let quiet = client.call("run_massgen", start(json!({"context": "read", "overrides": patch}))).await;
    assert!(!warns(&quiet, "context_unused", ""), "{quiet}");

    // What a person has to do: the key in one of the files that the hint names.
    let warned = client.call("run_massgen", of("team.yaml")).await;
    assert!(
        warns(&warned, "api_key_missing", "in the server's environment, its env_file or ~/.massgen/.env"),
        "{warned}"
    );
    let folder = lab.home().join(".massgen");
    std::fs::create_dir(&folder)
        .and_then(|()| std::fs::write(folder.join(".env"), "OPENAI_API_KEY=k\n"))
        .expect("written");
    let quiet = client.call("run_massgen", of("team.yaml")).await;
    assert!(!warns(&quiet, "api_key_missing", ""), "{quiet}");
    client.call("kill_run", json!({"all": true, "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// A status line with so many dollars and tokens.
fn spent(usd: &str, tokens: u32) -> String {
    let costs = json!({"total_estimated_cost": 0, "total_input_tokens": tokens, "total_output_tokens": 0});
    let agent =
        json!({"status": "answered", "token_usage": {"input_tokens": tokens, "output_tokens": 0, "estimated_cost": 0}});
    let status = json!({"costs": costs, "agents": {"agent_a": agent}}).to_string();
    format!("status {}", status.replace("_cost\":0", &format!("_cost\":{usd}")))
}

#[tokio::test]
async fn a_run_that_ends_badly_says_what_to_do() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let logs = "see read_result with part `errors`, and part `log` for everything it printed";
    let mut wrong = Vec::new();
    for (script, more, code, hint) in [
        ("exit 1".to_owned(), json!({}), "crashed", logs),
        ("exit 0".to_owned(), json!({}), "agents_failed", logs),
        (
            "status {\"finish_reason\": \"timeout\"}\nexit 3".to_owned(),
            json!({}),
            "massgen_timeout",
            "raise timeout_s, or timeout_settings in the config",
        ),
        ("forever".to_owned(), json!({"timeout_s": 1}), "timeout_s_reached", "start it again with a larger timeout_s"),
        (
            format!("{}\nforever", spent("2.5", 7)),
            json!({"budget_usd": 2}),
            "budget_spent",
            "for more, run it with a larger budget_usd",
        ),
        (
            format!("{}\nforever", spent("0.5", 70)),
            json!({"max_tokens": 60}),
            "budget_spent",
            "for more, run it with a larger max_tokens",
        ),
    ] {
        let mut asked = fake(&format!("announce\n{script}"));
        asked.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        let run = client.end(&client.start(asked).await).await;
        let problem = &run["problem"];
        if problem["code"] != code || !problem["hint"].as_str().is_some_and(|told| told.contains(hint)) {
            wrong.push(format!("{script}: {code} {hint:?}: {run}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_warning_of_a_finished_run_says_what_to_do() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let failed = json!({"agents": {
        "agent_a": {"status": "error", "error": {"message": "bad"}}, "agent_b": {"status": "answered", "answer_count": 1},
    }});
    let line = |level: &str, text: &str| format!("20:53:57 | {level} | {text}\n");
    let log = |lines: String| format!("raw {}", json!(format!("log {lines}")));
    let isolated = line("INFO    ", "[Orchestrator] Isolation: worktree at /r/w, original removed from agent view: /r");
    let nothing = line("INFO    ", "[Orchestrator] No isolated changes to review");
    let local = "[FilesystemManager] Already running inside Docker container - switching to local execution mode. The container";
    for (script, code, hint) in [
        (format!("status {failed}"), "agents_failed", "read_result part `errors` has each error"),
        (
            log(line("ERROR   ", "Failed to connect to nosuch: no")),
            "mcp_not_connected",
            "see read_result part `errors`",
        ),
        (log(isolated + &nothing), "changes_not_applied", "set orchestrator.coordination.write_mode to legacy"),
        (log(line("INFO    ", local)), "docker_not_used", "or set command_line_execution_mode to local"),
    ] {
        let id = client.start(fake(&format!("announce\n{script}\nanswer agent_b b\nfinal agent_b b"))).await;
        let run = client.end(&id).await;
        let warning = &run["warning"];
        assert_eq!((&run["state"], &warning["code"]), (&json!("succeeded"), &json!(code)), "{run}");
        assert!(warning["hint"].as_str().is_some_and(|told| told.contains(hint)), "{hint:?}: {run}");
        // The hint's own call is accepted.
        client.call("read_result", json!({"run_id": id, "part": "errors"})).await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}
