//! Runs that build on an answer of an earlier run: what the new run gets, what the server refuses, and that each of both runs names
//! the other. With the stand-in and on real MassGen.

use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake};

/// The folder in which the stand-in saves the first answer of agent_a.
const FIRST_ANSWER: &str = "logs/log_20260101_000000_000000/turn_1/attempt_1/agent_a/20260101_000000_000001";

fn from_answer(from: &Value, script: &str) -> Value {
    json!({"question": format!("#!fake\n{script}"), "config": "@rehearsal", "from": from, "wait_s": 50})
}

async fn details(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id, "detail": "full"})).await["runs"][0]["details"].take()
}

/// An ended run with two answers and a presented answer.
async fn ended_run(client: &Client) -> String {
    let script = "announce\nanswer agent_a the first\nanswer agent_b the second\nworkspace notes.txt by hand\nfinal agent_a the last";
    let id = client.start(fake(script)).await;
    client.end(&id).await;
    id
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file")
}

#[tokio::test]
async fn a_run_keeps_a_copy_of_the_answer_and_both_runs_name_each_other() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let first = ended_run(&client).await;
    let question_file = lab.project().join("asked");
    let script = format!("announce\nasked {}\nfinal agent_a better", question_file.display());
    let run = client.call("run_massgen", from_answer(&json!({"run_id": first}), &script)).await;
    assert_eq!(run["state"], "succeeded", "{run}");
    assert_eq!(run["from"], json!(format!("the final answer of {first}, by agent_a")), "{run}");
    let second = run["run_id"].as_str().expect("run_id").to_owned();
    let from = lab.run_folder(&second).join("from");
    assert_eq!(
        (read(&from.join("answer.txt")), read(&from.join("workspace/notes.txt"))),
        ("the last".into(), "by hand".into())
    );
    let text = read(&question_file);
    assert!(text.starts_with("#!fake\n") && text.contains("begin of the earlier answer ===\nthe last\n==="), "{text}");
    assert!(text.contains(&format!("the final answer of {first}")), "{text}");
    let config = read(&lab.run_folder(&second).join("config.yaml"));
    assert!(config.contains(&format!("\"path\": \"{}\"", from.display())), "{config}");

    let found = details(&client, &second).await;
    assert_eq!(found["from"], json!({"run_id": first, "agent": "agent_a"}), "{found}");
    assert!(found["question"].as_str().is_some_and(|question| !question.contains("earlier")), "{found}");
    let run =
        client.call("run_massgen", from_answer(&json!({"run_id": first, "answer": "agent2.1"}), "announce")).await;
    let third = run["run_id"].as_str().expect("run_id").to_owned();
    assert_eq!(read(&lab.run_folder(&third).join("from/answer.txt")), "the second");
    let mut both = [second.clone(), third.clone()];
    both.sort();
    assert_eq!(details(&client, &first).await["built_on_by"], json!(both));
    for (run, line) in [
        (&first, format!("Built on by: {}, {} [./built_on]", both[0], both[1])),
        (&third, format!("Lineage: builds on agent2.1 of agent_b in {first} [./spec.json]")),
    ] {
        let page = client.call("read_result", json!({"run_id": run, "part": "report"})).await;
        assert!(page["text"].as_str().is_some_and(|text| text.contains(&line)), "{line} in {page}");
    }

    let page = client.call("read_result", json!({"run_id": third, "part": "manifest"})).await;
    let manifest: Value = serde_json::from_str(page["text"].as_str().expect("text")).expect("JSON");
    let known = &manifest["lineage"]["from"];
    assert_eq!((&known["answer"], &known["file"]["bytes"]), (&json!("agent2.1"), &json!(10)), "{manifest}");
    std::fs::remove_dir_all(lab.run_folder(&first)).expect("removed");
    assert_eq!(details(&client, &third).await["from"]["run_id"], json!(first), "the run keeps what it knew");
    assert_eq!(client.refused("run_massgen", from_answer(&json!({"run_id": first}), "announce")).await, "unknown_run");
    let fourth =
        client.call("run_massgen", from_answer(&json!({"run_id": second}), "announce\nfinal agent_a best")).await;
    assert_eq!(fourth["state"], "succeeded", "{fourth}");
    assert!(!lab.run_folder(&first).exists(), "a removed run is not created again");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_unusable_earlier_answer_is_refused_before_a_start() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let first = ended_run(&client).await;
    let ask = |from: Value| client.ask("run_massgen", from_answer(&from, "announce"));
    let (refused, refusal) = ask(json!({"run_id": first, "answer": "agent3.1"})).await;
    assert!(refused && refusal["code"] == "unknown_answer", "{refusal}");
    assert!(refusal["message"].as_str().is_some_and(|text| text.contains("agent1.1, agent2.1")), "{refusal}");
    assert_eq!(ask(json!({"run_id": "mg-00000000"})).await.1["code"], "unknown_run");
    assert_eq!(ask(json!({"run_id": first, "label": "x"})).await.1["code"], "invalid_arguments");
    let mut both = from_answer(&json!({"run_id": first}), "announce");
    both["continue_run"] = json!(first);
    assert_eq!(client.refused("run_massgen", both).await, "from_conflict");
    let empty = client.start(fake("announce\nexit 1")).await;
    client.end(&empty).await;
    assert_eq!(ask(json!({"run_id": empty})).await.1["code"], "nothing_to_build_on");

    let mut dry = from_answer(&json!({"run_id": first, "answer": "agent2.1"}), "announce");
    dry["dry_run"] = json!(true);
    let dry = client.call("run_massgen", dry).await;
    assert_eq!(dry["from"], format!("agent2.1 of {first}, by agent_b"), "{dry}");

    let workspace = lab.run_folder(&first).join(FIRST_ANSWER).join("workspace");
    std::fs::create_dir(&workspace).expect("made");
    let huge = std::fs::File::create(workspace.join("huge")).expect("made");
    huge.set_len(300 << 20).expect("a sparse file");
    let label = json!({"run_id": first, "answer": "agent1.1"});
    assert_eq!(ask(label.clone()).await.1["code"], "cannot_build_on");
    std::fs::remove_file(workspace.join("huge")).expect("removed");
    let secret = lab.put("secret", "outside");
    symlink(&secret, workspace.join("link")).expect("link");
    symlink(lab.project(), workspace.join("door")).expect("link");
    std::fs::write(workspace.join("own"), "own").expect("written");
    let (refused, run) = ask(label).await;
    assert!(!refused, "{run}");
    let copy = lab.run_folder(run["run_id"].as_str().expect("run_id")).join("from/workspace");
    let names: Vec<_> = std::fs::read_dir(copy).expect("folder").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["own"], "no link is followed or copied");
    let runs = std::fs::read_dir(lab.state().join("runs")).expect("folder").count();
    assert_eq!(runs, 3, "no draft is left");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_answer_of_a_live_run_is_usable_after_massgen_counted_it() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let status =
        json!({"agents": {"agent_a": {"status": "answered", "answer_count": 1, "latest_answer_label": "agent1.1"}}});
    let go = lab.project().join("go");
    let script = format!("announce\nanswer agent_a the first\nuntil {}\nstatus {status}\nforever", go.display());
    let live = client.start(fake(&script)).await;
    let answers = json!({"run_id": live, "part": "answers"});
    while client.ask("read_result", answers.clone()).await.0 {}
    let from = json!({"run_id": live, "answer": "agent1.1"});
    assert_eq!(client.refused("run_massgen", from_answer(&from, "announce")).await, "unknown_answer");
    lab.put("go", "");
    client.until(&live, |run| run["agents"]["agent_a"] == "answered agent1.1").await;
    let best = json!({"run_id": live});
    let ask = |from| json!({"question": "#!fake\nannounce\nforever", "config": "@rehearsal", "from": from});
    let one = client.call("run_massgen", ask(&best)).await;
    let other = client.call("run_massgen", ask(&from)).await;
    assert_eq!(client.call("run_massgen", ask(&from)).await["reused"], true);
    assert_ne!(one["run_id"], other["run_id"], "the same question with another answer is a different request");
    for run in [&one, &other] {
        let folder = lab.run_folder(run["run_id"].as_str().expect("run_id"));
        assert_eq!(read(&folder.join("from/answer.txt")), "the first");
    }
    for run in [&json!(live), &one["run_id"], &other["run_id"]] {
        client.call("kill_run", json!({"run_id": run, "grace_s": 0})).await;
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn real_massgen_shows_its_agents_the_earlier_answer_and_its_files() {
    let lab = Lab::real().await.warm();
    let client = lab.client().await;
    let config = |command: &str| {
        format!("@rehearsal/agents=1/command={}", command.replace(' ', "%20").replace('>', "%3E").replace('/', "%2F"))
    };
    let first = json!({"question": "What is 6*7?", "config": config("echo zebulon >note.txt"), "mode": "quick"});
    let first = client.start(first).await;
    assert_eq!(client.end(&first).await["state"], "succeeded");
    let from = json!({"run_id": first, "answer": "agent1.1"});
    // First an agent with a workspace, which reads the file saved with the answer; then an agent without one.
    let folder = lab.run_folder(&first).with_file_name("*").join("from/workspace/note.txt");
    let command = format!("cp {} copy.txt", folder.display());
    for config in [config(&command), "@rehearsal/agents=1".to_owned()] {
        let next = json!({"question": "And doubled?", "config": config, "mode": "quick", "from": from});
        let next = client.start(next).await;
        let run = client.end(&next).await;
        assert_eq!(run["state"], "succeeded", "{run}");
        let page = client.call("read_result", json!({"run_id": next})).await;
        let context = Path::new(page["path"].as_str().expect("path")).with_file_name("context.txt");
        let answer = read(&lab.run_folder(&next).join("from/answer.txt"));
        // The context is JSON, where line ends of the answer are escaped. So compare line by line.
        let text = read(&context);
        let lines = answer.lines().filter(|line| !line.contains('`')).chain(["begin of the earlier answer"]);
        assert!(lines.into_iter().all(|line| text.contains(line)), "{text}");
        assert_eq!(read(&lab.run_folder(&next).join("from/workspace/note.txt")), "zebulon\n");
        if config.contains("command") {
            let copy = client.call("read_result", json!({"run_id": next, "part": "file:copy.txt"})).await;
            assert_eq!(copy["text"], "zebulon\n", "{copy}");
        }
    }
    client.close().await;
    lab.nobody_is_left().await;
}
