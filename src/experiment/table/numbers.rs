//! Formats the numbers, keys and cells of a comparison; shared by its text, CSV and JSON forms.

use super::Measure;

/// The short name of an arm, from its index.
pub fn arm_key(arm: usize) -> String {
    format!("a{}", arm.saturating_add(1))
}

/// The short name of a question, from its index.
pub(super) fn question_key(question: usize) -> String {
    format!("q{}", question.saturating_add(1))
}

/// One line of at most `most` characters without `|`; each sequence of whitespace and control characters becomes one blank.
pub(super) fn cell_text(text: &str, max_chars: usize) -> String {
    let parts = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty());
    let folded = parts.collect::<Vec<_>>().join(" ").replace('|', "/");
    match folded.char_indices().nth(max_chars) {
        None => folded,
        Some(_) => folded.chars().take(max_chars - 1).chain(['…']).collect(),
    }
}

/// "1 question", "2 questions".
pub(super) fn pluralize(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A value with its unit.
pub(super) fn amount(measure: Measure, value: f64) -> String {
    let unit = match measure {
        Measure::Succeeded => " points",
        Measure::Took => " s",
        Measure::Cost => "",
        Measure::Tokens => " tokens",
        Measure::AnswerChars => " characters",
    };
    number_text(measure, value) + unit
}

/// A value without its unit, except the dollar sign; a share in percent.
pub(super) fn number_text(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Succeeded => fixed_decimals(value * 100.0, 0),
        Measure::Took => fixed_decimals(value, 1),
        Measure::Cost => dollars(value),
        Measure::Tokens | Measure::AnswerChars => fixed_decimals(value, 0),
    }
}

pub(super) fn percent(share: f64) -> String {
    fixed_decimals(share * 100.0, 0) + " %"
}

/// Formats a number with fixed decimals; zero has no minus sign.
pub(super) fn fixed_decimals(value: f64, places: usize) -> String {
    let shown = format!("{value:.places$}");
    let is_zero = shown.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { shown.trim_start_matches('-').to_owned() } else { shown }
}

/// Formats dollars with four significant digits and at most nine decimals.
pub(super) fn dollars(value: f64) -> String {
    let exponent = format!("{:.3e}", value.abs());
    let exponent: i32 = exponent.split_once('e').and_then(|(_, digits)| digits.parse().ok()).unwrap_or_default();
    let places = usize::try_from(3 - exponent).unwrap_or_default().min(9);
    let shown = fixed_decimals(value.abs(), if value == 0.0 { 2 } else { places });
    format!("{}${shown}", if value < 0.0 { "-" } else { "" })
}
