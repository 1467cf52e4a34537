//! Properties of any input, tested on many: readers of MassGen's files never panic and stay within their bounds, pages put together
//! are the whole, an edited config differs only in the requested changes, and every call is answered.

use std::cell::Cell;
use std::path::Path;

use massgen_mcp::massgen::configs::{self, ConfigChanges};
use massgen_mcp::massgen::pages::{self, hex};
use massgen_mcp::massgen::{status, text};
use massgen_mcp::secrets::Secrets;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::lab::Lab;

/// The inputs are the same in every run, so a failure repeats and no file records it.
fn cases(number: u32) -> TestRunner {
    let config = Config { cases: number, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

fn samples() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/status");
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("samples").flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let samples = paths.iter().map(|path| std::fs::read(path).expect("sample"));
    // The largest samples only repeat themselves.
    samples.filter(|sample| sample.len() < 20_000).collect()
}

fn sample() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(samples())
}

/// Any JSON, with some words and numbers that the readers look for.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["answered", "agent1.1", "../../etc", "", "\u{1b}[31m", "NaN"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec(("[a-z_]{0,8}", inner), 0..4).prop_map(|pairs| Value::Object(Map::from_iter(pairs))),
        ]
    })
}

/// The JSON pointers of all values.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, inner)| pointers(inner, &format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(place, inner)| pointers(inner, &format!("{at}/{place}"), found));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn a_status_that_was_cut_or_mutated_never_panics() {
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    cases(1500)
        .run(&(sample(), any::<prop::sample::Index>(), damage), |(mut bytes, end, damage)| {
            bytes.truncate(end.index(bytes.len() + 1));
            for (place, byte) in damage {
                if !bytes.is_empty() {
                    let place = place.index(bytes.len());
                    bytes[place] = byte;
                }
            }
            let object = serde_json::from_slice::<Map<String, Value>>(&bytes).is_ok();
            prop_assert!(status::digest(&bytes).is_ok() || !object, "an object that is not read");
            Ok(())
        })
        .expect("holds");
}

#[test]
fn a_status_with_values_of_other_types_is_read() {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any_json()), 1..5);
    let whole = samples().into_iter().filter(|sample| serde_json::from_slice::<Value>(sample).is_ok());
    let whole: Vec<Vec<u8>> = whole.collect();
    assert!(whole.len() > 5, "{} samples", whole.len());
    cases(800)
        .run(&(prop::sample::select(whole), changes), |(bytes, changes)| {
            let mut status: Value = serde_json::from_slice(&bytes).expect("JSON");
            for (place, value) in changes {
                let mut places = Vec::new();
                pointers(&status, "", &mut places);
                let place = place.get(&places);
                if let Some(slot) = status.pointer_mut(place).filter(|_| !place.is_empty()) {
                    *slot = value;
                }
            }
            let digest = status::digest(status.to_string().as_bytes()).expect("a JSON object gives a digest");
            prop_assert!(digest.agents.len() <= 64);
            prop_assert!(digest.cost_usd.is_none_or(|cost| cost.is_finite() && cost > 0.0));
            prop_assert!(digest.agents.iter().all(|agent| agent.id.chars().count() <= 64));
            Ok(())
        })
        .expect("holds");
}

#[test]
fn any_json_object_gives_a_digest_and_nothing_else_does() {
    cases(1500)
        .run(&any_json(), |value| {
            prop_assert_eq!(status::digest(value.to_string().as_bytes()).is_ok(), value.is_object());
            Ok(())
        })
        .expect("holds");
}

/// Harmful at every place.
const HARMFUL: [char; 8] =
    ['\u{200b}', '\u{200e}', '\u{202e}', '\u{2060}', '\u{2066}', '\u{ad}', '\u{e0041}', '\u{fff9}'];
/// Harmful or not, depending on the characters before them.
const JOINERS: [char; 4] = ['\u{200c}', '\u{200d}', '\u{fe0f}', '\u{e0100}'];

