//! Protocol: F41 to F46, and F15 and F16 over raw pipes. The test of F47, a panic inside a tool, is in `src/server.rs`, because no
//! request makes a tool panic.

use std::path::Path;

use serde_json::{Value, json};

use crate::lab::{Lab, fake, is_over, wait_until, watches};
use crate::raw::{Raw, ended, modern, request};

/// A run that does nothing until it is stopped.
const IDLE: &str = "announce\nforever";
/// A question for the stand-in that is answered at once.
fn quick() -> Value {
    json!({"question": "q", "config": "@rehearsal", "wait_s": 50})
}

/// The id of an answer with the error's code or `done`.
fn word(answer: &Value) -> String {
    let id = answer.get("id").map_or("none".to_owned(), Value::to_string);
    let what = answer.get("error").map_or("done".to_owned(), |error| error["code"].to_string());
    format!("{id} {what}")
}

async fn words(raw: &mut Raw, count: usize) -> Vec<String> {
    let mut words = Vec::new();
    for _ in 0..count {
        words.push(word(&raw.hear().await));
    }
    words.sort();
    words
}

fn entries(pid: u32, part: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/{part}")).expect("of a live process").count()
}

fn pid(raw: &Raw) -> u32 {
    raw.child.id().expect("alive")
}

#[tokio::test]
async fn f41_every_version_with_initialize_is_answered_in_that_version() {
    let lab = Lab::fake();
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut raw = Raw::start(lab.command());
        let answer = raw.initialize(version).await;
        assert_eq!(answer["result"]["protocolVersion"], version, "{answer}");
        assert_eq!(answer["result"]["serverInfo"]["name"], "massgen-mcp");
        raw.say(&request(1, "tools/list", json!({}))).await;
        let tools = raw.hear().await;
        assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(6), "{tools}");
        raw.call(2, "run_massgen", quick()).await;
        let run = raw.hear().await["result"].take();
        let text = run["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{run}"));
        let answer: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(answer["state"], "succeeded", "{run}");
        // Earlier versions have no structured content.
        assert_eq!(run.get("structuredContent"), (version >= "2025-06-18").then_some(&answer), "{run}");
        raw.end().await;
    }
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f41_an_unknown_version_is_answered_with_the_newest_that_has_initialize() {
    let lab = Lab::fake();
    for version in ["2024-10-07", "2026-07-28", "2099-01-01", "", "draft"] {
        let mut raw = Raw::start(lab.command());
        let answer = raw.initialize(version).await;
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{version}: {answer}");
        raw.call(1, "check_status", json!({})).await;
        assert_eq!(raw.hear().await["result"]["structuredContent"]["runs"], json!([]));
        raw.end().await;
    }
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f41_the_version_of_2026_07_28_is_discovered_and_served() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    let of_today = |params| modern("2026-07-28", json!({}), params);
    raw.say(&request(1, "server/discover", of_today(json!({})))).await;
    let answer = raw.hear().await;
    let versions = answer["result"]["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!("2026-07-28")), "{answer}");
    raw.say(&request(2, "tools/list", of_today(json!({})))).await;
    let tools = raw.hear().await;
    assert_eq!(tools["result"]["tools"].as_array().map(Vec::len), Some(6), "{tools}");
    raw.say(&request(3, "tools/call", of_today(json!({"name": "run_massgen", "arguments": quick()})))).await;
    let run = raw.hear().await["result"]["structuredContent"].take();
    assert_eq!(run["state"], "succeeded", "{run}");
    for (id, tool) in (4..).zip(["check_status", "read_result", "kill_run"]) {
        let call = json!({"name": tool, "arguments": {"run_id": run["run_id"]}});
        raw.say(&request(id, "tools/call", of_today(call))).await;
        let answer = raw.hear().await;
        assert_eq!((&answer["id"], &answer["result"]["isError"]), (&json!(id), &json!(false)), "{answer}");
    }
    raw.say(&request(7, "tools/list", modern("2099-01-01", json!({}), json!({})))).await;
    raw.say(&request(8, "tools/list", json!({}))).await;
    let refused = words(&mut raw, 2).await;
    assert!(refused[0].starts_with("7 -32") && refused[1] == "8 -32602", "{refused:?}");
    raw.say(&request(9, "tools/list", of_today(json!({})))).await;
    assert_eq!(word(&raw.hear().await), "9 done");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f41_a_client_may_initialize_after_server_discover() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    raw.say(&request(1, "server/discover", modern("2026-07-28", json!({}), json!({})))).await;
    assert_eq!(word(&raw.hear().await), "1 done");
    assert_eq!(raw.initialize("2025-06-18").await["result"]["protocolVersion"], "2025-06-18");
    raw.lives().await;
    raw.end().await;

    let mut looked = Raw::start(lab.command());
    looked.say(&request(1, "server/discover", modern("2026-07-28", json!({}), json!({})))).await;
    assert_eq!(word(&looked.hear().await), "1 done");
    looked.end().await;
    Raw::start(lab.command()).end().await;
}

#[tokio::test]
async fn f42_lines_before_initialize_are_answered() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    raw.send("\nnoise\n").await;
    for method in ["notifications/initialized", "notifications/cancelled", "$/noise"] {
        raw.say(&json!({"jsonrpc": "2.0", "method": method, "params": {"requestId": 1}})).await;
    }
    raw.say(&json!({"jsonrpc": "2.0", "id": 1, "result": {}})).await;
    raw.say(&request(2, "tools/list", json!({}))).await;
    raw.say(&request(3, "initialize", json!({"protocolVersion": 5}))).await;
    raw.say(&request(4, "ping", json!({}))).await;
    assert_eq!(words(&mut raw, 4).await, ["2 -32602", "3 -32602", "4 done", "none -32700"]);
    assert_eq!(raw.initialize("2025-11-25").await["result"]["protocolVersion"], "2025-11-25");
    raw.lives().await;
    raw.end().await;
}

