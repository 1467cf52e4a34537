//! Overrides as a JSON merge patch whose `agents` may be an object by id: which keys they set, how deep they are nested, and which of their
//! keys MassGen would ignore. Pure.

use serde_json::{Map, Value};

use super::keys::{AGENT, BACKEND, COORDINATION, ORCHESTRATOR, TIMEOUTS, TOP};
use super::tree::{Node, Tree};
use crate::massgen::{names, text};

/// The deepest nesting of overrides; the config that they are merged into adds further levels.
pub const MAX_DEPTH: usize = 60;
/// The most keys to list.
const MAX_LISTED_KEYS: usize = 20;
/// The longest key that is listed, in characters.
const MAX_KEY_CHARS: usize = 120;
/// How similar an unknown backend parameter must be to a known one to count as a typing error: providers have their own parameters.
const TYPO_SIMILARITY: f64 = 0.95;

/// A key that MassGen does not know at this place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The full path of the key.
    pub key: String,
    /// The full path of the known key that was probably meant.
    pub near: String,
}

/// Whether overrides are nested too deep for a config.
pub fn is_too_deep(overrides: &Value) -> bool {
    fn within(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left > 0 && items.iter().all(|item| within(item, left - 1)),
            Value::Object(fields) => left > 0 && fields.values().all(|field| within(field, left - 1)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
        }
    }
    !within(overrides, MAX_DEPTH)
}

/// The keys that overrides set or delete, such as `agents.agent_a.backend.cwd`, at most twenty.
pub fn changed_keys(overrides: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect_keys(overrides, "", &mut found);
    found
}

/// The `orchestrator` folders that MassGen requires as soon as an agent has a `cwd`, as far as a config lacks them. They are in the run's
/// own folder.
pub(super) fn missing_folders(config: &Tree) -> Map<String, Value> {
    let orchestrator = config.root.get("orchestrator");
    let folders = [("snapshot_storage", "snapshots"), ("agent_temporary_workspace", "temp")];
    let missing = folders.into_iter().filter(|(key, _)| orchestrator.is_none_or(|node| node.get(key).is_none()));
    missing.map(|(key, name)| (key.to_owned(), name.into())).collect()
}

/// Adds the folders that MassGen requires to the overrides, if these give an agent of a config a `cwd`.
pub fn with_folders(overrides: &Value, config: &Tree) -> Value {
    let mut patch = overrides.clone();
    let Some(fields) = patch.as_object_mut() else { return patch };
    if !agent_patches(fields, Some(&config.root)).iter().any(|(_, agent, _)| gives_cwd(agent)) {
        return patch;
    }
    let missing = missing_folders(config);
    if missing.is_empty() {
        return patch;
    }
    if let Value::Object(orchestrator) = fields.entry("orchestrator").or_insert_with(|| Value::Object(Map::new())) {
        missing.into_iter().for_each(|(key, name)| {
            orchestrator.entry(key).or_insert(name);
        });
    }
    patch
}

fn gives_cwd(agent: &Value) -> bool {
    agent.pointer("/backend/cwd").is_some_and(|cwd| !cwd.is_null())
}

fn collect_keys(value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(fields) = value.as_object() else {
        if found.len() < MAX_LISTED_KEYS && !path.is_empty() {
            found.push(text::single_line(path, MAX_KEY_CHARS));
        }
        return;
    };
    for (key, child) in fields {
        collect_keys(child, &join_key(path, key), found);
    }
}

