//! A config as a tree that keeps what matters to PyYAML: each scalar's text and whether it is plain, tags, shared parts, merge keys.
//! Anything it cannot keep is an error, never a silent change; comments and layout are dropped. Pure.

mod emit;
mod patch;

pub(super) use self::patch::find_agent;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Tag};
use serde_json::Value;

/// The largest config, in values; each alias counts with all values that it refers to.
const MAX_NODES: usize = 100_000;
/// The deepest nesting, so that no recursion over a tree exhausts the stack.
const MAX_DEPTH: usize = 100;

/// Why a config cannot be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// It is not YAML.
    #[error("the config is no YAML")]
    Scan(#[source] ScanError),
    /// It is not a mapping.
    #[error("the config is not a mapping of keys to values")]
    NotAMapping,
    /// A change names an agent that the config does not have.
    #[error("the config has no agent `{id}`")]
    NoSuchAgent {
        /// The id.
        id: String,
        /// The ids in the config.
        known: Vec<String>,
    },
    /// Its form leaves doubt about how MassGen would read it.
    #[error("the config has a form in which it cannot be edited safely")]
    Ambiguous,
}

/// A config: a mapping with all its contents.
#[derive(Debug, Clone)]
pub struct Tree {
    pub(super) root: Node,
}

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<MapEntry>),
    /// A value with an anchor, shared with its aliases. It is never modified, only copied and replaced.
    Shared(Arc<SharedNode>),
}

#[derive(Debug)]
pub(super) struct SharedNode {
    node: Node,
    size: usize,
    depth: usize,
}

/// A key with its value; the same key may occur twice (PyYAML takes the last).
#[derive(Debug, Clone)]
pub(super) struct MapEntry {
    pub(super) key: Scalar,
    pub(super) value: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes, so PyYAML may read it as a number, a boolean or null.
    plain: bool,
    /// `str` of `!!str`; only [`SCALAR_TAGS`] are accepted.
    tag: Option<&'static str>,
}

/// The scalar tags that are kept; collection tags have no effect and are dropped.
const SCALAR_TAGS: [&str; 5] = ["str", "int", "float", "bool", "null"];

/// How PyYAML (YAML 1.1) interprets a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Null,
    /// The key `<<`.
    Merge,
    /// A boolean, a number or a date; or a text that begins like a number, which is not distinguished here.
    Other,
}

impl Scalar {
    /// Always a text.
    pub(super) fn quoted(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: false, tag: None }
    }

    pub(super) fn kind(&self) -> ScalarKind {
        match (self.tag, self.plain) {
            (Some("str"), _) | (None, false) => ScalarKind::Text,
            (Some(_), _) => ScalarKind::Other,
            (None, true) => kind_of_plain(&self.text),
        }
    }

    /// Whether this is the key of that name; unknown if it may be a number.
    fn is_key(&self, name: &str) -> Option<bool> {
        match self.kind() {
            ScalarKind::Text => Some(self.text == name),
            ScalarKind::Other if self.text == name && self.text.starts_with(NUMBER_STARTS) => None,
            ScalarKind::Other | ScalarKind::Null | ScalarKind::Merge => Some(false),
        }
    }
}

const NUMBER_STARTS: [char; 13] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '+', '-', '.'];

/// PyYAML's own resolvers (its `resolver.py`) also check the first character first.
fn kind_of_plain(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "<<" => ScalarKind::Merge,
        "=" => ScalarKind::Other,
        _ if text.starts_with(NUMBER_STARTS) || is_bool_word(text, &["yes", "no", "true", "false", "on", "off"]) => {
            ScalarKind::Other
        }
        _ => ScalarKind::Text,
    }
}

/// Whether it is one of the (lower-case) words in a form that PyYAML accepts: `yes`, `Yes` or `YES`.
fn is_bool_word(text: &str, words: &[&str]) -> bool {
    let lower = text.to_ascii_lowercase();
    let (first, rest) = text.split_at(text.chars().next().map_or(0, char::len_utf8));
    let has_uniform_case =
        rest == rest.to_ascii_lowercase() || (first == first.to_ascii_uppercase() && rest == rest.to_ascii_uppercase());
    words.contains(&lower.as_str()) && has_uniform_case
}

