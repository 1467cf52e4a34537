//! Shortens the lists of an answer when a client shows less than all of it, and builds the hint that says so. Pure; it
//! knows no tool.

use std::collections::BTreeMap;

use serde_json::Value;

/// Objects whose fields are entries, such as one per agent. The fields of any other object have individual meanings.
const MAP_FIELDS: [&str; 3] = ["agents", "votes", "others"];

/// The entries that were left out of an answer.
pub(super) struct OmittedEntries<'a> {
    /// Number of entries by the path of their list.
    counts: BTreeMap<String, usize>,
    /// The original hint of the answer.
    hint: Option<String>,
    /// How to get the omitted entries.
    remedy: &'a str,
}

impl<'a> OmittedEntries<'a> {
    /// Starts with no omitted entries.
    pub(super) fn new(answer: &Value, remedy: &'a str) -> OmittedEntries<'a> {
        let hint = answer.get("hint").and_then(Value::as_str).map(str::to_owned);
        OmittedEntries { counts: BTreeMap::new(), hint, remedy }
    }

    /// Removes a quarter of the entries from the end of the longest list; `false` if no list has more than one entry.
    pub(super) fn shorten(&mut self, answer: &mut Value) -> bool {
        let mut lists = Vec::new();
        collect_lists(answer, String::new(), &mut lists);
        let Some((_, queue_position)) = lists.into_iter().max() else { return false };
        let removed = match answer.pointer_mut(&queue_position) {
            Some(Value::Array(items)) => truncate_quarter(items.len(), |remaining| items.truncate(remaining)),
            Some(Value::Object(fields)) => {
                let names: Vec<String> = fields.keys().cloned().collect();
                truncate_quarter(names.len(), |remaining| fields.retain(|name, _| names[..remaining].contains(name)))
            }
            Some(_) | None => return false,
        };
        *self.counts.entry(path_label(&queue_position)).or_default() += removed;
        self.write_hint(answer);
        true
    }

    fn write_hint(&self, answer: &mut Value) {
        let counts: Vec<String> = self.counts.iter().map(|(path, count)| format!("{count} of {path}")).collect();
        let omitted_text =
            format!("left out, since you would not be shown them: {}. {}", counts.join(", "), self.remedy);
        let omitted_text =
            self.hint.as_ref().map_or_else(|| omitted_text.clone(), |hint| format!("{hint}. {omitted_text}"));
        if let Some(fields) = answer.as_object_mut() {
            fields.insert("hint".to_owned(), omitted_text.into());
        }
    }
}

/// Keeps three quarters of the entries, and at least one; returns how many are removed.
fn truncate_quarter(count: usize, truncate: impl FnOnce(usize)) -> usize {
    let remaining = (count * 3 / 4).max(1);
    truncate(remaining);
    count - remaining
}

/// The lists of more than one entry, each with its length in bytes and its JSON pointer.
fn collect_lists(value: &Value, path: String, lists: &mut Vec<(usize, String)>) {
    let is_map = MAP_FIELDS.iter().any(|map| path.rsplit('/').next() == Some(*map));
    let length = || value.to_string().len();
    let child_path = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| collect_lists(item, child_path(&at.to_string()), lists));
            if items.len() > 1 {
                lists.push((length(), path));
            }
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| collect_lists(field, child_path(name), lists));
            if is_map && fields.len() > 1 {
                lists.push((length(), path));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A JSON pointer as a readable path, without list indexes: `/runs/0/details/agents` becomes `runs.details.agents`.
fn path_label(path: &str) -> String {
    let parts =
        path.split('/').filter(|segment| !segment.is_empty() && !segment.bytes().all(|byte| byte.is_ascii_digit()));
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_list_loses_entries_and_the_hint_counts_them() {
        let agents: serde_json::Map<String, Value> =
            (0..40).map(|n| (format!("a/{n}"), json!({"error": "e".repeat(90)}))).collect();
        let mut answer = json!({
            "runs": [{"run_id": "mg-1", "state": "failed", "agents": {"a": "failed"}, "details": {"agents": agents}}],
            "cursor": "1", "hint": "call read_result",
        });
        let mut left_out = OmittedEntries::new(&answer, "Ask for less.");
        while answer.to_string().len() > 1_500 {
            assert!(left_out.shorten(&mut answer));
        }
        let remaining = answer["runs"][0]["details"]["agents"].as_object().expect("agents").len();
        let hint = format!(
            "call read_result. left out, since you would not be shown them: {} of runs.details.agents. Ask for less.",
            40 - remaining
        );
        assert_eq!((&answer["hint"], &answer["cursor"]), (&json!(hint), &json!("1")), "{answer}");
        assert_eq!(answer["runs"][0]["state"], "failed", "what is no list stays: {answer}");
        let mut single = json!({"runs": [{"agents": {"a": "x"}}]});
        assert!(!OmittedEntries::new(&single, "").shorten(&mut single));
    }
}
