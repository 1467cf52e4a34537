//! The difference between two texts: the amount of change and the longest changed lines. Pure. Its cost is bounded by the size of
//! the texts and by time, and it contains no whole text. (The only user of the crate similar.)

use std::path::PathBuf;
use std::time::Duration;

use similar::{ChangeTag, TextDiff, TextDiffConfig};

use crate::massgen::text;

/// The most bytes of each text that are compared.
pub const MAX_COMPARED_BYTES: usize = 256 << 10;
/// How long each comparison may search for the smallest difference; after that it accepts a larger one.
const DIFF_TIMEOUT: Duration = Duration::from_millis(500);
/// The most lines of each side.
const MAX_LINES: usize = 8;
/// The longest line, in characters.
const MAX_LINE_CHARS: usize = 200;

/// The difference between a first and a last text.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerDiff {
    /// The agent that wrote the texts.
    pub agent: String,
    /// The file of the first, relative to the run's folder.
    pub first: PathBuf,
    /// The file of the last, relative to the run's folder.
    pub last: PathBuf,
    /// The number of words that only the last text has.
    pub words_added: usize,
    /// The number of words that only the first text has.
    pub words_removed: usize,
    /// The similarity by words, from 0 (nothing in common) to 1 (equal).
    pub similarity: f32,
    /// The longest lines that only the last text has.
    pub lines_added: Vec<String>,
    /// The longest lines that only the first text has.
    pub lines_removed: Vec<String>,
    /// Whether a text was longer than the compared part.
    pub is_truncated: bool,
}

impl AnswerDiff {
    /// Compares two texts of an agent.
    pub fn compare(agent: &str, first: (PathBuf, &str), last: (PathBuf, &str)) -> AnswerDiff {
        let ((first, old), (last, new)) = (first, last);
        let is_truncated = old.len() > MAX_COMPARED_BYTES || new.len() > MAX_COMPARED_BYTES;
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
            is_truncated,
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

/// The longest lines, in their original order.
fn longest_lines<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut numbered: Vec<(usize, &str)> = lines.map(str::trim).filter(|line| !line.is_empty()).enumerate().collect();
    numbered.sort_by_key(|(_, line)| std::cmp::Reverse(line.len()));
    numbered.truncate(MAX_LINES);
    numbered.sort();
    numbered.into_iter().map(|(_, line)| text::single_line(line, MAX_LINE_CHARS)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(old: &str, new: &str) -> AnswerDiff {
        AnswerDiff::compare("a", ("first".into(), old), ("last".into(), new))
    }

    #[test]
    fn words_and_lines_are_counted_and_listed() {
        let change = change("It is 42.\nI guess.\nEnd.\n", "It is 42, since 6 * 7 = 42.\nEnd.\n");
        assert_eq!((change.words_added, change.words_removed), (6, 2), "{change:?}");
        assert_eq!(change.lines_removed, ["It is 42.", "I guess."]);
        assert_eq!(change.lines_added, ["It is 42, since 6 * 7 = 42."]);
        assert!(change.similarity > 0.2 && change.similarity < 0.9 && !change.is_truncated);
    }

    #[test]
    fn equal_texts_are_similar_and_the_longest_lines_are_kept() {
        assert_eq!((change("a b\n", "a b\n").similarity, change("", "").similarity), (1.0, 1.0));
        let new: String = (1..=20).map(|n| format!("{}\n", "x".repeat(n * 20))).collect();
        let lines = change("", &new).lines_added;
        assert_eq!(lines.len(), MAX_LINES);
        assert!(lines[0].starts_with('x') && lines.iter().all(|line| line.chars().count() <= MAX_LINE_CHARS));
    }

    #[test]
    fn long_texts_are_compared_up_to_the_limit() {
        let long = "zażółć gęślą ".repeat(MAX_COMPARED_BYTES / 10);
        let change = change(&long, &format!("{long}!"));
        assert!(change.is_truncated && change.similarity == 1.0);
    }
}