impl Tree {
    /// Parses a YAML text; JSON is YAML too.
    pub fn parse(text: &str) -> Result<Tree, EditError> {
        // YAML 1.1 treats these characters as line ends, YAML 1.2 does not, so the two would read different texts.
        let first = text.chars().next().map_or(0, char::len_utf8);
        if text.contains(['\u{85}', '\u{2028}', '\u{2029}']) || text[first..].contains('\u{feff}') {
            return Err(EditError::Ambiguous);
        }
        let read = parse_leniently(text)?;
        match read.root.map(|built| built.node) {
            Some(node @ (Node::Map(_) | Node::Shared(_))) if matches!(node.resolved(), Node::Map(_)) => {
                Ok(Tree { root: node.resolved().clone() })
            }
            Some(_) | None => Err(EditError::NotAMapping),
        }
    }

    /// Parses a config file as MassGen does: as JSON if its extension says so (`1e5` is a number in JSON and a text in YAML 1.1), else as
    /// YAML.
    pub fn parse_file(path: &Path, text: &str) -> Result<Tree, EditError> {
        let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        if !is_json {
            return Tree::parse(text);
        }
        serde_json::from_str(text).map_err(|_| EditError::Ambiguous).and_then(|value| Tree::from_json(&value))
    }

    /// The tree of a JSON object, such that YAML 1.1 reads the same values from it.
    pub fn from_json(value: &Value) -> Result<Tree, EditError> {
        let root = Node::from_json(value);
        if matches!(root, Node::Map(_)) { Ok(Tree { root }) } else { Err(EditError::NotAMapping) }
    }

    /// The mapping under a key, as a separate tree.
    pub fn subtree(&self, key: &str) -> Option<Tree> {
        let root = self.root.get(key)?.resolved();
        matches!(root, Node::Map(_)).then(|| Tree { root: root.clone() })
    }

    /// Calls `visit` for every value, with the keys that lead to it. Values from an alias or a merge key are visited where they are used;
    /// for a duplicate key, both values are visited.
    pub(super) fn walk<'a>(&'a self, visit: &mut dyn FnMut(&NodePath<'a>, &'a Node)) {
        walk(&self.root, &mut NodePath::default(), visit);
    }
}

/// The keys and list positions that lead to a value.
#[derive(Debug, Default)]
pub(super) struct NodePath<'a> {
    steps: Vec<PathStep<'a>>,
}

#[derive(Debug)]
enum PathStep<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> NodePath<'a> {
    /// Such as `agents[0].backend.cwd`.
    pub(super) fn to_text(&self) -> String {
        let mut path = String::new();
        for step in &self.steps {
            match step {
                PathStep::Key(key) if path.is_empty() => path.push_str(key),
                PathStep::Key(key) => path.extend([".", key]),
                PathStep::Index(place) => path.push_str(&format!("[{place}]")),
            }
        }
        path
    }

    /// The keys, innermost first.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.steps.iter().rev().filter_map(|step| match step {
            PathStep::Key(key) => Some(*key),
            PathStep::Index(_) => None,
        })
    }

    /// Whether the value is directly under its key, not in a list.
    pub(super) fn is_map_value(&self) -> bool {
        matches!(self.steps.last(), Some(PathStep::Key(_)))
    }
}

fn walk<'a>(node: &'a Node, path: &mut NodePath<'a>, visit: &mut dyn FnMut(&NodePath<'a>, &'a Node)) {
    visit(path, node.resolved());
    walk_inside(node, path, visit);
}

fn walk_inside<'a>(node: &'a Node, path: &mut NodePath<'a>, visit: &mut dyn FnMut(&NodePath<'a>, &'a Node)) {
    for (index, item) in node.items().iter().enumerate() {
        path.steps.push(PathStep::Index(index));
        walk(item, path, visit);
        path.steps.pop();
    }
    for entry in node.entries() {
        if entry.key.kind() == ScalarKind::Merge {
            entry.value.merge_sources().iter().for_each(|part| walk_inside(part, path, visit));
            continue;
        }
        path.steps.push(PathStep::Key(&entry.key.text));
        walk(&entry.value, path, visit);
        path.steps.pop();
    }
}

impl Node {
    /// The node itself, or the node that an alias refers to.
    pub(super) fn resolved(&self) -> &Node {
        match self {
            Node::Shared(shared) => shared.node.resolved(),
            Node::Scalar(_) | Node::List(_) | Node::Map(_) => self,
        }
    }

