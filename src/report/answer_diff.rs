//! What became of a text: how much of it changed, and the changed lines that tell most. Pure; its cost is bounded by the size of
//! what is compared and by time, and it shows no whole text. (The only similar user.)

use std::path::PathBuf;
use std::time::Duration;

use similar::{ChangeTag, TextDiff, TextDiffConfig};

use crate::massgen::text;

/// How much of each text is compared, in bytes.
pub const MAX_COMPARED_BYTES: usize = 256 << 10;
/// How long each comparison may look for the smallest difference; then it takes a larger one.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);
/// How many lines are kept of each side.
const MAX_LINES: usize = 8;
/// The longest line that is kept, in characters.
const MAX_LINE_CHARS: usize = 200;

/// The difference between a first and a last text.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerDiff {
    /// Whose texts.
    pub agent: String,
    /// The file of the first, relative to the run's folder.
    pub first: PathBuf,
    /// The file of the last, relative to the run's folder.
    pub last: PathBuf,
    /// Words of the last that the first has not.
    pub words_added: usize,
    /// Words of the first that the last has not.
    pub words_removed: usize,
    /// From 0, nothing in common, to 1, word for word the same.
    pub similarity: f32,
    /// The longest of the lines that only the last has.
    pub lines_added: Vec<String>,
    /// The longest of the lines that only the first has.
    pub lines_removed: Vec<String>,
    /// Whether the texts were longer than what was compared.
    pub is_truncated: bool,
}

impl AnswerDiff {
    /// Compares two texts of an agent.
    pub fn compare(agent: &str, first: (PathBuf, &str), last: (PathBuf, &str)) -> AnswerDiff {
        let ((first, old), (last, new)) = (first, last);
        let is_cut = old.len() > MAX_COMPARED_BYTES || new.len() > MAX_COMPARED_BYTES;
        let (old, new) = (compared_part(old), compared_part(new));
        let before: Vec<&str> = old.split_whitespace().collect();
        let after: Vec<&str> = new.split_whitespace().collect();
        let words = diff_config().diff_slices(&before, &after);
        let lines = diff_config().diff_lines(old, new);
        AnswerDiff {
            agent: agent.to_owned(),
            first,
            last,
            words_added: lines_with_tag(&words, ChangeTag::Insert).count(),
            words_removed: lines_with_tag(&words, ChangeTag::Delete).count(),
            similarity: words.ratio(),
            lines_added: longest_lines(lines_with_tag(&lines, ChangeTag::Insert)),
            lines_removed: longest_lines(lines_with_tag(&lines, ChangeTag::Delete)),
            is_truncated: is_cut,
        }
    }
}

fn diff_config() -> TextDiffConfig {
    let mut config = TextDiff::configure();
    config.timeout(DIFF_TIMEOUT);
    config
}

fn compared_part(text: &str) -> &str {
    let boundary = (0..=MAX_COMPARED_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..boundary.unwrap_or_default()]
}

fn lines_with_tag<'a>(diff: &'a TextDiff<'_, '_, str>, tag: ChangeTag) -> impl Iterator<Item = &'a str> {
    diff.iter_all_changes().filter(move |change| change.tag() == tag).map(|change| change.value())
}

/// The longest lines, in their order.
fn longest_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<(usize, &str)> = lines.map(str::trim).filter(|line| !line.is_empty()).enumerate().collect();
    found.sort_by_key(|(_, line)| std::cmp::Reverse(line.len()));
    found.truncate(MAX_LINES);
    found.sort();
    found.into_iter().map(|(_, line)| text::single_line(line, MAX_LINE_CHARS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: &str, new: &str) -> AnswerDiff {
        AnswerDiff::compare("a", ("first".into(), old), ("last".into(), new))
    }

    #[test]
    fn words_and_lines_are_told() {
        let change = change("It is 42.\nI guess.\nEnd.\n", "It is 42, since 6 * 7 = 42.\nEnd.\n");
        assert_eq!((change.words_added, change.words_removed), (6, 2), "{change:?}");
        assert_eq!(change.lines_removed, ["It is 42.", "I guess."]);
        assert_eq!(change.lines_added, ["It is 42, since 6 * 7 = 42."]);
        assert!(change.similarity > 0.2 && change.similarity < 0.9 && !change.is_truncated);
    }

    #[test]
    fn the_same_is_the_same_and_the_longest_lines_come_first() {
        assert_eq!((change("a b\n", "a b\n").similarity, change("", "").similarity), (1.0, 1.0));
        let new: String = (1..=20).map(|n| format!("{}\n", "x".repeat(n * 20))).collect();
        let lines = change("", &new).lines_added;
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines[0].starts_with('x') && lines.iter().all(|line| line.chars().count() <= MAX_LINE_CHARS));
    }

    #[test]
    fn what_is_too_long_is_compared_as_far_as_it_may_be() {
        let long = "zażółć gęślą ".repeat(MAX_COMPARED_BYTES / 10);
        let change = change(&long, &format!("{long}!"));
        assert!(change.is_truncated && change.similarity == 1.0);
    }
}
