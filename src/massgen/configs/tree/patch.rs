//! Changes of a tree: a JSON merge patch, and scalars replaced wherever they stand.
//! What is shared is copied before it is changed, so that a change never reaches further than it was meant to.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::{EditError, Entry, Kind, Node, Scalar, Shared, Tree};

impl Tree {
    /// Applies a JSON merge patch (RFC 7386): `null` deletes a key, an object changes a mapping key by key, anything else
    /// replaces. A key that only a merge key brings in cannot be deleted: that is [`EditError::Unsafe`].
    pub fn merge(&mut self, patch: &Value) -> Result<(), EditError> {
        if !patch.is_object() {
            return Err(EditError::NotAMapping);
        }
        self.root = patched(Some(&self.root), patch)?;
        Ok(())
    }

    /// Adds an item at the end of the list that two keys lead to, and keeps of the others those that are to stay. What is no list
    /// there is replaced, a mapping or list that is shared is copied first.
    pub(in super::super) fn append(
        &mut self,
        keys: [&str; 2],
        stays: impl Fn(&Node) -> bool,
        item: &Value,
    ) -> Result<(), EditError> {
        let [outer, inner] = keys;
        let list = self.root.get(outer).and_then(|node| node.get(inner));
        let mut items = list.map(|list| list.items().to_vec()).unwrap_or_default();
        items.retain(stays);
        items.push(Node::from_json(item));
        self.merge(&serde_json::json!({ outer: { inner: [] } }))?;
        let place = own(&mut self.root, outer).and_then(|node| own(node, inner)).ok_or(EditError::Unsafe)?;
        *place = Node::List(items);
        Ok(())
    }

    /// Replaces scalars: `change` is given the nearest key and the scalar. Whether there was anything to replace.
    pub(in super::super) fn rewrite(&mut self, change: &mut dyn FnMut(&str, &Scalar) -> Option<Scalar>) -> bool {
        let rewritten = Rewriter { change, known: HashMap::new() }.node("", &self.root);
        let any = rewritten.is_some();
        self.root = rewritten.unwrap_or_else(|| self.root.clone());
        any
    }
}

/// The value of a key of a mapping's own, the last where it comes twice.
fn own<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
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

fn set(entries: &mut Vec<Entry>, key: &str, change: &Value) -> Result<(), EditError> {
    let mut own = Vec::new();
    for (place, entry) in entries.iter().enumerate() {
        if entry.key.is_key(key).ok_or(EditError::Unsafe)? {
            own.push(place);
        }
    }
    let whole = Node::Map(std::mem::take(entries));
    let merged = whole.get_merged(key).cloned();
    let Node::Map(kept) = whole else { return Err(EditError::Unsafe) };
    *entries = kept;
    if change.is_null() {
        // Without its own value the key would have the merged one, not none.
        if merged.is_some() {
            return Err(EditError::Unsafe);
        }
        entries.retain(|entry| entry.key.is_key(key) != Some(true));
        return Ok(());
    }
    let current = own.last().and_then(|place| entries.get(*place)).map(|entry| entry.value.clone()).or(merged);
    let value = patched(current.as_ref(), change)?;
    match own.last().and_then(|place| entries.get_mut(*place)) {
        Some(entry) => entry.value = value,
        None => entries.push(Entry { key: Scalar::quoted(key), value }),
    }
    Ok(())
}

/// Rewrites with what is shared rewritten once for each key that it stands under, so that it stays shared.
struct Rewriter<'a> {
    change: &'a mut dyn FnMut(&str, &Scalar) -> Option<Scalar>,
    known: HashMap<(usize, String), Option<Node>>,
}