    /// The scalar's text, whatever its kind.
    pub(super) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    pub(super) fn scalar(&self) -> Option<&Scalar> {
        match self.resolved() {
            Node::Scalar(scalar) => Some(scalar),
            Node::List(_) | Node::Map(_) | Node::Shared(_) => None,
        }
    }

    /// The items of a list; empty for any other node.
    pub(super) fn items(&self) -> &[Node] {
        match self.resolved() {
            Node::List(items) => items,
            Node::Scalar(_) | Node::Map(_) | Node::Shared(_) => &[],
        }
    }

    /// The entries of a mapping, including merge keys; empty for any other node.
    pub(super) fn entries(&self) -> &[MapEntry] {
        match self.resolved() {
            Node::Map(entries) => entries,
            Node::Scalar(_) | Node::List(_) | Node::Shared(_) => &[],
        }
    }

    /// Whether Python treats it as true; null, `false`, `0`, and empty texts, lists and mappings are false.
    pub(super) fn is_truthy(&self) -> bool {
        match self.resolved() {
            Node::Scalar(scalar) => match scalar.kind() {
                ScalarKind::Text | ScalarKind::Merge => !scalar.text.is_empty(),
                ScalarKind::Null => false,
                ScalarKind::Other => {
                    !is_bool_word(&scalar.text, &["no", "false", "off"])
                        && scalar.tag != Some("null")
                        && scalar.text.parse() != Ok(0.0)
                }
            },
            Node::List(items) => !items.is_empty(),
            Node::Map(entries) => !entries.is_empty(),
            Node::Shared(_) => true,
        }
    }

    /// The value of a key: its own (the last one if duplicated), else a merged one.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        let is_match = |entry: &&MapEntry| entry.key.is_key(key) == Some(true);
        self.entries().iter().rfind(is_match).map(|entry| &entry.value).or_else(|| self.get_merged(key))
    }

    /// The merged value of a key. Of several merge keys the last takes precedence; within a list of mappings, the first.
    fn get_merged(&self, key: &str) -> Option<&Node> {
        let merges = self.entries().iter().rev().filter(|entry| entry.key.kind() == ScalarKind::Merge);
        merges.flat_map(|entry| entry.value.merge_sources()).find_map(|part| part.get(key))
    }

    /// The mappings of a merge key: one, or a list of them.
    fn merge_sources(&self) -> &[Node] {
        match self.resolved() {
            Node::List(items) => items,
            Node::Map(_) => std::slice::from_ref(self),
            Node::Scalar(_) | Node::Shared(_) => &[],
        }
    }

    pub(super) fn from_json(value: &Value) -> Node {
        let plain = |text: String| Node::Scalar(Scalar { text, plain: true, tag: None });
        match value {
            Value::Null => plain("null".to_owned()),
            Value::Bool(on) => plain(on.to_string()),
            Value::Number(number) => plain(number_text(number)),
            Value::String(text) => Node::Scalar(Scalar::quoted(text)),
            Value::Array(items) => Node::List(items.iter().map(Node::from_json).collect()),
            Value::Object(entries) => Node::Map(
                entries
                    .iter()
                    .map(|(key, value)| MapEntry { key: Scalar::quoted(key), value: Node::from_json(value) })
                    .collect(),
            ),
        }
    }
}

/// YAML 1.1 reads a number as a float only if it has a point, and an exponent only if it has a sign.
fn number_text(number: &serde_json::Number) -> String {
    let text = number.to_string();
    if number.is_i64() || number.is_u64() {
        return text;
    }
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, ""));
    let point_suffix = if digits.contains('.') { "" } else { ".0" };
    let sign = if exponent.is_empty() || exponent.starts_with(['+', '-']) { "" } else { "+" };
    let exponent_mark = if exponent.is_empty() { "" } else { "e" };
    format!("{digits}{point_suffix}{exponent_mark}{sign}{exponent}")
}

/// The total number of bytes that all attempts to parse one config may read.
const MAX_READ_BYTES: usize = 64 << 20;