fn join_key(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The first key in overrides that MassGen would ignore and that resembles a known key. Keys already in the config are skipped, because its
/// author knows them. A key that resembles no known key may be valid in another MassGen version.
pub fn unknown_key(overrides: &Value, config: Option<&Tree>) -> Option<UnknownKey> {
    let root = config.map(|config| &config.root);
    let fields = overrides.as_object()?;
    let in_root = unknown_key_in_section(fields, root, "", &TOP);
    let section_of = |keys: &[&str]| {
        let existing = keys.iter().try_fold(root?, |node, key| node.get(key));
        Some(existing).flatten()
    };
    let section = |pointer: &str| overrides.pointer(pointer).and_then(Value::as_object);
    let in_section = |pointer: &str, keys: &[&str], known: &[&str]| {
        section(pointer).and_then(|fields| unknown_key_in_section(fields, section_of(keys), &keys.join("."), known))
    };
    in_root
        .or_else(|| in_section("/orchestrator", &["orchestrator"], &ORCHESTRATOR))
        .or_else(|| in_section("/orchestrator/coordination", &["orchestrator", "coordination"], &COORDINATION))
        .or_else(|| in_section("/timeout_settings", &["timeout_settings"], &TIMEOUTS))
        .or_else(|| {
            agent_patches(fields, root)
                .into_iter()
                .find_map(|(path, agent, existing_agent)| unknown_key_in_agent(agent, existing_agent, &path))
        })
}

/// The keys that overrides set and that MassGen does not read at their place. Keys of a backend are not among them: MassGen passes
/// them to the provider. Another MassGen version may read them.
pub(super) fn ignored_keys(overrides: &Value) -> Vec<String> {
    let Some(fields) = overrides.as_object() else { return Vec::new() };
    let section = |pointer: &str| overrides.pointer(pointer).and_then(Value::as_object);
    let agents = agent_patches(fields, None);
    let sections = [
        (String::new(), Some(fields), &TOP[..]),
        ("orchestrator".to_owned(), section("/orchestrator"), &ORCHESTRATOR),
        ("orchestrator.coordination".to_owned(), section("/orchestrator/coordination"), &COORDINATION),
        ("timeout_settings".to_owned(), section("/timeout_settings"), &TIMEOUTS),
    ];
    let of_agents = agents.into_iter().map(|(place, agent, _)| (place, agent.as_object(), &AGENT[..]));
    let ignored = sections.into_iter().chain(of_agents).flat_map(|(place, fields, known)| {
        let set = fields.into_iter().flatten().filter(|(_, value)| !value.is_null());
        set.filter(|(key, _)| !known.contains(&key.as_str())).map(move |(key, _)| join_key(&place, key))
    });
    ignored.take(MAX_LISTED_KEYS).map(|key| text::single_line(&key, MAX_KEY_CHARS)).collect()
}

/// The agents in the overrides, with their places and the matching parts of the config.
fn agent_patches<'a>(
    fields: &'a Map<String, Value>,
    root: Option<&'a Node>,
) -> Vec<(String, &'a Value, Option<&'a Node>)> {
    let single = fields.get("agent").map(|agent| ("agent".to_owned(), agent, root.and_then(|root| root.get("agent"))));
    let several: Vec<_> = match fields.get("agents") {
        Some(Value::Object(by_id)) => {
            let existing = |id: &str| root.and_then(|root| super::tree::find_agent(root, id));
            by_id.iter().map(|(id, agent)| (format!("agents.{id}"), agent, existing(id))).collect()
        }
        Some(Value::Array(list)) => {
            list.iter().enumerate().map(|(index, agent)| (format!("agents[{index}]"), agent, None)).collect()
        }
        Some(_) | None => Vec::new(),
    };
    single.into_iter().chain(several).collect()
}

fn unknown_key_in_agent(agent: &Value, existing: Option<&Node>, path: &str) -> Option<UnknownKey> {
    let fields = agent.as_object()?;
    unknown_key_in_section(fields, existing, path, &AGENT).or_else(|| {
        let backend = fields.get("backend")?.as_object()?;
        let existing = existing.and_then(|existing| existing.get("backend"));
        let key = backend.keys().find_map(|key| {
            let is_known =
                BACKEND.contains(&key.as_str()) || existing.is_some_and(|existing| existing.get(key).is_some());
            let typo = || {
                names::nearest(key, BACKEND).filter(|suggestion| names::similarity(key, suggestion) >= TYPO_SIMILARITY)
            };
            let suggestion =
                nested_form(key).or_else(|| typo().map(|suggestion| format!("{path}.backend.{suggestion}")));
            suggestion.filter(|_| !is_known).map(|suggestion| (key, suggestion))
        });
        key.map(|(key, suggestion)| new_unknown_key(&format!("{path}.backend"), key, &suggestion))
    })
}

