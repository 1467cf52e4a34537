//! A status is correct: elapsed time, author of the answer, activity of agents, result of a stop.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::lab::{Client, Lab, PATIENCE, fake};

/// The brief status of a run.
async fn brief_status(client: &Client, id: &str) -> Value {
    client.call("check_status", json!({"run_id": id})).await["runs"][0].take()
}

/// Polls the brief status of a run until it is as expected. A wait does not help, because elapsed time alone is not a change.
async fn poll_until(client: &Client, id: &str, is_expected: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let run = brief_status(client, id).await;
        if is_expected(&run) {
            return run;
        }
        assert!(started.elapsed() < PATIENCE, "{run}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A status.json in which agent_a has this number of answers and agent_b is in its first call.
fn status(answers: u32, votes: &Value) -> String {
    let first =
        json!({"status": "answered", "answer_count": answers, "latest_answer_label": format!("agent1.{answers}")});
    let agents = json!({"agent_a": first, "agent_b": {"status": "restarting", "answer_count": 0}});
    let status = json!({"agents": agents, "results": {"votes": votes}, "coordination": {"phase": "enforcement"}});
    format!("status {status}")
}

#[tokio::test]
async fn elapsed_s_counts_from_the_admission_of_a_run() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.env("MASSGEN_MCP_MAX_RUNS", "1");
    let client = lab.client_of(command).await;
    let first = client.start(fake("announce\nforever")).await;
    let queued = client.start(fake("announce\nfinal agent_a done")).await;
    poll_until(&client, &queued, |run| run["state"] == "queued" && run["elapsed_s"].as_u64() >= Some(2)).await;
    client.call("kill_run", json!({"run_id": first, "grace_s": 0})).await;
    let run = client.end(&queued).await;
    assert!(run["elapsed_s"].as_u64() >= Some(2), "the time does not restart: {run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn only_a_presented_answer_of_a_run_with_votes_has_a_winner() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let voted = json!({"agent1.1": 2});
    for (votes, field, other) in [(&voted, "winner", "best"), (&json!({}), "best", "winner")] {
        let script = format!("announce\n{}\nfinal agent_a forty-two", status(1, votes));
        let id = client.start(fake(&script)).await;
        client.end(&id).await;
        let run = brief_status(&client, &id).await;
        assert_eq!((&run[field], run.get(other), run.get("exit")), (&json!("agent_a"), None, None), "{run}");
        assert_eq!((&run["answer"], &run["agents"]["agent_b"]), (&json!("forty-two"), &json!("unfinished")), "{run}");
        let page = client.call("read_result", json!({"run_id": id})).await;
        assert_eq!((&page[field], page.get(other)), (&json!("agent_a"), None), "{page}");
        assert!(page["elapsed_s"].is_u64() && page.get("votes").is_some() == (field == "winner"), "{page}");
    }
    let script = format!("announce\n{}\nanswer agent_a so far\nforever", status(1, &voted));
    let id = client.start(fake(&script)).await;
    let run = client.until(&id, |run| run["agents"].get("agent_b").is_some()).await;
    assert_eq!(run["agents"]["agent_b"], "working", "agent_b is in its first call: {run}");
    client.call("kill_run", json!({"run_id": id, "grace_s": 0})).await;
    let run = brief_status(&client, &id).await;
    assert_eq!((&run["best"], run.get("winner"), &run["answer"]), (&json!("agent_a"), None, &json!("so far")), "{run}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_status_omits_a_long_answer_and_masks_a_short_one() {
    let lab = Lab::fake();
    lab.put("team.yaml", "agents: []\n");
    let mut command = lab.command();
    command.env("OPENAI_API_KEY", "canary-key-12345");
    let client = lab.client_of(command).await;
    let secret = lab.put("secret.txt", "announce\nfinal agent_a a\u{1b}[2Jb canary-key-12345\n");
    let long = lab.put("long.txt", &format!("announce\nfinal agent_a {}\n", "x".repeat(501)));
    for (script, answer) in [(secret, json!("a␛[2Jb ****************")), (long, Value::Null)] {
        let question = format!("#!fake\ndo {}", script.display());
        let id = client.start(json!({"question": question, "config": "team.yaml"})).await;
        client.end(&id).await;
        let run = brief_status(&client, &id).await;
        assert_eq!((&run["state"], &run["answer"]), (&json!("succeeded"), &answer), "{run}");
        let listed = client.call("check_status", json!({})).await;
        assert_eq!(listed["runs"][0].get("answer"), None, "a list of runs stays small");
    }
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn an_agent_that_keeps_answering_is_a_problem_with_the_override_to_use() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let script = format!("announce\n{}\nforever", status(334, &json!({})));
    let mut arguments = fake(&script);
    arguments["timeout_s"] = json!(3);
    let id = client.start(arguments).await;
    let run = client.until(&id, |run| run.get("problem").is_some()).await;
    let check_problem = |run: &Value| {
        let problem = &run["problem"];
        assert_eq!(problem["code"], "not_converging", "{run}");
        assert!(problem["message"].as_str().is_some_and(|text| text.contains("334 times")), "{run}");
        assert!(
            problem["hint"].as_str().is_some_and(|hint| hint.contains("\"max_new_answers_per_agent\": 3")),
            "{run}"
        );
    };
    check_problem(&run);
    let run = client.end(&id).await;
    assert_eq!(run["state"], "timed_out", "{run}");
    check_problem(&run);
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_second_kill_says_that_the_run_had_already_ended() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let id = client.start(fake("announce\nforever")).await;
    client.until(&id, |run| run["state"] == "running").await;
    let kill = json!({"run_id": id, "grace_s": 5});
    let first = client.call("kill_run", kill.clone()).await["receipts"][0].take();
    assert_eq!((&first["state"], first.get("already_ended")), (&json!("killed"), None), "{first}");
    assert_ne!(first["force"], "none", "{first}");
    let second = client.call("kill_run", kill).await["receipts"][0].take();
    assert_eq!((&second["state"], &second["already_ended"]), (&json!("killed"), &json!(true)), "{second}");
    assert_eq!(
        (&second["force"], &second["processes"]),
        (&json!("none"), &json!(0)),
        "the second kill did nothing: {second}"
    );
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_missing_key_is_reported_with_agents_variable_and_who_can_set_it() {
    let failed = "14:29:55 | ERROR    | Streaming error: The api_key client option must be set";
    let lab = Lab::scripted(&format!("echo '{failed}' >&2; exit 0"));
    let agents = ["one", "two"].map(|id| format!("- {{id: {id}, backend: {{type: openai, model: gpt-5}}}}\n"));
    lab.put("team.yaml", &format!("agents:\n{}", agents.concat()));
    let client = lab.client().await;
    let id = client.start(json!({"question": "q", "config": "team.yaml"})).await;
    client.end(&id).await;
    let problem = brief_status(&client, &id).await["problem"].take();
    let message = problem["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("one, two (OPENAI_API_KEY): "), "{problem}");
    let hint = problem["hint"].as_str().unwrap_or_default();
    assert!(hint.contains("the person who configured this server"), "{problem}");
    client.close().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_budget_for_models_without_a_price_is_a_warning_before_the_start() {
    let lab = Lab::fake();
    let agent = |model: &str| {
        format!(
            "agents:\n- {{id: a, backend: {{type: chatcompletion, model: {model}, base_url: 'http://127.0.0.1:9'}}}}\n"
        )
    };
    lab.put("blind.yaml", &agent("my-own"));
    lab.put("known.yaml", &agent("gpt-5-mini"));
    let client = lab.client().await;
    for (config, budget, is_warned) in
        [("blind.yaml", json!(1), true), ("known.yaml", json!(1), false), ("blind.yaml", Value::Null, false)]
    {
        let arguments = json!({"question": "q", "config": config, "budget_usd": budget});
        let started = client.call("run_massgen", arguments).await;
        let warnings = started["warnings"].as_array().cloned().unwrap_or_default();
        let budget_warnings: Vec<_> = warnings.iter().filter(|warning| warning["code"] == "budget_blind").collect();
        assert_eq!(budget_warnings.len(), usize::from(is_warned), "{started}");
        assert!(budget_warnings.iter().all(|warning| warning["hint"].to_string().contains("max_tokens")), "{started}");
    }
    client.close().await;
    // A budget from the settings counts too. A token limit works without prices.
    for (flags, max_tokens, is_warned) in [
        (&["--budget-usd", "1"][..], Value::Null, true),
        (&["--budget-usd", "1"], json!(1000), false),
        (&["--budget-usd", "1", "--max-tokens", "1000"], Value::Null, false),
    ] {
        let mut command = lab.command();
        command.args(flags);
        let client = lab.client_of(command).await;
        let arguments = json!({"question": "q", "config": "blind.yaml", "max_tokens": max_tokens, "fresh": true});
        let started = client.call("run_massgen", arguments).await;
        let is_blind = |warning: &Value| warning["code"] == "budget_blind";
        assert_eq!(started["warnings"].as_array().is_some_and(|all| all.iter().any(is_blind)), is_warned, "{started}");
        client.close().await;
    }
    lab.only_servers_are_left().await;
}
