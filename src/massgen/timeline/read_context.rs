//! What the timeline readers share: bounded access to the attempt's files, and sanitized text. It does not interpret any file.

use std::path::Path;

use serde_json::Value;

use super::SourcePath;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::{status, text};
use crate::secrets::Secrets;

/// How many bytes of a JSON file are read.
const MAX_JSON_BYTES: u64 = 16 << 20;
/// The longest agent name, label, tool name or MassGen keyword, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The longest reason or message, in characters.
const MAX_MESSAGE_CHARS: usize = 400;

/// A run's newest attempt, opened for reading.
pub(super) struct ReadContext<'a> {
    pub(super) files: &'a RunFiles,
    pub(super) layout: &'a Layout,
    secrets: &'a Secrets,
}

impl<'a> ReadContext<'a> {
    pub(super) fn new(files: &'a RunFiles, layout: &'a Layout, secrets: &'a Secrets) -> ReadContext<'a> {
        ReadContext { files, layout, secrets }
    }

    /// A file of the attempt.
    pub(super) fn attempt_path(&self, name: &str) -> SourcePath {
        self.layout.attempt.join(name)
    }

    /// A JSON file of the attempt; if it cannot be read, a gap gives the reason.
    pub(super) fn read_json(&self, name: &str, gaps: &mut Vec<String>) -> Option<Value> {
        let read = self.read_json_at(&self.attempt_path(name));
        read.map_err(|reason| gaps.push(format!("{name} {reason}"))).ok()
    }

    /// A JSON file of the run, or the reason why it cannot be read.
    pub(super) fn read_json_at(&self, path: &Path) -> Result<Value, &'static str> {
        let bytes = self.files.head(path, MAX_JSON_BYTES + 1).map_err(|_| "is not there")?;
        if bytes.len() as u64 > MAX_JSON_BYTES {
            return Err("is too large to be read");
        }
        // Python writes NaN and Infinity, which are not valid JSON.
        let read = serde_json::from_slice(&bytes).or_else(|_| serde_json::from_slice(&status::without_nan(&bytes)));
        read.map_err(|_| "is damaged, or was being written")
    }

    /// A name, as one sanitized line.
    pub(super) fn clean_name(&self, name: &str) -> String {
        text::single_line(&self.secrets.mask(name), MAX_NAME_CHARS)
    }

    /// The name in a field; empty if it has none.
    pub(super) fn name_of(&self, value: &Value) -> String {
        value.as_str().map(|name| self.clean_name(name)).unwrap_or_default()
    }

    /// A reason or a message, as one sanitized line. Secrets are masked before the cut, because the cut could leave part of a secret.
    pub(super) fn clean_message(&self, text: &str) -> String {
        text::single_line(&self.secrets.mask(text), MAX_MESSAGE_CHARS)
    }
}

/// A count; 0 if it is missing.
pub(super) fn count(value: &Value) -> u64 {
    amount(value).unwrap_or_default() as u64
}

/// A finite number that is not negative.
pub(super) fn amount(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite() && *number >= 0.0)
}

/// Dollars. MassGen writes 0.0 for a model without a price, so 0 means unknown.
pub(super) fn known_cost(value: &Value) -> Option<f64> {
    amount(value).filter(|dollars| *dollars > 0.0)
}
