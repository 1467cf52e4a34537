//! How a comparison writes numbers, keys and cells: the same in every form of it.

use super::Measure;

/// The short name of an arm, by its place.
pub fn arm_key(arm: usize) -> String {
    format!("a{}", arm.saturating_add(1))
}

/// The short name of a question, by its place.
pub(super) fn question_key(question: usize) -> String {
    format!("q{}", question.saturating_add(1))
}

/// One line of at most `most` characters that ends no cell of a table: blanks and control characters are one blank.
pub(super) fn cell_text(text: &str, most: usize) -> String {
    let parts = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty());
    let folded = parts.collect::<Vec<_>>().join(" ").replace('|', "/");
    match folded.char_indices().nth(most) {
        None => folded,
        Some(_) => folded.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// "1 question", "2 questions".
pub(super) fn pluralize(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

/// With its unit.
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

/// Without a unit but for the sign of dollars; a share in hundredths.
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

/// Nothing is shown as less than nothing.
pub(super) fn fixed_decimals(value: f64, places: usize) -> String {
    let shown = format!("{value:.places$}");
    let is_zero = shown.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { shown.trim_start_matches('-').to_owned() } else { shown }
}

/// Four digits that count, and no more than a millionth of a dollar's thousandth.
pub(super) fn dollars(value: f64) -> String {
    let exponent = format!("{:.3e}", value.abs());
    let exponent: i32 = exponent.split_once('e').and_then(|(_, digits)| digits.parse().ok()).unwrap_or_default();
    let places = usize::try_from(3 - exponent).unwrap_or_default().min(9);
    let shown = fixed_decimals(value.abs(), if value == 0.0 { 2 } else { places });
    format!("{}${shown}", if value < 0.0 { "-" } else { "" })
}