#[test]
fn pages_put_together_are_the_lossy_text_with_harmful_characters_replaced() {
    let telling: Vec<char> =
        HARMFUL.into_iter().chain(JOINERS).chain("aé\r\n\r\t\u{1b}\u{feff}\u{7f}\u{9b}".chars()).collect();
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600),
        "\\PC{0,200}".prop_map(String::into_bytes),
        prop::collection::vec(prop::sample::select(telling), 0..200)
            .prop_map(|characters| String::from_iter(characters).into_bytes()),
        // Characters of one to four bytes, cut anywhere.
        prop::collection::vec(
            prop::sample::select(vec![0x7f_u8, 0xc5, 0xbc, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0xa6, 0x80]),
            0..300
        ),
    ];
    cases(400)
        .run(&(bytes, 1..90_u64), |(bytes, limit)| {
            let (mut text, mut offset) = (String::new(), 0);
            let hash = hex(&Sha256::digest(&bytes));
            loop {
                let page = pages::read_page(bytes.as_slice(), offset, limit, &Secrets::default())
                    .expect("a slice is always read");
                prop_assert_eq!(&page.sha256, &hash);
                prop_assert!(page.text.chars().count() as u64 <= limit);
                text.push_str(&page.text);
                match page.next_offset {
                    Some(next) => {
                        prop_assert!(next > offset, "a page goes on");
                        offset = next;
                    }
                    None => break,
                }
            }
            let plain = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(text.chars().count(), plain.chars().count());
            let mut next = plain.chars().skip(1);
            for (place, (shown, c)) in text.chars().zip(plain.chars()).enumerate() {
                let harmful = match c {
                    '\n' | '\t' => false,
                    '\r' => next.clone().next() != Some('\n'),
                    c => c.is_control() || HARMFUL.contains(&c),
                };
                // Joiners may be replaced or kept, depending on the characters before them.
                let either = !c.is_ascii() && shown == text::replacement_char(c);
                let good = if harmful { shown == text::replacement_char(c) } else { shown == c || either };
                prop_assert!(good, "{:?} at {} is shown as {:?}", c, place, shown);
                next.next();
            }
            Ok(())
        })
        .expect("holds");
}

#[test]
fn texts_are_bounded_and_harmless() {
    let piece = prop_oneof![
        "\\PC{0,8}",
        "[\\x00-\\x1f\\x7f-\\x9f]{1,3}",
        "\u{1b}[\\[\\]PX^_()#][0-9;]{0,4}[a-zA-Z]?",
        "[\u{202a}-\u{202e}\u{2066}-\u{2069}\u{200b}-\u{200d}\u{fe0f}\u{e0041}\u{ad}❤é]{1,3}"
    ];
    let text = prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat());
    cases(1500)
        .run(&(text, 0..40_usize), |(original, most)| {
            let cleaned = text::remove_harmful(&original);
            prop_assert!(!cleaned.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{:?}", cleaned);
            prop_assert!(!cleaned.contains(HARMFUL), "{:?}", cleaned);
            let harmless = text::replace_harmful(&original);
            prop_assert!(
                !harmless.chars().any(|c| c.is_control() && c != '\n' && c != '\t') && !harmless.contains(HARMFUL)
            );
            prop_assert_eq!(text::replace_harmful(&harmless), harmless.clone(), "harmless stays as it is");
            prop_assert_eq!(harmless.chars().count(), original.chars().count());
            prop_assert_eq!(text::remove_harmful(&cleaned), cleaned.clone(), "clean is clean");
            let line = text::single_line(&original, most);
            prop_assert!(line.chars().count() <= most.max(1) && !line.contains(['\n', '\t']), "{:?}", line);
            let cut = text::truncate(&original, most);
            prop_assert!(cut.chars().count() <= most.max(1), "{:?}", cut);
            prop_assert!(original.chars().count() > most || cut == original);
            Ok(())
        })
        .expect("holds");
}

const CONFIG: &str = "# two agents\norchestrator:\n  context_paths: [{path: docs}, {path: ./docs}]\nagents:\n  - id: a\n    \
    backend: &b\n      type: x\n      model: 'm'\n      mcp_servers:\n        - {command: python, args: [server.py, \"./docs\", -u]}\n  \
    - id: ż\n    backend:\n      <<: *b\n      system_file: |\n        docs/a.md\nui: {display: yes, port: 0755}\n";

/// Every scalar and key of a YAML text in order, read by the parser and not by the code under test.
fn scalars(yaml: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for event in saphyr_parser::Parser::new_from_str(yaml) {
        let (event, _) = event.ok()?;
        if matches!(event, saphyr_parser::Event::DocumentEnd) {
            break;
        }
        if let saphyr_parser::Event::Scalar(text, ..) = event {
            found.push(text.into_owned());
        }
    }
    Some(found)
}

