//! Small work on texts that MassGen or its agents wrote: make them harmless to a terminal and to a reader, cut them at a
//! character boundary. Pure; it never judges what a text says.

use serde_json::Value;

/// The text without terminal escapes, and without every character that [`Filter`] replaces.
pub fn clean(text: &str) -> String {
    let mut filter = Filter::in_the_middle();
    let stripped = anstream::adapter::strip_str(text).to_string();
    stripped.chars().filter(|c| *c != '\r' && filter.harmless(*c)).collect()
}

/// The text with one harmless character in the place of each one that [`Filter`] replaces.
pub fn harmless(text: &str) -> String {
    let mut filter = Filter::in_the_middle();
    text.chars().map(|c| if c != '\r' && filter.harmless(c) { c } else { stand_in(c) }).collect()
}

/// A name in one line: [`harmless`], and newline and tab are replaced as well.
pub fn name(text: &str) -> String {
    harmless(text).chars().map(|c| if c.is_control() { stand_in(c) } else { c }).collect()
}

/// The value with every text in it, keys of objects too, as `clean` makes it.
pub fn each_text(value: Value, clean: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(clean(&text)),
        Value::Array(list) => list.into_iter().map(|inner| each_text(inner, clean)).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, inner)| (clean(&name), each_text(inner, clean))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Tells harmless characters from those that steer a terminal, turn the direction of writing or hide text. These are harmful:
///
/// - control characters other than newline and tab; a carriage return is for whoever calls, since it depends on what follows;
/// - marks of direction, and characters that show nothing: zero-width and format characters, fillers, tags;
/// - a byte order mark anywhere but at the beginning of a file;
/// - a joiner (U+200C, U+200D) after a plain ASCII character, or a variation selector after nothing that is seen: joined
///   emoji and the scripts that need joiners stay whole, and nothing can be spelt with many of them.
#[derive(Debug)]
pub struct Filter {
    before: Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    File,
    Ascii,
    Visible,
    /// An emoji's selector, after which it may be joined to the next one.
    Selected,
    Invisible,
}

impl Filter {
    /// At the beginning of a file.
    pub fn at_the_beginning() -> Filter {
        Filter { before: Before::File }
    }

    /// Anywhere else.
    pub fn in_the_middle() -> Filter {
        Filter { before: Before::Invisible }
    }

    /// Whether the next character of the text is harmless where it stands.
    pub fn harmless(&mut self, c: char) -> bool {
        let harmless = self.allows(c);
        self.before = if harmless { kind(c) } else { Before::Invisible };
        harmless
    }

    fn allows(&self, c: char) -> bool {
        match c {
            '\n' | '\t' => true,
            '\r' => false,
            '\u{feff}' => self.before == Before::File,
            '\u{200c}' | '\u{200d}' => matches!(self.before, Before::Visible | Before::Selected),
            c if is_selector(c) => matches!(self.before, Before::Ascii | Before::Visible),
            c => !(c.is_control() || shows_nothing(c)),
        }
    }
}

fn kind(c: char) -> Before {
    match c {
        '\u{fe0f}' => Before::Selected,
        c if c.is_control() || shows_nothing(c) || is_selector(c) => Before::Invisible,
        c if c.is_ascii() => Before::Ascii,
        _ => Before::Visible,
    }
}

fn is_selector(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}' | '\u{e0100}'..='\u{e01ef}')
}

