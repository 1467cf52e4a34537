//! Sessions of every protocol version, with and without tasks: each message of the server is checked against the official schema of
//! its version.

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::lab::{Lab, fake, refusal};
use crate::raw::{Raw, modern, request};

const VERSIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];
const TASKS: &str = "io.modelcontextprotocol/tasks";

/// The schema of a protocol version.
struct Schema {
    document: Value,
    /// The key of its definitions.
    definitions: &'static str,
}

impl Schema {
    fn new(version: &str) -> Schema {
        let text = match version {
            "2024-11-05" => include_str!("../data/mcp/2024-11-05.json"),
            "2025-03-26" => include_str!("../data/mcp/2025-03-26.json"),
            "2025-06-18" => include_str!("../data/mcp/2025-06-18.json"),
            "2025-11-25" => include_str!("../data/mcp/2025-11-25.json"),
            "2026-07-28" => include_str!("../data/mcp/2026-07-28.json"),
            "tasks" => include_str!("../data/mcp/tasks.json"),
            other => panic!("no schema of {other}"),
        };
        let document: Value = serde_json::from_str(text).expect("JSON");
        let definitions = if document.get("$defs").is_some() { "$defs" } else { "definitions" };
        Schema { document, definitions }
    }

    fn check(&self, names: &[&str], value: &Value) {
        let wrong = self.errors_of(names, value);
        assert!(wrong.is_empty(), "{value} is not a valid {names:?}: {wrong:?}");
    }

    /// The schema errors of a value. The first of these definitions that exists applies, because names differ between versions.
    fn errors_of(&self, names: &[&str], value: &Value) -> Vec<String> {
        let name = names.iter().find(|name| self.document[self.definitions].get(name).is_some());
        let name = name.unwrap_or_else(|| panic!("none of {names:?} is defined"));
        let mut schema = self.document.clone();
        schema["allOf"] = json!([{"$ref": format!("#/{}/{name}", self.definitions)}]);
        let validator: Validator = jsonschema::validator_for(&schema).expect("a schema");
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

/// The schema definition for the result of a method.
fn result_of(method: &str) -> &'static str {
    match method {
        "initialize" => "InitializeResult",
        "server/discover" => "DiscoverResult",
        "tools/list" => "ListToolsResult",
        "tools/call" => "CallToolResult",
        "resources/list" => "ListResourcesResult",
        "resources/templates/list" => "ListResourceTemplatesResult",
        "resources/read" => "ReadResourceResult",
        "completion/complete" => "CompleteResult",
        "subscriptions/listen" => "SubscriptionsListenResult",
        "ping" | "resources/subscribe" | "resources/unsubscribe" => "EmptyResult",
        "tasks/get" => "GetTaskResult",
        "tasks/update" => "UpdateTaskResult",
        "tasks/cancel" => "CancelTaskResult",
        other => panic!("{other} has no known result"),
    }
}

/// A session whose messages are checked against the schema.
struct Session {
    raw: Raw,
    version: &'static str,
    schema: Schema,
    tasks: Schema,
    /// The extensions that each request of the stateless protocol declares.
    extensions: Value,
    last: u32,
    /// The methods of the received notifications.
    received: Vec<String>,
}

impl Session {
    async fn start(lab: &Lab, version: &'static str, extensions: Value) -> Session {
        let raw = Raw::start(lab.command());
        let (schema, tasks) = (Schema::new(version), Schema::new("tasks"));
        let mut session = Session { raw, version, schema, tasks, extensions, last: 0, received: Vec::new() };
        if session.is_stateless() {
            session.ask("server/discover", json!({})).await;
        } else {
            let hello = session.raw.initialize(version).await;
            session.schema.check(&["JSONRPCResponse", "JSONRPCResultResponse"], &hello);
            session.schema.check(&["InitializeResult"], &hello["result"]);
            let about = &hello["result"]["serverInfo"];
            assert_eq!(about.get("title").is_some(), version >= "2025-06-18", "{hello}");
        }
        session
    }

    fn is_stateless(&self) -> bool {
        self.version >= "2026-07-28"
    }

    fn params(&self, params: Value) -> Value {
        if self.is_stateless() { modern(self.version, self.extensions.clone(), params) } else { params }
    }

    /// Sends a request; returns the result or the error of the answer.
    async fn ask(&mut self, method: &str, mut params: Value) -> Value {
        self.last += 1;
        params = self.params(params);
        if method == "tools/call" {
            params["_meta"]["progressToken"] = json!(self.last);
        }
        let (answer, notifications) = self.raw.ask(self.last, method, params).await;
        notifications.iter().for_each(|message| self.hear(message));
        self.check(method, &answer);
        if answer.get("error").is_some() { answer["error"].clone() } else { answer["result"].clone() }
    }

