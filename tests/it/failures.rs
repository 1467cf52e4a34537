//! Failures of real MassGen, each with its class. MassGen exits with 0 in most of them.

use serde_json::json;

use crate::lab::Lab;

/// A config with two agents that call this address.
fn agents_at(base_url: &str) -> String {
    let agent = |id| {
        format!("  - id: {id}\n    backend: {{type: chatcompletion, model: rehearsal, base_url: \"{base_url}\"}}\n")
    };
    format!("agents:\n{}{}", agent("agent_a"), agent("agent_b"))
}

async fn problem_of(config: &str, key: Option<&str>) -> serde_json::Value {
    let lab = Lab::real().await.warm();
    lab.put("config.yaml", config);
    let mut command = lab.command();
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
    if let Some(key) = key {
        command.env("OPENAI_API_KEY", key);
    }
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "q", "config": "config.yaml"})).await;
    let run = client.end(&id).await;
    assert_eq!(run["state"], "failed", "{run}");
    assert!(run["problem"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{run}");
    let errors = client.call("read_result", json!({"run_id": id, "part": "errors"})).await;
    let code = run["problem"]["code"].as_str().expect("code");
    assert!(errors["text"].as_str().expect("text").starts_with(code), "{errors}");
    assert_eq!(client.refused("read_result", json!({"run_id": id})).await, "nothing_to_read");
    client.close().await;
    lab.nobody_is_left().await;
    run
}

#[tokio::test]
async fn a_missing_key_with_exit_0_and_no_status_is_api_key_missing() {
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let run = problem_of(&agents_at(&rehearsal.base_url()), None).await;
    assert_eq!((&run["problem"]["code"], &run["exit"]), (&json!("api_key_missing"), &json!("0")), "{run}");
}

#[tokio::test]
async fn an_unreachable_model_is_model_unreachable() {
    let run = problem_of(&agents_at("http://127.0.0.1:9/v1"), Some("rehearsal")).await;
    assert_eq!(run["problem"]["code"], "model_unreachable", "{run}");
    assert_eq!(
        (&run["problem"]["provider"], run["problem"].get("retry")),
        (&json!("127.0.0.1:9"), None),
        "a refused connection and an untrusted certificate have the same words: {run}"
    );
}

#[tokio::test]
async fn a_bad_config_is_config_invalid_in_massgens_own_words() {
    let run = problem_of("agents:\n  - id: a\n    backend: {type: nosuchbackend, model: x}\n", None).await;
    assert_eq!(run["problem"]["code"], "config_invalid", "{run}");
    assert!(run["problem"]["message"].as_str().expect("message").contains("nosuchbackend"), "{run}");
}

#[tokio::test]
async fn a_config_that_is_not_yaml_is_config_invalid() {
    let run = problem_of("agents:\n  - a\n   b: [", None).await;
    assert_eq!(run["problem"]["code"], "config_invalid", "{run}");
}

#[tokio::test]
async fn a_refused_key_and_a_failing_model_have_different_codes() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    for (status, code, retry) in [("401", "api_key_rejected", "no"), ("500", "model_error", "later")] {
        let id = client.start(json!({"question": "q", "config": format!("@rehearsal/status={status}")})).await;
        let run = client.end(&id).await;
        assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!(code)), "{run}");
        assert_eq!(run["problem"]["retry"], retry, "{run}");
        assert!(run["problem"]["provider"].as_str().is_some_and(|of| of.starts_with("127.0.0.1:")), "{run}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn one_failing_agent_does_not_fail_the_run() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "@rehearsal/b:status=500"})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["winner"]), (&json!("succeeded"), &json!("agent_a")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn agents_that_never_agree_end_with_an_answer_at_massgens_own_timeout() {
    let lab = Lab::real().await.warm();
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let config =
        massgen_mcp::rehearsal::config_yaml("@rehearsal/never-vote/delay=0.5", &rehearsal.base_url()).expect("config");
    lab.put("short.yaml", &format!("{config}timeout_settings:\n  orchestrator_timeout_seconds: 8\n"));
    let mut command = lab.command();
    command.env("OPENAI_API_KEY", "rehearsal").env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "q", "config": "short.yaml"})).await;
    let run = client.end(&id).await;
    assert_eq!(run["state"], "timed_out", "{run}");
    client.call("read_result", json!({"run_id": id})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// The full status and the errors part of an ended run that needs neither key nor stub.
async fn ended_run(lab: &Lab, config: &str) -> (serde_json::Value, String) {
    let mut command = lab.command();
    command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
    for name in ["ANTHROPIC_API_KEY", "CLAUDE_CODE_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"] {
        command.env_remove(name);
    }
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "q", "config": config})).await;
    let run = client.end(&id).await;
    let errors = client.call("read_result", json!({"run_id": id, "part": "errors"})).await;
    client.close().await;
    lab.nobody_is_left().await;
    (run, errors["text"].as_str().expect("text").to_owned())
}