impl Rewriter<'_> {
    /// The rewritten value, or `None` where nothing changes.
    fn node(&mut self, key: &str, node: &Node) -> Option<Node> {
        match node {
            Node::Scalar(scalar) => (self.change)(key, scalar).map(Node::Scalar),
            Node::List(items) => {
                let new: Vec<Option<Node>> = items.iter().map(|item| self.node(key, item)).collect();
                let any = new.iter().any(Option::is_some);
                let whole = new.into_iter().zip(items).map(|(new, old)| new.unwrap_or_else(|| old.clone()));
                any.then(|| Node::List(whole.collect()))
            }
            Node::Map(entries) => {
                let new: Vec<Option<Node>> = entries.iter().map(|entry| self.entry(key, entry)).collect();
                let any = new.iter().any(Option::is_some);
                let whole = new
                    .into_iter()
                    .zip(entries)
                    .map(|(new, old)| Entry { key: old.key.clone(), value: new.unwrap_or_else(|| old.value.clone()) });
                any.then(|| Node::Map(whole.collect()))
            }
            Node::Shared(shared) => self.shared(key, shared),
        }
    }

    fn entry(&mut self, key: &str, entry: &Entry) -> Option<Node> {
        let key = if entry.key.kind() == Kind::Merge { key } else { &entry.key.text };
        self.node(key, &entry.value)
    }

    fn shared(&mut self, key: &str, shared: &Arc<Shared>) -> Option<Node> {
        // The entries of a mapping have keys of their own.
        let key = if matches!(shared.node, Node::Map(_)) { "" } else { key };
        let of_key = (Arc::as_ptr(shared).addr(), key.to_owned());
        if let Some(known) = self.known.get(&of_key) {
            return known.clone();
        }
        let (size, depth) = (shared.size, shared.depth);
        let new = self.node(key, &shared.node).map(|node| Node::Shared(Arc::new(Shared { node, size, depth })));
        self.known.insert(of_key, new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(text: &str, patch: Value) -> Result<String, EditError> {
        let mut tree = Tree::read(text)?;
        tree.merge(&patch)?;
        tree.text()
    }

    #[test]
    fn the_examples_of_the_rfc_hold() {
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
            let made = merged(&original.to_string(), patch.clone()).expect("merged");
            let wanted = Tree::from_json(&expected).and_then(|tree| tree.text()).expect("JSON");
            assert_eq!(made, wanted, "{original} + {patch}");
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
    fn a_change_behind_an_alias_stays_there() {
        let text = "a: &x {m: 1, n: {o: 2}}\nb: *x\nc: {<<: *x, p: 3}\n";
        let made = merged(text, json!({"b": {"n": {"o": 9}}, "c": {"n": {"q": 4}}})).expect("merged");
        let expected = "a: &a1\n  m: 1\n  n:\n    o: 2\nb:\n  m: 1\n  n:\n    o: 9\nc:\n  <<: *a1\n  p: 3\n  \"n\":\n    o: 2\n    \"q\": 4\n";
        assert_eq!(made, expected);
        let of_anchor = merged(text, json!({"a": {"m": 7}})).expect("merged");
        assert!(of_anchor.contains("b: &a1\n  m: 1\n"), "the alias keeps the old value: {of_anchor}");
    }

    #[test]
    fn what_only_a_merge_key_brings_cannot_be_deleted() {
        let text = "a: &x {m: 1}\nb: {<<: *x, n: 2}\nc: {<<: *x, m: 3}\n";
        assert!(matches!(merged(text, json!({"b": {"m": null}})), Err(EditError::Unsafe)));
        assert!(matches!(merged(text, json!({"c": {"m": null}})), Err(EditError::Unsafe)));
        assert!(merged(text, json!({"b": {"n": null, "z": null}})).is_ok());
    }

    #[test]
    fn a_key_that_may_be_a_number_is_not_guessed() {
        assert!(matches!(merged("1x: {a: 1}\n", json!({"1x": {"b": 2}})), Err(EditError::Unsafe)));
        assert_eq!(merged("yes: 1\n", json!({"yes": 2})).expect("merged"), "yes: 1\n\"yes\": 2\n");
        let twice = merged("a: 1\na: 2\n", json!({"a": 3})).expect("merged");
        assert_eq!(twice, "a: 1\na: 3\n", "the last one is the one that counts");
    }

    #[test]
    fn what_is_shared_stays_shared_when_it_is_rewritten() {
        let mut tree = Tree::read("l: &l [x, y]\npath: *l\nargs: *l\nargs2: {args: *l}\n").expect("YAML");
        let any = tree.rewrite(&mut |key, scalar| (key == "args" && scalar.text == "x").then(|| Scalar::quoted("z")));
        assert!(any);
        let expected = "l: &a1\n  - x\n  - y\npath: *a1\nargs: &a2\n  - \"z\"\n  - y\nargs2:\n  args: *a2\n";
        assert_eq!(tree.text().expect("text"), expected);
    }
}
