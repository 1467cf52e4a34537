//! Changes to a tree: a JSON merge patch that addresses agents by id, and replacement of scalars anywhere. Shared parts are copied before a
//! change, so that a change affects only its target.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{EditError, MapEntry, Node, Scalar, ScalarKind, SharedNode, Tree, is_bool_word};

/// The key of a single agent, which MassGen checks first, and the key of the agent list.
const AGENT_KEY: &str = "agent";
const AGENTS_KEY: &str = "agents";

impl Tree {
    /// Applies a JSON merge patch (RFC 7386): `null` deletes a key, an object changes a mapping key by key, any other value replaces. An
    /// object under `agents` changes only the agents whose ids are its keys. A key that comes only from a merge key cannot be deleted: that
    /// is [`EditError::Ambiguous`].
    pub fn merge(&mut self, patch: &Value) -> Result<(), EditError> {
        let Value::Object(changes) = patch.clone() else { return Err(EditError::NotAMapping) };
        let has_list = !self.root.get(AGENTS_KEY).is_some_and(|agents| matches!(agents.resolved(), Node::Map(_)));
        let (by_id, plain): (Map<_, _>, Map<_, _>) =
            changes.into_iter().partition(|(key, change)| key == AGENTS_KEY && change.is_object() && has_list);
        let mut root = patched(Some(&self.root), &Value::Object(plain))?;
        for (id, change) in by_id.values().filter_map(Value::as_object).flatten() {
            patch_agent(&mut root, id, change)?;
        }
        self.root = root;
        Ok(())
    }

    /// The part of a merge patch that changes this config. It is for checks and must not be applied: agents are at their list positions,
    /// and an empty value represents each unchanged list item.
    pub fn effective_patch(&self, patch: &Value) -> Value {
        let mut changes = missing_changes(&self.root, patch);
        let agents =
            self.root.get(AGENTS_KEY).filter(|agents| matches!(agents.resolved(), Node::List(_))).map(Node::items);
        match (patch.get(AGENTS_KEY), self.root.get(AGENT_KEY), agents) {
            (Some(Value::Object(by_id)), Some(alone), _) => changes[AGENT_KEY] = agent_changes_by_id(alone, 0, by_id),
            (Some(Value::Object(by_id)), None, Some(agents)) => {
                let agent_patches =
                    agents.iter().enumerate().map(|(index, agent)| agent_changes_by_id(agent, index, by_id));
                changes[AGENTS_KEY] = agent_patches.collect();
            }
            (Some(Value::Array(new)), _, Some(agents)) => {
                changes[AGENTS_KEY] = new.iter().map(|new| agent_changes(agents, new)).collect();
            }
            (_, _, _) => {}
        }
        changes
    }

    /// Appends an item to the list under two nested keys, and keeps the existing items that the filter accepts. A value that is not a list
    /// is replaced; a shared mapping or list is copied first.
    pub(in super::super) fn append(
        &mut self,
        keys: [&str; 2],
        is_kept: impl Fn(&Node) -> bool,
        item: &Value,
    ) -> Result<(), EditError> {
        let [outer, inner] = keys;
        let list = self.root.get(outer).and_then(|node| node.get(inner));
        let mut items = list.map(|list| list.items().to_vec()).unwrap_or_default();
        items.retain(is_kept);
        items.push(Node::from_json(item));
        self.merge(&serde_json::json!({ outer: { inner: [] } }))?;
        let list = own_value_mut(&mut self.root, outer)
            .and_then(|node| own_value_mut(node, inner))
            .ok_or(EditError::Ambiguous)?;
        *list = Node::List(items);
        Ok(())
    }

    /// Replaces scalars: `change` receives the nearest key and the scalar. Returns whether there was anything to replace.
    pub(in super::super) fn rewrite_scalars(
        &mut self,
        change: &mut dyn FnMut(&str, &Scalar) -> Option<Scalar>,
    ) -> bool {
        let rewritten = Rewriter { change, known: HashMap::new() }.node("", &self.root);
        let any = rewritten.is_some();
        self.root = rewritten.unwrap_or_else(|| self.root.clone());
        any
    }
}

/// The agent with this id in a config.
pub(in super::super) fn find_agent<'a>(root: &'a Node, id: &str) -> Option<&'a Node> {
    let single = root.get(AGENT_KEY).map(std::slice::from_ref);
    let agents = single.or_else(|| root.get(AGENTS_KEY).map(Node::items)).unwrap_or_default();
    agents.iter().enumerate().find(|(index, agent)| has_id(agent, *index, id)).map(|(_, agent)| agent)
}

