//! The scripted meta-agent: decides its next call from the offered tools and the previous results. Pure.
//! It starts one run, waits for it and reads its answer; its only state is the conversation.

use serde_json::{Value, json};

use crate::rehearsal::openai::ChatRequest;

/// The length of each wait, in seconds.
const STATUS_WAIT_S: u32 = 45;
/// The states of a live run.
const LIVE_STATES: [&str; 4] = ["queued", "starting", "running", "stopping"];

/// The next step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MetaAgentStep {
    /// A call of one of our tools.
    Call { tool: String, arguments: Value },
    /// The report at the end: the run and its answer, or the error.
    Report { run_id: String, text: String },
}

/// The next step; `None` if a tool is not offered.
pub(super) fn next_step(config: &str, question: &str, request: &ChatRequest) -> Option<MetaAgentStep> {
    let [run, check, read] =
        ["run_massgen", "check_status", "read_result"].map(|tool| request.find_tool_by_suffix(tool));
    let (run, check, read) = (run?, check?, read?);
    let results = tool_results(request);
    let call = |tool: &str, arguments| Some(MetaAgentStep::Call { tool: tool.to_owned(), arguments });
    let Some(last) = results.last() else {
        return call(run, json!({"question": question, "massgen_config": config, "group": "lead"}));
    };
    let run_id = results.iter().rev().find_map(run_id).unwrap_or_default().to_owned();
    if last["text"].is_string() {
        return match last["next_offset"].as_u64() {
            Some(offset) => call(read, json!({"run_id": run_id, "offset": offset})),
            None => Some(MetaAgentStep::Report {
                run_id,
                text: results.iter().filter_map(|page| page["text"].as_str()).collect(),
            }),
        };
    }
    match state(last) {
        Some(state) if LIVE_STATES.contains(&state) => {
            let cursor = last["cursor"].as_str().unwrap_or_default();
            call(check, json!({"run_id": run_id, "wait_s": STATUS_WAIT_S, "until": "any_done", "since": cursor}))
        }
        Some(_) => call(read, json!({"run_id": run_id})),
        // An error, or a result of another tool.
        None => Some(MetaAgentStep::Report { run_id, text: last.to_string() }),
    }
}

/// The tool results in the conversation, the oldest first. MassGen may add text around each.
fn tool_results(request: &ChatRequest) -> Vec<Value> {
    let messages = request.messages.iter().filter(|message| message.role == "tool");
    messages.map(|message| parse_result(&message.text())).collect()
}

fn parse_result(text: &str) -> Value {
    let object = text.find('{').and_then(|start| serde_json::Deserializer::from_str(&text[start..]).into_iter().next());
    let is_ours = |result: &Value| ["run_id", "runs", "text"].iter().any(|field| result.get(field).is_some());
    let result = object.and_then(Result::ok).filter(is_ours);
    result.unwrap_or_else(|| json!({"code": "not_understood", "message": text}))
}

fn run_id(result: &Value) -> Option<&str> {
    result["run_id"].as_str().or(result["runs"][0]["run_id"].as_str())
}

fn state(result: &Value) -> Option<&str> {
    result["state"].as_str().or(result["runs"][0]["state"].as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next_after(results: &[&str]) -> Option<MetaAgentStep> {
        let tool = |name: &str| json!({"type": "function", "function": {"name": format!("mcp__massgen__{name}")}});
        let tools = ["run_massgen", "check_status", "read_result"].map(tool);
        let tool_messages = results.iter().map(|text| json!({"role": "tool", "tool_call_id": "c", "content": text}));
        let messages: Vec<Value> =
            std::iter::once(json!({"role": "user", "content": "q"})).chain(tool_messages).collect();
        let request = json!({"model": "rehearsal/meta", "tools": tools, "messages": messages});
        next_step("@rehearsal", "q", &serde_json::from_value(request).unwrap())
    }

    fn called(results: &[&str]) -> (String, Value) {
        let Some(MetaAgentStep::Call { tool, arguments }) = next_after(results) else { panic!("{results:?}") };
        (tool.trim_start_matches("mcp__massgen__").to_owned(), arguments)
    }

    #[test]
    fn it_starts_waits_reads_and_reports() {
        let started = r#"{"run_id":"mg-1","state":"starting","elapsed_s":0,"cursor":"a-b"}"#;
        let running = r#"{"runs":[{"run_id":"mg-1","state":"running"}],"cursor":"c-d"}"#;
        let ended = r#"{"runs":[{"run_id":"mg-1","state":"succeeded"}],"cursor":"e-f"}"#;
        let page = r#"{"run_id":"mg-1","text":"one ","next_offset":4}"#;
        let last = r#"{"run_id":"mg-1","text":"two"}"#;
        assert_eq!(
            called(&[]),
            ("run_massgen".into(), json!({"question": "q", "massgen_config": "@rehearsal", "group": "lead"}))
        );
        let wait = |since| json!({"run_id": "mg-1", "wait_s": 45, "until": "any_done", "since": since});
        assert_eq!(called(&[started]), ("check_status".into(), wait("a-b")));
        let annotated = format!("{running}\n[Human Input]: hurry");
        assert_eq!(called(&[started, &annotated]), ("check_status".into(), wait("c-d")));
        assert_eq!(called(&[started, running, ended]), ("read_result".into(), json!({"run_id": "mg-1"})));
        let whole = [started, running, ended, page];
        assert_eq!(called(&whole), ("read_result".into(), json!({"run_id": "mg-1", "offset": 4})));
        let report = MetaAgentStep::Report { run_id: "mg-1".into(), text: "one two".into() };
        assert_eq!(next_after(&[&whole[..], &[last]].concat()), Some(report));
    }

    #[test]
    fn a_refusal_is_reported_and_without_the_tools_it_does_nothing() {
        let Some(MetaAgentStep::Report { text, .. }) = next_after(&["queue_full: a file has {}.\nh"]) else {
            panic!("no report")
        };
        assert!(text.contains("queue_full"));
        assert!(matches!(next_after(&["timed out"]), Some(MetaAgentStep::Report { .. })));
        let bare = serde_json::from_value(json!({"model": "rehearsal/meta", "messages": []})).unwrap();
        assert_eq!(next_step("@rehearsal", "q", &bare), None);
    }
}