    /// Checks and records a notification.
    fn hear(&mut self, message: &Value) {
        self.schema.check(&["ServerNotification"], message);
        self.schema.check(&["JSONRPCNotification"], message);
        self.received.push(message["method"].as_str().expect("method").to_owned());
    }

    fn check(&self, method: &str, answer: &Value) {
        let Some(result) = answer.get("result") else {
            return self.schema.check(&["JSONRPCErrorResponse", "JSONRPCError"], answer);
        };
        self.schema.check(&["JSONRPCResultResponse", "JSONRPCResponse"], answer);
        match method.strip_prefix("tasks/") {
            Some(_) => self.tasks.check(&[result_of(method)], result),
            None if result["resultType"] == "task" => self.tasks.check(&["CreateTaskResult"], result),
            None => self.schema.check(&[result_of(method)], result),
        }
        if self.is_stateless() {
            let about = &result["_meta"]["io.modelcontextprotocol/serverInfo"];
            assert_eq!(about["name"], "massgen-mcp", "{method}: {result}");
        }
    }

    /// Calls a tool; returns its answer, whatever the form of results in this version.
    async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let result = self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await;
        if result["resultType"] == "task" {
            return json!({"run_id": result["taskId"]});
        }
        self.answer(&result)
    }

    fn answer(&self, result: &Value) -> Value {
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{result}"));
        if result["isError"] == true {
            assert!(result.get("structuredContent").is_none(), "{result}");
            return refusal(text);
        }
        let answer: Value = serde_json::from_str(text).expect("JSON");
        let content = (self.version >= "2025-06-18").then_some(&answer);
        assert_eq!(result.get("structuredContent"), content, "{result}");
        answer
    }

    /// Uses every method of this version, and every tool.
    async fn drive(&mut self, lab: &Lab) {
        let tools = self.ask("tools/list", json!({})).await;
        for tool in tools["tools"].as_array().expect("tools") {
            let has = |field: &str| tool.get(field).is_some();
            assert_eq!(
                (has("outputSchema"), has("title")),
                (self.version >= "2025-06-18", self.version >= "2025-06-18"),
                "{tool}"
            );
            assert_eq!(has("annotations"), self.version >= "2025-03-26", "{tool}");
        }
        let run = self.drive_tools(lab).await;
        self.drive_resources(&run).await;
        // Methods that the server does not have.
        for (method, params) in [
            ("prompts/list", json!({})),
            ("logging/setLevel", json!({"level": "debug"})),
            ("soul/search", json!({})),
            ("tools/call", json!({"name": "soul_massgen"})),
            ("resources/read", json!({"uri": "massgen://runs/mg-00000000"})),
        ] {
            let error = self.ask(method, params).await;
            assert!(error["code"].is_i64(), "{method}: {error}");
        }
        if !self.is_stateless() {
            self.ask("ping", json!({})).await;
        }
    }

