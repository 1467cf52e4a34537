//! Settings from outside: the precedence of flag, variable and file, and the errors for invalid values. Unit tests of the `settings`
//! module cover the permitted values.

use std::process::Output;

use serde_json::json;

use crate::lab::{Lab, fake};

/// Runs `massgen-mcp settings` with flags and variables in addition to those of the lab.
fn settings(lab: &Lab, flags: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = lab.command().into_std();
    command.args(flags).arg("settings").envs(variables.iter().copied());
    command.stderr(std::process::Stdio::piped()).output().expect("ran")
}

fn output_of(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("UTF-8");
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn refusal_of(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

fn line<'a>(output: &'a str, key: &str) -> Vec<&'a str> {
    let line = output.lines().find(|line| line.split_whitespace().next() == Some(key));
    line.expect("shown").split_whitespace().collect()
}

#[test]
fn a_flag_overrides_a_variable_and_a_variable_overrides_the_file() {
    let lab = Lab::fake();
    let file = lab.put("here.toml", "max_runs = 1\nmax_queue = 1\nmax_depth = 1\n");
    let file = file.to_str().expect("UTF-8");
    let variables = [("MASSGEN_MCP_SETTINGS", file), ("MASSGEN_MCP_MAX_RUNS", "2"), ("MASSGEN_MCP_MAX_QUEUE", "2")];
    let output = output_of(&settings(&lab, &["--max-runs", "3", "--read-only"], &variables));
    assert_eq!(line(&output, "max_runs"), ["max_runs", "3", "--max-runs"]);
    assert_eq!(line(&output, "max_queue"), ["max_queue", "2", "MASSGEN_MCP_MAX_QUEUE"]);
    assert_eq!(line(&output, "max_depth"), ["max_depth", "1", &format!("{file},"), "line", "3"]);
    assert_eq!(line(&output, "max_tree_runs"), ["max_tree_runs", "8", "default"]);
    assert_eq!(line(&output, "read_only"), ["read_only", "true", "--read-only"]);
    let output = self::output_of(&settings(&lab, &["--warm", "false"], &[("MASSGEN_MCP_WARM", "true")]));
    assert_eq!(line(&output, "warm"), ["warm", "false", "--warm"]);
}

#[test]
fn the_default_settings_file_is_not_read_from_the_project() {
    let lab = Lab::fake();
    for name in ["massgen-mcp.toml", ".massgen/massgen-mcp.toml", ".config/massgen-mcp/massgen-mcp.toml"] {
        lab.put(name, "keep_days = 999\n");
    }
    let mut command = lab.command().into_std();
    let output = command.arg("settings").current_dir(lab.project()).output().expect("ran");
    assert_eq!(line(&output_of(&output), "keep_days"), ["keep_days", "30", "default"]);
}

#[test]
fn an_invalid_setting_is_refused_with_its_source() {
    let lab = Lab::fake();
    let file = lab.put("bad.toml", "max_runs = 1\nmax_rums = 2\n").display().to_string();
    for (flags, variables, expected) in [
        (&["--settings", &file][..], &[][..], "bad.toml`, line 2: there is no setting `max_rums`"),
        (&["--settings", "/no/such.toml"], &[], "cannot read the settings file `/no/such.toml`: "),
        (&["--budget-usd", "lots"], &[], "--budget-usd or MASSGEN_MCP_BUDGET_USD: `lots` is not a number of USD"),
        (&[], &[("MASSGEN_MCP_KEEP_DAYS", "-1")], "--keep-days or MASSGEN_MCP_KEEP_DAYS: `-1` is not a whole number"),
    ] {
        let refused = refusal_of(&settings(&lab, flags, variables));
        assert!(refused.contains(expected), "{refused}");
    }
}

#[tokio::test]
async fn the_operator_limits_the_duration_of_a_run() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.args(["--max-timeout-s", "60"]);
    let client = lab.client_of(command).await;
    let mut longer = fake("announce\nfinal agent_a done");
    longer["timeout_s"] = json!(61);
    assert_eq!(client.refused("run_massgen", longer).await, "out_of_range");
    let id = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&id).await;
    let spec = std::fs::read(lab.run_folder(&id).join("spec.json")).expect("spec");
    let spec: serde_json::Value = serde_json::from_slice(&spec).expect("JSON");
    assert_eq!(spec["timeout_s"], 60.0);
    client.close().await;
    lab.nobody_is_left().await;
}
