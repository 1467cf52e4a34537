//! Error lines of MassGen's logs: each once with a count, in order; known harmless ones in one line at the end. Pure. A line counts by its
//! level or its form, never because it contains a word that looks like an error.

use super::text;

/// The longest line, in characters.
const MAX_LINE_CHARS: usize = 400;
/// The longest example of a harmless line, in characters.
const MAX_EXAMPLE_CHARS: usize = 80;

/// Warnings of MassGen and its libraries that do not affect a run, in lower case.
const HARMLESS_PATTERNS: &[&str] = &[
    "list_subagents",
    "no messages or buffer content to compress",
    "not in known models list",
    "does not map to a known",
    "failed to load session registry",
    "failed to save status file",
    "unclosed client session",
    "unclosed connector",
    "deprecat",
];

/// The prefixes of error lines without a level, in lower case.
const ERROR_PREFIXES: &[&str] =
    &["❌", "error: ", "error reading", "fatal: ", "failed to ", "npm err", "usage: massgen"];
/// The lines between this one and the exception (the first line without an indent) are MassGen's code.
const TRACEBACK_PREFIX: &str = "Traceback (";
/// Level names, which a logger puts among the first words of a line.
const ERROR_LEVELS: [&str; 3] = ["ERROR", "CRITICAL", "FATAL"];
const MAX_LEVEL_POSITION: usize = 4;

/// The error lines of several logs. A line that occurs in several logs has the largest of their counts.
#[derive(Debug, Default)]
pub struct ErrorLines {
    errors: LineCounts,
    harmless: LineCounts,
}

#[derive(Debug, Default)]
struct LineCounts(Vec<(String, u32)>);

impl ErrorLines {
    /// Adds the lines of one log.
    pub fn add_log(&mut self, log: &str) {
        let mut counted = ErrorLines::default();
        // A line without a level belongs to the entry before it; MassGen logs whole prompts as one entry.
        let mut in_a_quiet_entry = false;
        let mut in_a_traceback = false;
        for line in text::remove_harmful(log).lines() {
            let ends_a_traceback = in_a_traceback && !line.is_empty() && !line.starts_with([' ', '+', '|']);
            in_a_traceback = line.starts_with(TRACEBACK_PREFIX) || (in_a_traceback && !ends_a_traceback);
            let (is_error, message) = match split_log_line(line) {
                Some((level, message)) => {
                    in_a_quiet_entry = !matches!(level, "ERROR" | "CRITICAL" | "WARNING");
                    (!in_a_quiet_entry, message)
                }
                None => (!in_a_quiet_entry && (ends_a_traceback || (!in_a_traceback && is_error_line(line))), line),
            };
            if is_error {
                counted.add_message(message);
            }
        }
        self.errors.merge(counted.errors);
        self.harmless.merge(counted.harmless);
    }

    fn add_message(&mut self, message: &str) {
        let message = text::single_line(message, MAX_LINE_CHARS);
        let lower = message.to_lowercase();
        let is_harmless = HARMLESS_PATTERNS.iter().any(|pattern| lower.contains(pattern));
        if is_harmless { &mut self.harmless } else { &mut self.errors }.add(message);
    }

    /// At most this many of the lines, and one line about the harmless ones.
    pub fn into_lines(self, max_lines: usize) -> Vec<String> {
        let counted = |(line, count): (String, u32)| if count > 1 { format!("{line} (×{count})") } else { line };
        let total: u32 = self.harmless.0.iter().map(|(_, count)| count).sum();
        let example = self.harmless.0.first().map(|(line, _)| text::truncate(line, MAX_EXAMPLE_CHARS));
        let note = example.map(|line| format!("(left out as harmless: {total}, such as `{line}`)"));
        self.errors.0.into_iter().take(max_lines).map(counted).chain(note).collect()
    }
}

impl LineCounts {
    fn count_mut(&mut self, line: String) -> &mut u32 {
        let index = self.0.iter().position(|(known, _)| *known == line).unwrap_or(self.0.len());
        if index == self.0.len() {
            self.0.push((line, 0));
        }
        &mut self.0[index].1
    }

    fn add(&mut self, line: String) {
        *self.count_mut(line) += 1;
    }

