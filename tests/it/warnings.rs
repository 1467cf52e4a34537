//! Warnings before a start: each appears once, in the answer of run_massgen, in a dry run and for an experiment; no false alarm.
//! With the stand-in.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::lab::Lab;

const QUESTION: &str = "#!fake\nannounce\nfinal agent_a x";
const TWO_AGENTS: &str = "agents: [{id: a, backend: {type: openai}}, {id: b, backend: {type: gemini}}]\n";
const KEYS: [&str; 4] = ["OPENAI_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "ANTHROPIC_API_KEY"];

/// A server with only these keys in its environment.
fn server_with_keys(lab: &Lab, keys: &[(&str, &str)]) -> Command {
    let mut command = lab.command();
    KEYS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command.env_remove("DOCKER_HOST").envs(keys.iter().copied());
    command
}

/// The codes and messages of an answer's warnings. Each must have a hint.
fn warnings_of(answer: &Value) -> Vec<(String, String)> {
    let all = answer["warnings"].as_array().cloned().unwrap_or_default();
    let text = |warning: &Value, field: &str| {
        warning[field]
            .as_str()
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| panic!("{field} in {warning}"))
            .to_owned()
    };
    let code_and_message = |warning: &Value| {
        text(warning, "hint");
        (text(warning, "code"), text(warning, "message"))
    };
    all.iter().map(code_and_message).collect()
}

fn codes(answer: &Value) -> Vec<String> {
    warnings_of(answer).into_iter().map(|(code, _)| code).collect()
}

