//! Failures of real MassGen, each with its class: it exits 0 in most of them.

use serde_json::json;

use crate::lab::Lab;

/// A config of two agents that call this address.
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
        (&run["problem"]["provider"], &run["problem"]["retry"]),
        (&json!("127.0.0.1:9"), &json!("later")),
        "{run}"
    );
}

#[tokio::test]
async fn a_bad_config_is_config_invalid_in_massgens_own_words() {
    let run = problem_of("agents:\n  - id: a\n    backend: {type: nosuchbackend, model: x}\n", None).await;
    assert_eq!(run["problem"]["code"], "config_invalid", "{run}");
    assert!(run["problem"]["message"].as_str().expect("message").contains("nosuchbackend"), "{run}");
}

#[tokio::test]
async fn a_config_that_is_no_yaml_is_config_invalid_too() {
    let run = problem_of("agents:\n  - a\n   b: [", None).await;
    assert_eq!(run["problem"]["code"], "config_invalid", "{run}");
}

#[tokio::test]
async fn a_model_that_refuses_the_key_or_fails_is_told_apart() {
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
async fn agents_that_never_agree_are_ended_by_massgens_own_clock_with_an_answer() {
    let lab = Lab::real().await.warm();
    let rehearsal = massgen_mcp::rehearsal::serve().await.expect("endpoint");
    let config =
        massgen_mcp::rehearsal::config("@rehearsal/never-vote/delay=0.5", &rehearsal.base_url()).expect("config");
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
