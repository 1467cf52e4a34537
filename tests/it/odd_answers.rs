//! Answers, votes and files that are easy to misread: empty answers, late votes, binary files, and those of agents that are named like
//! MassGen's own folders. With the stand-in.

use serde_json::{Value, json};
use tokio::process::Command;

use crate::lab::{Client, Lab, PROGRAM, fake};

/// A status with two agents and a vote of the second, in MassGen's format.
fn status(voter: &str) -> String {
    let agents = json!({
        "agent_a": {"status": "answered", "answer_count": 2, "latest_answer_label": "agent1.2"},
        "agent_b": {"status": voter, "answer_count": 1, "latest_answer_label": "agent2.1",
            "vote_cast": {"voted_for_agent": "agent_a", "voted_for_label": "agent1.1"}},
    });
    json!({"coordination": {"phase": "enforcement"}, "agents": agents, "results": {"votes": {"agent1.1": 1}}})
        .to_string()
}

async fn page(client: &Client, arguments: Value) -> String {
    let answer = client.call("read_result", arguments).await;
    answer["text"].as_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_late_vote_is_counted_in_no_view() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let (seen_file, go) = (lab.project().join("seen"), lab.project().join("go"));
    // An answer and a vote arrived together: MassGen recorded the vote, and then dropped all votes because of the answer.
    let vote = json!({"voter_id": "agent_b", "voted_for": "agent_a", "voted_for_label": "agent1.1", "reason": "best",
        "available_options_labels": ["agent1.1", "agent2.1"]});
    let script = format!(
        "announce\nanswer agent_a one\nanswer agent_b two\nanswer agent_a newer\n\
         file agent_b/20260101_000000_000004/vote.json {vote}\nstatus {}\ntouch {}\nuntil {}\nstatus {}\nfinal agent_a end",
        status("answered"),
        seen_file.display(),
        go.display(),
        status("answered"),
    );
    let mut arguments = fake(&script);
    arguments["group"] = "late".into();
    let id = client.start(arguments).await;
    let live = client.until(&id, |run| run["phase"] == "enforcement").await;
    assert!(seen_file.exists() && live.get("votes").is_none(), "{live}");
    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    assert!(full["runs"][0].get("votes").is_none(), "{full}");
    std::fs::write(go, "").expect("go");
    let end = client.end(&id).await;
    assert!(end["state"] == "succeeded" && end.get("votes").is_none(), "{end}");
    let report = page(&client, json!({"run_id": id, "part": "report"})).await;
    assert!(report.contains("Votes (0 stood, 1 void):"), "{report}");
    let table = page(&client, json!({"group": "late"})).await;
    let has_row = table.lines().any(|line| line.starts_with("a1 | q1") && line.ends_with("100 % | -"));
    assert!(has_row, "no votes, so no margin: {table}");
    let file = lab.project().join("page.html");
    let exit = lab.command().into_std().args(["report", &id, "--out"]).arg(&file).status().expect("ran");
    assert!(exit.success());
    let html = std::fs::read_to_string(file).expect("page");
    assert!(html.contains("void"), "the page shows the vote as cast and as void");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_empty_answer_is_not_the_best() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for nothing in ["", "  \t ", "\u{a0}\u{200b}"] {
        let script = format!("announce\nanswer agent_a something\nanswer agent_b {nothing}\nfinal agent_b {nothing}");
        let id = client.start(fake(&script)).await;
        let end = client.end(&id).await;
        assert_eq!((&end["state"], &end["partial"], &end["best"]), (&"failed".into(), &true.into(), &"agent_a".into()));
        assert_eq!(page(&client, json!({"run_id": id})).await, "something");
        let id = client.start(fake(&format!("announce\nanswer agent_a {nothing}"))).await;
        let end = client.end(&id).await;
        assert!(end["state"] == "failed" && end.get("best").is_none(), "{end}");
        assert_eq!(client.refused("read_result", json!({"run_id": id})).await, "nothing_to_read");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_agent_named_like_a_folder_of_massgen_loses_nothing() {
    let lab = Lab::fake();
    let client = lab.client().await;
    for name in ["final", "agent_outputs", "workspace", "turn_1", "attempt_1", "answer"] {
        let vote = json!({"voter_id": name, "voted_for": name, "voted_for_label": "agent1.1", "reason": "mine"});
        let agents = json!({name: {"status": "voted", "answer_count": 1, "latest_answer_label": "agent1.1"}});
        let status = json!({"agents": agents, "results": {"votes": {"agent1.1": 1}}});
        let script = format!(
            "announce\nanswer {name} mine\nfile {name}/20260101_000000_000002/vote.json {vote}\n\
             agent-log {name} out of {name}\nstatus {status}"
        );
        let id = client.start(fake(&script)).await;
        let end = client.end(&id).await;
        assert_eq!((&end["state"], &end["best"]), (&"failed".into(), &name.into()), "no answer was presented: {end}");
        assert_eq!(end["votes"], json!({"agent1.1": 1}), "{end}");
        assert_eq!(page(&client, json!({"run_id": id})).await, "mine");
        assert_eq!(
            page(&client, json!({"run_id": id, "part": format!("agent:{name}")})).await,
            format!("out of {name}")
        );
        let all = page(&client, json!({"run_id": id, "part": "answers"})).await;
        assert!(all.contains(&format!("agent1.1 ({name})")), "{all}");
        let id = client.start(fake(&format!("{script}\nfinal {name} the end"))).await;
        let end = client.end(&id).await;
        assert_eq!((&end["state"], &end["winner"]), (&"succeeded".into(), &name.into()), "{end}");
        assert_eq!(page(&client, json!({"run_id": id})).await, "the end");
        let report = page(&client, json!({"run_id": id, "part": "report"})).await;
        assert!(
            report.contains(&format!("agent1.1 by {name}")) && report.contains("Votes (1 stood, 0 void)"),
            "{report}"
        );
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn labels_match_massgen_in_any_order_of_agents() {
    let lab = Lab::fake();
    let client = lab.client().await;
    // MassGen lists agents in the order of the config and numbers them in the order of their ids.
    let agents = r#"{"zoe": {"status": "answered", "answer_count": 1, "latest_answer_label": "agent2.1"},
        "adam": {"status": "answered", "answer_count": 1, "latest_answer_label": "agent1.1"}}"#;
    let status =
        format!(r#"status {{"agents": {}, "results": {{"votes": {{"agent1.1": 2}}}}}}"#, agents.replace('\n', ""));
    let id = client.start(fake(&format!("announce\nanswer adam of adam\nanswer zoe of zoe\n{status}"))).await;
    let end = client.end(&id).await;
    assert_eq!((&end["best"], &end["votes"]), (&"adam".into(), &json!({"agent1.1": 2})), "{end}");
    assert_eq!(page(&client, json!({"run_id": id})).await, "of adam");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_binary_file_is_refused_as_binary_file() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let raw = |name: &str, text: &str| format!("raw {}", json!(format!("workspace {name} {text}")));
    let script = ["announce", "final agent_a made", &raw("image.png", "\u{1}PNG\0\0rest"), &raw("words.txt", "żółw")];
    let id = client.start(fake(&script.join("\n"))).await;
    client.end(&id).await;
    let (is_refused, refusal) = client.ask("read_result", json!({"run_id": id, "part": "file:image.png"})).await;
    assert!(is_refused && refusal["code"] == "binary_file", "{refusal}");
    let message = refusal["message"].as_str().expect("message");
    let logs = lab.run_folder(&id).join("logs");
    assert!(message.contains("10 bytes") && message.contains(logs.to_str().expect("UTF-8")), "{message}");
    assert!(message.contains("final/agent_a/workspace/image.png"), "{message}");
    assert_eq!(page(&client, json!({"run_id": id, "part": "file:words.txt"})).await, "żółw");
    client.close().await;
    let ended = lab.command().into_std().args(["result", &id, "--part", "file:image.png"]).output().expect("ran");
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn the_viewer_command_is_quoted_for_a_shell() {
    let lab = Lab::fake();
    let state = lab.project().join("it's $HOME/a \"state\"");
    std::fs::create_dir_all(&state).expect("mkdir");
    let mut server = Command::new(PROGRAM);
    lab.surroundings(&mut server);
    let client = lab.client_of({
        server.env("MASSGEN_MCP_HOME", &state);
        server
    });
    let client = client.await;
    let id = client.start(fake("announce\nfinal agent_a x")).await;
    client.end(&id).await;
    let full = client.call("check_status", json!({"run_id": id, "detail": "full"})).await;
    let details = &full["runs"][0]["details"];
    let (viewer, log) = (details["viewer"].as_str().expect("viewer"), details["log_dir"].as_str().expect("log_dir"));
    let output =
        std::process::Command::new("sh").args(["-c", &format!("printf '%s\\n' {viewer}")]).output().expect("sh");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let massgen = lab.massgen().display().to_string();
    assert_eq!(printed.lines().collect::<Vec<_>>(), [massgen.as_str(), "viewer", log], "{viewer}");
    assert!(log.contains("it's $HOME"), "{log}");
    client.close().await;
    lab.nobody_is_left().await;
}
