//! A tree as YAML text in block style: plain scalars stay plain, all others are double-quoted. The text is parsed again before it is
//! returned; a difference is an error.

use std::collections::HashMap;
use std::sync::Arc;

use super::{EditError, MapEntry, Node, Scalar, ScalarKind, SharedNode, Tree};

/// The longest key, in characters: without a question mark before it, PyYAML rejects a key of more than 1024.
const MAX_KEY_CHARS: usize = 1000;

impl Tree {
    /// The config as YAML text; PyYAML loads the same values from it as from the original.
    pub fn to_yaml(&self) -> Result<String, EditError> {
        let mut writer = YamlWriter::default();
        writer.count(&self.root);
        writer.entries(self.root.entries(), 0, false)?;
        if writer.out.is_empty() {
            writer.out.push_str("{}\n");
        }
        let again = Tree::parse(&writer.out)?;
        if is_same_node(&self.root, &again.root) { Ok(writer.out) } else { Err(EditError::Ambiguous) }
    }
}

fn is_same_node(one: &Node, other: &Node) -> bool {
    match (one.resolved(), other.resolved()) {
        (Node::Scalar(one), Node::Scalar(other)) => is_same_scalar(one, other),
        (Node::List(one), Node::List(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same_node(one, other))
        }
        (Node::Map(one), Node::Map(other)) => {
            let same_entry = |(one, other): (&MapEntry, &MapEntry)| {
                is_same_scalar(&one.key, &other.key) && is_same_node(&one.value, &other.value)
            };
            one.len() == other.len() && one.iter().zip(other).all(same_entry)
        }
        (Node::Scalar(_) | Node::List(_) | Node::Map(_) | Node::Shared(_), _) => false,
    }
}

/// A plain scalar that is always a text may have gained quotes.
fn is_same_scalar(one: &Scalar, other: &Scalar) -> bool {
    let has_same_style =
        one.plain == other.plain || (one.kind() == ScalarKind::Text && other.kind() == ScalarKind::Text);
    one.text == other.text && one.tag == other.tag && has_same_style
}

/// How often a shared value is used, and the anchor name it was written with.
#[derive(Default)]
struct SharedUse {
    count: usize,
    name: Option<usize>,
}

#[derive(Default)]
struct YamlWriter {
    out: String,
    uses: HashMap<usize, SharedUse>,
    names: usize,
}

fn identity(shared: &Arc<SharedNode>) -> usize {
    Arc::as_ptr(shared).addr()
}

impl YamlWriter {
    fn count(&mut self, node: &Node) {
        if let Node::Shared(shared) = node {
            let uses = self.uses.entry(identity(shared)).or_default();
            uses.count += 1;
            if uses.count > 1 {
                return;
            }
        }
        node.items().iter().for_each(|item| self.count(item));
        node.entries().iter().for_each(|entry| self.count(&entry.value));
    }

    /// Writes the entries of a mapping, each on a line indented by `indent`; the first continues the current line if there is one.
    fn entries(&mut self, entries: &[MapEntry], indent: usize, mut has_begun: bool) -> Result<(), EditError> {
        for MapEntry { key, value } in entries {
            if !std::mem::take(&mut has_begun) {
                self.begin_line(indent);
            }
            let key = scalar_text(key, indent == 0)?;
            if key.chars().count() > MAX_KEY_CHARS {
                return Err(EditError::Ambiguous);
            }
            self.out.push_str(&key);
            self.out.push(':');
            self.value(value, indent + 2, false)?;
        }
        Ok(())
    }

    /// Writes a value after its key or dash; its contents are indented by `indent`.
    fn value(&mut self, node: &Node, indent: usize, in_list: bool) -> Result<(), EditError> {
        let mut named = false;
        if let Node::Shared(shared) = node {
            let next = self.names + 1;
            let uses = self.uses.entry(identity(shared)).or_default();
            if let Some(name) = uses.name {
                self.out.push_str(&format!(" *a{name}\n"));
                return Ok(());
            }
            if uses.count > 1 {
                uses.name = Some(next);
                self.names = next;
                self.out.push_str(&format!(" &a{next}"));
                named = true;
            }
        }
        match node.resolved() {
            Node::Scalar(scalar) => self.scalar(scalar)?,
            Node::List(items) if items.is_empty() => self.out.push_str(" []\n"),
            Node::Map(entries) if entries.is_empty() => self.out.push_str(" {}\n"),
            Node::List(items) => {
                self.out.push('\n');
                for item in items {
                    self.begin_line(indent);
                    self.out.push('-');
                    self.value(item, indent + 2, true)?;
                }
            }
            Node::Map(entries) if in_list && !named => {
                self.out.push(' ');
                self.entries(entries, indent, true)?;
            }
            Node::Map(entries) => {
                self.out.push('\n');
                self.entries(entries, indent, false)?;
            }
            Node::Shared(_) => return Err(EditError::Ambiguous),
        }
        Ok(())
    }

