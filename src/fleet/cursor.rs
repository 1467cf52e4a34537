//! A cursor: one short word for all that a waiter has seen of some runs. It is a hash of their names and change counters, so
//! that any server gives the same word for the same sight, and none has to remember who saw what. Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::massgen::pages::hex;
use crate::run::RunRecord;

/// What was seen, in 16 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Cursor {
    /// The cursor of a sight. The order of the runs does not matter.
    pub fn of(runs: &[RunRecord]) -> Cursor {
        let mut seen: Vec<String> = runs.iter().map(|run| format!("{} {}\n", run.spec.id, run.seq)).collect();
        seen.sort();
        let hash = Sha256::digest(seen.concat());
        Cursor(hex(&hash[..8]))
    }

    /// A cursor as a client gave it back; one that was never given out differs from every sight.
    pub fn given(text: &str) -> Cursor {
        Cursor(text.to_owned())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
