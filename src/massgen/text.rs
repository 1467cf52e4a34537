//! Small functions for texts that MassGen or its agents wrote: sanitize them for a terminal and a reader, cut them at a character boundary.
//! Pure; it does not interpret a text.

use serde_json::Value;

/// The text without terminal escapes and without the characters that [`HarmfulCharFilter`] replaces.
pub fn remove_harmful(text: &str) -> String {
    let mut filter = HarmfulCharFilter::mid_text();
    let stripped = anstream::adapter::strip_str(text).to_string();
    stripped.chars().filter(|c| *c != '\r' && filter.is_harmless(*c)).collect()
}

/// The text with each character that [`HarmfulCharFilter`] replaces changed to one harmless character.
pub fn replace_harmful(text: &str) -> String {
    let mut filter = HarmfulCharFilter::mid_text();
    text.chars().map(|c| if c != '\r' && filter.is_harmless(c) { c } else { replacement_char(c) }).collect()
}

/// A name in one line: [`replace_harmful`], with newline and tab replaced too.
pub fn safe_name(text: &str) -> String {
    replace_harmful(text).chars().map(|c| if c.is_control() { replacement_char(c) } else { c }).collect()
}

/// Applies `clean` to every text in the value, including object keys.
pub fn map_texts(value: Value, clean: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text)),
        Value::Array(list) => list.into_iter().map(|inner| map_texts(inner, clean)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, inner)| (clean(&name), map_texts(inner, clean))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Detects characters that control a terminal, change the writing direction or hide text. These are harmful:
///
/// - control characters other than newline and tab; the caller handles a carriage return, since it depends on the next character;
/// - direction marks, and invisible characters: zero-width and format characters, fillers, tags;
/// - a byte order mark anywhere but at the beginning of a file;
/// - a joiner (U+200C, U+200D) after a plain ASCII character, or a variation selector without a visible character before it: joined emoji
///   and the scripts that need joiners stay intact, and a sequence of them cannot encode hidden text.
#[derive(Debug)]
pub struct HarmfulCharFilter {
    previous: PreviousChar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PreviousChar {
    FileStart,
    Ascii,
    Visible,
    /// After an emoji's selector; a joiner may follow.
    Selected,
    Invisible,
}

impl HarmfulCharFilter {
    /// At the beginning of a file.
    pub fn at_file_start() -> HarmfulCharFilter {
        HarmfulCharFilter { previous: PreviousChar::FileStart }
    }

    /// At any other place.
    pub fn mid_text() -> HarmfulCharFilter {
        HarmfulCharFilter { previous: PreviousChar::Invisible }
    }

    /// Whether the next character of the text is harmless at its place.
    pub fn is_harmless(&mut self, c: char) -> bool {
        let is_harmless = self.is_allowed(c);
        self.previous = if is_harmless { classify(c) } else { PreviousChar::Invisible };
        is_harmless
    }

