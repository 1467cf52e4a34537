//! One run told to a model that wants to know why it went as it did: plain text of at most 4 KB, the most important first, each fact
//! with the file that it is from. Every list shows what matters most of it and says how much it leaves out; the larger the run,
//! the shorter the lists. Pure: it draws what it is given and judges nothing.

mod heading;
mod lists;

use std::path::Path;

use super::answer_diff::AnswerDiff;
use crate::massgen::text;
use crate::massgen::timeline::Timeline;
use crate::run::{RunId, RunRecord, Usd};

/// The most that a report has, in bytes.
pub const MAX_BYTES: usize = 4_096;
/// How many entries each list has at most; the first number with which the report is short enough counts.
const LIST_LENGTHS: [usize; 9] = [30, 20, 12, 8, 6, 4, 3, 2, 1];
/// The longest name of a file, in characters.
const MAX_PATH_CHARS: usize = 120;
/// What stands at the end of a report that even the shortest lists do not make short enough.
const TRUNCATION_NOTE: &str = "(the rest is left out)\n";

/// Tells a run. `changed` is what its winner made of its own first answer, where there are both; `built_on_by` are the runs that build
/// on an answer of it.
pub fn run_report(record: &RunRecord, story: &Timeline, changed: Option<&AnswerDiff>, built_on_by: &[RunId]) -> String {
    let told = |most| {
        Draft { record, timeline: story, answer_diff: changed, dependents: built_on_by, max_entries: most }.text()
    };
    let fits = LIST_LENGTHS.into_iter().map(told).find(|text| text.len() <= MAX_BYTES);
    fits.unwrap_or_else(|| whole_lines(&told(1)))
}

/// As many lines of a text as there is room for.
fn whole_lines(text: &str) -> String {
    let mut room = MAX_BYTES - TRUNCATION_NOTE.len();
    let fits = |line: &&str| {
        let left = room.checked_sub(line.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    let lines: String = text.split_inclusive('\n').take_while(fits).collect();
    lines + TRUNCATION_NOTE
}

/// A report with lists of a certain length.
struct Draft<'a> {
    record: &'a RunRecord,
    timeline: &'a Timeline,
    answer_diff: Option<&'a AnswerDiff>,
    dependents: &'a [RunId],
    max_entries: usize,
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

    /// The longest quotation, in characters.
    fn quote(&self, words: &str) -> String {
        text::truncate(words, (self.max_entries * 25).clamp(60, 300))
    }

    /// A file as the report names it: in the attempt's folder, else from the run's folder on.
    fn file_name_text(&self, path: &Path) -> String {
        let name = match path.strip_prefix(&self.timeline.attempt) {
            Ok(inside) if !self.timeline.attempt.as_os_str().is_empty() => inside.display().to_string(),
            Ok(_) | Err(_) => format!("./{}", path.display()),
        };
        text::truncate(&text::safe_name(&name), MAX_PATH_CHARS)
    }

    /// A list under its title: the first entries, and how many are left out. Nothing where there are none.
    fn first_entries(&self, title: String, entries: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        if entries.len() == 0 {
            return Vec::new();
        }
        let more = entries.len().saturating_sub(self.max_entries);
        let shown = entries.take(self.max_entries).map(|entry| format!("  {entry}"));
        let rest = (more > 0).then(|| format!("  ({more} more are left out)"));
        std::iter::once(title).chain(shown).chain(rest).collect()
    }

    /// A list in the order of time, of which the newest entries are shown.
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
    // The sum of nothing is -0.
    let time = time + 0.0;
    format!("{time:.1} s")
}

/// Where money is not known, nothing is said of it.
fn dollars_text(dollars: Option<f64>) -> String {
    dollars.and_then(Usd::from_f64).map(|usd| format!(", {usd}")).unwrap_or_default()
}

/// `1 call`, `2 calls`.
fn pluralize(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests;
