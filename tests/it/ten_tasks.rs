//! Ten tasks that a user would give an agent, each as the calls that an agent makes for it, with limits on their number and on the
//! bytes of the answers. An answer that omits information or misleads the agent costs another call and exceeds a limit; the failure
//! then shows the transcript. With the stand-in.

use serde_json::{Value, json};

use crate::lab::{Client, Lab, fake, tooled};

/// An agent with its calls and bytes so far.
struct Agent {
    client: Client,
    calls: usize,
    bytes: usize,
    transcript: String,
}

impl Agent {
    async fn new(lab: &Lab) -> Agent {
        Agent { client: lab.client().await, calls: 0, bytes: 0, transcript: String::new() }
    }

    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let (_, answer) = self.client.ask(tool, arguments.clone()).await;
        let (sent, received) = (arguments.to_string(), answer.to_string());
        self.transcript += &format!("-> {tool} {}\n<- {}\n", shortened(&sent), shortened(&received));
        self.calls += 1;
        self.bytes += received.len();
        answer
    }

    /// Starts a run as the server's instructions say and waits for its end with the cursor of the start.
    async fn run(&mut self, arguments: Value) -> Value {
        let started = self.call("run_massgen", arguments).await;
        let wait = json!({"run_id": started["run_id"], "wait_s": 45, "until": "any_done", "since": started["cursor"]});
        let mut status = self.call("check_status", wait).await;
        status["runs"][0].take()
    }

    /// Checks that the task took at most this number of calls and bytes.
    async fn check_limits(self, calls: usize, bytes: usize, lab: &Lab) {
        assert!(self.calls <= calls, "{} calls, at most {calls} expected\n{}", self.calls, self.transcript);
        assert!(self.bytes <= bytes, "{} bytes, at most {bytes} expected\n{}", self.bytes, self.transcript);
        self.client.close().await;
        lab.nobody_is_left().await;
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(900).collect()
}

/// A script that waits for a file after its first answer, so that a task can use the live run.
fn live_script(lab: &Lab, then: &str) -> String {
    format!("announce\nanswer agent_a so far\nuntil {}\n{then}", lab.project().join("gate").display())
}

/// "Ask MassGen which of the two designs is better, and tell me what it says."
#[tokio::test]
async fn one_question() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let run = agent.run(fake("announce\nfinal agent_a the first design")).await;
    assert_eq!(run["state"], "succeeded");
    let page = agent.call("read_result", json!({"run_id": run["run_id"]})).await;
    assert_eq!((&page["text"], &page["partial"]), (&json!("the first design"), &json!(false)));
    agent.check_limits(3, 1_000, &lab).await;
}

/// "Compare these three configs on this question and tell me which won."
#[tokio::test]
async fn three_configs_on_one_question() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    for config in ["@rehearsal/agents=1", "@rehearsal/agents=2", "@rehearsal/agents=3"] {
        let mut arguments = fake("announce\nfinal agent_a an answer");
        (arguments["config"], arguments["group"]) = (json!(config), json!("compare"));
        agent.call("run_massgen", arguments).await;
    }
    let all = agent.call("check_status", json!({"group": "compare", "until": "all_done", "wait_s": 45})).await;
    let runs = all["runs"].as_array().expect("runs").clone();
    assert!(runs.len() == 3 && runs.iter().all(|run| run["state"] == "succeeded"), "{all}");
    for run in runs {
        agent.call("read_result", json!({"run_id": run["run_id"]})).await;
    }
    agent.check_limits(7, 2_500, &lab).await;
}

/// "How is that run going that I asked for this morning?" The agent no longer knows its id.
#[tokio::test]
async fn a_run_is_found_again_without_its_id() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let first = lab.client().await;
    let mut arguments = fake(&live_script(&lab, "final agent_a done"));
    arguments["group"] = json!("morning");
    let id = first.start(arguments).await;
    first.until(&id, |run| run["state"] == "running").await;
    first.kill_server().await;
    let status = agent.call("check_status", json!({})).await;
    let run = &status["runs"][0];
    assert_eq!((&run["run_id"], &run["group"], &run["state"]), (&json!(id), &json!("morning"), &json!("running")));
    std::fs::write(lab.project().join("gate"), "").expect("written");
    let wait = json!({"run_id": id, "wait_s": 45, "until": "any_done", "since": status["cursor"]});
    assert_eq!(agent.call("check_status", wait).await["runs"][0]["state"], "succeeded");
    agent.check_limits(2, 700, &lab).await;
}

/// "Stop everything of that experiment, and give me what there is by now."
#[tokio::test]
async fn a_group_is_stopped_and_its_results_are_read() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    for number in 0..2 {
        let mut arguments = fake(&format!("announce\nanswer agent_a best of {number}\nforever"));
        arguments["group"] = json!("experiment");
        let id = agent.client.start(arguments).await;
        agent.client.until(&id, |run| run["state"] == "running").await;
    }
    let killed = agent.call("kill_run", json!({"group": "experiment", "grace_s": 0})).await;
    for receipt in killed["receipts"].as_array().expect("receipts") {
        assert_eq!((&receipt["state"], &receipt["survivors"]), (&json!("killed"), &json!([])));
        let page = agent.call("read_result", json!({"run_id": receipt["run_id"]})).await;
        assert!(page["partial"] == true && page["text"].as_str().is_some_and(|text| text.starts_with("best of")));
    }
    agent.check_limits(3, 1_600, &lab).await;
}