fn shows_nothing(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// What stands in a harmful character's place: the picture of a control character, or U+FFFD.
pub fn stand_in(c: char) -> char {
    match u32::from(c) {
        control @ 0..=0x1f => char::from_u32(0x2400 + control).unwrap_or(char::REPLACEMENT_CHARACTER),
        0x7f => '\u{2421}',
        _ => char::REPLACEMENT_CHARACTER,
    }
}

/// At most `most` characters of the text; where something was cut, the last one is `…`.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The longest part of a word that a cut takes away with it, in bytes; a longer word is cut in the middle.
const WORD_BYTES: usize = 24;

/// The beginning of a text without the word that its cut went through; `is_between` where the cut is at the end of a word.
pub fn whole_words(cut: &str, is_between: bool) -> &str {
    let before = cut.trim_end().rfind(' ').filter(|space| !is_between && cut.len() - space <= WORD_BYTES);
    cut[..before.unwrap_or(cut.len())].trim_end()
}

/// A sentence in one line of at most `most` characters, cut between words.
pub fn sentence(text: &str, most: usize) -> String {
    let whole = line(text, usize::MAX);
    match whole.char_indices().nth(most.saturating_sub(1)) {
        Some((end, _)) if whole.chars().nth(most).is_some() => {
            format!("{}…", whole_words(&whole[..end], whole[end..].starts_with(' ')))
        }
        Some(_) | None => whole,
    }
}

/// One line of at most `most` characters: white space folded, then cut.
pub fn line(text: &str, most: usize) -> String {
    cut(&clean(text).split_whitespace().collect::<Vec<_>>().join(" "), most)
}

/// Whether the beginning of a file is that of something else than UTF-8 text: it has a NUL byte, or bytes that are no UTF-8, a
/// character at its end that is cut excepted.
pub fn is_binary(head: &[u8]) -> bool {
    let is_text = std::str::from_utf8(head).map_or_else(|error| error.error_len().is_none(), |_| true);
    !is_text || head.contains(&0)
}

/// A word of a POSIX shell's command line: quoted where the shell would take a part of it for something else.
pub fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match text.chars().all(is_plain) && !text.is_empty() {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The text of an error and of all its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    line(&causes.map(ToString::to_string).collect::<Vec<_>>().join(": "), 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_and_words_stay() {
        assert_eq!(clean("a\u{202e}b\u{200f}"), "ab");
        assert_eq!(clean("\u{1b}[31m\u{1b}[1mERROR\u{1b}[0m a\tb\r\n\u{7}"), "ERROR a\tb\n");
        assert_eq!(line("  a \n b\u{1b}[0m  c ", 9), "a b c");
    }

    #[test]
    fn each_harmful_character_has_one_in_its_place() {
        let bad = "a\u{1b}[2J\u{7}\r\u{7f}\u{9b}\u{202e}\u{200b}\u{2063}\u{feff}\u{e0041}z";
        assert_eq!(harmless(bad), "a␛[2J␇␍␡\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}z");
        assert_eq!(harmless(&harmless(bad)), harmless(bad));
        assert_eq!(name("a\n1  b\t\u{1b}"), "a␊1  b␉␛");
        for fine in
            ["a\tb\n", "zażółć 漢字", "👩\u{200d}👩\u{200d}👧 ❤\u{fe0f}\u{200d}🔥 1\u{fe0f}\u{20e3}", "می\u{200c}خواهم"]
        {
            assert_eq!(harmless(fine), fine);
            assert_eq!(clean(fine), fine);
        }
    }

    #[test]
    fn nothing_is_spelt_with_what_is_not_seen() {
        assert_eq!(harmless("a\u{200d}b"), "a\u{fffd}b");
        assert_eq!(harmless("é\u{200d}\u{200c}\u{200d}"), "é\u{200d}\u{fffd}\u{fffd}");
        assert_eq!(harmless("❤\u{fe0f}\u{fe0f}\u{e0101}"), "❤\u{fe0f}\u{fffd}\u{fffd}");
        assert_eq!(clean("\u{fe0f}\u{200c}"), "");
        assert_eq!(clean("a\u{200d}\u{e0041}\u{2060}b\rc"), "abc");
    }

    #[test]
    fn a_shell_takes_a_quoted_word_for_itself() {
        assert_eq!(shell_word("/usr/bin/massgen"), "/usr/bin/massgen");
        for word in
            ["", "a b", "it's", "$HOME", "`id`", "a\"b", "~/x", "a;b", "x\ny", "*", "!", "\\", "é", "#", "-n", "''"]
        {
            let script = format!("printf %s x{}", shell_word(word));
            let said = std::process::Command::new("sh").args(["-c", &script]).output().expect("sh");
            assert_eq!(String::from_utf8_lossy(&said.stdout), format!("x{word}"), "{script}");
        }
    }

    #[test]
    fn what_is_no_text_is_known_by_its_beginning() {
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
        assert_eq!(sentence("one  two\nthree", 13), "one two three");
        assert_eq!(sentence("one two three", 12), "one two…");
        assert_eq!(sentence("one two three", 8), "one two…");
        assert_eq!(sentence("one two three", 6), "one…");
        assert_eq!(sentence(&"ż".repeat(40), 10), "żżżżżżżżż…");
        assert_eq!(
            sentence(&format!("a {}", "x".repeat(100)), 50).chars().count(),
            50,
            "a long word is cut in the middle"
        );
    }

    #[test]
    fn a_cut_is_at_a_character_and_shows() {
        assert_eq!(cut("żółw", 4), "żółw");
        assert_eq!(cut("żółwie", 4), "żół…");
    }
}
