//! The report about one run for a model: plain text of at most 4 KB, the most important facts first, each with its source file.
//! Every list shows its most important entries and says how many it leaves out; the larger the run, the shorter the lists.
//! Pure: it formats the given data and does not evaluate it.

mod heading;
mod lists;

use std::path::Path;

use super::answer_diff::AnswerDiff;
use crate::massgen::text;
use crate::massgen::timeline::Timeline;
use crate::run::{RunId, RunRecord, Usd, Wording};

/// The longest report, in bytes.
pub const MAX_BYTES: usize = 4_096;
/// The tried maximum lengths of lists; the first one with which the report is short enough is used.
const LIST_LENGTHS: [usize; 9] = [30, 20, 12, 8, 6, 4, 3, 2, 1];
/// The longest name of a file, in characters.
const MAX_PATH_CHARS: usize = 120;
/// The last line of a report that is too long even with the shortest lists.
const TRUNCATION_NOTE: &str = "(the rest is left out)\n";

/// The report about a run. `answer_diff` compares the winner's first and final answers, if both exist; `dependents` are the runs
/// that build on an answer of this run.
pub fn run_report(
    record: &RunRecord,
    timeline: &Timeline,
    answer_diff: Option<&AnswerDiff>,
    dependents: &[RunId],
    wording: Wording,
) -> String {
    let with_max_entries =
        |max_entries| Draft { record, timeline, answer_diff, dependents, max_entries, wording }.text();
    let short_enough = LIST_LENGTHS.into_iter().map(with_max_entries).find(|text| text.len() <= MAX_BYTES);
    short_enough.unwrap_or_else(|| whole_lines(&with_max_entries(1)))
}

/// The first lines of a text that fit, with a note.
fn whole_lines(text: &str) -> String {
    let mut remaining = MAX_BYTES - TRUNCATION_NOTE.len();
    let fits = |line: &&str| {
        let after_line = remaining.checked_sub(line.len());
        remaining = after_line.unwrap_or_default();
        after_line.is_some()
    };
    let lines: String = text.split_inclusive('\n').take_while(fits).collect();
    lines + TRUNCATION_NOTE
}

/// A report with lists of at most `max_entries`.
struct Draft<'a> {
    record: &'a RunRecord,
    timeline: &'a Timeline,
    answer_diff: Option<&'a AnswerDiff>,
    dependents: &'a [RunId],
    max_entries: usize,
    /// The words for next steps.
    wording: Wording,
}

impl Draft<'_> {
    fn text(&self) -> String {
        let sections = [
            self.heading(),
            self.answers(),
            self.votes(),
            self.restarts(),
            self.agents(),
            self.rounds(),
            self.waits(),
            self.tools(),
            self.errors(),
            self.answer_changes(),
            self.gaps(),
        ];
        let lines: String = sections.into_iter().flatten().map(|line| line + "\n").collect();
        text::replace_harmful(&lines)
    }

    /// Cuts a quotation to a length that depends on the length of lists.
    fn quote(&self, text: &str) -> String {
        text::truncate(text, (self.max_entries * 25).clamp(60, 300))
    }

    /// The name of a file in the report: relative to the attempt's folder, or `./` and the path in the run's folder.
    fn file_name_text(&self, path: &Path) -> String {
        let name = match path.strip_prefix(&self.timeline.attempt) {
            Ok(inside) if !self.timeline.attempt.as_os_str().is_empty() => inside.display().to_string(),
            Ok(_) | Err(_) => format!("./{}", path.display()),
        };
        text::truncate(&text::safe_name(&name), MAX_PATH_CHARS)
    }

    /// A title with the first entries of a list and the number of omitted ones; empty if the list is empty.
    fn first_entries(&self, title: String, entries: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        if entries.len() == 0 {
            return Vec::new();
        }
        let omitted = entries.len().saturating_sub(self.max_entries);
        let shown = entries.take(self.max_entries).map(|entry| format!("  {entry}"));
        let rest = (omitted > 0).then(|| format!("  ({omitted} more are left out)"));
        std::iter::once(title).chain(shown).chain(rest).collect()
    }

    /// A title with the newest entries of a list that is sorted by time.
    fn newest_entries(&self, title: String, entries: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        let earlier = entries.len().saturating_sub(self.max_entries);
        let mut lines = self.first_entries(title, entries.skip(earlier));
        if earlier > 0 {
            lines.insert(1, format!("  ({earlier} earlier ones are left out)"));
        }
        lines
    }
}

fn seconds_text(time: f64) -> String {
    // The sum of an empty iterator is -0.0.
    let time = time + 0.0;
    format!("{time:.1} s")
}

/// The cost as text; empty if it is unknown.
fn dollars_text(dollars: Option<f64>) -> String {
    dollars.and_then(Usd::from_f64).map(|usd| format!(", {usd}")).unwrap_or_default()
}

/// `1 call`, `2 calls`.
fn pluralize(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests;
