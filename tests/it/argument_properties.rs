//! Calls generated from the tools' input schemas, valid and damaged. Each call gets, within a time limit, a result that matches the
//! output schema, or a refusal with code, message and hint.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};

use crate::lab::{Lab, fake};

const CALLS: usize = 2_000;
/// The time that a call may take in addition to its `wait_s`.
const TIME_LIMIT: Duration = Duration::from_secs(2);
/// Words that serde and other Rust libraries use in errors. No refusal may contain them.
const RUST_ERROR_WORDS: [&str; 19] = [
    "usize",
    "u64",
    "u32",
    "i64",
    "f64",
    "sequence",
    "a map",
    "unit struct",
    "unit value",
    "unknown variant",
    "expected",
    "invalid type",
    "invalid value",
    "invalid length",
    "invalid digit",
    "invalid float",
    "unknown field",
    "untagged",
    "did not match any",
];
/// The number of calls that may take longer, for a machine under load.
const MAX_LATE: usize = CALLS / 50;

/// A fixed seed: every run of the test makes the same calls.
fn runner() -> TestRunner {
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// A value of the schema's type. Some of the values are meaningful to the tools.
fn valid(name: &str, schema: &Value, run: &str) -> BoxedStrategy<Value> {
    let texts = [
        "q",
        run,
        "mg-00000000",
        "@rehearsal",
        "@examples/x",
        "a.yaml",
        "g",
        "report",
        "agent_a",
        "ż🦀",
        "[1]",
        "{}",
        "",
    ];
    let text = || select(texts.map(str::to_owned).to_vec()).prop_map(Value::from);
    match schema["type"].as_str() {
        Some("string") => match schema["enum"].as_array() {
            Some(words) => select(words.clone()).boxed(),
            None if name.ends_with("run_id") || name == "continue_run" => {
                prop_oneof![3 => Just(json!(run)), 1 => text()].boxed()
            }
            None => text().boxed(),
        },
        Some("integer") => select(vec![json!(0), json!(1), json!(2), json!(7), json!(40_000), json!(u64::MAX)]).boxed(),
        // Short waits keep the test fast.
        Some("number") if name == "wait_s" => select(vec![json!(0), json!(0.01), json!(0.05)]).boxed(),
        Some("number") => select(vec![json!(0), json!(0.5), json!(1), json!(60), json!(1e9), json!(1e300)]).boxed(),
        Some("boolean") => any::<bool>().prop_map(Value::from).boxed(),
        Some("array") => prop::collection::vec(valid(name, &schema["items"], run), 0..3).prop_map(Value::from).boxed(),
        Some("object") => match schema["properties"].as_object() {
            Some(properties) => fields(properties, run).prop_map(Value::Object).boxed(),
            None => select(vec![
                json!({}),
                json!({"ui": null}),
                json!({"agents": {"agent_a": {"backend": {"model": "m"}}}}),
                json!({"agents": {"x": null}}),
                json!({"agents": []}),
                json!({"orchestrator": 7}),
                json!([{}, {"ui": {"a": 1}}]),
            ])
            .boxed(),
        },
        other => panic!("{name} has the type {other:?}"),
    }
}

/// A random subset of the properties, each with a value of its type.
fn fields(properties: &Map<String, Value>, run: &str) -> BoxedStrategy<Map<String, Value>> {
    let each: Vec<_> = properties
        .iter()
        .map(|(name, schema)| {
            let name = name.clone();
            prop::option::weighted(0.3, valid(&name, schema, run)).prop_map(move |value| Some((name.clone(), value?)))
        })
        .collect();
    each.prop_map(|fields| fields.into_iter().flatten().collect()).boxed()
}

/// The value as a careless client or model would send it, or an unrelated value.
fn damaged(value: Value, kind: u8) -> Value {
    match kind {
        0 => json!(value.to_string()),
        1 => json!([value]),
        2 => json!({"value": value}),
        3 => json!(-1),
        4 => json!(1.5),
        5 => json!(true),
        6 => json!("45x"),
        7 => json!("a\u{0}\u{202e}\u{1b}[2J"),
        8 => json!("x".repeat(10_000)),
        9 => (0..50).fold(value, |inner, _| json!([inner])),
        10 => json!(""),
        11 => json!(1e30),
        12 => json!({"a": {"b": [true, -0.5]}}),
        13 => json!(["a", 1, null, {}]),
        14 => json!("1e999"),
        _ => Value::Null,
    }
}

/// The arguments of one call. In some of them a name or a value is damaged.
fn call(tool: &Value, run: &str) -> BoxedStrategy<Value> {
    let damage = prop::option::of((any::<prop::sample::Index>(), 0..20_u8));
    let properties = tool["inputSchema"]["properties"].as_object().expect("properties").clone();
    let arguments = fields(&properties, run);
    let finished = (arguments, damage, 0..10_u8).prop_map(|(mut arguments, damage, start)| {
        if let Some((index, kind)) = damage.filter(|_| !arguments.is_empty()) {
            let name = arguments.keys().nth(index.index(arguments.len())).expect("there").clone();
            let value = arguments.remove(&name).unwrap_or_default();
            match kind {
                16.. => arguments.insert(format!("{name}x").repeat(usize::from(kind - 15)), value),
                _ => arguments.insert(name, damaged(value, kind)),
            };
        }
        (arguments, start)
    });
    let starts = tool["name"] == "run_massgen";
    finished
        .prop_map(move |(mut arguments, start)| {
            let is_many = ["configs", "questions", "variants", "repeat", "keep", "overrides"]
                .iter()
                .any(|name| arguments.contains_key(*name));
            if starts && (start > 0 || is_many) {
                arguments.insert("dry_run".to_owned(), json!(true));
            }
            Value::Object(arguments)
        })
        .boxed()
}

#[tokio::test]
async fn calls_generated_from_the_schemas_get_valid_answers_in_time() {
    let lab = Lab::fake();
    let client = lab.client().await;
    let run = client.start(fake("announce\nfinal agent_a done")).await;
    client.end(&run).await;
    let listed: Value = serde_json::from_str(include_str!("../data/tools.json")).expect("JSON");
    let tools = listed.as_array().expect("list").iter().map(|tool| (tool["name"].clone(), call(tool, &run)));
    let tools: Vec<(Value, BoxedStrategy<Value>)> = tools.collect();
    let (mut runner, mut late, mut done) = (runner(), Vec::new(), 0);
    for number in 0..CALLS {
        let (tool, call) = &tools[number % tools.len()];
        let arguments = call.new_tree(&mut runner).expect("made").current();
        let started = Instant::now();
        // `ask` panics if the server does not answer or if the answer does not match the schema.
        let (is_refused, answer) = client.ask(tool.as_str().expect("name"), arguments.clone()).await;
        if started.elapsed()
            > TIME_LIMIT + Duration::from_secs_f64(arguments["wait_s"].as_f64().unwrap_or_default().clamp(0.0, 50.0))
        {
            late.push(format!("{tool} {arguments} took {:?}", started.elapsed()));
        }
        done += usize::from(!is_refused);
        if is_refused {
            assert_ne!(answer["code"], "internal_error", "{tool} {arguments}: {answer}");
            for part in ["code", "message", "hint"] {
                let text = answer[part].as_str().unwrap_or_default();
                assert!(!text.is_empty() && text.len() < 2_000, "{part} of {tool} {arguments}: {answer}");
            }
            let text = format!("{} {}", answer["message"], answer["hint"]);
            let word = RUST_ERROR_WORDS.iter().find(|word| text.contains(**word));
            assert_eq!(word, None, "{tool} {arguments}: {answer}");
        }
    }
    assert!(late.len() <= MAX_LATE, "{} late: {:?}", late.len(), &late[..late.len().min(5)]);
    assert!(done > CALLS / 10, "only {done} of {CALLS} calls were done");
    client.close().await;
    lab.nobody_is_left().await;
}
