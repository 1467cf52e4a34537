//! A cursor: one short word for all that a waiter has seen of some runs. It is made of hashes of their names and change
//! counters, so that any server gives the same word for the same sight, and none has to remember who saw what. Pure.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::run::RunRecord;

/// What was seen: `<changes>-<endings>`, in decimal digits; an answer that is whole is as good as an end. A model reads it with every wait and writes it with the next, and to its
/// tokenizer three digits are one token, where a hexadecimal word falls into pieces: 8 tokens in place of 20.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    changes: String,
    endings: String,
}

impl Cursor {
    /// The cursor of a sight. The order of the runs does not matter.
    pub fn of(runs: &[RunRecord]) -> Cursor {
        let changes = runs.iter().map(|run| format!("{} {}\n", run.spec.id, run.seq));
        let answered = runs.iter().filter(|run| run.is_answered());
        Cursor {
            changes: format!("{:012}", hash(changes.collect()) % 1_000_000_000_000),
            endings: format!("{:09}", hash(answered.map(|run| format!("{}\n", run.spec.id)).collect()) % 1_000_000_000),
        }
    }

    /// A cursor as a client gave it back; one that was never given out differs from every sight.
    pub fn given(text: &str) -> Cursor {
        let (changes, endings) = text.split_once('-').unwrap_or((text, ""));
        Cursor { changes: changes.to_owned(), endings: endings.to_owned() }
    }

    /// Whether the same runs had ended, or had only that left to do.
    pub fn same_endings(&self, other: &Cursor) -> bool {
        self.endings == other.endings
    }
}

fn hash(mut lines: Vec<String>) -> u64 {
    lines.sort();
    let hash = Sha256::digest(lines.concat());
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.changes, self.endings)
    }
}