#[test]
fn an_edited_config_differs_only_in_the_requested_changes() {
    let project = tempfile::tempdir().expect("temp");
    std::fs::create_dir(project.path().join("docs")).expect("made");
    std::fs::write(project.path().join("docs/a.md"), "").expect("write");
    std::fs::write(project.path().join("server.py"), "").expect("write");
    let bits = prop::sample::select(vec![
        "", " ", "\n", "  ", ":", ": ", "- ", "{", "}", "[", "]", ",", "'", "\"", "|", ">", "#", "&b ", "*b", "---\n",
        "...\n", "ż", "\t", "./docs", "? ", "!!str ", "\u{feff}", "\r\n",
    ]);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, bits), 0..4);
    let prompt = prop::option::of("\\PC{0,20}");
    // Many of these configs cannot be edited; the property must not hold for lack of others.
    let (edited_count, changed_count) = (Cell::new(0), Cell::new(0));
    cases(1500)
        .run(&(changes, prompt, any::<bool>()), |(changes, prompt, moved)| {
            let mut chars: Vec<char> = CONFIG.chars().collect();
            for (place, removed, added) in changes {
                let from = place.index(chars.len());
                let to = (from + removed).min(chars.len());
                chars.splice(from..to, added.chars());
            }
            let original: String = chars.into_iter().collect();
            let project = moved.then(|| project.path());
            let changes = ConfigChanges { project, prompt: prompt.as_deref(), ..ConfigChanges::default() };
            let Ok(edited) = configs::effective_config(Path::new("c.yaml"), &original, changes) else {
                return Ok(());
            };
            // A config that this program cannot read gets its prompt, and MassGen refuses it.
            if edited.tree.is_none() {
                return Ok(());
            }
            let edited = edited.text;
            // The same for a config that the parser cannot read.
            let Some(before) = scalars(&original) else { return Ok(()) };
            let Some(after) = scalars(&edited) else {
                return Err(TestCaseError::fail(format!("{edited:?} of {original:?} is no YAML")));
            };
            edited_count.set(edited_count.get() + 1);
            changed_count.set(changed_count.get() + usize::from(before != after));
            only_the_touched_differ(&before, &after, project, prompt.as_deref())
        })
        .expect("holds");
    let counts = (edited_count.get(), changed_count.get());
    assert!(counts.0 > 500 && counts.1 > 250, "{counts:?} of 1500 configs were edited and changed");
}

/// A scalar is unchanged or the same path made absolute; only `prompt` and its value are added.
fn only_the_touched_differ(
    before: &[String],
    after: &[String],
    project: Option<&Path>,
    prompt: Option<&str>,
) -> Result<(), TestCaseError> {
    let mut after = after.to_vec();
    if let Some(prompt) = prompt {
        let at = after.windows(2).position(|pair| pair[0] == "prompt" && pair[1] == prompt);
        let at = at.ok_or_else(|| TestCaseError::fail(format!("no prompt in {after:?}")))?;
        after.drain(at..at + 2);
    }
    prop_assert_eq!(before.len(), after.len());
    for (old, new) in before.iter().zip(&after) {
        let absolute = project.map(|project| project.join(old).to_string_lossy().into_owned());
        prop_assert!(old == new || absolute.as_ref() == Some(new), "{} became {}", old, new);
    }
    Ok(())
}

/// Values for the arguments of tools, of the right type or of any type; none makes a call wait long.
fn argument() -> impl Strategy<Value = Value> {
    let words = [
        "answer",
        "file:../x",
        "agent:",
        "mg-00000000",
        "mg-",
        "change",
        "all_done",
        "any_done",
        "quick",
        "read",
        "full",
        "nope.yaml",
        "@examples/x",
        "@rehearsal/x",
        "~/x",
        "/",
        "\0",
        "",
        " ",
        "a-b",
    ];
    let numbers = [-1.0, 0.0, 0.001, 0.5, 1e15, 1e300, -0.0, 51.0];
    prop_oneof![
        3 => prop::sample::select(words.to_vec()).prop_map(Value::from),
        2 => prop::sample::select(numbers.to_vec()).prop_map(Value::from),
        1 => prop::sample::select(vec![json!(0), json!(u64::MAX), json!(i64::MIN), json!(1)]),
        1 => prop::collection::vec(prop::sample::select(words.to_vec()), 0..3).prop_map(|words| json!(words)),
        2 => any_json().prop_filter("no wait", |value| value.as_f64().is_none_or(|wait| wait.abs() > 60.0)),
    ]
}

#[tokio::test]
async fn every_call_with_any_arguments_is_answered() {
    const FIELDS: [&str; 20] = [
        "question",
        "question_file",
        "config",
        "group",
        "timeout_s",
        "mode",
        "context",
        "wait_s",
        "run_id",
        "run_ids",
        "until",
        "since",
        "detail",
        "part",
        "offset",
        "limit",
        "grace_s",
        "reason",
        "tree",
        "nonsense",
    ];
    let lab = Lab::scripted("exit 0");
    let client = lab.client().await;
    let call = (
        prop::sample::select(vec!["run_massgen", "check_status", "read_result", "kill_run"]),
        prop::collection::vec((prop::sample::select(FIELDS.to_vec()), argument()), 0..5),
    );
    let mut runner = cases(1);
    let mut accepted = 0;
    for _ in 0..600 {
        let (tool, fields) = call.new_tree(&mut runner).expect("made").current();
        let arguments: Map<String, Value> = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        // `ask` panics if there is no answer, or if the answer does not fit the schema.
        let (refused, answer) = client.ask(tool, Value::Object(arguments.clone())).await;
        assert!(answer["code"] != "internal_error", "{tool} {arguments:?}: {answer}");
        assert!(refused || answer.is_object(), "{tool} {arguments:?}: {answer}");
        accepted += usize::from(!refused);
    }
    assert!((20..580).contains(&accepted), "{accepted} of 600 calls were accepted");
    client.close().await;
    lab.nobody_is_left().await;
}
