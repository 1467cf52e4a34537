//! Samples → printed lines. This module does not know what was measured.

use std::io::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// A measured quantity, with unit, target and circumstances.
pub(crate) struct Figure {
    name: &'static str,
    unit: &'static str,
    target: Option<f64>,
    at: Map<String, Value>,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str) -> Figure {
        Figure { name, unit, target: None, at: Map::new() }
    }

    /// Sets the upper limit for the median.
    pub(crate) fn target(self, target: f64) -> Figure {
        Figure { target: Some(target), ..self }
    }

    /// Adds a circumstance of the measurement.
    pub(crate) fn at(mut self, what: &str, number: usize) -> Figure {
        self.at.insert(what.to_owned(), number.into());
        self
    }

    /// Prints the samples' statistics, with those of the bare server.
    pub(crate) fn print(self, own: &[f64], bare: &[f64]) -> anyhow::Result<()> {
        let median = percentile(own, 50);
        let mut line = Map::from_iter([("name".to_owned(), json!(self.name)), ("unit".to_owned(), json!(self.unit))]);
        line.extend(self.at);
        line.insert("n".to_owned(), own.len().into());
        line.insert("median".to_owned(), rounded(median));
        line.insert("p99".to_owned(), rounded(percentile(own, 99)));
        if let Some(target) = self.target {
            line.insert("target".to_owned(), target.into());
        }
        if !bare.is_empty() {
            let bare = percentile(bare, 50);
            line.insert("bare".to_owned(), rounded(bare));
            line.insert("ratio".to_owned(), rounded(median / bare));
        }
        writeln!(std::io::stdout(), "{}", Value::Object(line))?;
        Ok(())
    }
}

/// A duration in milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The smallest sample that is not exceeded by this percentage of all samples.
fn percentile(samples: &[f64], percent: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

fn rounded(number: f64) -> Value {
    json!((number * 1e4).round() / 1e4)
}
