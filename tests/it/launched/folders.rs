//! Working folders, projects and state folders that do not exist, are not writable or have a name that is not UTF-8.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tokio::process::Command;

use super::{check_run_succeeds, server_under, shell, with_launcher};
use crate::lab::{Client, Lab, PROGRAM, fake};

/// A server without a project setting, in a working folder.
fn without_project(lab: &Lab, working: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("--home").arg(lab.state()).current_dir(working).stderr(Stdio::null());
    lab.surroundings(&mut command);
    command.env_remove("MASSGEN_MCP_PROJECT").env_remove("MASSGEN_MCP_TRUSTED_CONFIGS");
    command
}

const CONFIG: &str = "agents:\n  - id: a\n    backend: {type: chatcompletion, model: m}\n";

/// Calls that need a project are refused with a hint on how to name one; other calls work.
async fn check_without_project(lab: &Lab, client: &Client, reason: &str) {
    let relative = |path: PathBuf| path.strip_prefix("/").expect("absolute").to_str().expect("UTF-8").to_owned();
    let (config, question) = (relative(lab.put("c.yaml", CONFIG)), relative(lab.put("q.txt", "a question")));
    for (arguments, code) in [
        (json!({"question": "q", "config": config}), "config_missing"),
        (json!({"question": "q", "config": format!("/{config}")}), "config_outside"),
        (json!({"question": "q"}), "config_missing"),
        (json!({"question_file": question, "config": "@rehearsal"}), "question_file_unreadable"),
        (json!({"question_file": format!("/{question}"), "config": "@rehearsal"}), "question_file_unreadable"),
        (json!({"question": "q", "config": "@rehearsal", "context": "read"}), "no_project"),
        (json!({"configs": ["@rehearsal"], "questions": ["q"], "repeat": 2, "context": "write"}), "no_project"),
    ] {
        let (is_refused, answer) = client.ask("run_massgen", arguments.clone()).await;
        assert!(is_refused && answer["code"] == code, "{arguments}: {answer}");
        let contains = |field: &str, expected: &str| answer[field].as_str().is_some_and(|text| text.contains(expected));
        assert!(contains("message", reason) && contains("hint", "--project"), "{answer}");
    }
    let listed = client.call("list_configs", json!({})).await;
    let configs = listed["configs"].as_array().expect("a list");
    assert!(configs.iter().all(|config| config["source"] != "project"), "{listed}");
    check_run_succeeds(lab, client).await;
}