/// Parses a text, and retries with a line indented further if only its indentation prevents parsing: inside brackets YAML 1.1 requires no
/// indentation, and a `]` directly below the key that it closes is common. There, white space between tokens has no meaning.
fn parse_leniently(text: &str) -> Result<TreeBuilder, EditError> {
    let mut text = std::borrow::Cow::Borrowed(text);
    let mut spent = 0;
    loop {
        spent += text.len();
        let error = match parse_strictly(&text) {
            Err(EditError::Scan(error)) => error,
            read => return read,
        };
        let inside_brackets = matches!(error.info(), "invalid indentation" | "invalid indentation in flow construct");
        if !inside_brackets || spent > MAX_READ_BYTES {
            return Err(EditError::Scan(error));
        }
        let at = text.char_indices().nth(error.marker().index()).map_or(text.len(), |(at, _)| at);
        text.to_mut().insert_str(at, &" ".repeat(256));
    }
}

fn parse_strictly(text: &str) -> Result<TreeBuilder, EditError> {
    let mut reader = TreeBuilder::default();
    let last_line = text.rsplit(['\n', '\r']).next().unwrap_or_default();
    let end = if last_line.is_empty() { usize::MAX } else { text.chars().count() };
    for event in Parser::new_from_str(text) {
        let (mut event, span) = event.map_err(EditError::Scan)?;
        if let Event::Scalar(text, ScalarStyle::Literal | ScalarStyle::Folded, ..) = &mut event
            && span.end.index() >= end
        {
            fix_unterminated_block(text.to_mut(), last_line)?;
        }
        reader.handle_event(event)?;
    }
    Ok(reader)
}

/// A block scalar at the end of the file without a line end: YAML 1.2 adds one, PyYAML does not. A last line of only blanks is rejected,
/// because the two parsers may differ.
fn fix_unterminated_block(text: &mut String, last_line: &str) -> Result<(), EditError> {
    if last_line.trim().is_empty() {
        return Err(EditError::Ambiguous);
    }
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(())
}

/// A parsed value and its size.
struct BuiltNode {
    node: Node,
    size: usize,
    depth: usize,
}

impl BuiltNode {
    fn scalar(scalar: Scalar) -> BuiltNode {
        BuiltNode { node: Node::Scalar(scalar), size: 1, depth: 1 }
    }
}

/// An open collection.
struct OpenCollection {
    anchor: usize,
    size: usize,
    depth: usize,
    content: CollectionContent,
}

enum CollectionContent {
    List(Vec<Node>),
    Map { entries: Vec<MapEntry>, key: Option<Scalar> },
}

#[derive(Default)]
struct TreeBuilder {
    open: Vec<OpenCollection>,
    anchors: BTreeMap<usize, Arc<SharedNode>>,
    root: Option<BuiltNode>,
}

