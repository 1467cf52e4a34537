//! A text as pages of characters: any reader, however large, in one pass and a fixed amount of memory.
//! Pages put together are the whole text, to the byte where it is UTF-8; what is not is shown as U+FFFD.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// One page of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The characters from the asked offset on.
    pub text: String,
    /// Characters of the whole.
    pub total_chars: u64,
    /// Where the next page begins; `None` at the end.
    pub next_offset: Option<u64>,
    /// SHA-256 of the whole, of its bytes as they are on disk, in lower-case hex.
    pub sha256: String,
}

/// The most bytes of a page, in UTF-8: a script whose characters take three bytes takes more tokens as well.
const PAGE_BYTES: usize = 48 << 10;

/// Reads all of `source` and keeps the `limit` characters from character `offset` on, or fewer where they are long ones.
pub fn page(source: impl Read, offset: u64, limit: u64) -> io::Result<Page> {
    let mut window = Window { offset, end: offset.saturating_add(limit), seen: 0, text: String::new() };
    let hash = pass(source, |text| window.push(text))?;
    let next_offset = (window.seen > window.end).then_some(window.end);
    Ok(Page { text: window.text, total_chars: window.seen, next_offset, sha256: hash })
}

/// How many characters `source` has.
pub fn count_chars(source: impl Read) -> io::Result<u64> {
    let mut count = 0;
    pass(source, |text| count += text.chars().count() as u64)?;
    Ok(count)
}

struct Window {
    offset: u64,
    end: u64,
    seen: u64,
    text: String,
}

impl Window {
    fn push(&mut self, text: &str) {
        let count = text.chars().count() as u64;
        let (from, to) = (self.seen, self.seen + count);
        if to > self.offset && from < self.end {
            let skip = self.offset.saturating_sub(from) as usize;
            let keep = (self.end.min(to) - from.max(self.offset)) as usize;
            for (place, c) in text.chars().skip(skip).take(keep).enumerate() {
                if self.text.len() + c.len_utf8() > PAGE_BYTES {
                    self.end = from + (skip + place) as u64;
                    break;
                }
                self.text.push(c);
            }
        }
        self.seen = to;
    }
}

/// Feeds the decoded text to `sink` piece by piece and gives the hash of the bytes.
fn pass(mut source: impl Read, mut sink: impl FnMut(&str)) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    let mut held = 0; // the beginning of a character that the last piece cut
    loop {
        let read = match source.read(&mut buffer[held..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        hash.update(&buffer[held..held + read]);
        let filled = held + read;
        let used = decode(&buffer[..filled], read == 0, &mut sink);
        buffer.copy_within(used..filled, 0);
        held = filled - used;
        if read == 0 {
            return Ok(hex(&hash.finalize()));
        }
    }
}

/// Decodes as far as the bytes go and says how many were used; at the end a cut character is given up.
fn decode(bytes: &[u8], end: bool, sink: &mut impl FnMut(&str)) -> usize {
    let mut used = 0;
    for chunk in bytes.utf8_chunks() {
        sink(chunk.valid());
        used += chunk.valid().len();
        let rest = chunk.invalid();
        let may_go_on =
            used + rest.len() == bytes.len() && std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none());
        if rest.is_empty() || (may_go_on && !end) {
            continue;
        }
        sink("\u{fffd}");
        used += rest.len();
    }
    used
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, so that every character is cut.
    struct Drip<'a>(&'a [u8]);

    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
            buffer[0] = *first;
            self.0 = rest;
            Ok(1)
        }
    }

    fn all_pages(bytes: &[u8], limit: u64) -> String {
        let (mut text, mut offset) = (String::new(), 0);
        loop {
            let page = page(Drip(bytes), offset, limit).expect("reads");
            text.push_str(&page.text);
            match page.next_offset {
                Some(next) => offset = next,
                None => return text,
            }
        }
    }

    #[test]
    fn pages_put_together_are_the_whole() {
        let whole = "Zażółć gęślą jaźń — 🦀🦀 ok\n".repeat(7);
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(all_pages(whole.as_bytes(), limit), whole, "limit {limit}");
        }
    }

    #[test]
    fn a_page_of_long_characters_is_shorter_and_nothing_is_missed() {
        let whole = "漢字".repeat(40_000);
        let first = page(whole.as_bytes(), 0, 30_000).expect("reads");
        assert!(first.text.len() <= PAGE_BYTES && first.next_offset == Some(first.text.chars().count() as u64));
        assert_eq!(all_pages(whole.as_bytes(), 30_000), whole);
    }

    #[test]
    fn what_is_not_utf8_is_marked_as_std_would() {
        let bytes = b"a\xff\xe2\x82b\xf0\x9f\xa6";
        assert_eq!(all_pages(bytes, 2), String::from_utf8_lossy(bytes));
    }

    #[test]
    fn ends_are_told() {
        let page = page(&b"abc"[..], 1, 2).expect("reads");
        assert_eq!((page.text.as_str(), page.total_chars, page.next_offset), ("bc", 3, None));
        assert_eq!(page.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let past = super::page(&b"abc"[..], 9, 2).expect("reads");
        assert_eq!((past.text.as_str(), past.next_offset), ("", None));
        assert_eq!(super::page(&b""[..], 0, 2).expect("reads").total_chars, 0);
    }
}