fn unknown_key_in_section(
    fields: &Map<String, Value>,
    existing: Option<&Node>,
    path: &str,
    known: &[&str],
) -> Option<UnknownKey> {
    fields.iter().find_map(|(key, _)| {
        let is_known = known.contains(&key.as_str()) || existing.is_some_and(|existing| existing.get(key).is_some());
        if is_known {
            return None;
        }
        let suggestion = nested_form(key).or_else(|| known_location(key));
        let suggestion = suggestion
            .or_else(|| names::nearest(key, known.iter().copied()).map(|suggestion| join_key(path, suggestion)))?;
        Some(new_unknown_key(path, key, &suggestion))
    })
}

/// The merge patch form of a path written as one key (`orchestrator.timeout`, `agents[0].id`). MassGen would ignore such a key.
fn nested_form(key: &str) -> Option<String> {
    let parts: Vec<&str> = key.split(['.', '[', ']']).filter(|part| !part.is_empty()).collect();
    (parts.len() > 1).then(|| {
        let part =
            |part: &&str| if part.bytes().all(|byte| byte.is_ascii_digit()) { "AGENT_ID" } else { *part }.to_owned();
        let opening: String = parts.iter().map(|name| format!("{{\"{}\": ", part(name))).collect();
        format!("{opening}...{}", "}".repeat(parts.len()))
    })
}

fn new_unknown_key(path: &str, key: &str, suggestion: &str) -> UnknownKey {
    UnknownKey {
        key: text::single_line(&join_key(path, key), MAX_KEY_CHARS),
        near: text::single_line(suggestion, MAX_KEY_CHARS),
    }
}

