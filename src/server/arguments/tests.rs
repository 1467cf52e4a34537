//! How arguments are read, and how unreadable ones are refused.

use super::*;
use crate::server::next_steps::agent_words;
use crate::server::params::{CheckStatus, KillRun, RunMassgen, SteerRun};

fn taken<T: DeserializeOwned>(tool: &str, arguments: Value) -> Result<T, Refusal> {
    parse_arguments(tool, arguments.as_object().expect("object").clone())
}

/// The arguments that run_massgen understands, as one text.
fn run(arguments: Value) -> String {
    let request: RunMassgen =
        taken("run_massgen", arguments.clone()).unwrap_or_else(|no| panic!("{arguments}: {no:?}"));
    serde_json::to_string(&request).expect("JSON")
}

fn refused(tool: &str, arguments: Value) -> Refusal {
    match tool {
        "run_massgen" => taken::<RunMassgen>(tool, arguments).err(),
        "check_status" => taken::<CheckStatus>(tool, arguments).err(),
        "kill_run" => taken::<KillRun>(tool, arguments).err(),
        _ => taken::<SteerRun>(tool, arguments).err(),
    }
    .expect("refused")
}

#[test]
fn empty_values_count_as_not_given() {
    let no_arguments = run(json!({}));
    for tool in tools::all_tools() {
        let properties = tool.input_schema["properties"].as_object().expect("properties").clone();
        for (name, empty) in properties.keys().flat_map(|name| {
            [json!(null), json!(""), json!(" \n"), json!([]), json!({}), json!([""])].map(|empty| (name.clone(), empty))
        }) {
            if tool.name == "run_massgen" {
                assert_eq!(run(json!({name.clone(): empty.clone()})), no_arguments, "{name} {empty}");
            }
        }
    }
    let zeros = json!({
        "repeat": 0, "keep": 0.0, "timeout_s": 0, "budget_usd": 0, "max_tokens": "0", "wait_s": 0, "fresh": false,
        "from_run": {"run_id": "", "answer": ""}, "variants": [{}], "mode": "", "from": {"run_id": ""}, "config": "",
    });
    assert_eq!(run(zeros), no_arguments);
    let kill: KillRun = taken("kill_run", json!({"run_id": "mg-00000000", "grace_s": 0})).expect("taken");
    assert_eq!(kill.grace_s, 0.0, "0 is no grace, and not the usual one");
}

#[test]
fn lossless_conversions_to_the_expected_type_are_accepted() {
    for (sent, expected) in [
        (json!({"wait_s": "45"}), json!({"wait_s": 45.0})),
        (json!({"repeat": 10.0}), json!({"repeat": 10})),
        (json!({"max_tokens": " 5e3 "}), json!({"max_tokens": 5000})),
        (json!({"dry_run": "true", "fresh": "False"}), json!({"dry_run": true})),
        (json!({"configs": "[\"a\", \"b\"]"}), json!({"configs": ["a", "b"]})),
        (json!({"configs": "a.yaml", "questions": "q"}), json!({"configs": ["a.yaml"], "questions": ["q"]})),
        (json!({"questions": "[x] what?"}), json!({"questions": ["[x] what?"]})),
        (json!({"overrides": "{\"ui\": null}"}), json!({"overrides": {"ui": null}})),
        (json!({"overrides": "[{\"a\": 1}]"}), json!({"overrides": [{"a": 1}]})),
        (json!({"variants": {"a": 1}}), json!({"variants": [{"a": 1}]})),
        (json!({"from_run": "{\"run_id\": \"mg-1\"}"}), json!({"from_run": {"run_id": "mg-1"}})),
        (json!({"from": {"run_id": "mg-1"}}), json!({"from_run": {"run_id": "mg-1"}})),
        (json!({"from_run": "mg-1"}), json!({"from_run": {"run_id": "mg-1"}})),
        (json!({"config": "a", "massgen_config": "a"}), json!({"massgen_config": "a"})),
        (json!({"config": "a", "massgen_config": ""}), json!({"massgen_config": "a"})),
        (json!({"mode": " quick "}), json!({"mode": "quick"})),
        (json!({"group": 2026, "question": 42}), json!({"group": "2026", "question": "42"})),
        (json!({"question": true, "group": -7}), json!({"question": "true", "group": "-7"})),
        (json!({"group": 1.5, "request_key": u64::MAX}), json!({"group": "1.5", "request_key": u64::MAX.to_string()})),
        (json!({"questions": ["a", 7, 0.25, false]}), json!({"questions": ["a", "7", "0.25", "false"]})),
        (json!({"questions": 42, "configs": "[1]"}), json!({"questions": ["42"], "configs": ["1"]})),
    ] {
        assert_eq!(run(sent.clone()), run(expected), "{sent}");
    }
}

