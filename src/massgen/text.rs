//! Small work on texts that MassGen or its agents wrote: take out terminal escapes, cut at a character boundary.
//! Pure; it never judges what a text says.

/// The text without terminal escapes and without control characters other than newline and tab.
pub fn clean(text: &str) -> String {
    anstream::adapter::strip_str(text)
        .to_string()
        .chars()
        .filter(|c| !c.is_control() || matches!(c, '\n' | '\t'))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_go_and_words_stay() {
        assert_eq!(clean("\u{1b}[31m\u{1b}[1mERROR\u{1b}[0m a\tb\r\n\u{7}"), "ERROR a\tb\n");
        assert_eq!(line("  a \n b\u{1b}[0m  c ", 9), "a b c");
    }

    #[test]
    fn a_cut_is_at_a_character_and_shows() {
        assert_eq!(cut("żółw", 4), "żółw");
        assert_eq!(cut("żółwie", 4), "żół…");
    }
}