    fn is_allowed(&self, c: char) -> bool {
        match c {
            '\n' | '\t' => true,
            '\r' => false,
            '\u{feff}' => self.previous == PreviousChar::FileStart,
            '\u{200c}' | '\u{200d}' => matches!(self.previous, PreviousChar::Visible | PreviousChar::Selected),
            c if is_selector(c) => matches!(self.previous, PreviousChar::Ascii | PreviousChar::Visible),
            c => !(c.is_control() || is_invisible(c)),
        }
    }
}

fn classify(c: char) -> PreviousChar {
    match c {
        '\u{fe0f}' => PreviousChar::Selected,
        c if c.is_control() || is_invisible(c) || is_selector(c) => PreviousChar::Invisible,
        c if c.is_ascii() => PreviousChar::Ascii,
        _ => PreviousChar::Visible,
    }
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// The replacement for a harmful character: the symbol of a control character, or U+FFFD.
pub fn replacement_char(c: char) -> char {
    match u32::from(c) {
        control @ 0..=0x1f => char::from_u32(0x2400 + control).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// At most `most` characters of the text; if it was cut, the last one is `…`.
pub fn truncate(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max_chars.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The longest partial word that a cut removes, in bytes; a longer word is cut in the middle.
const MAX_CUT_WORD_BYTES: usize = 24;

/// The beginning of a text without the word that the cut split; `is_between` if the cut is at the end of a word.
pub fn trim_cut_word(cut: &str, is_between: bool) -> &str {
    let before = cut.trim_end().rfind(' ').filter(|space| !is_between && cut.len() - space <= MAX_CUT_WORD_BYTES);
    cut[..before.unwrap_or(cut.len())].trim_end()
}

/// A sentence as one line of at most `most` characters, cut between words.
pub fn truncate_sentence(text: &str, max_chars: usize) -> String {
    let line = single_line(text, usize::MAX);
    match line.char_indices().nth(max_chars.saturating_sub(1)) {
        Some((end, _)) if line.chars().nth(max_chars).is_some() => {
            format!("{}…", trim_cut_word(&line[..end], line[end..].starts_with(' ')))
        }
        Some(_) | None => line,
    }
}

/// One line of at most `most` characters: white space is collapsed, then the line is cut.
pub fn single_line(text: &str, max_chars: usize) -> String {
    truncate(&remove_harmful(text).split_whitespace().collect::<Vec<_>>().join(" "), max_chars)
}

/// Whether the beginning of a file shows that it is not UTF-8 text: it contains a NUL byte or invalid UTF-8. An incomplete character at its
/// end is allowed.
pub fn is_binary(head: &[u8]) -> bool {
    let is_text = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    !is_text || head.contains(&0)
}

/// A word of a POSIX shell command line, quoted if the shell would interpret a part of it.
pub fn shell_quote(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The text of an error and all its causes, in one line.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    single_line(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_are_removed_and_words_stay() {
        assert_eq!(remove_harmful("a\u{202e}b\u{200f}"), "ab");
        assert_eq!(remove_harmful("\u{1b}[31m\u{1b}[1mERROR\u{1b}[0m a\tb\r\n\u{7}"), "ERROR a\tb\n");
        assert_eq!(single_line("  a \n b\u{1b}[0m  c ", 9), "a b c");
    }

    #[test]
    fn each_harmful_character_is_replaced_by_one_character() {
        let bad = "a\u{1b}[2J\u{7}\r\u{7f}\u{9b}\u{202e}\u{200b}\u{2063}\u{feff}\u{e0041}z";
        assert_eq!(replace_harmful(bad), "a␛[2J␇␍␡\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}z");
        assert_eq!(replace_harmful(&replace_harmful(bad)), replace_harmful(bad));
        assert_eq!(safe_name("a\n1  b\t\u{1b}"), "a␊1  b␉␛");
        for text in
            ["a\tb\n", "zażółć 漢字", "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥 1\u{fe0f}\u{20e3}", "می\u{200c}خواهم"]
        {
            assert_eq!(replace_harmful(text), text);
            assert_eq!(remove_harmful(text), text);
        }
    }

    #[test]
    fn invisible_characters_are_replaced() {
        assert_eq!(replace_harmful("a\u{200d}b"), "a\u{fffd}b");
        assert_eq!(replace_harmful("é\u{200d}\u{200c}\u{200d}"), "é\u{200d}\u{fffd}\u{fffd}");
        assert_eq!(replace_harmful("❤\u{fe0f}\u{fe0f}\u{e0101}"), "❤\u{fe0f}\u{fffd}\u{fffd}");
        assert_eq!(remove_harmful("\u{fe0f}\u{200c}"), "");
        assert_eq!(remove_harmful("a\u{200d}\u{e0041}\u{2060}b\rc"), "abc");
    }

    #[test]
    fn a_shell_reads_a_quoted_word_unchanged() {
        assert_eq!(shell_quote("/usr/bin/massgen"), "/usr/bin/massgen");
        for word in
            ["", "a b", "it's", "$HOME", "`id`", "a\"b", "~/x", "a;b", "x\ny", "*", "!", "\\", "é", "#", "-n", "''"]
        {
            let script = format!("printf %s x{}", shell_quote(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&output.stdout), format!("x{word}"), "{script}");
        }
    }

    #[test]
    fn binary_data_is_recognized_by_its_beginning() {
        for text in ["", "a\n", "żółw 🦀", "\u{feff}x\r\n"] {
            assert!(!is_binary(text.as_bytes()), "{text:?}");
        }
        assert!(!is_binary(&"ż".as_bytes()[..1]), "a character may be cut");
        for binary in [&b"\x89PNG\r\n\x1a\n"[..], b"a\0b", b"PK\x03\x04\0", b"\xff\xfea\0", b"caf\xe9 au lait"] {
            assert!(is_binary(binary), "{binary:?}");
        }
    }

    #[test]
    fn a_sentence_is_cut_between_words() {
        assert_eq!(truncate_sentence("one  two\nthree", 13), "one two three");
        assert_eq!(truncate_sentence("one two three", 12), "one two…");
        assert_eq!(truncate_sentence("one two three", 8), "one two…");
        assert_eq!(truncate_sentence("one two three", 6), "one…");
        assert_eq!(truncate_sentence(&"ż".repeat(40), 10), "żżżżżżżżż…");
        assert_eq!(
            truncate_sentence(&format!("a {}", "x".repeat(100)), 50).chars().count(),
            50,
            "a long word is cut in the middle"
        );
    }

    #[test]
    fn a_text_is_cut_at_a_character_with_a_mark() {
        assert_eq!(truncate("żółw", 4), "żółw");
        assert_eq!(truncate("żółwie", 4), "żół…");
    }
}
