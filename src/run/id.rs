//! The id of a run: `mg-` and eight characters of Crockford's base 32 in lower case, 40 random bits.
//! It has no meaning. Only this type is joined to a path as a run's folder name, never another string.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "mg-";
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 8;

/// A run's id, random enough to serve as a handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

/// The text is not a valid run id.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a run id")]
pub struct InvalidRunId(pub String);

impl RunId {
    /// Encodes five random bytes as an id.
    pub fn from_bytes(bytes: [u8; 5]) -> RunId {
        let bits = bytes.iter().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
        let letters = (0..LENGTH).rev().map(|position| ALPHABET[(bits >> (5 * position)) as usize & 31]);
        RunId(PREFIX.chars().chain(letters.map(char::from)).collect())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<RunId, InvalidRunId> {
        let letters = text.strip_prefix(PREFIX).unwrap_or_default();
        let is_valid = letters.len() == LENGTH && letters.bytes().all(|byte| ALPHABET.contains(&byte));
        if is_valid { Ok(RunId(text.to_owned())) } else { Err(InvalidRunId(text.chars().take(80).collect())) }
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
    fn an_id_is_parsed_from_its_text() {
        for bytes in [[0; 5], [255; 5], [1, 2, 3, 4, 5]] {
            let id = RunId::from_bytes(bytes);
            assert_eq!(id.as_str().parse::<RunId>().expect("own name"), id);
        }
        assert_eq!(RunId::from_bytes([0, 0, 0, 0, 33]).as_str(), "mg-00000011");
    }

    #[test]
    fn other_texts_are_not_ids() {
        for text in
            ["", "mg-", "mg-../../x", "mg-0000000", "mg-000000000", "MG-00000000", "mg-0000000u", "mg-0000000\0"]
        {
            assert!(text.parse::<RunId>().is_err(), "{text:?}");
        }
    }
}