/// An agent whose model is a program. MassGen requires folders for it.
fn program_config(backend: &str) -> String {
    format!(
        "agents:\n  - id: a\n    backend: {{type: {backend}, model: m, cwd: w}}\n\
         orchestrator: {{snapshot_storage: s, agent_temporary_workspace: t}}\n"
    )
}

#[tokio::test]
async fn a_claude_code_without_login_is_reported_in_its_own_words() {
    let lab = Lab::real().await.warm();
    lab.put("config.yaml", &program_config("claude_code"));
    let (run, errors) = ended_run(&lab, "config.yaml").await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("not_logged_in")), "{run}");
    assert_eq!(run["problem"]["message"], "Not logged in · Please run /login", "{run}");
    assert_eq!(run["problem"]["retry"], "no", "{run}");
    assert!(errors.starts_with("not_logged_in: Not logged in"), "{errors}");
}

#[tokio::test]
async fn a_missing_agent_program_is_named() {
    let lab = Lab::real().await.warm();
    lab.put("config.yaml", &program_config("codex"));
    let (run, _) = ended_run(&lab, "config.yaml").await;
    assert_eq!((&run["exit"], &run["problem"]["code"]), (&json!("2"), &json!("agent_program_missing")), "{run}");
    assert!(run["problem"]["message"].as_str().is_some_and(|message| message.contains("Codex CLI not found")), "{run}");
}

#[tokio::test]
async fn the_problem_is_massgens_last_error_and_not_an_earlier_warning() {
    let lab = Lab::scripted(
        "echo 'jwt.py:10: DeprecationWarning: use joserfc' >&2\necho '  from authlib.jose import JsonWebKey' >&2\n\
         echo '❌ Error: the snapshot folder cannot be made'\nexit 2",
    );
    let (run, errors) = ended_run(&lab, "@rehearsal").await;
    let problem = &run["problem"];
    assert_eq!((&run["exit"], &problem["code"]), (&json!("2"), &json!("massgen_error")), "{run}");
    assert_eq!(problem["message"], "❌ Error: the snapshot folder cannot be made", "{run}");
    assert!(!errors.contains("joserfc"), "{errors}");
}

#[tokio::test]
async fn the_errors_part_omits_lookalike_words_and_noise() {
    let noise = "20:49:44 | WARNING  | [SubagentManager] Failed to parse registry for list_subagents";
    let lab = Lab::scripted(&format!(
        "exec >&2\nfor i in $(seq 22); do echo '{noise}'; done\necho 'error_count: 0'\necho 'validated: 0 errors'\n\
         echo '20:49:45 | INFO     | tool error_report was called, nothing failed'\n\
         echo '20:49:46 | ERROR    | Streaming error: Connection error.'\n\
         echo '20:49:46 | ERROR    | [ERROR] orchestrator: no successful agents'",
    ));
    let (run, errors) = ended_run(&lab, "@rehearsal").await;
    assert_eq!(run["problem"]["code"], "model_unreachable", "{run}");
    let lines: Vec<&str> = errors.lines().skip(1).collect();
    assert_eq!(
        lines[..2],
        ["Streaming error: Connection error.", "[ERROR] orchestrator: no successful agents"],
        "{errors}"
    );
    assert!(lines[2].starts_with("(left out as harmless: 22, such as"), "{errors}");
    assert_eq!(lines.len(), 3, "{errors}");
}