#[tokio::test]
async fn f42_every_line_that_may_be_a_request_gets_one_answer() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let call = |id: u32, arguments: &str| {
        let params = format!(r#"{{"name":"check_status","arguments":{arguments}}}"#);
        format!(r#"{{"method":"tools/call","params":{params},"jsonrpc":"2.0","id":{id}}}"#).into_bytes()
    };
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    let mut no_text = call(19, r#"{"group":"X"}"#);
    let at = no_text.iter().position(|byte| *byte == b'X').expect("there");
    no_text[at] = 0xff;
    let table: Vec<(Vec<u8>, &str)> = vec![
        (b"{".to_vec(), "none -32700"),
        (b"GET / HTTP/1.1".to_vec(), "none -32700"),
        (b"\xff\xfe\x00".to_vec(), "none -32700"),
        (b"5".to_vec(), "none -32600"),
        (b"[]".to_vec(), "none -32600"),
        (b"{}".to_vec(), "none -32600"),
        (br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_vec(), "none -32600"),
        (br#"{"jsonrpc":"2.0","id":1e400,"method":"ping"}"#.to_vec(), "none -32600"),
        (br#"{"id":10,"method":"ping"}"#.to_vec(), "10 -32600"),
        (br#"{"jsonrpc":"1.0","id":11,"method":"ping"}"#.to_vec(), "11 -32600"),
        (br#"{"jsonrpc":"2.0","id":12,"method":7}"#.to_vec(), "12 -32600"),
        (br#"{"jsonrpc":"2.0","id":13}"#.to_vec(), "13 -32600"),
        (br#"{"jsonrpc":"2.0","id":14,"method":"soul/search"}"#.to_vec(), "14 -32601"),
        (br#"{"jsonrpc":"2.0","id":15,"method":"notifications/initialized"}"#.to_vec(), "15 -32601"),
        (call(16, r#"{"wait_s":1e400}"#), "16 done"),
        (call(17, r#"{"group":"\ud83d"}"#), "17 done"),
        (call(18, &format!(r#"{{"group":{deep}}}"#)), "18 done"),
        (no_text, "19 -32600"),
        (call(20, r#""a text""#), "20 -32602"),
        (call(21, "[]"), "21 -32602"),
        (call(22, "7"), "22 -32602"),
        (call(23, "null"), "23 done"),
        (call(24, r#"{"wait_s":1e300}"#), "24 done"),
        (call(25, r#"{"wait_s":-0.0}"#), "25 done"),
        (br#"{"jsonrpc":"2.0","id":26,"method":"tools/call","params":{"name":"soul_massgen"}}"#.to_vec(), "26 -32602"),
        (br#"{"jsonrpc":"2.0","id":27,"method":"tools/call"}"#.to_vec(), "27 -32602"),
        (br#"{"jsonrpc":"2.0","id":28,"method":"tools/call","params":[]}"#.to_vec(), "28 -32600"),
        (br#"{"jsonrpc":"2.0","id":29,"method":"resources/list"}"#.to_vec(), "29 done"),
        (br#"{"jsonrpc":"2.0","id":30,"method":"prompts/list"}"#.to_vec(), "30 -32601"),
        (br#"{"jsonrpc":"2.0","id":"thirty-one","method":"ping"}"#.to_vec(), "\"thirty-one\" done"),
    ];
    for (line, expected) in &table {
        raw.send(line).await;
        raw.send("\n").await;
        assert_eq!(word(&raw.hear().await), *expected, "{}", String::from_utf8_lossy(line));
    }
    // These are no requests.
    for silent in ["", " ", "\r", r#"{"method":"$/x","params":1e400}"#, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#] {
        raw.send(format!("{silent}\n")).await;
    }
    // An error that a client returns is not answered.
    raw.say(&json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "not JSON"}})).await;
    raw.lives().await;
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_the_message_of_an_error_names_what_is_wrong() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let told = async |raw: &mut Raw, line: &str| {
        raw.send(format!("{line}\n")).await;
        raw.hear().await["error"]["message"].as_str().expect("message").to_owned()
    };
    let params = |params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
    for (line, expected) in [
        (params(r#"{"name":"soul_massgen"}"#), "tool `soul_massgen` not found; there are: check_status, kill_run"),
        (params(r#"{"name":"check_status","arguments":"{}"}"#), "`arguments`, an object"),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.to_owned(), "`id` must be a string or a whole number"),
        (r#"{"jsonrpc":"2.0","id":1,"method":7}"#.to_owned(), "`method`, a string"),
        (r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.to_owned(), "missing field `protocolVersion`"),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{}}}"#.to_owned(),
            "missing field `clientInfo`",
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"soul/search"}"#.to_owned(), "there is no method `soul/search`"),
    ] {
        let message = told(&mut raw, &line).await;
        assert!(message.contains(expected), "{line}: {message}");
    }
    let long = "x".repeat(1 << 20);
    for line in [params(&format!(r#"{{"name":"{long}"}}"#)), format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{long}"}}"#)]
    {
        let message = told(&mut raw, &line).await;
        assert!(message.len() < 500, "{} bytes come back", message.len());
    }
    raw.end().await;
}

#[tokio::test]
async fn f42_a_call_with_an_argument_that_cannot_be_read_is_refused_by_its_tool() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let deep = format!("{}1{}", r#"{"ui":"#.repeat(500), "}".repeat(500));
    for (id, tool, arguments, expected) in [
        (1, "run_massgen", format!(r#"{{"question":"q","overrides":{deep}}}"#), "`overrides` is nested too deep"),
        (2, "check_status", r#"{"wait_s":1e400}"#.to_owned(), "`wait_s` has a number that is too large"),
    ] {
        let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
        raw.send(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{params}}}"#) + "\n").await;
        let answer = raw.hear().await;
        let (told, is_error) = (&answer["result"]["content"][0]["text"], &answer["result"]["isError"]);
        let told = told.as_str().unwrap_or_else(|| panic!("{answer}"));
        assert_eq!((&answer["id"], is_error), (&json!(id), &json!(true)), "{answer}");
        assert!(told.starts_with(&format!("invalid_arguments: {expected}")), "{told}");
        assert!(told.contains(&format!("\ncall {tool} again with")), "{told}");
    }
    raw.call(3, "check_status", json!({})).await;
    assert_eq!(raw.hear().await["result"]["structuredContent"]["runs"], json!([]), "nothing was started");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_long_lines_are_answered() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    raw.call(1, "run_massgen", json!({"question": "q".repeat(10 << 20), "config": "@rehearsal"})).await;
    let answer = raw.hear().await;
    let text = answer["result"]["content"][0]["text"].as_str().expect("text");
    assert!(text.contains("question_too_long") && text.len() < 1_000, "{text:.300}");
    raw.send("x".repeat(10 << 20) + "\n").await;
    assert_eq!(word(&raw.hear().await), "none -32700");
    // A line beyond the limit is refused with its id, wherever the id is in the line, and the next line is read.
    let params =
        json!({"name": "run_massgen", "arguments": {"question": "q".repeat(17 << 20), "config": "@rehearsal"}});
    for line in [
        format!(r#"{{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{params}}}"#),
        format!(r#"{{"method":"tools/call","params":{params},"jsonrpc":"2.0","id":2}}"#),
    ] {
        raw.send(line + "\n").await;
        let answer = raw.hear().await;
        assert_eq!(word(&answer), "2 -32600");
        assert!(answer["error"]["message"].as_str().is_some_and(|text| text.contains("16777216 bytes")), "{answer}");
    }
    raw.call(3, "check_status", json!({})).await;
    assert_eq!(raw.hear().await["result"]["structuredContent"]["runs"], json!([]), "nothing was started");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_half_a_surrogate_pair_is_read_as_a_replacement() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let question =
        r"#!fake\nannounce\nasked FILE\nfinal agent_a cut \ud83e, whole \ud83e\udd80".replace("FILE", "asked");
    raw.send(format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"run_massgen","arguments":{{"question":"{question}","config":"@rehearsal","wait_s":50}}}}}}"#
    ))
    .await;
    raw.send("\n").await;
    let run = raw.hear().await["result"]["structuredContent"]["run_id"].take();
    raw.call(2, "read_result", json!({"run_id": run})).await;
    let page = raw.hear().await["result"]["structuredContent"].take();
    assert_eq!(page["text"], "cut \u{fffd}, whole 🦀", "{page}");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_no_answer_has_a_line_end_in_it_for_any_reader() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let ends = "\u{85}\u{2028}\u{2029}";
    raw.say(&json!({"jsonrpc": "2.0", "id": ends, "method": "ping"})).await;
    let line = raw.line().await;
    assert!(line.contains(r"\u0085\u2028\u2029") && !line.contains(['\u{85}', '\u{2028}', '\u{2029}']), "{line}");
    assert_eq!(serde_json::from_str::<Value>(&line).expect("JSON")["id"], ends);
    raw.end().await;
}

#[tokio::test]
async fn f45_a_request_for_a_method_that_is_not_offered_logs_no_warning() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.stderr(std::process::Stdio::piped());
    let mut raw = Raw::start(command);
    raw.initialize("2025-11-25").await;
    for method in [
        "prompts/list",
        "prompts/get",
        "logging/setLevel",
        "ping",
        "tasks/list",
        "resources/read",
        "completion/complete",
    ] {
        raw.ask(1, method, json!({})).await;
    }
    let mut stderr = raw.child.stderr.take().expect("piped");
    raw.end().await;
    let mut said = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut said).await.expect("read");
    assert_eq!(said, "");
}

#[tokio::test]
async fn f42_parameters_of_another_form_are_invalid_parameters() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    raw.initialize("2025-11-25").await;
    for method in ["resources/read", "resources/subscribe", "resources/unsubscribe", "completion/complete"] {
        let (answer, _) = raw.ask(1, method, json!({"uri": 5, "name": 5, "ref": 5})).await;
        assert_eq!(answer["error"]["code"], -32602, "{method}: {answer}");
    }
    let (answer, _) = raw.ask(2, "resources/read", json!({"uri": "massgen://runs/mg-00000000"})).await;
    assert_eq!(answer["error"]["data"]["uri"], "massgen://runs/mg-00000000", "{answer}");
    raw.end().await;
}

#[tokio::test]
async fn f42_each_request_of_a_batch_is_answered() {
    let lab = Lab::fake();
    let mut raw = Raw::start(lab.command());
    raw.initialize("2025-03-26").await;
    let call = request(3, "tools/call", json!({"name": "check_status", "arguments": {}}));
    let told = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    raw.say(&json!([request(1, "ping", json!({})), told, request(2, "soul/search", json!({})), call, 5, [call]])).await;
    assert_eq!(words(&mut raw, 5).await, ["1 done", "2 -32601", "3 done", "none -32600", "none -32600"]);
    raw.lives().await;
    raw.end().await;
}

#[tokio::test]
async fn f42_of_two_requests_with_one_id_the_later_is_refused() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let run = raw.start_run(fake(IDLE)).await;
    raw.call(5, "check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
    raw.call(5, "run_massgen", quick()).await;
    assert_eq!(word(&raw.hear().await), "5 -32600");
    raw.call(6, "kill_run", json!({"run_id": run, "grace_s": 0})).await;
    assert_eq!(words(&mut raw, 2).await, ["5 done", "6 done"]);
    raw.call(5, "check_status", json!({})).await;
    let listed = raw.hear().await;
    assert_eq!(listed["result"]["structuredContent"]["runs"].as_array().map(Vec::len), Some(1), "{listed}");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_a_cancelled_wait_ends_at_once_and_its_id_is_free() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let run = raw.start_run(fake(IDLE)).await;
    let wait = json!({"run_id": run, "wait_s": 50, "until": "all_done"});
    let server = pid(&raw);
    wait_until("the start's own wait is over", || watches(server) == 0).await;
    raw.call(5, "check_status", wait).await;
    wait_until("it waits", || watches(server) > 0).await;
    let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}});
    raw.say(&cancel).await;
    // The run is idle, so only the cancellation ends the wait early.
    wait_until("it waits no more", || watches(server) == 0).await;
    raw.lives().await;
    raw.say(&cancel).await;
    raw.call(5, "kill_run", json!({"run_id": run, "grace_s": 0})).await;
    let killed = raw.hear().await;
    assert_eq!(killed["result"]["structuredContent"]["receipts"].as_array().map(Vec::len), Some(1), "{killed}");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f42_line_ends_of_any_kind_and_none_at_the_end() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    raw.send("\r\n\n \n").await;
    raw.send(format!("{}\r\n\u{feff}{}\n", request(1, "ping", json!({})), request(2, "ping", json!({})))).await;
    assert_eq!(words(&mut raw, 2).await, ["1 done", "2 done"]);
    raw.send(request(3, "ping", json!({})).to_string()).await;
    let rest = raw.rest().await;
    assert_eq!(rest.iter().map(word).collect::<Vec<_>>(), ["3 done"]);
}

#[tokio::test]
async fn f43_only_a_request_that_declares_tasks_gets_a_task() {
    let lab = Lab::fake();
    let tasks = json!({"io.modelcontextprotocol/tasks": {}});
    let plain = |answer: Value| {
        let result = &answer["result"];
        assert_eq!(result["structuredContent"]["state"], "succeeded", "{answer}");
        assert!(result.get("task").is_none() && result["resultType"] != "task", "{answer}");
    };
    let call = json!({"name": "run_massgen", "arguments": quick(), "task": {"ttl": 60_000}});
    for capabilities in [json!({}), json!({"extensions": tasks}), json!({"tasks": {"requests": {}}})] {
        let mut raw = Raw::start(lab.command());
        let hello = raw.initialize_with("2025-11-25", capabilities).await;
        assert!(hello["result"]["capabilities"].get("tasks").is_none(), "{hello}");
        raw.call(1, "run_massgen", quick()).await;
        plain(raw.hear().await);
        raw.say(&request(2, "tools/call", call.clone())).await;
        plain(raw.hear().await);
        raw.end().await;
    }
    let mut raw = Raw::start(lab.command());
    raw.say(&request(1, "tools/call", modern("2026-07-28", json!({}), call.clone()))).await;
    plain(raw.hear().await);
    // One request declares tasks; the next request of the same session does not.
    raw.say(&request(2, "tools/call", modern("2026-07-28", tasks, call.clone()))).await;
    assert_eq!(raw.hear().await["result"]["resultType"], "task");
    raw.say(&request(3, "tools/call", modern("2026-07-28", json!({}), call))).await;
    plain(raw.hear().await);
    raw.end().await;
    lab.nobody_is_left().await;
}

/// Two runs change as fast as they can, beside many others on disk. Three waits of a second each end before a long wait that began
/// earlier. The test compares the order of the answers, not times.
#[tokio::test]
async fn f44_short_waits_end_before_a_long_one_while_runs_change() {
    let restless = r#"
        folder="$MASSGEN_LOG_BASE_DIR/log_1/turn_1/attempt_1"; mkdir -p "$folder"; n=0
        while :; do
            n=$((n + 1))
            printf '{"agents": {"a": {"status": "answered", "answer_count": %d}}}' $n > "$folder/draft"
            mv "$folder/draft" "$folder/status.json"
        done"#;
    let lab = Lab::scripted(&format!("case \"$(cat \"$4\")\" in *finished*) exit 3;; esac\n{restless}"));
    let mut raw = Raw::session(&lab).await;
    let finished = raw.start_run(json!({"question": "finished", "config": "@rehearsal", "wait_s": 50})).await;
    many_of(&lab, &finished, 50);
    let question = json!({"question": "restless", "config": "@rehearsal", "group": "restless", "fresh": true});
    let runs = [raw.start_run(question.clone()).await, raw.start_run(question).await];
    raw.call(1, "check_status", json!({"run_ids": runs, "wait_s": 50, "until": "all_done"})).await;
    let short = [json!({"run_ids": runs}), json!({"group": "restless"}), json!({})];
    for (id, mut arguments) in (2..).zip(short) {
        arguments["wait_s"] = json!(1);
        arguments["until"] = json!("all_done");
        raw.call(id, "check_status", arguments).await;
        let answer = raw.hear().await;
        assert_eq!(answer["id"], id, "the long wait is not over: {answer}");
        let checked = &answer["result"]["structuredContent"];
        assert!(checked["hint"].as_str().is_some_and(|hint| hint.contains("after 1 s")), "{checked}");
        assert!(checked["runs"].as_array().is_some_and(|runs| [2, 20].contains(&runs.len())), "{checked}");
    }
    raw.call(9, "kill_run", json!({"group": "restless", "grace_s": 0})).await;
    assert_eq!(words(&mut raw, 2).await, ["1 done", "9 done"]);
    raw.end().await;
    lab.nobody_is_left().await;
}

/// Copies an ended run under other names.
fn many_of(lab: &Lab, id: &str, count: u32) {
    for number in 0..count {
        let name = format!("mg-{number:08}");
        let folder = lab.run_folder(&name);
        std::fs::create_dir(&folder).expect("made");
        for file in ["spec.json", "run.json", "lock"] {
            let text = std::fs::read_to_string(lab.run_folder(id).join(file)).expect("read");
            std::fs::write(folder.join(file), text.replace(id, &name)).expect("written");
        }
    }
}

#[tokio::test]
async fn f45_nothing_but_protocol_is_on_standard_output() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
    let mut raw = Raw::start(command);
    raw.initialize("2025-11-25").await;
    raw.send("noise\n").await;
    assert_eq!(word(&raw.hear().await), "none -32700");
    let mut run = fake("announce\nprint noise\ncomplain noise\nflood 2000\nfinal agent_a done");
    run["wait_s"] = json!(50);
    raw.call(1, "run_massgen", run).await;
    let run = raw.hear().await;
    assert_eq!(word(&run), "1 done");
    let id = &run["result"]["structuredContent"]["run_id"];
    // The stand-in panics at an unknown command.
    let mut broken = fake("announce\npanic");
    broken["wait_s"] = json!(50);
    raw.call(2, "run_massgen", broken).await;
    assert_eq!(raw.hear().await["result"]["structuredContent"]["state"], "failed");
    for (number, part) in (3..).zip(["answer", "log", "errors", "soul"]) {
        raw.call(number, "read_result", json!({"run_id": id, "part": part})).await;
        assert_eq!(word(&raw.hear().await), format!("{number} done"));
    }
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f45_a_server_whose_standard_error_is_closed_serves_on() {
    let lab = Lab::fake();
    let mut command = lab.command();
    command.env("RUST_LOG", "trace").stderr(std::process::Stdio::piped());
    let mut raw = Raw::start(command);
    drop(raw.child.stderr.take());
    raw.initialize("2025-11-25").await;
    raw.call(1, "run_massgen", quick()).await;
    assert_eq!(raw.hear().await["result"]["structuredContent"]["state"], "succeeded");
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f46_a_hundred_waits_on_one_run_end_with_it_and_release_their_resources() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let go = lab.project().join("go");
    let run = raw.start_run(fake(&format!("announce\nuntil {}\nfinal agent_a done", go.display()))).await;
    let server = pid(&raw);
    wait_until("the start's own wait is over", || watches(server) == 0).await;
    let before = [entries(server, "fd"), entries(server, "task")];
    for id in 1..=100 {
        raw.call(id, "check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
    }
    wait_until("they wait", || watches(server) > 0).await;
    raw.lives().await;
    assert_eq!(watches(server), 1, "one watch for all");
    assert!(!go.exists() && Path::new(&lab.run_folder(&run)).exists());
    std::fs::write(&go, "").expect("written");
    let mut ids = Vec::new();
    for _ in 1..=100 {
        let answer = raw.hear().await;
        assert_eq!(answer["result"]["structuredContent"]["runs"][0]["state"], "succeeded", "{answer}");
        ids.push(answer["id"].as_u64().expect("id"));
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    // Idle worker threads exit after ten seconds.
    wait_until("all is given back", || {
        watches(server) == 0
            && [entries(server, "fd"), entries(server, "task")].iter().zip(before).all(|(now, then)| *now <= then)
    })
    .await;
    raw.end().await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f15_the_end_of_input_ends_twenty_waits_at_once_and_leaves_the_run() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let run = raw.start_run(fake(IDLE)).await;
    let server = pid(&raw);
    wait_until("the start's own wait is over", || watches(server) == 0).await;
    for id in 1..=20 {
        raw.call(id, "check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
    }
    raw.lives().await;
    wait_until("they wait", || watches(server) > 0).await;
    // Every wait is answered, although the client has ended its input.
    let answers = raw.rest().await;
    assert_eq!(answers.len(), 20);
    for answer in answers {
        let checked = &answer["result"]["structuredContent"];
        assert!(checked.get("hint").is_none() && !is_over(&checked["runs"][0]), "{answer}");
    }
    goes_on(&lab, &run).await;
    lab.nobody_is_left().await;
}

#[tokio::test]
async fn f16_a_closed_output_ends_the_server_and_leaves_the_run() {
    let lab = Lab::fake();
    let mut raw = Raw::session(&lab).await;
    let run = raw.start_run(fake(IDLE)).await;
    raw.call(1, "check_status", json!({"run_id": run, "wait_s": 50, "until": "all_done"})).await;
    raw.say(&request(2, "ping", json!({}))).await;
    // Its input stays open: only a failed write shows that the client is gone.
    let (mut child, input) = raw.deafen();
    assert!(ended(&mut child).await.success());
    drop(input);
    goes_on(&lab, &run).await;
    lab.nobody_is_left().await;
}

/// The run is live for another server, which ends it.
async fn goes_on(lab: &Lab, run: &str) {
    let client = lab.client().await;
    let listed = client.call("check_status", json!({"run_id": run})).await;
    assert!(matches!(listed["runs"][0]["state"].as_str(), Some("starting" | "running")), "{listed}");
    client.call("kill_run", json!({"run_id": run, "grace_s": 0})).await;
    client.close().await;
}