    async fn drive_tools(&mut self, lab: &Lab) -> String {
        let listed = self.call("list_configs", json!({"query": "", "limit": 2})).await;
        assert!(listed["total"].is_u64(), "{listed}");
        self.call("run_massgen", extended(fake("announce"), json!({"dry_run": true}))).await;
        let started =
            self.call("run_massgen", extended(fake("announce\nfinal agent_a 42"), json!({"wait_s": 50}))).await;
        let run = started["run_id"].as_str().expect("run_id").to_owned();
        let ended = self.call("check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
        assert_eq!(ended["runs"][0]["state"], "succeeded", "{ended}");
        self.call("check_status", json!({"run_id": run, "detail": "full"})).await;
        self.call("check_status", json!({})).await;
        for part in ["answer", "report", "answers", "log", "manifest"] {
            self.call("read_result", json!({"run_id": run, "part": part})).await;
        }
        let arguments = json!({"questions": ["#!fake\nannounce\nfinal agent_a 1", "#!fake\nannounce\nfinal agent_a 2"],
            "configs": ["@rehearsal"], "group": format!("group {}", self.version), "fresh": true});
        let group = self.call("run_massgen", arguments).await["group"].take();
        let group = if group.is_object() { group["name"].clone() } else { group };
        self.call("check_status", json!({"group": group, "wait_s": 50, "until": "all_done"})).await;
        self.call("read_result", json!({"group": group})).await;
        let gate = lab.project().join("never");
        let idle = self.call("run_massgen", fake(&format!("announce\nuntil {}", gate.display()))).await;
        let idle = idle["run_id"].as_str().expect("run_id").to_owned();
        self.call("steer_run", json!({"run_id": idle, "message": "hurry"})).await;
        let killed = self.call("kill_run", json!({"run_id": idle, "grace_s": 0})).await;
        assert_eq!(killed["receipts"][0]["state"], "killed", "{killed}");
        let refused = self.call("read_result", json!({"run_id": "mg-00000000"})).await;
        assert_eq!(refused["code"], "unknown_run");
        run
    }

    async fn drive_resources(&mut self, run: &str) {
        self.ask("resources/list", json!({})).await;
        self.ask("resources/templates/list", json!({})).await;
        for part in ["", "/answer", "/log"] {
            self.ask("resources/read", json!({"uri": format!("massgen://runs/{run}{part}")})).await;
        }
        let template = json!({"type": "ref/resource", "uri": "massgen://runs/{run_id}"});
        self.ask("completion/complete", json!({"ref": template, "argument": {"name": "run_id", "value": "mg-"}})).await;
        let runs = json!({"uri": "massgen://runs"});
        if !self.is_stateless() {
            self.ask("resources/subscribe", runs.clone()).await;
            self.until_notified("notifications/resources/updated").await;
            self.ask("resources/unsubscribe", runs).await;
            return;
        }
        let filter =
            json!({"notifications": {"resourceSubscriptions": ["massgen://runs"], "resourcesListChanged": true}});
        let params = self.params(filter);
        self.raw.say(&request(9_999, "subscriptions/listen", params)).await;
        let acknowledged = self.raw.hear().await;
        self.hear(&acknowledged);
        self.until_notified("notifications/resources/updated").await;
    }

    /// Starts a run and waits for a notification with this method.
    async fn until_notified(&mut self, method: &str) {
        self.call("run_massgen", extended(fake("announce\nfinal agent_a 43"), json!({"fresh": true}))).await;
        while !self.received.iter().any(|received| received == method) {
            let message = self.raw.hear().await;
            self.hear(&message);
        }
    }

    /// Ends the session and checks the remaining messages against the schema.
    async fn end(self) {
        let Session { raw, schema, .. } = self;
        for message in raw.rest().await {
            match message["id"].as_u64() {
                Some(_) => schema.check(&["SubscriptionsListenResult"], &message["result"]),
                None => schema.check(&["ServerNotification"], &message),
            }
        }
    }
}

fn extended(mut arguments: Value, more: Value) -> Value {
    let fields = arguments.as_object_mut().expect("object");
    fields.extend(more.as_object().expect("object").clone());
    arguments
}

#[test]
fn the_schema_check_finds_invalid_messages() {
    for version in VERSIONS {
        let schema = Schema::new(version);
        for (name, value) in [
            ("CallToolResult", json!({"content": [{"type": "text"}], "resultType": "complete"})),
            ("ListToolsResult", json!({"tools": [{"name": "x"}], "resultType": "complete"})),
            ("ServerNotification", json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}})),
        ] {
            assert!(!schema.errors_of(&[name], &value).is_empty(), "{version}: {name}");
        }
    }
    assert!(!Schema::new("tasks").errors_of(&["CreateTaskResult"], &json!({"resultType": "task"})).is_empty());
}

#[tokio::test]
async fn every_message_matches_the_schema_of_its_version() {
    for version in VERSIONS {
        let lab = Lab::fake();
        let mut session = Session::start(&lab, version, json!({})).await;
        session.drive(&lab).await;
        assert!(session.received.iter().any(|received| received == "notifications/progress"), "{:?}", session.received);
        session.end().await;
        lab.only_servers_are_left().await;
        lab.nobody_is_left().await;
    }
}

#[tokio::test]
async fn every_task_message_matches_the_task_schema() {
    let lab = Lab::fake();
    let mut session = Session::start(&lab, "2026-07-28", json!({TASKS: {}})).await;
    session.drive(&lab).await;
    for (script, expected) in [
        ("announce\nfinal agent_a 44", "completed"),
        ("announce\nexit 3", "completed"),
        ("announce\nforever", "cancelled"),
    ] {
        let run = session.call("run_massgen", fake(script)).await["run_id"].take();
        let task = json!({"taskId": run});
        assert_eq!(session.ask("tasks/get", task.clone()).await["taskId"], run);
        session.ask("tasks/update", json!({"taskId": run, "inputResponses": {}})).await;
        if expected == "cancelled" {
            session.ask("tasks/cancel", task.clone()).await;
        }
        session.call("check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
        let ended = session.ask("tasks/get", task).await;
        assert_eq!(ended["status"], expected, "{ended}");
        if let Some(result) = ended.get("result") {
            session.schema.check(&["CallToolResult"], result);
            assert_eq!(result["isError"], false, "the call succeeded, whatever the outcome of the run: {result}");
        }
    }
    assert_eq!(session.ask("tasks/get", json!({"taskId": "mg-00000000"})).await["code"], -32602);
    session.end().await;
    lab.nobody_is_left().await;
}
