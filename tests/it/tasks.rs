//! Runs as tasks: created for clients that request them; any server can report and cancel them from the run's folder.

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CancelTaskParams, ClientCapabilities, ClientConfig, GetTaskParams,
    Implementation, ProtocolVersion, ServerNotification, SubscriptionFilter, TaskPayload, TaskStatus,
};
use rmcp::service::{ClientLifecycleMode, ClientServiceExt};
use rmcp::transport::TokioChildProcess;
use serde_json::{Value, json};

use crate::lab::{Lab, fake};
use crate::raw::{Raw, modern};

/// Parameters of a client that supports tasks.
fn with_tasks(params: Value) -> Value {
    modern("2026-07-28", json!({"io.modelcontextprotocol/tasks": {}}), params)
}

fn start(arguments: Value) -> Value {
    with_tasks(json!({"name": "run_massgen", "arguments": arguments}))
}

/// The arguments of a run that waits for a file in the project, and the file.
fn gated_run(lab: &Lab) -> (Value, std::path::PathBuf) {
    let go = lab.project().join("go");
    (fake(&format!("announce\nuntil {}\nfinal agent_a done", go.display())), go)
}

async fn get_task(raw: &mut Raw, id: u32, task: &Value) -> Value {
    raw.ask(id, "tasks/get", with_tasks(json!({"taskId": task}))).await.0["result"].take()
}

/// Waits with check_status for the end of a run.
async fn wait_for_end(raw: &mut Raw, id: u32, run: &Value) -> Value {
    let arguments = json!({"run_id": run, "wait_s": 50, "until": "all_done"});
    let call = with_tasks(json!({"name": "check_status", "arguments": arguments}));
    raw.ask(id, "tools/call", call).await.0["result"]["structuredContent"]["runs"][0].take()
}

fn error_code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("{answer}"))
}