/// Whether an agent has this id. MassGen names an agent without an id by its position: `agent1` and so on.
fn has_id(agent: &Node, index: usize, id: &str) -> bool {
    id_of(agent, index) == id
}

fn id_of(agent: &Node, index: usize) -> String {
    let explicit_id = agent.get("id").and_then(Node::text).filter(|id| !id.is_empty());
    explicit_id.map_or_else(|| format!("agent{}", index + 1), str::to_owned)
}

fn patch_agent(root: &mut Node, id: &str, change: &Value) -> Result<(), EditError> {
    let no_such_agent = |agents: &[Node]| EditError::NoSuchAgent {
        id: id.to_owned(),
        known: agents.iter().enumerate().map(|(index, agent)| id_of(agent, index)).collect(),
    };
    if let Some(single) = own_value_mut(root, AGENT_KEY) {
        if !has_id(single, 0, id) {
            return Err(no_such_agent(std::slice::from_ref(single)));
        }
        *single = patched(Some(single), change)?;
        return Ok(());
    }
    let Some(list) = own_value_mut(root, AGENTS_KEY) else { return Err(no_such_agent(&[])) };
    let mut agents = list.items().to_vec();
    let found = agents.iter().enumerate().position(|(index, agent)| has_id(agent, index, id));
    let index = found.ok_or_else(|| no_such_agent(&agents))?;
    if change.is_null() {
        agents.remove(index);
    } else {
        agents[index] = patched(agents.get(index), change)?;
    }
    *list = Node::List(agents);
    Ok(())
}

fn agent_changes_by_id(agent: &Node, index: usize, by_id: &Map<String, Value>) -> Value {
    let change = by_id.iter().find(|(id, _)| has_id(agent, index, id));
    change.map_or_else(|| Value::Object(Map::new()), |(_, change)| missing_changes(agent, change))
}

/// The new parts of an agent that replaces the one with its id. If it loses a key, the whole agent counts as new: the key may have
/// restricted the remaining ones.
fn agent_changes(agents: &[Node], new: &Value) -> Value {
    let id = new.get("id").and_then(Value::as_str);
    let is_match = |(index, agent): &(usize, &Node)| id.is_some_and(|id| has_id(agent, *index, id));
    let before = agents.iter().enumerate().find(is_match).map(|(_, before)| before);
    before.filter(|before| !removes_key(before, new)).map_or_else(|| new.clone(), |before| missing_changes(before, new))
}

/// Whether a mapping, or a nested one, has a key that its replacement lacks.
fn removes_key(before: &Node, new: &Value) -> bool {
    let Node::Map(_) = before.resolved() else { return false };
    let lost = |key: &str| match (before.get(key), new.get(key)) {
        (Some(before), Some(new)) => removes_key(before, new),
        (_, None) => true,
        (None, Some(_)) => false,
    };
    keys(before).into_iter().any(lost)
}

/// The keys of a mapping, including merged ones.
fn keys(node: &Node) -> Vec<&str> {
    let is_own_key = |entry: &MapEntry| entry.key.kind() != ScalarKind::Merge;
    let own_keys = node.entries().iter().filter(|entry| is_own_key(entry)).map(|entry| entry.key.text.as_str());
    let merged = node
        .entries()
        .iter()
        .filter(|entry| !is_own_key(entry))
        .flat_map(|entry| entry.value.merge_sources())
        .flat_map(keys);
    own_keys.chain(merged).collect()
}

/// The part of a merge patch that this value does not contain yet. Each new list item is included as a whole.
fn missing_changes(existing: &Node, patch: &Value) -> Value {
    match (patch, existing.resolved()) {
        (Value::Object(changes), Node::Map(_)) => {
            let change_of = |(key, change): (&String, &Value)| match existing.get(key) {
                None => (!change.is_null()).then(|| (key.clone(), change.clone())),
                Some(current) if is_same(current, change) => None,
                Some(current) => {
                    let missing = missing_changes(current, change);
                    let is_unchanged =
                        matches!(current.resolved(), Node::Map(_)) && missing == Value::Object(Map::new());
                    (!is_unchanged).then(|| (key.clone(), missing))
                }
            };
            changes.iter().filter_map(change_of).collect()
        }
        (Value::Array(items), Node::List(current)) => {
            let exists = |item: &Value| current.iter().any(|current| is_same(current, item));
            items.iter().map(|item| if exists(item) { Value::Null } else { item.clone() }).collect()
        }
        (_, Node::Scalar(_) | Node::List(_) | Node::Map(_) | Node::Shared(_)) => patch.clone(),
    }
}