#[tokio::test]
async fn missing_keys_are_warnings_at_the_start_and_the_run_starts() {
    let lab = Lab::fake();
    lab.put("two.yaml", TWO_AGENTS);
    let client = lab.client_of(server_with_keys(&lab, &[])).await;
    let arguments = json!({"question": QUESTION, "config": "two.yaml"});
    let answer = client.call("run_massgen", arguments.clone()).await;
    let expected = ["GOOGLE_API_KEY or GEMINI_API_KEY is not set", "OPENAI_API_KEY is not set"];
    let expected = expected.map(|message| ("api_key_missing".to_owned(), message.to_owned()));
    assert_eq!(warnings_of(&answer), expected);
    let id = answer["run_id"].as_str().expect("started");
    assert_eq!(client.end(id).await["state"], "succeeded");
    let listed = client.call("list_configs", json!({"query": "two"})).await;
    assert_eq!(
        listed["configs"][0]["missing_keys"].as_array().expect("keys").len(),
        2,
        "the list shows the same keys: {listed}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_key_from_any_source_that_massgen_reads_is_found() {
    for (path, context) in
        [("home/.massgen/.env", "none"), ("home/.config/massgen/.env", "none"), ("project/configs/.env", "read")]
    {
        let lab = Lab::fake();
        lab.put("two.yaml", TWO_AGENTS);
        let file = lab.home().parent().expect("root").join(path);
        std::fs::create_dir_all(file.parent().expect("folder")).expect("mkdir");
        std::fs::write(&file, "OPENAI_API_KEY=sk-canary-of-a-test\nANTHROPIC_API_KEY=\n").expect("written");
        let client = lab.client_of(server_with_keys(&lab, &[("GEMINI_API_KEY", "canary-of-a-test")])).await;
        let arguments = json!({"question": QUESTION, "config": "two.yaml", "context": context});
        let answer = client.call("run_massgen", arguments).await;
        let without_files = if context == "none" { vec![] } else { vec!["context_unused"] };
        assert_eq!(codes(&answer), without_files, "{path}");
        client.end(answer["run_id"].as_str().expect("run_id")).await;
        let claude = json!({"agents": [{"id": "a", "backend": {"type": "claude"}}]});
        let arguments = json!({"question": QUESTION, "config": "two.yaml", "overrides": claude, "context": context});
        let answer = client.call("run_massgen", arguments).await;
        assert_eq!(codes(&answer)[0], "api_key_missing", "an empty value is not a key: {path}");
        client.end(answer["run_id"].as_str().expect("run_id")).await;
        client.close().await;
        lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn settings_without_effect_in_the_background_are_warnings() {
    let lab = Lab::fake();
    let commands = "enable_mcp_command_line: true, command_line_execution_mode: docker, cwd: w";
    lab.put("odd.yaml", &format!(
        "agents: [{{id: a, backend: {{type: vllm, {commands}}}}}]\norchestrator: {{coordination: {{broadcast: human}}, \
         snapshot_storage: s, agent_temporary_workspace: t}}\n"
    ));
    lab.put("notes.md", "notes");
    let client = lab.client_of(server_with_keys(&lab, &[("DOCKER_HOST", "unix:///nowhere/docker.sock")])).await;
    let ask = async |question: &str, extra: Value| {
        let mut arguments = json!({"question": format!("{QUESTION}\nprint {question}"), "config": "odd.yaml"});
        arguments.as_object_mut().expect("object").extend(extra.as_object().cloned().unwrap_or_default());
        let answer = client.call("run_massgen", arguments).await;
        client.end(answer["run_id"].as_str().expect("run_id")).await;
        codes(&answer)
    };
    let docker = if std::path::Path::new("/.dockerenv").exists() { "docker_runs_local" } else { "docker_unreachable" };
    assert_eq!(ask("what is in @notes.md?", json!({})).await, ["broadcast_unanswered", docker, "reference_not_read"]);
    assert_eq!(
        ask("@notes.md", json!({"context": "read"})).await,
        ["broadcast_unanswered", docker],
        "the run can read the file"
    );
    let quiet = json!({
        "orchestrator": {"coordination": {"broadcast": "agents"}},
        "agents": [{"id": "a", "backend": {"type": "vllm"}}],
    });
    let plain = "me@notes.md uses @dataclass";
    assert_eq!(ask(plain, json!({"overrides": quiet})).await, Vec::<String>::new());
    assert_eq!(ask("@notes.md", json!({"config": "@rehearsal"})).await, ["reference_not_read"]);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_experiment_reports_each_warning_once() {
    let lab = Lab::fake();
    lab.put("one.yaml", "agents: [{id: a, backend: {type: openai}}]\n");
    lab.put("two.yaml", TWO_AGENTS);
    let client = lab.client_of(server_with_keys(&lab, &[])).await;
    let questions = [format!("{QUESTION}\nprint @a.md"), format!("{QUESTION}\nprint two"), format!("{QUESTION}\n ")];
    let arguments = json!({"questions": questions, "configs": ["one.yaml", "two.yaml"], "repeat": 2, "group": "many"});
    let expected = ["api_key_missing", "api_key_missing", "reference_not_read"];
    let started = client.call("run_massgen", arguments).await;
    assert_eq!(started["runs"], 12);
    assert_eq!(codes(&started), expected, "{started}");
    client.call("kill_run", json!({"group": "many"})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_dry_run_reports_each_warning_once() {
    // A dry run asks MassGen to validate the config; this MassGen accepts every config.
    let lab = Lab::scripted(
        r#"echo '{"valid": true, "warning_count": 1, "warnings": [{"message": "old key", "location": "ui"}]}'"#,
    );
    lab.put("two.yaml", TWO_AGENTS);
    lab.put("one.yaml", "agents: [{id: a, backend: {type: openai}}]\n");
    let client = lab.client_of(server_with_keys(&lab, &[])).await;
    let arguments = json!({"question": "@notes.md", "config": "two.yaml", "dry_run": true});
    let dry = client.call("run_massgen", arguments).await;
    assert_eq!(codes(&dry), ["reference_not_read", "massgen_warns"], "{dry}");
    assert!(dry["ok"] == false && warnings_of(&dry)[1].1 == "ui: old key", "{dry}");
    let problems = dry["problems"].as_array().expect("problems");
    let is_key = |problem: &Value| problem.as_str().is_some_and(|text| text.starts_with("api_key_missing: "));
    assert!(problems.len() == 2 && problems.iter().all(is_key), "each problem appears once: {dry}");
    let arguments = json!({"questions": ["q", "@notes.md"], "configs": ["one.yaml", "two.yaml"], "dry_run": true});
    let dry = client.call("run_massgen", arguments).await;
    assert_eq!(codes(&dry), ["reference_not_read"], "{dry}");
    for arm in dry["arms"].as_array().expect("arms") {
        assert_eq!(codes(&arm["dry_run"]), ["massgen_warns"], "{arm}");
        assert_eq!(arm["dry_run"]["ok"], false, "{arm}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}