impl TreeBuilder {
    fn handle_event(&mut self, event: Event<'_>) -> Result<(), EditError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => self.root.is_none().then_some(()).ok_or(EditError::Ambiguous),
            Event::Alias(anchor) => self.alias(anchor),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.as_deref().map(scalar_tag).transpose()?;
                let mut scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain, tag };
                // A plain scalar over several lines that contain an empty line can only be a text.
                scalar.plain &= !(scalar.text.contains('\n') && scalar.kind() == ScalarKind::Text);
                self.add_value(BuiltNode::scalar(scalar), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open_collection(anchor, tag.as_deref(), CollectionContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.open_collection(anchor, tag.as_deref(), CollectionContent::Map { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close_collection(),
        }
    }

    fn open_collection(
        &mut self,
        anchor: usize,
        tag: Option<&Tag>,
        content: CollectionContent,
    ) -> Result<(), EditError> {
        let expected = match content {
            CollectionContent::List(_) => "seq",
            CollectionContent::Map { .. } => "map",
        };
        let is_default_tag = tag.is_none_or(|tag| tag.is_yaml_core_schema() && tag.suffix == expected);
        let is_key =
            matches!(self.open.last(), Some(OpenCollection { content: CollectionContent::Map { key: None, .. }, .. }));
        if !is_default_tag || is_key || self.open.len() >= MAX_DEPTH {
            return Err(EditError::Ambiguous);
        }
        self.open.push(OpenCollection { anchor, size: 1, depth: 1, content });
        Ok(())
    }

    fn close_collection(&mut self) -> Result<(), EditError> {
        let OpenCollection { anchor, size, depth, content } = self.open.pop().ok_or(EditError::Ambiguous)?;
        let node = match content {
            CollectionContent::List(items) => Node::List(items),
            CollectionContent::Map { entries, .. } => Node::Map(entries),
        };
        self.add_value(BuiltNode { node, size, depth }, anchor)
    }

    /// An alias to an unfinished value would make the tree infinite.
    fn alias(&mut self, anchor: usize) -> Result<(), EditError> {
        let shared = self.anchors.get(&anchor).ok_or(EditError::Ambiguous)?;
        let (size, depth) = (shared.size, shared.depth);
        self.add_value(BuiltNode { node: Node::Shared(Arc::clone(shared)), size, depth }, 0)
    }

    fn add_value(&mut self, built: BuiltNode, anchor: usize) -> Result<(), EditError> {
        let BuiltNode { node, size, depth } = built;
        if let Some(OpenCollection { content: CollectionContent::Map { key: key @ None, .. }, .. }) =
            self.open.last_mut()
        {
            *key = Some(simple_key(node, anchor)?);
            return Ok(());
        }
        let node = match anchor {
            0 => node,
            anchor => {
                let shared = Arc::new(SharedNode { node, size, depth });
                self.anchors.insert(anchor, Arc::clone(&shared));
                Node::Shared(shared)
            }
        };
        let Some(open) = self.open.last_mut() else {
            self.root = Some(BuiltNode { node, size, depth });
            return Ok(());
        };
        open.size += size;
        open.depth = open.depth.max(depth + 1);
        match &mut open.content {
            CollectionContent::List(items) => items.push(node),
            CollectionContent::Map { entries, key } => {
                let key = key.take().ok_or(EditError::Ambiguous)?;
                check_merge(&key, &node)?;
                entries.push(MapEntry { key, value: node });
            }
        }
        if open.size > MAX_NODES || open.depth > MAX_DEPTH { Err(EditError::Ambiguous) } else { Ok(()) }
    }
}

fn simple_key(node: Node, anchor: usize) -> Result<Scalar, EditError> {
    match node {
        Node::Scalar(key) if anchor == 0 && key.tag.is_none() && !(key.plain && key.text.is_empty()) => Ok(key),
        Node::Scalar(_) | Node::List(_) | Node::Map(_) | Node::Shared(_) => Err(EditError::Ambiguous),
    }
}

/// A merge key takes a mapping or a list of mappings.
fn check_merge(key: &Scalar, value: &Node) -> Result<(), EditError> {
    let parts = value.merge_sources();
    let good = !matches!(value.resolved(), Node::Scalar(_))
        && parts.iter().all(|part| matches!(part.resolved(), Node::Map(_)));
    if key.kind() != ScalarKind::Merge || good { Ok(()) } else { Err(EditError::Ambiguous) }
}

fn scalar_tag(tag: &Tag) -> Result<&'static str, EditError> {
    let known = SCALAR_TAGS.into_iter().find(|known| tag.is_yaml_core_schema() && tag.suffix == *known);
    known.ok_or(EditError::Ambiguous)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsafe_form(text: &str) -> bool {
        matches!(Tree::parse(text), Err(EditError::Ambiguous))
    }

    #[test]
    fn ambiguous_forms_are_refused() {
        for text in [
            "a: 1\n---\nb: 2\n",
            "? [a, b]\n: c\n",
            "? {a: b}\n: c\n",
            "*a : 1\n",
            "x: &a y\n*a : 1\n",
            "&k key: 1\n",
            "!!str key: 1\n",
            "a: !mine 1\n",
            "a: !!python/name:os.system x\n",
            "a: !!set {b}\n",
            "a: &a [*a]\n",
            ": 1\n",
            "<<: text\n",
            "<<: [a]\n",
            "a: b # c\u{2028}mcp_servers: []\n",
            "a: b # c\u{85}mcp_servers: []\n",
            "a: 1\n\u{feff}b: 2\n",
        ] {
            assert!(unsafe_form(text) || text.starts_with("*a"), "{text:?}");
            assert!(Tree::parse(text).is_err(), "{text:?}");
        }
        for text in ["", "- a\n", "just words", "# nothing\n"] {
            assert!(matches!(Tree::parse(text), Err(EditError::NotAMapping)), "{text:?}");
        }
        assert!(matches!(Tree::parse("a: ["), Err(EditError::Scan(_))));
    }

    #[test]
    fn the_extension_decides_how_a_file_is_parsed() {
        let text = "{\"a\": 1e5}";
        let parsed =
            |name: &str| Tree::parse_file(Path::new(name), text).and_then(|tree| tree.to_yaml()).expect("read");
        assert_eq!((parsed("c.JSON"), parsed("c.yaml")), ("\"a\": 100000.0\n".to_owned(), "\"a\": 1e5\n".to_owned()));
        assert!(matches!(Tree::parse_file(Path::new("c.json"), "a: 1"), Err(EditError::Ambiguous)));
    }

    #[test]
    fn brackets_may_close_anywhere() {
        let text =
            "agents: [\n{id: a,\nbackend: {\ntype: \"x\"\n}\n},\n# more\n]\nui:\n  l: [\n    1,\n  ]\n  t: |\n    ]\n";
        let tree = Tree::parse(text).and_then(|tree| tree.to_yaml()).expect("YAML");
        let expected = "agents:\n  - id: a\n    backend:\n      type: \"x\"\nui:\n  l:\n    - 1\n  t: \"]\\n\"\n";
        assert_eq!(tree, expected);
        assert!(Tree::parse("a: [\n1\nb: 2\n").is_err());
    }

    #[test]
    fn a_text_block_at_the_end_gets_no_extra_line_break() {
        for (text, expected) in [
            ("a: |\n  b\n  c", "b\nc"),
            ("a: |\n  b\n", "b\n"),
            ("a: >\n  b\n  c", "b c"),
            ("a: |\n  b\n# c", "b\n"),
            ("a: |+\n  b", "b"),
            ("a: |-\n  b", "b"),
        ] {
            let tree = Tree::parse(text).expect("YAML");
            assert_eq!(tree.root.get("a").and_then(Node::text), Some(expected), "{text:?}");
        }
        assert!(unsafe_form("a: |\n  b\n  "));
    }

    #[test]
    fn excessive_alias_expansion_is_refused() {
        let mut expanding = "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let aliases = vec![format!("*l{}", level - 1); 10].join(", ");
            expanding.push_str(&format!("l{level}: &l{level} [{aliases}]\n"));
        }
        assert!(unsafe_form(&expanding));
        let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
        assert!(Tree::parse(&deep).is_err());
        let chain: String = (1..200).map(|n| format!("k{n}: &k{n} {{a: *k{}}}\n", n - 1)).collect();
        assert!(unsafe_form(&format!("k0: &k0 1\n{chain}")));
    }