/// Whether a config value certainly equals this one.
fn is_same(node: &Node, value: &Value) -> bool {
    match (value, node.resolved()) {
        (Value::String(text), Node::Scalar(scalar)) => scalar.kind() == ScalarKind::Text && scalar.text == *text,
        (Value::Null, Node::Scalar(scalar)) => scalar.kind() == ScalarKind::Null,
        (Value::Bool(on), Node::Scalar(scalar)) => {
            let words: &[&str] = if *on { &["yes", "true", "on"] } else { &["no", "false", "off"] };
            scalar.kind() == ScalarKind::Other && is_bool_word(&scalar.text, words)
        }
        (Value::Number(number), Node::Scalar(scalar)) => {
            scalar.kind() == ScalarKind::Other && scalar.text == number.to_string()
        }
        (Value::Array(items), Node::List(current)) => {
            items.len() == current.len() && current.iter().zip(items).all(|(current, item)| is_same(current, item))
        }
        (Value::Object(fields), Node::Map(entries)) => {
            entries.len() == fields.len()
                && entries.iter().all(|entry| entry.key.kind() == ScalarKind::Text)
                && fields.iter().all(|(key, value)| node.get(key).is_some_and(|current| is_same(current, value)))
        }
        (_, Node::Scalar(_) | Node::List(_) | Node::Map(_) | Node::Shared(_)) => false,
    }
}

/// The value of a mapping's own key; the last if it is duplicated.
fn own_value_mut<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Node::Map(entries) = node else { return None };
    entries.iter_mut().rev().find(|entry| entry.key.is_key(key) == Some(true)).map(|entry| &mut entry.value)
}

fn patched(target: Option<&Node>, patch: &Value) -> Result<Node, EditError> {
    let Value::Object(changes) = patch else { return Ok(Node::from_json(patch)) };
    let mut entries = target.map(|target| target.entries().to_vec()).unwrap_or_default();
    for (key, change) in changes {
        set(&mut entries, key, change)?;
    }
    Ok(Node::Map(entries))
}

fn set(entries: &mut Vec<MapEntry>, key: &str, change: &Value) -> Result<(), EditError> {
    let mut own_indexes = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        if entry.key.is_key(key).ok_or(EditError::Ambiguous)? {
            own_indexes.push(index);
        }
    }
    let map = Node::Map(std::mem::take(entries));
    let merged = map.get_merged(key).cloned();
    let Node::Map(own_entries) = map else { return Err(EditError::Ambiguous) };
    *entries = own_entries;
    if change.is_null() {
        // Deleting the key would expose the value inherited through `<<`.
        if merged.is_some() {
            return Err(EditError::Ambiguous);
        }
        entries.retain(|entry| entry.key.is_key(key) != Some(true));
        return Ok(());
    }
    let current = own_indexes.last().and_then(|index| entries.get(*index)).map(|entry| entry.value.clone()).or(merged);
    let value = patched(current.as_ref(), change)?;
    match own_indexes.last().and_then(|index| entries.get_mut(*index)) {
        Some(entry) => entry.value = value,
        None => entries.push(MapEntry { key: Scalar::quoted(key), value }),
    }
    Ok(())
}

/// Rewrites each shared value once per key that contains it, so that it stays shared.
struct Rewriter<'a> {
    change: &'a mut dyn FnMut(&str, &Scalar) -> Option<Scalar>,
    known: HashMap<(usize, String), Option<Node>>,
}

