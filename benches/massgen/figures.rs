//! Samples → printed lines. This module does not know what was measured.

use std::io::Write;

use serde_json::{Map, Value, json};

/// Prints a line: name, unit and circumstances of a measurement, median and maximum of its samples.
pub(crate) fn print_figure(name: &str, unit: &str, at: Value, samples: &[f64]) -> anyhow::Result<()> {
    let mut line = Map::from_iter([("name".to_owned(), json!(name)), ("unit".to_owned(), json!(unit))]);
    line.extend(at.as_object().cloned().unwrap_or_default());
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    line.insert("n".to_owned(), sorted.len().into());
    line.insert("median".to_owned(), rounded(median(&sorted)));
    line.insert("most".to_owned(), rounded(sorted.last().copied().unwrap_or(f64::NAN)));
    writeln!(std::io::stdout(), "{}", Value::Object(line))?;
    Ok(())
}

/// The median; for an even number of samples the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let middle = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    (middle(sorted.len().saturating_sub(1) / 2) + middle(sorted.len() / 2)) / 2.0
}

fn rounded(number: f64) -> Value {
    json!((number * 1e3).round() / 1e3)
}
