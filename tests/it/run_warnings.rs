//! Warnings of successful runs: tool servers that did not connect, agents that failed, changes that were not applied, Docker that was
//! not used. Real MassGen with the rehearsal models.

use std::path::Path;
use std::process::Command;

use massgen_mcp::rehearsal;
use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, wait_until};

/// The file by which MassGen detects that it runs in a container.
const IN_CONTAINER: &str = "/.dockerenv";

async fn full_status(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0].take()
}

/// The codes of all warnings in a full status.
fn codes(run: &Value) -> Vec<&str> {
    let all = run["details"]["warnings"].as_array().into_iter().flatten().map(|warning| &warning["code"]);
    let mut codes: Vec<&str> = all.chain([&run["warning"]["code"]]).filter_map(Value::as_str).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

#[tokio::test]
async fn a_successful_run_reports_an_unconnected_server_and_a_failed_agent() {
    let lab = Lab::real().await;
    let served = rehearsal::serve().await.expect("served");
    let mode = if Path::new(IN_CONTAINER).exists() { "docker" } else { "local" };
    let url = served.base_url();
    let config = format!(
        "agents:
  - id: agent_a
    backend:
      type: chatcompletion
      model: \"rehearsal/name=agent_a\"
      base_url: \"{url}\"
      cwd: ws_a
      enable_mcp_command_line: true
      command_line_execution_mode: {mode}
      exclude_file_operation_mcps: true
      mcp_servers:
        - {{name: filesystem, args: []}}
        - {{name: nosuch, type: stdio, command: python3, args: [\"-c\", \"import sys; sys.exit(1)\"]}}
  - id: agent_b
    backend: {{type: chatcompletion, model: \"rehearsal/name=agent_b/status=500\", base_url: \"{url}\"}}
orchestrator:
  snapshot_storage: snapshots
  agent_temporary_workspace: temp_workspaces
"
    );
    lab.put("lacking.yaml", &config);
    let mut command = lab.command();
    command.env("OPENAI_API_KEY", "rehearsal");
    let client = lab.client_of(command).await;
    let id = client.start(json!({"question": "q", "config": "lacking.yaml"})).await;
    let run = client.end(&id).await;
    assert_eq!((&run["state"], &run["warning"]["code"]), (&json!("succeeded"), &json!("agents_failed")), "{run}");
    assert!(run["warning"]["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{run}");
    let run = full_status(&client, &id).await;
    let mut expected = vec!["agents_failed", "mcp_not_connected"];
    expected.extend((mode == "docker").then_some("docker_not_used"));
    expected.sort_unstable();
    assert_eq!(codes(&run), expected, "{run}");
    let all = run["details"]["warnings"].as_array().expect("warnings");
    let failed = all.iter().find(|warning| warning["code"] == "agents_failed").expect("agents_failed");
    let message = failed["message"].as_str().expect("message");
    assert!(message.contains("agent_b") && message.contains("500"), "{failed}");

    // The warnings are on record, and the `status` command shows them.
    assert_eq!(lab.record(&id)["ending"]["warnings"].as_array().expect("recorded").len(), expected.len());
    let status = lab.command().into_std().args(["status", &id]).output().expect("ran");
    assert!(String::from_utf8_lossy(&status.stdout).contains("code: agents_failed"), "{status:?}");
    client.close().await;
    lab.nobody_is_left().await;
}

/// Makes the project a Git repository with one commit.
fn create_repository(lab: &Lab) {
    lab.put("a.txt", "one\n");
    for arguments in [&["init", "-q"][..], &["add", "a.txt"], &["commit", "-qm", "first"]] {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.com"]).args(arguments).current_dir(lab.project());
        assert!(git.status().expect("git").success(), "{arguments:?}");
    }
}

fn git(lab: &Lab, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(lab.project()).output().expect("git");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn branches(lab: &Lab) -> Vec<String> {
    git(lab, &["for-each-ref", "--format=%(refname:short)", "refs/heads"]).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_repository_has_only_the_requested_changes() {
    let lab = Lab::real().await;
    create_repository(&lab);
    // A branch of the user's own: MassGen deletes all branches below `massgen/` when it starts.
    git(&lab, &["branch", "massgen/mine"]);
    let exclude = lab.project().join(".git/info/exclude");
    let (before, excluded) = (branches(&lab), std::fs::read_to_string(&exclude).ok());
    let client = lab.client().await;
    let config = "@rehearsal/agents=1/command=echo%20two";
    let overrides = json!({"orchestrator": {"coordination": {"write_mode": "auto"}}});
    for (question, end) in [("q", "succeeded"), ("another", "killed")] {
        let config = if end == "killed" { "@rehearsal/agents=1/command=sleep%20300" } else { config };
        let id = client
            .start(json!({"question": question, "config": config, "context": "write", "overrides": overrides}))
            .await;
        if end == "killed" {
            let listed = || git(&lab, &["worktree", "list"]).lines().count() > 1;
            wait_until("MassGen works in a worktree", listed).await;
            client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
        }
        assert_eq!(client.end(&id).await["state"], end);
        assert_eq!(branches(&lab), before, "{end}");
        assert_eq!(git(&lab, &["worktree", "list"]).lines().count(), 1, "{end}");
        assert_eq!(std::fs::read_to_string(&exclude).ok(), excluded, "{end}");
        assert_eq!(git(&lab, &["status", "--porcelain"]), "", "{end}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn changes_that_massgen_does_not_apply_are_reported() {
    let lab = Lab::real().await;
    create_repository(&lab);
    let client = lab.client().await;
    let config = "@rehearsal/agents=1/command=echo%20two%20%3E.worktree%2Fctx_1%2Fb.txt";
    let overrides = json!({"orchestrator": {"coordination": {"write_mode": "auto"}}});
    let arguments = json!({"question": "q", "config": config, "context": "write", "overrides": overrides});
    let id = client.start(arguments).await;
    let run = client.end(&id).await;
    assert!(!lab.project().join("b.txt").exists(), "MassGen did not apply the change");
    assert_eq!((&run["state"], &run["warning"]["code"]), (&json!("succeeded"), &json!("changes_not_applied")), "{run}");
    let run = full_status(&client, &id).await;
    let message = run["warning"]["message"].as_str().expect("message");
    assert!(message.contains(lab.project().file_name().and_then(|name| name.to_str()).expect("name")), "{run}");
    let kept = branches(&lab).into_iter().filter(|name| name.contains('/') || name.contains('_')).collect::<Vec<_>>();
    let hint = run["warning"]["hint"].as_str().expect("hint");
    assert!(!kept.is_empty() && kept.iter().all(|branch| hint.contains(branch)), "{kept:?}: {hint}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_complete_run_has_no_warning_and_a_docker_run_executed_locally_has_one() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let local = "log 20:53:57 | INFO     | [FilesystemManager] Already running inside Docker container - switching to local execution \
                 mode. The container provides isolation.";
    for (line, expected) in [("log 20:53:57 | INFO     | fine", None), (local, Some("docker_not_used"))] {
        let id = client.start(fake(&format!("announce\n{line}\nanswer agent_a so\nfinal agent_a so"))).await;
        let run = client.end(&id).await;
        assert_eq!((&run["state"], run["warning"]["code"].as_str()), (&json!("succeeded"), expected), "{run}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}