impl Rewriter<'_> {
    /// The rewritten value, or `None` if nothing changes.
    fn node(&mut self, key: &str, node: &Node) -> Option<Node> {
        match node {
            Node::Scalar(scalar) => (self.change)(key, scalar).map(Node::Scalar),
            Node::List(items) => {
                let new: Vec<Option<Node>> = items.iter().map(|item| self.node(key, item)).collect();
                let any = new.iter().any(Option::is_some);
                let patched = new.into_iter().zip(items).map(|(new, original)| new.unwrap_or_else(|| original.clone()));
                any.then(|| Node::List(patched.collect()))
            }
            Node::Map(entries) => {
                let new: Vec<Option<Node>> = entries.iter().map(|entry| self.entry(key, entry)).collect();
                let any = new.iter().any(Option::is_some);
                let patched = new.into_iter().zip(entries).map(|(new, original)| MapEntry {
                    key: original.key.clone(),
                    value: new.unwrap_or_else(|| original.value.clone()),
                });
                any.then(|| Node::Map(patched.collect()))
            }
            Node::Shared(shared) => self.shared(key, shared),
        }
    }

    fn entry(&mut self, key: &str, entry: &MapEntry) -> Option<Node> {
        let key = if entry.key.kind() == ScalarKind::Merge { key } else { &entry.key.text };
        self.node(key, &entry.value)
    }

    fn shared(&mut self, key: &str, shared: &Arc<SharedNode>) -> Option<Node> {
        // The entries of a mapping have their own keys.
        let key = if matches!(shared.node, Node::Map(_)) { "" } else { key };
        let cache_key = (Arc::as_ptr(shared).addr(), key.to_owned());
        if let Some(cached) = self.known.get(&cache_key) {
            return cached.clone();
        }
        let (size, depth) = (shared.size, shared.depth);
        let new = self.node(key, &shared.node).map(|node| Node::Shared(Arc::new(SharedNode { node, size, depth })));
        self.known.insert(cache_key, new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(text: &str, patch: Value) -> Result<String, EditError> {
        let mut tree = Tree::parse(text)?;
        tree.merge(&patch)?;
        tree.to_yaml()
    }

    #[test]
    fn the_examples_of_the_rfc_give_the_expected_results() {
        for (original, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let yaml = merged(&original.to_string(), patch.clone()).expect("merged");
            let expected = Tree::from_json(&expected).and_then(|tree| tree.to_yaml()).expect("JSON");
            assert_eq!(yaml, expected, "{original} + {patch}");
        }
        assert!(matches!(merged("a: 1", json!([1])), Err(EditError::NotAMapping)));
    }

    #[test]
    fn values_are_written_so_that_yaml_1_1_reads_them() {
        let patch = json!({"s": "yes", "t": "0755", "n": 12, "f": 0.5, "g": 1e22, "h": 1e-7, "i": -0.0, "b": true, "l": [null, "~"], "on": 1});
        let expected = "a: 1\n\"s\": \"yes\"\n\"t\": \"0755\"\n\"n\": 12\n\"f\": 0.5\n\"g\": 1.0e+22\n\"h\": 1.0e-7\n\
                        \"i\": -0.0\n\"b\": true\n\"l\":\n  - null\n  - \"~\"\n\"on\": 1\n";
        assert_eq!(merged("a: 1", patch).expect("merged"), expected);
    }

    #[test]
    fn one_agent_is_reached_by_its_id() {
        let config = "agents:\n- id: a\n  backend: {model: m, base_url: u}\n- &b\n  id: b\n  backend: {model: n}\n- {backend: {}}\nother: *b\n";
        let yaml =
            merged(config, json!({"agents": {"b": {"backend": {"cwd": "ws", "model": null}}, "agent3": {"id": "c"}}}));
        let expected = "agents:\n  - id: a\n    backend:\n      model: m\n      base_url: u\n  - id: b\n    backend:\n      \"cwd\": \"ws\"\n  \
                        - backend: {}\n    \"id\": \"c\"\nother:\n  id: b\n  backend:\n    model: n\n";
        assert_eq!(yaml.expect("merged"), expected);
        let removed = merged("agents: [{id: a}, {id: b}]", json!({"agents": {"a": null}}));
        assert_eq!(removed.expect("merged"), "agents:\n  - id: b\n");
        let single =
            merged("agent: {id: solo, backend: {model: m}}", json!({"agents": {"solo": {"backend": {"model": "n"}}}}));
        assert_eq!(single.expect("merged"), "agent:\n  id: solo\n  backend:\n    model: \"n\"\n");
        for (config, known_ids) in
            [("agents: [{id: a}, {}]", vec!["a", "agent2"]), ("agent: {id: solo}", vec!["solo"]), ("ui: {}", vec![])]
        {
            let missing = merged(config, json!({"agents": {"x": {}}}));
            assert!(
                matches!(missing, Err(EditError::NoSuchAgent { id, known }) if id == "x" && known == known_ids),
                "{config}"
            );
        }
    }

    #[test]
    fn the_effective_patch_has_only_real_changes() {
        let config = "agents:\n- id: a\n  backend: {type: openai, base_url: u, fast: yes, n: 1, args: [x, y]}\n- id: b\n  hooks: {x: 1}\nui: {a: 1}\n";
        let tree = Tree::parse(config).expect("YAML");
        let full = json!([
            {"id": "b", "hooks": {"x": 1}},
            {"id": "a", "backend": {"type": "openai", "base_url": "u", "fast": true, "n": 1, "args": ["x", "z"], "model": "m"}},
        ]);
        let expected = json!({"agents": [{}, {"backend": {"args": [null, "z"], "model": "m"}}]});
        assert_eq!(tree.effective_patch(&json!({"agents": full})), expected);
        let reduced = json!({"agents": [{"id": "b", "y": 1}, {"id": "new"}]});
        assert_eq!(tree.effective_patch(&reduced), reduced, "what guarded the agent is gone");
        let by_id = json!({"agents": {"b": {"hooks": {"x": 1}, "y": 2}}, "ui": {"a": 1}, "gone": null});
        assert_eq!(tree.effective_patch(&by_id), json!({"agents": [{}, {"y": 2}]}));
        for change in
            [json!({"agents": [{"id": "a", "backend": null}]}), json!({"ui": null}), json!({"ui": {"a": "1"}})]
        {
            assert_eq!(
                tree.effective_patch(&change).to_string().replace("\"id\":\"a\",", ""),
                change.to_string().replace("\"id\":\"a\",", "")
            );
        }
        let single = Tree::parse("agent: {id: solo, backend: {base_url: u}}").expect("YAML");
        let change = json!({"agents": {"solo": {"backend": {"base_url": "u", "cwd": "w"}}}});
        assert_eq!(single.effective_patch(&change)["agent"], json!({"backend": {"cwd": "w"}}));
    }

    #[test]
    fn a_change_of_an_alias_does_not_change_its_anchor() {
        let text = "a: &x {m: 1, n: {o: 2}}\nb: *x\nc: {<<: *x, p: 3}\n";
        let yaml = merged(text, json!({"b": {"n": {"o": 9}}, "c": {"n": {"q": 4}}})).expect("merged");
        let expected = "a: &a1\n  m: 1\n  n:\n    o: 2\nb:\n  m: 1\n  n:\n    o: 9\nc:\n  <<: *a1\n  p: 3\n  \"n\":\n    o: 2\n    \"q\": 4\n";
        assert_eq!(yaml, expected);
        let at_anchor = merged(text, json!({"a": {"m": 7}})).expect("merged");
        assert!(at_anchor.contains("b: &a1\n  m: 1\n"), "the alias keeps the old value: {at_anchor}");
    }

    #[test]
    fn a_key_from_a_merge_key_cannot_be_deleted() {
        let text = "a: &x {m: 1}\nb: {<<: *x, n: 2}\nc: {<<: *x, m: 3}\n";
        assert!(matches!(merged(text, json!({"b": {"m": null}})), Err(EditError::Ambiguous)));
        assert!(matches!(merged(text, json!({"c": {"m": null}})), Err(EditError::Ambiguous)));
        assert!(merged(text, json!({"b": {"n": null, "z": null}})).is_ok());
    }

    #[test]
    fn ambiguous_keys_are_refused_and_the_last_duplicate_counts() {
        assert!(matches!(merged("1x: {a: 1}\n", json!({"1x": {"b": 2}})), Err(EditError::Ambiguous)));
        assert_eq!(merged("yes: 1\n", json!({"yes": 2})).expect("merged"), "yes: 1\n\"yes\": 2\n");
        let twice = merged("a: 1\na: 2\n", json!({"a": 3})).expect("merged");
        assert_eq!(twice, "a: 1\na: 3\n", "the last one is the one that counts");
    }

    #[test]
    fn shared_nodes_stay_shared_after_a_rewrite() {
        let mut tree = Tree::parse("l: &l [x, y]\npath: *l\nargs: *l\nargs2: {args: *l}\n").expect("YAML");
        let any =
            tree.rewrite_scalars(&mut |key, scalar| (key == "args" && scalar.text == "x").then(|| Scalar::quoted("z")));
        assert!(any);
        let expected = "l: &a1\n  - x\n  - y\npath: *a1\nargs: &a2\n  - \"z\"\n  - y\nargs2:\n  args: *a2\n";
        assert_eq!(tree.to_yaml().expect("text"), expected);
    }
}