    fn merge(&mut self, other: LineCounts) {
        for (line, count) in other.0 {
            let entry = self.count_mut(line);
            *entry = count.max(*entry);
        }
    }
}

/// `14:29:55 | ERROR    | message` → the level and the message.
fn split_log_line(line: &str) -> Option<(&str, &str)> {
    let (stamp, rest) = line.split_once(" | ")?;
    let (level, message) = rest.split_once("| ")?;
    let is_time = |c: char| c.is_ascii_digit() || ":-. ".contains(c);
    (stamp.len() < 30 && stamp.chars().all(is_time)).then(|| (level.trim_end(), message))
}

/// Whether a line without a level has the form of an error: a known prefix of MassGen, a Python exception, or another logger's level.
fn is_error_line(line: &str) -> bool {
    let line = line.trim_start();
    let first = line.split([':', ' ']).next().unwrap_or_default();
    let is_exception = first.len() > "Error".len() && (first.ends_with("Error") || first.ends_with("Exception"));
    let lower = line.to_lowercase();
    let has_error_prefix = ERROR_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    let mut words =
        line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| word.contains(char::is_alphabetic));
    is_exception
        || has_error_prefix
        || lower.contains(": error: ")
        || words.by_ref().take(MAX_LEVEL_POSITION).any(|word| ERROR_LEVELS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(logs: &[&str]) -> Vec<String> {
        let mut lines = ErrorLines::default();
        for log in logs {
            lines.add_log(log);
        }
        lines.into_lines(10)
    }

    #[test]
    fn each_line_is_listed_once_with_its_count_in_one_log() {
        let log = "14:29:55 | ERROR    | Streaming error: 500\n14:29:56 | ERROR    | Streaming error: 500\nfine\n";
        assert_eq!(of(&[log]), ["Streaming error: 500 (×2)"]);
        assert_eq!(
            of(&[log, log]),
            ["Streaming error: 500 (×2)"],
            "standard error and MassGen's log have the same lines"
        );
    }

    #[test]
    fn the_word_error_alone_is_not_an_error() {
        for line in [
            "error_count: 0",
            "found 0 errors",
            "no error, nothing failed",
            "14:29:55 | INFO     | [Tool] error_report: 0 errors, connection refused: never",
            "14:29:55 | INFO     | Structured system message built\n4. Does it handle errors?\nFailed to say so: error: none",
            "  \"error_handler\": {\"failed\": false}",
            "Error handling is described in docs/errors.md",
        ] {
            assert_eq!(of(&[line]), Vec::<String>::new(), "{line}");
        }
    }

    #[test]
    fn a_traceback_is_listed_by_its_exception() {
        let traceback = "Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    Error: code\n";
        assert_eq!(of(&[traceback]), Vec::<String>::new(), "it was cut");
        assert_eq!(of(&[&format!("{traceback}anyio.EndOfStream\nfine\n")]), ["anyio.EndOfStream"]);
        assert_eq!(of(&[&format!("{traceback}OSError: full\n")]), ["OSError: full"]);
    }

    #[test]
    fn an_error_is_recognized_by_its_level_or_its_form() {
        for line in [
            "14:29:55 | WARNING  | a server did not connect",
            "2026-11-26 14:29:55 | CRITICAL | gone",
            "❌ Configuration error: OpenAI API key not found",
            "openai.AuthenticationError: 401",
            "TimeoutError",
            "massgen: error: unrecognized arguments: --x",
            "[11/26/26 20:56:25] ERROR    a tool server ended",
            "ERROR:root:it ended",
            "npm ERR! code E404",
            "Error reading config file: mapping values",
        ] {
            assert_eq!(of(&[line]).len(), 1, "{line}");
        }
    }

    #[test]
    fn harmless_lines_are_counted_in_one_line_at_the_end() {
        let harmless =
            "20:49:44 | WARNING  | [SubagentManager] Failed to parse registry for list_subagents\n".repeat(22);
        let error = "20:49:45 | ERROR    | Streaming error: Connection error.\n";
        let lines = of(&[&format!("{harmless}{error}")]);
        assert_eq!(
            lines,
            [
                "Streaming error: Connection error.",
                "(left out as harmless: 22, such as `[SubagentManager] Failed to parse registry for list_subagents`)"
            ]
        );
    }
}