    #[test]
    fn values_are_found_through_aliases_and_merge_keys() {
        let text = "base: &b {type: x, model: m}\nmore: &m {model: n, extra: 1}\n\
                    agents:\n- {<<: [*b, *m], id: 1, id: 2}\n- *b\n- {<<: *b, <<: *m}\n\"<<\": no\n";
        let tree = Tree::parse(text).expect("YAML");
        let agents = tree.root.get("agents").expect("agents").items();
        let text_of =
            |agent: usize, key: &str| agents[agent].get(key).and_then(Node::text).unwrap_or_default().to_owned();
        assert_eq!((text_of(0, "model"), text_of(0, "extra"), text_of(0, "id")), ("m".into(), "1".into(), "2".into()));
        assert_eq!(
            (text_of(1, "model"), text_of(2, "model"), text_of(2, "type")),
            ("m".into(), "n".into(), "x".into())
        );
        assert_eq!(tree.root.get("<<").and_then(Node::text), Some("no"), "in quotes it is a key like any other");
    }

    #[test]
    fn a_walk_visits_every_value_with_its_path() {
        let tree = Tree::parse("b: &b {c: [1, {d: 2}]}\na:\n- {<<: *b, e: 3}\n").expect("YAML");
        let mut visited = Vec::new();
        tree.walk(&mut |path, node| {
            if let Some(text) = node.text() {
                visited.push(format!("{}={text}", path.to_text()));
            }
        });
        assert_eq!(visited, ["b.c[0]=1", "b.c[1].d=2", "a[0].c[0]=1", "a[0].c[1].d=2", "a[0].e=3"]);
    }

    #[test]
    fn truth_values_are_the_same_as_in_python() {
        let text = "a: yes\nb: True\nc: 1\nd: x\ne: [1]\nf: 'no'\n\
                    g: no\nh: off\ni: 0\nj: ''\nk: []\nl: {}\nm: ~\nn:\no: 0.0\np: FALSE\n";
        let tree = Tree::parse(text).expect("YAML");
        for entry in tree.root.entries() {
            assert_eq!(entry.value.is_truthy(), entry.key.text.as_str() < "g", "{}", entry.key.text);
        }
    }
}
