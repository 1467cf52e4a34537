//! Formats numbers and texts for people. Texts are sanitized and cut; the template escapes them.

use maud::{Markup, html};

use crate::massgen::text;
use crate::run::Usd;

/// The longest name, in characters.
const MAX_NAME_CHARS: usize = 60;

/// A name in one line, isolated from the text direction around it.
pub(super) fn name_markup(text: &str) -> Markup {
    html! { bdi { (short_name(text, MAX_NAME_CHARS)) } }
}

/// A name as plain text.
pub(super) fn short_name(text: &str, max_chars: usize) -> String {
    text::truncate(&text::safe_name(text), max_chars)
}

/// The first `max_chars` characters of a text, with its line breaks.
pub(super) fn truncate_lines(text: &str, max_chars: usize) -> String {
    let head: String = text.chars().take(max_chars).collect();
    text::replace_harmful(&head)
}

/// A number that can be drawn: finite and not negative.
pub(super) fn drawable(value: f64) -> Option<f64> {
    (value.is_finite() && (0.0..=1e12).contains(&value)).then_some(value)
}

/// `1,234,567`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A computed count, rounded.
pub(super) fn rounded_count(value: f64) -> String {
    format_drawable(value, |value| count(value.round() as u64))
}

/// `$0.0123`; from one dollar on, `$1.23`.
pub(super) fn usd(value: f64) -> String {
    format_drawable(value, |value| if value < 0.99995 { format!("${value:.4}") } else { format!("${value:.2}") })
}

/// Dollars for an axis, without trailing zeros.
pub(super) fn axis_usd(value: f64) -> String {
    format_drawable(value, |value| Usd((value * 1e6).round() as u64).to_string())
}

/// `8.4 s`, `2 min 05 s`, `1 h 02 min`.
pub(super) fn seconds(value: f64) -> String {
    format_drawable(value, |value| {
        let whole = value.round() as u64;
        match whole {
            0..60 => format!("{value:.1} s"),
            60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
            _ => format!("{} h {:02} min", whole / 3_600, whole / 60 % 60),
        }
    })
}

/// `45 %`.
pub(super) fn percent(share: f64) -> String {
    format_drawable(share, |share| format!("{:.0} %", share * 100.0))
}

fn format_drawable(value: f64, format: impl Fn(f64) -> String) -> String {
    drawable(value).map_or_else(|| "unknown".to_owned(), format)
}

/// A value, or a dash if it is unknown.
pub(super) fn or_dash(value: Option<String>) -> Markup {
    html! { @match value { Some(value) => (value), None => span class="none" title="not known" { "–" } } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable_and_impossible_ones_are_unknown() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.01234, 0.5, 0.999, 12.345].map(usd), ["$0.0000", "$0.0123", "$0.5000", "$0.9990", "$12.35"]);
        assert_eq!([0.0, 0.05, 1.5].map(axis_usd), ["$0.00", "$0.05", "$1.50"]);
        assert_eq!(
            [0.04, 8.44, 59.7, 125.0, 3_725.0].map(seconds),
            ["0.0 s", "8.4 s", "1 min 00 s", "2 min 05 s", "1 h 02 min"]
        );
        for impossible in [f64::NAN, f64::INFINITY, -1.0] {
            assert_eq!(
                [usd(impossible), seconds(impossible), rounded_count(impossible), percent(impossible)],
                ["unknown"; 4]
            );
        }
    }

    #[test]
    fn texts_are_harmless_and_escaped() {
        assert_eq!(name_markup("<b>\u{202e}\u{1b}").into_string(), "<bdi>&lt;b&gt;\u{fffd}␛</bdi>");
        assert_eq!(truncate_lines("a\u{7}\nbc", 3), "a␇\n");
        assert_eq!(short_name("a\nlong name", 5), "a␊lo…");
    }
}
