//! A rewritten config has the same values for PyYAML, with which MassGen reads it. The tests use the real PyYAML and start no run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use massgen_mcp::massgen::configs::{self, ConfigFacts, ConfigPlaces, Tree, ValidationRequest};
use massgen_mcp::massgen::program;
use massgen_mcp::run::ConfigChoice;
use serde_json::{Value, json};

use crate::lab::Lab;

/// Loads pairs of texts and prints the names of those that differ in a value or a type.
const COMPARE: &str = r#"
import json, sys, yaml
def typed(value):
    if isinstance(value, dict):
        return {repr(key): typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return repr(value)
for name, one, other in json.load(open(sys.argv[1])):
    if typed(yaml.safe_load(one)) != typed(yaml.safe_load(other)):
        print(name)
print("compared")
"#;

/// The names of the pairs that PyYAML loads differently.
async fn differing_pairs(lab: &Lab, pairs: &[(String, String, String)]) -> Vec<String> {
    let input = lab.put("pairs.json", &serde_json::to_string(pairs).expect("JSON"));
    let python = lab.massgen().with_file_name("python");
    let mut command = tokio::process::Command::new(python);
    command.args(["-c", COMPARE]).arg(input).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.expect("python");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let mut names: Vec<String> = printed.lines().map(str::to_owned).collect();
    let end = names.pop();
    assert_eq!(end.as_deref(), Some("compared"), "{}", String::from_utf8_lossy(&output.stderr));
    names
}

fn examples(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            examples(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "yaml") {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn every_massgen_example_keeps_its_values_when_rewritten() {
    let lab = Lab::real().await;
    let mut found = Vec::new();
    examples(&program::package(lab.massgen()).expect("package").join("configs"), &mut found);
    assert!(found.len() > 200, "{} examples", found.len());
    let mut pairs = Vec::new();
    for path in found {
        let original = std::fs::read_to_string(&path).expect("text");
        let written = Tree::parse(&original).and_then(|tree| tree.to_yaml());
        let written = written.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        pairs.push((path.display().to_string(), original, written));
    }
    assert_eq!(differing_pairs(&lab, &pairs).await, Vec::<String>::new());
}

const ODD_VALUES: &str = "b: &b {t: yes, n: 0755, m: 1:30, d: 2025-01-01, f: 1e5, g: 1.0e+5, x: 0x1F, u: 1_000, e: , s: '', z: ~}\n\
    yes: 1\n2025: x\n\"on\": off\nl: [&s a b, *s, {<<: *b, t: No}, {<<: [{q: 1}, *b], q: 2}]\nv: !!str 12\nw: !!float 3\n\
    folded: >-\n  a\n  b\n\n  c\nkept: |+\n  a\n   b\n\n\nmany\n  words : x\nquoted: \"\\u2028\\x85\\t\\\\ \\\" \\e\"\nlong: a\n  b\n\n  c # d\n";

#[tokio::test]
async fn odd_values_keep_their_yaml_1_1_meaning() {
    let lab = Lab::real().await;
    let odd = ODD_VALUES.replace("many\n  words : x\n", "");
    let mut pairs = Vec::new();
    let written = Tree::parse(&odd).and_then(|tree| tree.to_yaml()).expect("written");
    pairs.push(("odd".to_owned(), odd, written));
    let values = json!({
        "yes": ["yes", "NO", "on", "~", "null", "0755", "1:30", "1e5", "2025-01-01", "<<", "=", "", " a ", "- a", "# a"],
        "numbers": [0, -1, 12, 0.5, 1e5, 1e22, 1e-7, 123_456_789_012_345_678_u64, -2.5e-10],
        "texts": ["a\nb\n", "\u{85}\u{2028}\u{feff}\u{7f}\u{0}", "ż🦀", "\"q\" \\", "a: b", "{x}", "${VAR}", "\t"],
        "null": null, "1": true, "<<": {"a": 1}, "empty": [{}, []],
    });
    let written = Tree::from_json(&values).and_then(|tree| tree.to_yaml()).expect("written");
    // Python's json reads the original in the same process.
    pairs.push(("values".to_owned(), as_yaml(&values), written));
    assert_eq!(differing_pairs(&lab, &pairs).await, Vec::<String>::new());
}

/// JSON as YAML 1.1 in which a tag fixes the type of every number.
fn as_yaml(value: &Value) -> String {
    match value {
        Value::Number(number) if number.is_f64() => format!("!!float \"{number}\""),
        Value::Number(number) => format!("!!int \"{number}\""),
        Value::Array(items) => format!("[{}]", items.iter().map(as_yaml).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| format!("{}: {}", as_yaml(&json!(key)), as_yaml(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => {
            let escaped =
                |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("\\U{:08x}", u32::from(c)) };
            format!("\"{}\"", text.chars().map(escaped).collect::<String>())
        }
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// Prints the file to which MassGen's own resolver resolves each name.
const RESOLVE: &str = r#"
import json, sys
from massgen.cli.config_loading import resolve_config_path
def resolved(name):
    try:
        return str(resolve_config_path("@examples/" + name))
    except Exception:
        return None
names = json.load(open(sys.argv[1]))
print("\n" + json.dumps({name: resolved(name) for name in names}))
"#;

/// The files to which MassGen resolves the names of examples.
async fn resolved_by_massgen(lab: &Lab, names: &BTreeSet<String>) -> BTreeMap<String, Option<PathBuf>> {
    let input = lab.put("names.json", &serde_json::to_string(names).expect("JSON"));
    let mut command = tokio::process::Command::new(lab.massgen().with_file_name("python"));
    lab.surroundings(&mut command);
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").args(["-c", RESOLVE]).arg(input);
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.expect("python");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    let answer = printed.lines().last().map(serde_json::from_str);
    answer.and_then(Result::ok).unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

/// The accepted forms of an example's name: file name, stem, parts of the path, and the output of `--list-examples`.
fn name_forms(inside: &Path) -> Vec<String> {
    let path = inside.to_str().expect("UTF-8");
    let bare = path.strip_suffix(".yaml").expect("YAML");
    let parts = inside.iter().map(|part| part.to_str().expect("UTF-8").to_owned());
    let stem = inside.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8").to_owned();
    let whole = [path.to_owned(), bare.to_owned(), format!("configs/{path}"), bare.replace('/', "_"), stem];
    parts.chain(whole).collect()
}

#[tokio::test]
async fn an_example_name_resolves_to_the_same_file_as_in_massgen() {
    let lab = Lab::real().await;
    let package = program::package(lab.massgen()).expect("package");
    let (root, project) = (package.join("configs"), lab.project());
    let mut found = Vec::new();
    examples(&root, &mut found);
    let inside = |path: &PathBuf| path.strip_prefix(&root).expect("inside").to_owned();
    let mut names: BTreeSet<String> = found.iter().flat_map(|path| name_forms(&inside(path))).collect();
    names.extend(
        ["configs/meta/massgen_runs_massgen.yaml", "massgen", "gpt", "three", "basic_multi"].map(str::to_owned),
    );
    let sources = ConfigPlaces { project: Some(&project), home: None, package: Some(&package) };
    let ours = |name: &str| match configs::resolve(Some(&format!("@examples/{name}")), sources) {
        Ok(ConfigChoice::File(path)) => Some(path),
        Ok(ConfigChoice::Rehearsal(_)) | Err(_) => None,
    };
    let resolved = resolved_by_massgen(&lab, &names).await;
    assert!(resolved.values().flatten().count() > 5 * 200, "{}", resolved.len());
    for (name, file) in resolved.iter().filter(|(_, file)| file.is_some()) {
        assert_eq!(ours(name).as_ref(), file.as_ref(), "@examples/{name}");
    }
    assert!(resolved["configs/meta/massgen_runs_massgen.yaml"].is_some(), "the automation guide's own command");
    for path in found {
        let printed = name_forms(&inside(&path)).into_iter().rev().nth(1).expect("printed");
        assert_eq!(resolved[&printed], None, "MassGen does not find what it prints");
        assert_eq!(ours(&printed), Some(path), "@examples/{printed}");
    }
    let client = lab.client().await;
    let (_, refusal) =
        client.ask("run_massgen", json!({"question": "q", "config": "@examples/basic_multi_agents"})).await;
    assert_eq!(refusal["code"], "config_missing");
    let suggested = refusal["hint"].as_str().and_then(|hint| hint.split('?').next()).unwrap_or_default();
    assert_eq!(suggested.matches("@examples/").count(), 3, "{refusal}");
    client.close().await;
}

#[tokio::test]
async fn all_examples_are_listed_and_one_is_valid() {
    let lab = Lab::real().await;
    let package = program::package(lab.massgen()).expect("package");
    let project = lab.project();
    let sources = ConfigPlaces { project: Some(&project), home: None, package: Some(&package) };
    let known = ConfigFacts { has_variable: &|_| false, refusal_reason: &|_| None, extra_configs: Vec::new() };
    let listed = configs::list_configs(sources, "", (0, 1000), known);
    assert!(listed.total > 200, "{}", listed.total);
    for config in &listed.configs {
        let unread = config.problem.as_deref().filter(|problem| problem.contains("YAML"));
        assert_eq!(unread, None, "{}", config.name);
        assert_eq!(configs::resolve(Some(&config.name), sources).expect("found"), config.choice, "{}", config.name);
    }
    let one = listed.configs.iter().find(|config| config.name == "@examples/three_agents_default").expect("listed");
    let cache = lab.state().join("validated");
    let version = program::version(lab.massgen());
    let ConfigChoice::File(config) = &one.choice else { panic!("a file") };
    let ask = || {
        let question = ValidationRequest {
            program: lab.massgen(),
            version: version.as_deref(),
            config,
            folder: &project,
            cache: &cache,
        };
        configs::validate(question, std::future::ready(None))
    };
    let verdict = ask().await.expect("an answer");
    assert!(verdict.is_valid(), "{verdict:?}");
    assert_eq!(ask().await.expect("kept"), verdict);
    assert_eq!(one.needs.problems(|_| false)[0].message, "GOOGLE_API_KEY or GEMINI_API_KEY is not set");
}
