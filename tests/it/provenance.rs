//! The manifest of a run and its verification. With the stand-in and on real MassGen.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake};

const ANSWER: &str = "logs/log_20260101_000000_000000/turn_1/final/agent_a/answer.txt";

/// The exit code and the output of `verify`.
fn verify(lab: &Lab, id: &str) -> (i32, String) {
    let mut command: Command = lab.command().into_std();
    let output = command.args(["verify", id]).stdin(Stdio::null()).stderr(Stdio::piped()).output().expect("ran");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().expect("a code"), printed)
}

async fn manifest(client: &Client, id: &str) -> Value {
    let page = client.call("read_result", json!({"run_id": id, "part": "manifest"})).await;
    serde_json::from_str(page["text"].as_str().expect("text")).expect("JSON")
}

#[tokio::test]
async fn a_manifest_lists_the_files_of_a_run_and_verify_finds_changes() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let script = "announce\nworkspace notes.txt by hand\nfinal agent_a the answer\nexit 1";
    let id = client.start(fake(script)).await;
    client.end(&id).await;
    let content = manifest(&client, &id).await;
    assert_eq!(
        (&content["final"], &content["state"], &content["exit"]),
        (&json!(true), &json!("succeeded"), &json!("1"))
    );
    assert_eq!((&content["answer"]["path"], &content["answer"]["chars"]), (&json!(ANSWER), &json!(10)), "{content}");
    assert_eq!(content["workspace"]["files"][0]["path"], "notes.txt", "{content}");
    assert_eq!(content["versions"]["massgen_mcp"], env!("CARGO_PKG_VERSION"));
    assert!(content["config"]["text"].as_str().is_some_and(|text| text.contains("agent_b")), "{content}");
    assert_eq!(content["lineage"], json!({"root": id, "depth": 0}));
    let (code, lines) = verify(&lab, &id);
    assert!(code == 0 && lines.lines().all(|line| line.starts_with("ok ")), "{lines}");

    let path_of = |path: &str| lab.run_folder(&id).join(path);
    std::fs::write(path_of(ANSWER), "the Answer").expect("changed");
    let workspace = path_of(ANSWER).with_file_name("workspace");
    std::fs::rename(workspace.join("notes.txt"), workspace.join("other.txt")).expect("renamed");
    let (code, lines) = verify(&lab, &id);
    let expected =
        [format!("changed  answer {ANSWER}"), "missing  file notes.txt".into(), "new      file other.txt".into()];
    assert!(code == 3 && expected.iter().all(|line| lines.lines().any(|content| content == line)), "{lines}");

    std::fs::remove_file(path_of("manifest.json")).expect("removed");
    let (code, lines) = verify(&lab, &id);
    assert!(code == 4 && lines.contains("(no_manifest)"), "a run of an older version: {lines}");
    assert_eq!(client.refused("read_result", json!({"run_id": id, "part": "manifest"})).await, "nothing_to_read");
    std::fs::write(path_of("manifest.json"), "{").expect("written");
    assert!(verify(&lab, &id).1.contains("(manifest_damaged)"));
    assert_eq!(verify(&lab, "mg-00000000").0, 1);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn every_ending_has_a_manifest_and_a_live_run_has_a_preliminary_one() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("announce\nanswer agent_a so far\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    let answers = json!({"run_id": id, "part": "answers"});
    while client.ask("read_result", answers.clone()).await.0 {}
    let content = manifest(&client, &id).await;
    assert_eq!(
        (&content["final"], &content["state"], &content["answer"]["chars"]),
        (&json!(false), &json!("running"), &json!(6))
    );
    assert!(verify(&lab, &id).1.contains("(run_not_over)"));
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    assert_eq!(manifest(&client, &id).await["state"], "killed");
    assert_eq!(verify(&lab, &id).0, 0);

    let id = client.start(fake("announce\nanswer agent_a so far\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    lab.kill_supervisor();
    assert_eq!(client.end(&id).await["state"], "lost");
    assert_eq!(manifest(&client, &id).await["state"], "lost");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_manifest_of_real_massgen_has_the_answer_and_its_workspace() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let config = "@rehearsal/agents=1/command=echo%20by%20hand%20%3Enote.txt";
    let id = client.start(json!({"question": "What is 6*7?", "config": config, "mode": "quick"})).await;
    assert_eq!(client.end(&id).await["state"], "succeeded");
    let content = manifest(&client, &id).await;
    assert_eq!(content["versions"]["massgen"], massgen_mcp::massgen::VERSION, "{content}");
    let files = content["workspace"]["files"].as_array().expect("files");
    let note = files.iter().find(|file| file["path"] == "note.txt").expect("the file of the command");
    assert_eq!(note["bytes"], 8, "{content}");
    assert!(content["models"]["agent_a"].is_string(), "{content}");
    let (code, lines) = verify(&lab, &id);
    assert!(code == 0 && lines.contains("ok       file note.txt"), "{lines}");
    client.close().await;
    lab.nobody_is_left().await;
}
