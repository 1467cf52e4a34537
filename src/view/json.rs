//! JSON output. Numbers are written like JavaScript's `JSON.stringify`, because clients compare the text with the
//! structured content that they serialize themselves. Lines contain no characters at which some readers split lines.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::Formatter;

/// Characters that some readers treat as line ends, besides `\n`: NEL, LINE SEPARATOR, PARAGRAPH SEPARATOR.
const LINE_TERMINATORS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// A value as JSON text.
pub(crate) fn to_json_text(value: &impl Serialize) -> serde_json::Result<String> {
    // Serializing always produces UTF-8.
    Ok(String::from_utf8(serialize_with_formatter(value, TextFormatter)?).unwrap_or_default())
}

/// A message as one line, with its line end.
pub(crate) fn to_json_line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serialize_with_formatter(message, LineFormatter)?;
    line.push(b'\n');
    Ok(line)
}

fn serialize_with_formatter(value: &impl Serialize, formatter: impl Formatter) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}

struct TextFormatter;

impl Formatter for TextFormatter {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        writer.write_all(format_number(value).as_bytes())
    }
}

struct LineFormatter;

impl Formatter for LineFormatter {
    fn write_f64<W: Write + ?Sized>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        TextFormatter.write_f64(writer, value)
    }

    fn write_string_fragment<W: Write + ?Sized>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, end)) = rest.match_indices(LINE_TERMINATORS).next() {
            writer.write_all(&rest.as_bytes()[..at])?;
            end.chars().try_for_each(|c| write!(writer, "\\u{:04x}", u32::from(c)))?;
            rest = &rest[at + end.len()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Formats a finite number by the rules of ECMAScript's `Number::toString`.
fn format_number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-6..1e21).contains(&size) => value.to_string(),
        size if size < 1.0 => format!("{value:e}"),
        _ => format!("{value:e}").replace('e', "e+"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_formatted_as_in_javascript() {
        let numbers = json!([10.0, -0.0, 0.1, 12345678901234567890.0, 1e21, 1.5e300, 0.000_001_25, 1.25e-7, 7, -3.0]);
        let expected = "[10,0,0.1,12345678901234567000,1e+21,1.5e+300,0.00000125,1.25e-7,7,-3]";
        assert_eq!(to_json_text(&numbers).expect("JSON"), expected);
    }

    #[test]
    fn json_lines_contain_no_line_break() {
        let value = json!({"a\u{2028}b": "c\u{85}\u{2029}d\n\"é🦀"});
        let written = to_json_line(&value).expect("JSON");
        assert_eq!(written, "{\"a\\u2028b\":\"c\\u0085\\u2029d\\n\\\"é🦀\"}\n".as_bytes());
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&written).expect("JSON"), value);
        assert_eq!(to_json_text(&json!("\u{2028}")).expect("JSON"), "\"\u{2028}\"", "as JSON.stringify has it");
    }
}
