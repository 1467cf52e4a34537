//! Checks of the tool list: its size, its wording, and that a search finds the tools.

use bm25::{Document, Language, SearchEngineBuilder};

use super::*;

/// The tools of a server with default settings.
fn usual() -> Vec<Tool> {
    available_tools(&crate::settings::Flags::default().resolve().expect("defaults"))
}

#[test]
fn the_tool_list_is_small() {
    let tools = usual();
    let read: Vec<String> = tools
        .iter()
        .flat_map(|tool| {
            let input = serde_json::to_string(&tool.input_schema).expect("JSON");
            [tool.name.to_string(), tool.description.as_deref().unwrap_or_default().to_owned(), input]
        })
        .collect();
    let bytes: usize = read.iter().map(String::len).sum();
    let vocabulary = tiktoken_rs::o200k_base().expect("it is part of the crate");
    let tokens: usize = read.iter().map(|text| vocabulary.encode_ordinary(text).len()).sum();
    let size = serde_json::to_string(&tools).expect("JSON").len();
    assert!(bytes <= 6_600 && tokens <= 1_600, "{bytes} bytes, {tokens} tokens");
    assert!(size <= 13_500, "{size} bytes");
}

#[test]
fn the_tool_list_matches_the_golden_file() {
    let list = serde_json::to_string_pretty(&usual()).expect("JSON") + "\n";
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tools.json");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&golden, &list).expect("write");
    }
    let expected = std::fs::read_to_string(&golden).expect("golden file");
    assert!(list == expected, "set UPDATE_GOLDEN=1 to agree on a new one, and say so in CHANGELOG.md");
}

#[test]
fn limits_in_descriptions_are_those_of_the_settings() {
    let defaults = crate::settings::Flags::default().resolve().expect("defaults");
    let mut changed = defaults.clone();
    changed.limits.max_timeout = std::time::Duration::from_secs(40_000);
    changed.max_wait = std::time::Duration::from_secs(100);
    let json = serde_json::to_string(&available_tools(&changed)).expect("JSON");
    assert!(json.contains("at most 40000") && json.contains("at most 100") && !json.contains("{max_"), "{json}");
    let names_of =
        |settings: &Settings| available_tools(settings).iter().map(|tool| tool.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names_of(&changed), TOOL_NAMES);
    changed.read_only = true;
    assert_eq!(names_of(&changed), ["check_status", "list_configs", "read_result"]);
}

/// A client that validates bounds refuses a call without suggesting a fix. MassGen, llama-index and Gemini do not
/// support several types in one schema.
#[test]
fn input_schemas_have_no_bounds_and_one_type_each() {
    fn check_schema(schema: &Value, path: &str) {
        let kind = schema["type"].as_str();
        assert!(kind.is_some(), "{path} has no type: {schema}");
        for bound in
            ["minimum", "maximum", "exclusiveMinimum", "minItems", "maxItems", "minLength", "maxLength", "pattern"]
        {
            assert!(schema.get(bound).is_none(), "{path} has {bound}");
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check_schema(property, &format!("{path}.{name}"));
        }
        schema.get("items").into_iter().for_each(|items| check_schema(items, &format!("{path}[]")));
    }
    all_tools().iter().for_each(|tool| check_schema(&Value::Object(tool.input_schema.as_ref().clone()), &tool.name));
}

#[test]
fn schemas_are_plain() {
    let json = serde_json::to_string(&all_tools()).expect("JSON");
    for word in ["$ref", "$defs", "\"null\"", "anyOf", "oneOf"] {
        assert!(!json.contains(word), "{word}");
    }
}

/// Search queries of a person or a model, with the tool that should come first.
const SEARCHES: [(&str, &str); 20] = [
    ("massgen", "run_massgen"),
    ("run several AI agents on a question", "run_massgen"),
    ("ask other AI models", "run_massgen"),
    ("ensemble of models vote", "run_massgen"),
    ("second opinion from other models", "run_massgen"),
    ("multi-agent", "run_massgen"),
    ("debate", "run_massgen"),
    ("consensus of several models", "run_massgen"),
    ("start a run", "run_massgen"),
    ("wait for a run to finish", "check_status"),
    ("progress of a run", "check_status"),
    ("what is running and how much was spent", "check_status"),
    ("read the final answer", "read_result"),
    ("compare the results of a group", "read_result"),
    ("log and errors of a run", "read_result"),
    ("stop a run", "kill_run"),
    ("cancel all runs", "kill_run"),
    ("message to running agents", "steer_run"),
    ("list available configs", "list_configs"),
    ("which API keys are missing", "list_configs"),
];

/// Codex searches names and descriptions with this crate to find the tools for the models that it knows.
#[test]
fn a_search_finds_the_right_tool_first() {
    let documents = all_tools().into_iter().map(|tool| {
        let words = format!("{} {} {}", tool.name, tool.name.replace('_', " "), tool.description.unwrap_or_default());
        Document::new(tool.name.to_string(), words)
    });
    let engine = SearchEngineBuilder::<String>::with_documents(Language::English, documents).build();
    let missed: Vec<_> = SEARCHES
        .iter()
        .filter_map(|(query, expected)| {
            let results = engine.search(query, 6);
            let names: Vec<_> = results.iter().map(|result| (result.document.id.clone(), result.score)).collect();
            (names.first().is_none_or(|(name, _)| name != expected)).then(|| format!("{query}: {names:?}"))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// A client with deferred tools shows 160 characters of a description.
#[test]
fn the_first_160_characters_say_what_a_tool_is_for() {
    for tool in all_tools() {
        let description = tool.description.unwrap_or_default();
        let beginning: String = description.chars().take(160).collect();
        assert!(
            beginning.contains("MassGen") || beginning.contains("multi-agent") || beginning.contains("run_massgen"),
            "{beginning}"
        );
    }
}

/// Scanners of tool lists take a word before a parenthesis for a function call.
#[test]
fn no_word_looks_like_code() {
    for text in texts(&serde_json::to_value(all_tools()).expect("JSON")) {
        let code = text.match_indices('(').find(|(at, _)| text[..*at].trim_end().ends_with(char::is_alphanumeric));
        assert!(code.is_none(), "{text}");
    }
}

#[test]
fn every_parameter_has_a_description() {
    for tool in all_tools() {
        let properties = tool.input_schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, property) in properties {
            assert!(property["description"].is_string(), "{} of {}", name, tool.name);
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}
