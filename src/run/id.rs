//! The name of a run: `mg-` and eight characters of Crockford's base 32 in lower case, 40 random bits.
//! It never carries meaning, and no other string is ever joined to a path in its place.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "mg-";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 8;

/// A run's name, unguessable enough to serve as a handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

/// The text is not the name of any run.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a run id")]
pub struct InvalidRunId(pub String);

impl RunId {
    /// The name that five random bytes spell.
    pub fn from_bytes(bytes: [u8; 5]) -> RunId {
        let bits = bytes.iter().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let letters = (0..LENGTH).rev().map(|place| ALPHABET[(bits >> (5 * place)) as usize & 31]);
        RunId(PREFIX.chars().chain(letters.map(char::from)).collect())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<RunId, InvalidRunId> {
        let letters = text.strip_prefix(PREFIX).unwrap_or_default();
        let good = letters.len() == LENGTH && letters.bytes().all(|byte| ALPHABET.contains(&byte));
        if good { Ok(RunId(text.to_owned())) } else { Err(InvalidRunId(text.chars().take(80).collect())) }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_as_itself() {
        for bytes in [[0; 5], [255; 5], [1, 2, 3, 4, 5]] {
            let id = RunId::from_bytes(bytes);
            assert_eq!(id.as_str().parse::<RunId>().expect("own name"), id);
        }
        assert_eq!(RunId::from_bytes([0, 0, 0, 0, 33]).as_str(), "mg-00000011");
    }

    #[test]
    fn nothing_else_is_a_name() {
        for text in
            ["", "mg-", "mg-../../x", "mg-0000000", "mg-000000000", "MG-00000000", "mg-0000000u", "mg-0000000\0"]
        {
            assert!(text.parse::<RunId>().is_err(), "{text:?}");
        }
    }
}