/// The place of a known key with exactly this name.
fn known_location(key: &str) -> Option<String> {
    let sections = [
        ("", &TOP[..]),
        ("orchestrator", &ORCHESTRATOR),
        ("orchestrator.coordination", &COORDINATION),
        ("timeout_settings", &TIMEOUTS),
        ("agents.ID", &AGENT),
        ("agents.ID.backend", &BACKEND),
    ];
    sections.into_iter().find(|(_, known)| known.contains(&key)).map(|(path, _)| join_key(path, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_with_a_new_cwd_gets_the_required_folders() {
        let completed = |config: &str, overrides: Value| with_folders(&overrides, &Tree::parse(config).expect("YAML"));
        let cwd = |id: &str| serde_json::json!({"agents": {id: {"backend": {"cwd": "ws"}}}});
        let folders = serde_json::json!({"snapshot_storage": "snapshots", "agent_temporary_workspace": "temp"});
        let plain = "agents: [{id: a, backend: {type: vllm}}]";
        assert_eq!(completed(plain, cwd("a"))["orchestrator"], folders);
        let list = serde_json::json!({"agents": [{"id": "b", "backend": {"type": "vllm", "cwd": "ws"}}]});
        assert_eq!(completed(plain, list)["orchestrator"], folders);
        let single =
            serde_json::json!({"agent": {"backend": {"cwd": "ws"}}, "orchestrator": {"snapshot_storage": "s"}});
        let full = completed("agent: {id: a, backend: {type: vllm}}", single);
        assert_eq!(
            (&full["orchestrator"]["snapshot_storage"], &full["orchestrator"]["agent_temporary_workspace"]),
            (&"s".into(), &"temp".into())
        );
        let with_folders = format!("{plain}\norchestrator: {{snapshot_storage: s, agent_temporary_workspace: t}}");
        assert_eq!(completed(&with_folders, cwd("a")), cwd("a"));
        for other in [serde_json::json!({"agents": {"a": {"backend": {"cwd": null}}}}), serde_json::json!({"ui": {}})] {
            assert_eq!(completed(plain, other.clone()), other);
        }
    }

    use serde_json::json;

    fn near(overrides: Value) -> Option<String> {
        let config = "agents: [{id: a, backend: {type: openai, custom: 1}}]\nown_key: 1\n";
        unknown_key(&overrides, Some(&Tree::parse(config).expect("YAML")))
            .map(|found| format!("{} {}", found.key, found.near))
    }

    #[test]
    fn a_path_as_one_key_is_refused_with_its_nested_form() {
        for (key, nested) in [
            ("orchestrator.max_new_answers_per_agent", r#"{"orchestrator": {"max_new_answers_per_agent": ...}}"#),
            ("agents.a.backend.model", r#"{"agents": {"a": {"backend": {"model": ...}}}}"#),
            ("agents[0].backend.model", r#"{"agents": {"AGENT_ID": {"backend": {"model": ...}}}}"#),
        ] {
            assert_eq!(near(json!({key: 1})), Some(format!("{key} {nested}")));
        }
        let inside = near(json!({"agents": {"a": {"backend": {"mcp_servers.x": 1}}}}));
        assert_eq!(inside.as_deref(), Some(r#"agents.a.backend.mcp_servers.x {"mcp_servers": {"x": ...}}"#));
        assert_eq!(
            changed_keys(&json!({"agents": {"a": {}}, "ui": {"x": 1}})),
            ["ui.x"],
            "an empty object changes nothing"
        );
    }

    #[test]
    fn an_unknown_key_is_reported_with_a_suggestion() {
        for (overrides, expected) in [
            (json!({"orchestrater": {}}), "orchestrater orchestrator"),
            (
                json!({"max_new_answers_per_agent": 1}),
                "max_new_answers_per_agent orchestrator.max_new_answers_per_agent",
            ),
            (
                json!({"orchestrator": {"max_new_answer_per_agent": 1}}),
                "orchestrator.max_new_answer_per_agent orchestrator.max_new_answers_per_agent",
            ),
            (
                json!({"orchestrator": {"enable_planning_mode": true}}),
                "orchestrator.enable_planning_mode orchestrator.coordination.enable_planning_mode",
            ),
            (
                json!({"timeout_settings": {"orchestrator_timeout": 9}}),
                "timeout_settings.orchestrator_timeout timeout_settings.orchestrator_timeout_seconds",
            ),
            (json!({"agents": {"a": {"model": "x"}}}), "agents.a.model agents.ID.backend.model"),
            (
                json!({"agents": {"a": {"backend": {"temprature": 1}}}}),
                "agents.a.backend.temprature agents.a.backend.temperature",
            ),
            (json!({"agents": [{"backend": {"modle": "x"}}]}), "agents[0].backend.modle agents[0].backend.model"),
            (json!({"agent": {"bakend": {}}}), "agent.bakend agent.backend"),
        ] {
            assert_eq!(near(overrides.clone()).as_deref(), Some(expected), "{overrides}");
        }
        for accepted in [
            json!({"own_key": 2, "something_new": {"x": 1}, "ui": {"anything": true}}),
            json!({"orchestrator": {"voting_sensitivity": "strict", "coordination": {"broadcast": false}}}),
            json!({"agents": {"a": {"system_message": "x", "backend": {"custom": 2, "top_a": 1, "max_output_tokens": 9}}}}),
        ] {
            assert_eq!(near(accepted.clone()), None, "{accepted}");
        }
    }

    #[test]
    fn only_changed_keys_are_listed() {
        let overrides =
            json!({"ui": null, "orchestrator": {"a": {"b": 1}, "c": []}, "agents": {"x": {"backend": {"cwd": "w"}}}});
        assert_eq!(changed_keys(&overrides), ["ui", "orchestrator.a.b", "orchestrator.c", "agents.x.backend.cwd"]);
        let many: Map<String, Value> = (0..100).map(|n| (format!("key{n}"), json!(n))).collect();
        assert_eq!(changed_keys(&Value::Object(many)).len(), MAX_LISTED_KEYS);
        assert!(changed_keys(&json!({})).is_empty());
    }

    #[test]
    fn keys_that_massgen_does_not_read_are_listed() {
        let overrides = json!({"zzzzqq": 1, "gone": null, "ui": {"x": 1}, "orchestrator": {"qqqq": 1, "voting_sensitivity": "strict"},
                               "agents": {"a": {"xyz": 1, "backend": {"own": 2}}}});
        assert_eq!(ignored_keys(&overrides), ["zzzzqq", "orchestrator.qqqq", "agents.a.xyz"]);
        assert!(ignored_keys(&json!({"agents": [{"id": "a", "backend": {}}]})).is_empty());
    }

    #[test]
    fn the_depth_of_overrides_is_limited() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(!is_too_deep(&nested(MAX_DEPTH)) && is_too_deep(&nested(MAX_DEPTH + 1)));
    }
}