#[test]
fn lossy_conversions_are_refused_with_the_place_and_a_hint() {
    for (tool, sent, message) in [
        ("run_massgen", json!({"wait_s": "45x"}), "`wait_s` must be a number, and it is the text `45x`"),
        ("run_massgen", json!({"wait_s": "NaN"}), "`wait_s` must be a number"),
        ("run_massgen", json!({"repeat": 1.5}), "`repeat` must be a whole number, and it is 1.5"),
        ("run_massgen", json!({"repeat": -1}), "and it is -1"),
        ("run_massgen", json!({"max_tokens": true}), "and it is true"),
        ("run_massgen", json!({"question": 10.0}), "`question` must be a text, and it is 10"),
        ("run_massgen", json!({"question": 1e20}), "`question` must be a text, and it is 1e"),
        ("run_massgen", json!({"group": 0.123_456_789_012_345_67}), "`group` must be a text, and it is 0.12"),
        ("run_massgen", json!({"question": ["7"]}), "`question` must be a text, and it is a list"),
        ("run_massgen", json!({"mode": 7}), "`mode` has no value `7`"),
        ("run_massgen", json!({"fresh": 1}), "`fresh` must be true or false, and it is 1"),
        ("run_massgen", json!({"variants": 7}), "`variants` must be a list, and it is 7"),
        ("run_massgen", json!({"configs": ["a", [7]]}), "`configs[1]` must be a text"),
        ("run_massgen", json!({"configs": ["a", 7.0]}), "`configs[1]` must be a text"),
        (
            "run_massgen",
            json!({"overrides": "orchestrator"}),
            "`overrides` must be an object, and it is the text `orchestrator`",
        ),
        ("run_massgen", json!({"from_run": [1]}), "`from_run` must be an object, and it is a list"),
        ("run_massgen", json!({"from_run": {"run_id": "mg-1", "label": "x"}}), "from_run has no parameter `label`"),
        ("run_massgen", json!({"from_run": {"answer": "agent1.1"}}), "`from_run.run_id` is missing"),
        ("run_massgen", json!({"config": {"tags": [], "metadata": {}}}), "`massgen_config` must be a text"),
        ("run_massgen", json!({"budget": 3}), "run_massgen has no parameter `budget`"),
        ("run_massgen", json!({"mode": "slow"}), "`mode` has no value `slow`"),
        ("run_massgen", json!({"config": "a", "massgen_config": "b"}), "are the same parameter"),
        ("check_status", json!({"until": "any-done"}), "`until` has no value `any-done`"),
        ("steer_run", json!({"run_id": "mg-1"}), "`message` is missing"),
    ] {
        let refusal = refused(tool, sent.clone());
        assert!(refusal.message().contains(message), "{sent}: {}", refusal.message());
        let text = format!("{} {}", refusal.message(), refusal.hint(agent_words));
        for word in ["usize", "u64", "u32", "f64", "sequence", "invalid type", "expected", "struct", "variant `"] {
            assert!(!text.contains(word), "{text}");
        }
    }
    assert!(refused("run_massgen", json!({"budget": 3})).hint(agent_words).contains("`budget_usd`"));
    assert!(refused("check_status", json!({"until": "any-done"})).hint(agent_words).contains("did you mean any_done"));
    let long = refused("kill_run", json!({"x".repeat(10_000): 1}));
    assert!(long.message().len() < 200, "{} bytes", long.message().len());
}

/// Python code cannot pass the first as a keyword argument. Frameworks reserve the others, so their values would not
/// arrive.
#[test]
fn no_parameter_has_a_name_that_python_or_a_framework_reserves() {
    const PYTHON: &[&str] = &[
        "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif", "else", "except",
        "finally", "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass",
        "raise", "return", "try", "while", "with", "yield", "match", "case", "type", "None", "True", "False",
    ];
    const FRAMEWORKS: &[&str] = &[
        // Methods.
        "self",
        "cls",
        "args",
        "kwargs",
        // langchain-core 1.8, langchain-mcp-adapters 0.3.
        "config",
        "callbacks",
        "run_manager",
        "runtime",
        "tool_call_id",
        "state",
        "store",
        // google-adk 2.13.
        "tool_context",
        "input_stream",
        "credential",
        // openai-agents 0.24, pydantic-ai 2.68, fastmcp 2.14, llama-index 0.14.
        "ctx",
        "run_context",
        "context_wrapper",
        // strands 1.62.
        "agent",
        "tool_use",
        "invocation_state",
        // smolagents 1.26.
        "sanitize_inputs_outputs",
        // crewai 1.15.
        "security_context",
        // Methods of pydantic models, which clients generate from schemas.
        "json",
        "dict",
        "copy",
        "schema",
        "construct",
        "validate",
        "fields",
    ];
    for tool in tools::all_tools() {
        for name in tool.input_schema["properties"].as_object().expect("properties").keys() {
            let is_taken = PYTHON.contains(&name.as_str()) || FRAMEWORKS.contains(&name.as_str());
            assert!(!is_taken && !name.starts_with("model_") && !name.starts_with('_'), "{}: {name}", tool.name);
        }
    }
}