#[tokio::test]
async fn any_server_reports_a_task_and_it_outlives_the_server_that_created_it() {
    let lab = Lab::fake();
    let (question, go) = gated_run(&lab);
    let mut first = Raw::start(lab.command());
    // For a client with tasks the call does not wait for the end.
    let mut arguments = question.clone();
    arguments["wait_s"] = json!(50);
    let created = first.ask(1, "tools/call", start(arguments)).await.0["result"].take();
    assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("working")), "{created}");
    assert_eq!((&created["pollIntervalMs"], &created["ttlMs"]), (&json!(5000), &Value::Null), "{created}");
    let task = created["taskId"].clone();
    let run = task.as_str().expect("an id");
    assert!(lab.run_folder(run).join("run.json").is_file(), "the run is on disk before the answer");
    let message = created["statusMessage"].as_str().expect("words");
    assert!(message.contains('s') && message.chars().count() <= 200, "{message}");

    let mut second = Raw::start(lab.command());
    let status = get_task(&mut second, 1, &task).await;
    assert_eq!((&status["status"], &status["createdAt"]), (&json!("working"), &created["createdAt"]), "{status}");
    // An identical request returns the same task and says so.
    let repeated = first.ask(2, "tools/call", start(question)).await.0["result"].take();
    assert_eq!(repeated["taskId"], task);
    assert!(
        repeated["statusMessage"].as_str().is_some_and(|message| message.starts_with("the same request")),
        "{repeated}"
    );

    first.child.kill().await.expect("killed");
    std::fs::write(&go, "").expect("written");
    assert_eq!(wait_for_end(&mut second, 2, &task).await["state"], "succeeded");
    let mut third = Raw::start(lab.command());
    for raw in [&mut second, &mut third] {
        let ended = get_task(raw, 3, &task).await;
        assert_eq!((&ended["status"], &ended["resultType"]), (&json!("completed"), &json!("complete")), "{ended}");
        assert_eq!(ended["result"]["structuredContent"]["state"], "succeeded", "{ended}");
        assert_eq!((&ended["result"]["isError"], &ended["taskId"]), (&json!(false), &task));
        assert!(ended["statusMessage"].as_str().is_some_and(|message| message.starts_with("succeeded")), "{ended}");
        assert!(ended["lastUpdatedAt"].as_str() > ended["createdAt"].as_str(), "{ended}");
    }
    second.end().await;
    third.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_cancelled_task_is_a_killed_run() {
    let lab = Lab::fake();
    let mut first = Raw::start(lab.command());
    let task = first.ask(1, "tools/call", start(fake("announce\nforever"))).await.0["result"]["taskId"].take();
    let mut second = Raw::start(lab.command());
    let ack = second.ask(1, "tasks/cancel", with_tasks(json!({"taskId": task}))).await.0["result"].take();
    assert_eq!(ack["resultType"], "complete", "{ack}");
    assert_eq!(wait_for_end(&mut second, 2, &task).await["state"], "killed");
    let ended = get_task(&mut first, 3, &task).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    assert!(ended["statusMessage"].as_str().is_some_and(|message| message.starts_with("killed")), "{ended}");
    // Requests to an ended task do not change it.
    let responses = json!({"taskId": task, "inputResponses": {}});
    for (id, method, params) in [(4, "tasks/cancel", json!({"taskId": task})), (5, "tasks/update", responses)] {
        let ack = first.ask(id, method, with_tasks(params)).await.0;
        assert_eq!(ack["result"]["resultType"], "complete", "{ack}");
    }
    assert_eq!(get_task(&mut first, 6, &task).await, ended);
    first.end().await;
    second.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_failed_run_is_a_completed_task() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    let created = raw.ask(1, "tools/call", start(fake("announce\nexit 3"))).await.0["result"].take();
    assert_eq!(created["status"], "working", "the result reports the outcome: {created}");
    assert_eq!(wait_for_end(&mut raw, 2, &created["taskId"]).await["state"], "failed");
    let ended = get_task(&mut raw, 3, &created["taskId"]).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let problem = &ended["result"]["structuredContent"]["problem"];
    assert!(problem["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "{ended}");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_task_reports_warnings_before_its_start() {
    let lab = Lab::fake();
    lab.put("one.yaml", "agents: [{id: a, backend: {type: openai}}]\n");
    let mut raw = Raw::start(lab.command());
    let arguments = json!({"question": "#!fake\nannounce\nfinal a x", "config": "one.yaml"});
    let task = raw.ask(1, "tools/call", start(arguments)).await.0;
    let message = task["result"]["statusMessage"].as_str().unwrap_or_default();
    assert!(message.ends_with("; warning: OPENAI_API_KEY is not set"), "{task}");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_call_that_starts_nothing_creates_no_task() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    for (id, arguments) in [
        (1, json!({"question": "q", "config": "@rehearsal", "dry_run": true})),
        (2, json!({"question": ""})),
        (3, json!({"question": "q", "config": "@rehearsal", "wait_s": -1})),
    ] {
        let answer = raw.ask(id, "tools/call", start(arguments)).await.0;
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
    }
    let listing = with_tasks(json!({"name": "check_status", "arguments": {}}));
    let listing = raw.ask(4, "tools/call", listing).await.0;
    assert_eq!(listing["result"]["structuredContent"]["runs"], json!([]), "{listing}");
    for (id, task) in [(5, "mg-00000000"), (6, "../../x"), (7, "")] {
        let answer = raw.ask(id, "tasks/get", with_tasks(json!({"taskId": task}))).await.0;
        assert_eq!(error_code(&answer), -32602, "{answer}");
    }
    assert_eq!(error_code(&raw.ask(8, "tasks/list", with_tasks(json!({}))).await.0), -32601);
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn tasks_are_offered_to_clients_that_declare_support() {
    let lab = Lab::fake();
    let extension = |answer: &Value| answer["result"]["capabilities"]["extensions"].clone();
    let tasks = json!({"io.modelcontextprotocol/tasks": {}});
    let mut raw = Raw::start(lab.command());
    assert_eq!(extension(&raw.ask(1, "server/discover", with_tasks(json!({}))).await.0), tasks);
    let undeclared = modern("2026-07-28", json!({}), json!({"taskId": "mg-00000000"}));
    assert_eq!(error_code(&raw.ask(2, "tasks/get", undeclared).await.0), -32021);
    raw.end().await;

    let mut old = Raw::start(lab.command());
    let hello = old.initialize_with("2025-11-25", json!({"extensions": tasks})).await;
    assert_eq!(extension(&hello), Value::Null, "{hello}");
    assert_eq!(error_code(&old.ask(1, "tasks/get", json!({"taskId": "mg-00000000"})).await.0), -32601);
    old.end().await;

    let mut older = Raw::session(&lab).await;
    for (id, method) in (1..).zip(["tasks/get", "tasks/cancel", "tasks/update", "tasks/list", "tasks/result"]) {
        let params = json!({"taskId": "mg-00000000", "inputResponses": {}});
        assert_eq!(error_code(&older.ask(id, method, params).await.0), -32601, "{method}");
    }
    older.end().await;

    let mut command = lab.command();
    command.arg("--read-only");
    let mut reader = Raw::start(command);
    let found = reader.ask(1, "server/discover", with_tasks(json!({}))).await.0;
    assert_eq!(extension(&found), Value::Null, "{found}");
    assert_eq!(
        error_code(&reader.ask(2, "tasks/cancel", with_tasks(json!({"taskId": "mg-00000000"}))).await.0),
        -32601
    );
    reader.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn a_library_client_follows_a_task_to_its_end() {
    let lab = Lab::fake();
    let (question, go) = gated_run(&lab);
    let config =
        ClientConfig::new(ClientCapabilities::builder().enable_tasks().build(), Implementation::new("it", "1"));
    let mode = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let server = TokioChildProcess::new(lab.command()).expect("starts");
    let client = config.serve_with_lifecycle(server, mode).await.expect("session");

    let call = |arguments: Value| {
        CallToolRequestParams::new("run_massgen").with_arguments(arguments.as_object().expect("object").clone())
    };
    let CallToolResponse::Task(created) = client.call_tool_once(call(question)).await.expect("answered") else {
        panic!("no task");
    };
    let run = created.task.task_id;
    // The client reads the task when its resource changes, not at intervals.
    let filter = SubscriptionFilter::builder().resource_subscription(format!("massgen://runs/{run}")).build();
    let mut changes = client.listen(filter).await.expect("listens");
    std::fs::write(&go, "").expect("written");
    loop {
        let task = client.get_task(GetTaskParams::new(run.as_str())).await.expect("a task").task;
        if let TaskPayload::Completed { result } = task.payload {
            assert_eq!(result["structuredContent"]["state"], "succeeded");
            break;
        }
        assert_eq!(task.task.status, TaskStatus::Working);
        let change = changes.next().await.expect("a notification").expect("still open");
        assert!(matches!(change, ServerNotification::ResourceUpdatedNotification(_)), "{change:?}");
    }
    drop(changes);

    let CallToolResponse::Task(idle) = client.call_tool_once(call(fake("announce\nforever"))).await.expect("answered")
    else {
        panic!("no task");
    };
    client.cancel_task(CancelTaskParams::new(idle.task.task_id.as_str())).await.expect("cancelled");
    client.cancel().await.expect("closed");
    lab.nobody_is_left().await;
}
