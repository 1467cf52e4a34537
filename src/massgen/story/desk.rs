//! What the readers of a story have in common: the attempt's files, bounded, and words of theirs that are fit to be told. It knows no file's meaning.

use std::path::Path;

use serde_json::Value;

use super::Source;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::{status, text};
use crate::secrets::Secrets;

/// The most of a JSON file that is read, in bytes.
const JSON_BYTES: u64 = 16 << 20;
/// The longest name of an agent, a label, a tool or a word of MassGen's, in characters.
const NAME_CHARS: usize = 64;
/// The longest reason or message, in characters.
const SAID_CHARS: usize = 400;

/// A run's newest attempt, to be read.
pub(super) struct Desk<'a> {
    pub(super) files: &'a RunFiles,
    pub(super) layout: &'a Layout,
    secrets: &'a Secrets,
}

impl<'a> Desk<'a> {
    pub(super) fn new(files: &'a RunFiles, layout: &'a Layout, secrets: &'a Secrets) -> Desk<'a> {
        Desk { files, layout, secrets }
    }

    /// A file of the attempt.
    pub(super) fn place(&self, name: &str) -> Source {
        self.layout.attempt.join(name)
    }

    /// A JSON file of the attempt; a gap says why there is none.
    pub(super) fn json(&self, name: &str, gaps: &mut Vec<String>) -> Option<Value> {
        let read = self.json_at(&self.place(name));
        read.map_err(|why| gaps.push(format!("{name} {why}"))).ok()
    }

    /// A JSON file of the run, or what is the matter with it.
    pub(super) fn json_at(&self, path: &Path) -> Result<Value, &'static str> {
        let bytes = self.files.head(path, JSON_BYTES + 1).map_err(|_| "is not there")?;
        if bytes.len() as u64 > JSON_BYTES {
            return Err("is too large to be read");
        }
        // Python writes NaN and Infinity, which are no JSON.
        let read = serde_json::from_slice(&bytes).or_else(|_| serde_json::from_slice(&status::without_nan(&bytes)));
        read.map_err(|_| "is damaged, or was being written")
    }

    /// A name, in one harmless line.
    pub(super) fn name(&self, name: &str) -> String {
        text::line(&self.secrets.mask(name), NAME_CHARS)
    }

    /// The name that a field has; nothing where it has none.
    pub(super) fn word(&self, value: &Value) -> String {
        value.as_str().map(|word| self.name(word)).unwrap_or_default()
    }

    /// A reason or a message, in one harmless line. A secret is masked before the cut, which could leave half of it.
    pub(super) fn said(&self, text: &str) -> String {
        text::line(&self.secrets.mask(text), SAID_CHARS)
    }
}

/// A number of things; 0 where there is none.
pub(super) fn count(value: &Value) -> u64 {
    amount(value).unwrap_or_default() as u64
}

/// A number that is one and is not negative.
pub(super) fn amount(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
}

/// Dollars. MassGen writes 0.0 for a model without a price, so that 0 means unknown.
pub(super) fn money(value: &Value) -> Option<f64> {
    amount(value).filter(|dollars| *dollars > 0.0)
}