    fn scalar(&mut self, scalar: &Scalar) -> Result<(), EditError> {
        if let Some(tag) = scalar.tag {
            self.out.push_str(&format!(" !!{tag}"));
        }
        let text = scalar_text(scalar, false)?;
        if !text.is_empty() {
            self.out.push(' ');
            self.out.push_str(&text);
        }
        self.out.push('\n');
        Ok(())
    }

    fn begin_line(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// The written form of a scalar; an empty plain scalar is empty.
fn scalar_text(scalar: &Scalar, first_on_line: bool) -> Result<String, EditError> {
    if scalar.plain && (scalar.text.is_empty() || can_be_plain(&scalar.text, first_on_line)) {
        return Ok(scalar.text.clone());
    }
    if scalar.plain && scalar.kind() != ScalarKind::Text {
        return Err(EditError::Ambiguous);
    }
    Ok(quoted(&scalar.text))
}

/// Whether a text can be written without quotes in a block.
fn can_be_plain(text: &str, first_on_line: bool) -> bool {
    let mut chars = text.chars();
    let (first, second) = (chars.next().unwrap_or(' '), chars.next());
    let indicator = ",[]{}#&*!|>'\"%@`".contains(first)
        || ("-?:".contains(first) && second.is_none_or(char::is_whitespace))
        || (first_on_line && (text.starts_with("---") || text.starts_with("...")));
    let has_special_mark = text.ends_with(':') || [": ", ":\t", " #", "\t#"].iter().any(|mark| text.contains(mark));
    let edges = text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace);
    !indicator && !has_special_mark && !edges && !text.contains(must_be_escaped)
}

/// Characters that PyYAML treats as a line end or rejects, and the byte order mark.
fn must_be_escaped(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// The text in double quotes, on one line.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if must_be_escaped(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn emitted(text: &str) -> String {
        let emitted = Tree::parse(text).and_then(|tree| tree.to_yaml());
        emitted.unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    #[test]
    fn plain_scalars_stay_plain_and_others_are_quoted() {
        for (text, expected) in [
            ("a: yes # c\nb: 0755\nc: 1:30\nd:\ne: ~\nf: 1e5\n", "a: yes\nb: 0755\nc: 1:30\nd:\ne: ~\nf: 1e5\n"),
            ("a: 'yes'\nb: \"x\\ny\"\n", "a: \"yes\"\nb: \"x\\ny\"\n"),
            ("a: |\n  b\n   c\n\nd: >-\n  e\n  f\n", "a: \"b\\n c\\n\"\nd: \"e f\"\n"),
            ("a: b\n  c\n\n  d\n", "a: \"b c\\nd\"\n"),
            ("a: [1, {b: c}, [], [d, [e]]]\n", "a:\n  - 1\n  - b: c\n  - []\n  -\n    - d\n    -\n      - e\n"),
            ("{\"a\": {\"b\": [], \"c\": {}}}", "\"a\":\n  \"b\": []\n  \"c\": {}\n"),
            ("{a: b:c, d: e#f, g: -h}", "a: b:c\nd: e#f\ng: -h\n"),
            ("a: !!str 12\nb: !!int '3'\nc: !!null\n", "a: !!str 12\nb: !!int \"3\"\nc: !!null\n"),
            ("{}", "{}\n"),
            ("yes: 1\n2025: x\n", "yes: 1\n2025: x\n"),
            ("a: \"\\u2028\\x85\\ufeff\\u0000\"\n", "a: \"\\u2028\\u0085\\ufeff\\u0000\"\n"),
        ] {
            assert_eq!(emitted(text), expected, "{text}");
            assert_eq!(emitted(expected), expected, "the written text stays as it is");
        }
    }

    #[test]
    fn a_text_that_is_no_mapping_is_refused() {
        for text in ["[]", "- a: b", "x", "''", "", "~", "# a comment\n", "--- |\n a: b\n"] {
            let parsed = Tree::parse(text);
            assert!(matches!(parsed, Err(EditError::NotAMapping)), "{text:?}: {parsed:?}");
        }
        let empty_key = Tree::parse("- : x");
        assert!(matches!(empty_key, Err(EditError::Ambiguous)), "{empty_key:?}");
    }

    #[test]
    fn anchors_aliases_and_merge_keys_survive() {
        let text = "x: &unused 1\nb: &b {c: on}\nl:\n- &i {d: e}\n- *i\n- {<<: *b, f: &s t}\n- {<<: [*b, *i]}\nm: *s\n";
        let expected = "x: 1\nb: &a1\n  c: on\nl:\n  - &a2\n    d: e\n  - *a2\n  - <<: *a1\n    f: &a3 t\n  \
                        - <<:\n      - *a1\n      - *a2\nm: *a3\n";
        assert_eq!(emitted(text), expected);
        assert_eq!(emitted(expected), expected);
    }

    #[test]
    fn a_key_that_pyyaml_would_not_read_is_refused() {
        let long = serde_json::json!({ "k".repeat(1100): 1 });
        assert!(matches!(Tree::from_json(&long).expect("JSON").to_yaml(), Err(EditError::Ambiguous)));
    }
}
