//! Runs that continue the conversation of an earlier run: what the new run gets, and that the earlier run stays unchanged.
//! With the stand-in and on real MassGen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, wait_until};

/// Every file below a folder, with its size and modification time.
fn file_states(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().expect("meta"));
        if meta.is_dir() {
            found.extend(file_states(&path));
        }
        found.insert(path, (meta.len(), meta.modified().expect("time")));
    }
    found
}

fn details(answer: &Value) -> &Value {
    &answer["runs"][0]["details"]
}

async fn full_status(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id, "detail": "full"})).await
}

fn continuation(id: &str, script: &str) -> Value {
    json!({"question": format!("#!fake\n{script}"), "continue_run": id, "wait_s": 50})
}

#[tokio::test]
async fn continuing_a_conversation_neither_changes_nor_needs_earlier_runs() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let recall_file = lab.project().join("told");
    let recall = format!("recall {}\nannounce\n", recall_file.display());
    let first = json!({"question": "#!fake\nannounce\nworkspace notes.txt by hand\nfinal agent_a the first answer",
        "config": "@rehearsal", "mode": "quick", "wait_s": 50});
    let first = client.start(first).await;
    client.end(&first).await;
    let before = file_states(&lab.run_folder(&first));

    // MassGen exits with 1 after each resumed turn.
    let second = client.start(continuation(&first, &format!("{recall}final agent_a the second answer\nexit 1"))).await;
    let run = client.end(&second).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("1")), "{run}");
    let text = std::fs::read_to_string(&recall_file).expect("recall file");
    for part in
        ["turn_1/answer.txt: the first answer", "final agent_a the first answer", "turn_1/workspace/notes.txt: by hand"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let status = full_status(&client, &second).await;
    let status = details(&status);
    assert_eq!(
        (&status["continues"], &status["turn"], &status["mode"]),
        (&json!(first), &json!(2), &json!("quick")),
        "{status}"
    );
    let page = client.call("read_result", json!({"run_id": second})).await;
    assert_eq!(page["text"], "the second answer");
    assert!(page["path"].as_str().is_some_and(|path| path.contains("turn_2")), "{page}");
    assert_eq!(file_states(&lab.run_folder(&first)), before, "the earlier run is unchanged");
    let link = lab.run_folder(&second).join("work/.massgen/sessions").join(&second);
    // The supervisor removes the link after the ending is on record.
    wait_until("the link is gone", || !link.exists()).await;

    std::fs::remove_dir_all(lab.run_folder(&first)).expect("removed");
    let third = client.start(continuation(&second, &format!("{recall}final agent_a the third answer"))).await;
    assert_eq!(client.end(&third).await["state"], "succeeded");
    let text = std::fs::read_to_string(&recall_file).expect("recall file");
    for part in ["turn_1/answer.txt: the first answer", "turn_2/answer.txt: the second answer"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(details(&full_status(&client, &third).await)["turn"], 3);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn two_conversations_can_continue_from_one_run_at_once() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let first = client.start(fake("announce\nfinal agent_a the first answer")).await;
    client.end(&first).await;
    let ask = |name: &'static str| {
        client.call("run_massgen", continuation(&first, &format!("announce\nfinal agent_a {name}")))
    };
    let (one, other) = tokio::join!(ask("one"), ask("other"));
    assert!(one["state"] == "succeeded" && other["state"] == "succeeded", "{one} {other}");
    assert_ne!(one["run_id"], other["run_id"]);
    let same = json!({"question": "#!fake\nannounce\nforever", "config": "@rehearsal", "group": "g"});
    let plain = client.call("run_massgen", same.clone()).await;
    let mut continued = same;
    continued["continue_run"] = json!(first);
    let continued = client.call("run_massgen", continued).await;
    assert_ne!(plain["run_id"], continued["run_id"], "the same question in a conversation is a different request");
    client.call("kill_run", json!({"group": "g", "grace_s": 0})).await;
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_killed_turn_can_be_continued_and_a_turn_without_an_answer_cannot() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let recall_file = lab.project().join("told");
    let id = client.start(fake("announce\nanswer agent_a half an answer\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    assert_eq!(client.refused("run_massgen", continuation(&id, "announce")).await, "run_not_over");
    let answer = json!({"run_id": id, "part": "answers"});
    while client.ask("read_result", answer.clone()).await.0 {}
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    let dry = json!({"question": "q", "continue_run": id, "dry_run": true});
    let dry = client.call("run_massgen", dry).await;
    assert!(dry["continues"].as_str().is_some_and(|text| text.contains(&id) && text.contains("turn 2")), "{dry}");
    let next = client
        .call("run_massgen", continuation(&id, &format!("recall {}\nannounce\nexit 3", recall_file.display())))
        .await;
    assert_eq!(next["state"], "failed", "{next}");
    let text = std::fs::read_to_string(&recall_file).expect("recall file");
    assert!(text.contains("cut short") && text.contains("half an answer"), "{text}");
    let empty = next["run_id"].as_str().expect("run_id");
    assert_eq!(client.refused("run_massgen", continuation(empty, "announce")).await, "nothing_to_continue");
    assert_eq!(client.refused("run_massgen", continuation("mg-00000000", "announce")).await, "unknown_run");
    assert_eq!(client.call("check_status", json!({})).await["runs"].as_array().map(Vec::len), Some(2));
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_conversation_leaves_no_link_in_the_project() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let mut first = fake("announce\nfinal agent_a the first answer");
    first["context"] = json!("write");
    first["overrides"] = json!({"agents": {"agent_a": {"backend": {"cwd": "ws"}}}});
    let first = client.start(first).await;
    client.end(&first).await;
    let recall_file = lab.project().join("told");
    let second = client
        .start(continuation(&first, &format!("recall {}\nannounce\nfinal agent_a done", recall_file.display())))
        .await;
    assert_eq!(client.end(&second).await["state"], "succeeded");
    lab.only_servers_are_left().await;
    assert_eq!(
        details(&full_status(&client, &second).await)["context"],
        "write",
        "the context of the earlier turn is kept"
    );
    assert!(std::fs::read_to_string(&recall_file).expect("recall file").contains("the first answer"));
    assert!(!lab.project().join(".massgen").exists());
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn real_massgen_remembers_the_first_turn_in_the_second() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let first = json!({"question": "Call me Zebulon. What is 6*7?", "config": "@rehearsal/agents=2"});
    let first = client.start(first).await;
    client.end(&first).await;
    let before = file_states(&lab.run_folder(&first));
    let second = client.start(json!({"question": "And what is my name?", "continue_run": first})).await;
    let run = client.end(&second).await;
    assert_eq!((&run["state"], &run["exit"]), (&json!("succeeded"), &json!("1")), "{run}");
    let page = client.call("read_result", json!({"run_id": second})).await;
    assert!(page["text"].as_str().is_some_and(|text| text.contains("And what is my name?")), "{page}");
    let path = PathBuf::from(page["path"].as_str().expect("path"));
    assert!(path.to_string_lossy().contains("turn_2"), "{page}");
    let agents = path.ancestors().nth(3).expect("turn").join("attempt_1");
    let texts: Vec<String> = file_states(&agents)
        .into_keys()
        .filter(|file| file.ends_with("context.txt") && !file.to_string_lossy().contains("/final/"))
        .map(|file| std::fs::read_to_string(file).expect("a file of an agent"))
        .collect();
    assert!(!texts.is_empty() && texts.iter().all(|texts| texts.contains("Zebulon")), "{}", agents.display());
    let log = client.call("read_result", json!({"run_id": second, "part": "log", "limit": 10})).await;
    assert!(log["path"].as_str().is_some_and(|path| path.ends_with("massgen.log")), "{log}");
    assert_eq!(file_states(&lab.run_folder(&first)), before, "the earlier run is unchanged");

    // No agent answers in the third turn: MassGen exits with the same code and the same last output.
    let third = json!({"question": "And now?", "continue_run": second, "config": "@rehearsal/status=500"});
    let third = client.start(third).await;
    let run = client.end(&third).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("failed"), &json!("model_error")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}
