//! One run told to a model that wants to know why it went as it did: plain text of at most 4 KB, the most important first, each fact
//! with the file that it is from. Every list shows what matters most of it and says how much it leaves out; the larger the run,
//! the shorter the lists. Pure: it draws what it is given and judges nothing.

mod heading;
mod lists;

use std::path::Path;

use super::change::Change;
use crate::massgen::story::Story;
use crate::massgen::text;
use crate::run::{RunId, RunRecord, Usd};

/// The most that a report has, in bytes.
pub const MOST_BYTES: usize = 4_096;
/// How many entries each list has at most; the first number with which the report is short enough counts.
const LENGTHS: [usize; 9] = [30, 20, 12, 8, 6, 4, 3, 2, 1];
/// The longest name of a file, in characters.
const PATH_CHARS: usize = 120;
/// What stands at the end of a report that even the shortest lists do not make short enough.
const REST: &str = "(the rest is left out)\n";

/// Tells a run. `changed` is what its winner made of its own first answer, where there are both; `built_on_by` are the runs that build
/// on an answer of it.
pub fn text(record: &RunRecord, story: &Story, changed: Option<&Change>, built_on_by: &[RunId]) -> String {
    let told = |most| Draft { record, story, changed, built_on_by, most }.text();
    let fits = LENGTHS.into_iter().map(told).find(|text| text.len() <= MOST_BYTES);
    fits.unwrap_or_else(|| whole_lines(&told(1)))
}

/// As many lines of a text as there is room for.
fn whole_lines(text: &str) -> String {
    let mut room = MOST_BYTES - REST.len();
    let fits = |line: &&str| {
        let left = room.checked_sub(line.len());
        room = left.unwrap_or_default();
        left.is_some()
    };
    let lines: String = text.split_inclusive('\n').take_while(fits).collect();
    lines + REST
}

/// A report with lists of a certain length.
struct Draft<'a> {
    record: &'a RunRecord,
    story: &'a Story,
    changed: Option<&'a Change>,
    built_on_by: &'a [RunId],
    most: usize,
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
            self.troubles(),
            self.change(),
            self.gaps(),
        ];
        let lines: String = sections.into_iter().flatten().map(|line| line + "\n").collect();
        text::harmless(&lines)
    }

    /// The longest quotation, in characters.
    fn said(&self, words: &str) -> String {
        text::cut(words, (self.most * 25).clamp(60, 300))
    }

    /// A file as the report names it: in the attempt's folder, else from the run's folder on.
    fn file(&self, path: &Path) -> String {
        let name = match path.strip_prefix(&self.story.attempt) {
            Ok(inside) if !self.story.attempt.as_os_str().is_empty() => inside.display().to_string(),
            Ok(_) | Err(_) => format!("./{}", path.display()),
        };
        text::cut(&text::name(&name), PATH_CHARS)
    }

    /// A list under its title: the first entries, and how many are left out. Nothing where there are none.
    fn first(&self, title: String, entries: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        if entries.len() == 0 {
            return Vec::new();
        }
        let more = entries.len().saturating_sub(self.most);
        let shown = entries.take(self.most).map(|entry| format!("  {entry}"));
        let rest = (more > 0).then(|| format!("  ({more} more are left out)"));
        std::iter::once(title).chain(shown).chain(rest).collect()
    }

    /// A list in the order of time, of which the newest entries are shown.
    fn newest(&self, title: String, entries: impl ExactSizeIterator<Item = String>) -> Vec<String> {
        let earlier = entries.len().saturating_sub(self.most);
        let mut lines = self.first(title, entries.skip(earlier));
        if earlier > 0 {
            lines.insert(1, format!("  ({earlier} earlier ones are left out)"));
        }
        lines
    }
}

fn seconds(time: f64) -> String {
    // The sum of nothing is -0.
    let time = time + 0.0;
    format!("{time:.1} s")
}

/// Where money is not known, nothing is said of it.
fn money(dollars: Option<f64>) -> String {
    dollars.and_then(Usd::from_f64).map(|usd| format!(", {usd}")).unwrap_or_default()
}

/// `1 call`, `2 calls`.
fn counted(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests;