/// "Is there a config for research here that I can run? Check it before it costs anything."
#[tokio::test]
async fn a_config_is_found_and_checked() {
    let lab = Lab::real().await.warm();
    lab.put(
        "configs/research.yaml",
        "# Research with one model.\nagents:\n  - id: a\n    backend: {type: openai, model: gpt-5-mini}\n",
    );
    let mut agent = Agent::new(&lab).await;
    let found = agent.call("list_configs", json!({"query": "research", "limit": 3})).await;
    let config = &found["configs"][0];
    assert_eq!(
        (&config["config"], &config["missing_keys"]),
        (&json!("configs/research.yaml"), &json!(["OPENAI_API_KEY"]))
    );
    let dry = agent.call("run_massgen", json!({"question": "q", "config": config["config"], "dry_run": true})).await;
    assert!(dry["ok"] == false && dry["problems"].to_string().contains("OPENAI_API_KEY"), "{dry}");
    assert!(dry["limits"]["budget_usd"].is_number(), "{dry}");
    agent.check_limits(2, 3_500, &lab).await;
}

/// "Run it, but spend no more than half a dollar."
#[tokio::test]
async fn a_budget_ends_a_run_and_its_best_answer_is_read() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let costs = r#"status {"costs": {"total_estimated_cost": 0.6, "total_input_tokens": 9}, "agents": {}}"#;
    let mut arguments = fake(&format!("announce\nanswer agent_a what half a dollar buys\n{costs}\nforever"));
    arguments["budget_usd"] = json!(0.5);
    let run = agent.run(arguments).await;
    assert_eq!((&run["state"], &run["problem"]["code"]), (&json!("over_budget"), &json!("budget_spent")), "{run}");
    let page = agent.call("read_result", json!({"run_id": run["run_id"]})).await;
    assert_eq!(page["text"], "what half a dollar buys");
    agent.check_limits(3, 1_700, &lab).await;
}

/// "Run MassGen on this." The first call is invalid; its refusal says how to correct it.
#[tokio::test]
async fn an_invalid_call_is_corrected_on_the_second_try() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let mut arguments = fake("announce\nfinal agent_a at last");
    arguments["timeout_s"] = json!(100_000);
    let refused = agent.call("run_massgen", arguments.clone()).await;
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("`timeout_s` from 1 to 7200")), "{refused}");
    arguments["timeout_s"] = json!(7_200);
    let run = agent.run(arguments).await;
    let page = agent.call("read_result", json!({"run_id": run["run_id"]})).await;
    assert_eq!(page["text"], "at last");
    agent.check_limits(4, 1_300, &lab).await;
}

/// "Have it write the whole report, and save it." Its 100,000 characters need as few pages as the client's limit permits.
#[tokio::test]
async fn a_long_answer_is_read_completely() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let report = "0123456789".repeat(10_000);
    let run = agent.run(fake(&format!("announce\nfinal agent_a {report}"))).await;
    assert_eq!(run["answer_chars"], 100_000);
    let (mut text, mut offset) = (String::new(), Some(0));
    while let Some(from) = offset {
        let page = agent.call("read_result", json!({"run_id": run["run_id"], "offset": from})).await;
        text.push_str(page["text"].as_str().expect("text"));
        offset = page["next_offset"].as_u64();
    }
    assert_eq!(text, report);
    agent.check_limits(8, 104_500, &lab).await;
}

/// "What files did the winner make? Show me the program."
#[tokio::test]
async fn a_file_of_the_winner_is_read() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let id = agent.client.start(fake("announce\nworkspace main.py print(42)\nfinal agent_a see main.py")).await;
    agent.client.end(&id).await;
    let files = agent.call("read_result", json!({"run_id": id, "part": "files"})).await;
    assert!(files["text"].as_str().is_some_and(|text| text.contains("main.py")), "{files}");
    let file = agent.call("read_result", json!({"run_id": id, "part": "file:main.py"})).await;
    assert_eq!(file["text"], "print(42)");
    agent.check_limits(2, 900, &lab).await;
}

/// "Tell them to mind the costs. And when they are done, ask what they would do with twice the money."
#[tokio::test]
async fn a_run_is_steered_and_then_continued() {
    let lab = Lab::fake();
    let mut agent = Agent::new(&lab).await;
    let messages_file = lab.project().join("taken");
    let id =
        agent.client.start(tooled(&format!("announce\ntake {}\nfinal agent_a minded", messages_file.display()))).await;
    let steered = agent.call("steer_run", json!({"run_id": id, "message": "Mind the costs.", "wait_s": 45})).await;
    assert_eq!(steered["delivered"], true, "{steered}");
    agent.client.end(&id).await;
    let arguments = json!({"question": "#!fake\nannounce\nfinal agent_a twice", "continue_run": id});
    let run = agent.run(arguments).await;
    let page = agent.call("read_result", json!({"run_id": run["run_id"]})).await;
    assert_eq!(page["text"], "twice");
    agent.check_limits(4, 1_300, &lab).await;
}
