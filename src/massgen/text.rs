//! Small work on texts that MassGen or its agents wrote: take out terminal escapes, cut at a character boundary.
//! Pure; it never judges what a text says.

/// The text without terminal escapes, without control characters other than newline and tab, and without the marks that turn
/// the direction of writing.
pub fn clean(text: &str) -> String {
    let harmless = |c: &char| matches!(c, '\n' | '\t') || !(c.is_control() || turns_direction(*c));
    anstream::adapter::strip_str(text).to_string().chars().filter(harmless).collect()
}

fn turns_direction(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters of the text; where something was cut, the last one is `…`.
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// One line of at most `most` characters: white space folded, then cut.
pub fn line(text: &str, most: usize) -> String {
    cut(&clean(text).split_whitespace().collect::<Vec<_>>().join(" "), most)
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
    fn a_cut_is_at_a_character_and_shows() {
        assert_eq!(cut("żółw", 4), "żółw");
        assert_eq!(cut("żółwie", 4), "żół…");
    }
}