#[tokio::test]
async fn the_root_folder_is_a_project_only_if_it_is_named() {
    let lab = Lab::fake();
    let client = lab.client_of(without_project(&lab, Path::new("/"))).await;
    check_without_project(&lab, &client, "the working folder is `/`").await;
    client.close().await;
    let mut doctor = without_project(&lab, Path::new("/"));
    let report = doctor.args(["doctor", "--no-rehearsal", "--json"]).output().await.expect("ran");
    let report: serde_json::Value = serde_json::from_slice(&report.stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let project = checks.iter().find(|check| check["check"] == "project").expect("checked");
    assert_eq!(project["verdict"], "warning");
    assert!(project["hint"].as_str().is_some_and(|hint| hint.contains("--project")), "{project}");

    let mut named = without_project(&lab, Path::new("/"));
    named.args(["--project", "/", "--allow-commands"]);
    let client = lab.client_of(named).await;
    let config = lab.put("c.yaml", CONFIG);
    let id = client.start(json!({"question": "q", "config": config, "context": "read"})).await;
    client.end(&id).await;
    client.close().await;
    lab.nobody_is_left().await;
}

/// A shell command that removes its working folder.
const REMOVE_WORKING_FOLDER: &str = "rmdir \"$PWD\"";

#[tokio::test]
async fn a_server_works_in_a_removed_working_folder() {
    let lab = Lab::fake();
    let shell = shell(REMOVE_WORKING_FOLDER);
    let launcher = shell.each_ref().map(String::as_str);
    let working = || {
        let folder = lab.home().join("working");
        std::fs::create_dir(&folder).expect("made");
        folder
    };
    let (folder, mut gone) = (working(), server_under(&lab, &launcher));
    gone.current_dir(&folder);
    let client = lab.client_of(gone).await;
    assert!(!folder.exists(), "the launcher has removed the folder");
    lab.put("c.yaml", CONFIG);
    for (config, context) in [("@rehearsal", "none"), ("c.yaml", "read")] {
        let mut arguments = fake("announce\nfinal agent_a done");
        (arguments["config"], arguments["context"]) = (config.into(), context.into());
        let id = client.start(arguments).await;
        assert_eq!(client.end(&id).await["state"], "succeeded");
    }
    client.close().await;

    let folder = working();
    let mut gone = with_launcher(&launcher, &without_project(&lab, &folder));
    gone.current_dir(&folder);
    let client = lab.client_of(gone).await;
    check_without_project(&lab, &client, "the working folder is gone").await;
    client.close().await;

    let folder = working();
    let mut relative = with_launcher(&launcher, Command::new(PROGRAM).args(["--home", "state", "settings"]));
    let refused = relative.current_dir(&folder).stderr(Stdio::piped()).output().await.expect("ran");
    let output = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && output.contains("an absolute path"), "{output}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_call_that_needs_a_removed_folder_names_it() {
    let lab = Lab::fake();
    let working = lab.home().join("working");
    std::fs::create_dir(&working).expect("made");
    let mut command = lab.command();
    command.current_dir(&working).env("MASSGEN_MCP_MAX_RUNS", "1");
    let client = lab.client_of(command).await;
    let first = client.start(fake("announce\nforever")).await;
    let mut arguments = fake("announce");
    arguments["context"] = "read".into();
    let queued = client.start(arguments.clone()).await;
    std::fs::remove_dir(&working).expect("removed");
    std::fs::remove_dir_all(lab.project()).expect("removed");
    client.call("kill_run", json!({"run_id": first, "grace_s": 0})).await;

    let gone = format!("the folder `{}` is gone", lab.project().display());
    let says_which = |message: &serde_json::Value| message.as_str().is_some_and(|text| text.contains(&gone));
    let run = client.end(&queued).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("start_failed")), "{run}");
    assert!(says_which(&run["problem"]["message"]), "{run}");
    let (is_refused, answer) = client.ask("run_massgen", arguments).await;
    assert!(is_refused && answer["code"] == "no_project" && says_which(&answer["message"]), "{answer}");
    let (is_refused, answer) = client.ask("run_massgen", json!({"question": "q", "config": "team.yaml"})).await;
    assert!(is_refused && answer["code"] == "config_missing" && says_which(&answer["message"]), "{answer}");
    check_run_succeeds(&lab, &client).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_name_that_is_not_utf8_is_refused_before_anything_is_written() {
    let lab = Lab::fake();
    let not_utf8 = lab.home().join(OsStr::from_bytes(b"caf\xe9"));
    std::fs::create_dir(&not_utf8).expect("made");
    let with_flag = |flag: &str| {
        let mut command = lab.command();
        command.arg(flag).arg(&not_utf8);
        command
    };
    let without_home = || {
        let mut command = Command::new(PROGRAM);
        lab.surroundings(&mut command);
        command.env("HOME", &not_utf8).env_remove("MASSGEN_MCP_HOME").env_remove("XDG_STATE_HOME");
        command
    };
    let plain = || {
        let mut command = Command::new(PROGRAM);
        lab.surroundings(&mut command);
        command.env_remove("MASSGEN_MCP_PROJECT").arg("--project").arg(&not_utf8);
        command
    };
    for (mut command, names) in
        [(with_flag("--read-folders"), "--read-folders"), (without_home(), "--home"), (plain(), "--project")]
    {
        let refused = command.stdin(Stdio::null()).stderr(Stdio::piped()).output().await.expect("ran");
        let output = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && output.contains("UTF-8") && output.contains(names), "{output}");
    }
    for folder in [&not_utf8, &lab.state()] {
        assert_eq!(std::fs::read_dir(folder).expect("listed").count(), 0, "{}", folder.display());
    }
    // Names that are not UTF-8 do not matter for the working folder and for a home folder that the server does not use.
    let mut command = without_project(&lab, &not_utf8);
    command.env("HOME", &not_utf8);
    let client = lab.client_of(command).await;
    check_without_project(&lab, &client, "not UTF-8").await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_server_without_a_state_folder_says_how_to_name_another() {
    let lab = Lab::fake();
    let mut command = Command::new(PROGRAM);
    lab.surroundings(&mut command);
    // Not even root can create a folder inside a file.
    command.env("HOME", lab.put("file", "")).env_remove("MASSGEN_MCP_HOME").env_remove("XDG_STATE_HOME");
    command.stderr(Stdio::null());
    let client = lab.client_of(command).await;
    let id = "mg-7f3k2q9d";
    for (tool, arguments) in [
        ("check_status", json!({})),
        ("list_configs", json!({})),
        ("run_massgen", fake("announce")),
        ("read_result", json!({"run_id": id})),
        ("kill_run", json!({"run_id": id})),
        ("steer_run", json!({"run_id": id, "message": "m"})),
    ] {
        let (is_refused, answer) = client.ask(tool, arguments).await;
        assert!(is_refused && answer["code"] == "state_folder", "{tool}: {answer}");
        assert!(answer["hint"].as_str().is_some_and(|hint| hint.contains("--home")), "{tool}: {answer}");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_state_folder_that_is_removed_during_a_session_is_created_again() {
    let lab = Lab::fake();
    let client = lab.client().await;
    check_run_succeeds(&lab, &client).await;
    lab.only_servers_are_left().await;
    std::fs::remove_dir_all(lab.state()).expect("removed");
    assert_eq!(client.call("check_status", json!({})).await["runs"], json!([]));
    check_run_succeeds(&lab, &client).await;
    lab.only_servers_are_left().await;
    std::fs::remove_dir_all(lab.state()).expect("removed");
    check_run_succeeds(&lab, &client).await;
    assert_eq!(lab.state().metadata().expect("made").mode() & 0o777, 0o700);
    client.close().await;
    lab.nobody_is_left().await;
}
