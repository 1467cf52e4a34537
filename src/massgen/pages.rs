//! A text as pages of characters: reads a source of any size in one pass with a fixed amount of memory. Concatenated pages are the whole
//! text, character by character: invalid UTF-8 becomes U+FFFD, each character of a known secret becomes `*`, and each harmful character
//! becomes a harmless stand-in. The number of characters never changes.

use std::fmt::Write as _;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::text::{HarmfulCharFilter, replacement_char};
use crate::secrets::{MaskStream, Secrets};

/// One page of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The characters from the requested offset on.
    pub text: String,
    /// The number of characters of the whole text.
    pub total_chars: u64,
    /// The offset of the next page; `None` at the end.
    pub next_offset: Option<u64>,
    /// How many characters of this page are stand-ins for harmful ones.
    pub replaced: u64,
    /// SHA-256 of the whole file's bytes, in lower-case hex.
    pub sha256: String,
}

/// The largest page, in bytes of UTF-8: scripts with three bytes per character also take more tokens.
const MAX_PAGE_BYTES: usize = 48 << 10;

/// The limits of a page.
pub struct PageLimit {
    /// The most characters.
    pub chars: u64,
    /// The total cost limit. A page has at least one character, whatever it costs.
    pub budget: u64,
    /// The cost of a character.
    pub cost: Box<dyn Fn(char) -> u64 + Send>,
}

impl From<u64> for PageLimit {
    fn from(chars: u64) -> PageLimit {
        PageLimit { chars, budget: u64::MAX, cost: Box::new(|_| 0) }
    }
}

/// Reads all of `source` and keeps the characters from character `offset` on, up to the limit.
pub fn read_page(source: impl Read, offset: u64, extent: impl Into<PageLimit>, secrets: &Secrets) -> io::Result<Page> {
    let PageLimit { chars, budget, cost } = extent.into();
    let end = offset.saturating_add(chars);
    let mut window = PageWindow { offset, end, budget, cost, seen: 0, text: String::new(), replaced: 0 };
    let mut display = DisplayFilter { filter: HarmfulCharFilter::at_file_start(), has_pending_cr: false };
    let hash = stream_masked(source, secrets, |text| display.push_all(text, &mut window))?;
    display.finish(&mut |c, harmless| window.push(c, harmless));
    let next_offset = (window.seen > window.end).then_some(window.end);
    Ok(Page { text: window.text, total_chars: window.seen, next_offset, replaced: window.replaced, sha256: hash })
}

/// The number of characters in `source`.
pub fn count_chars(source: impl Read) -> io::Result<u64> {
    let mut count = 0;
    stream_masked(source, &Secrets::default(), |text| count += text.chars().count() as u64)?;
    Ok(count)
}

/// The characters of a text as they are displayed.
struct DisplayFilter {
    filter: HarmfulCharFilter,
    /// A pending carriage return: the next character decides how it is shown.
    has_pending_cr: bool,
}

impl DisplayFilter {
    fn push_all(&mut self, text: &str, window: &mut PageWindow) {
        let count = text.chars().count() as u64;
        if count == 0 {
            return;
        }
        if !window.is_outside(count + 1) {
            return text.chars().for_each(|c| self.push(c, &mut |c, harmless| window.push(c, harmless)));
        }
        // Outside the page, only the number of characters matters, and the last two as context for the next one.
        let waited = std::mem::replace(&mut self.has_pending_cr, text.ends_with('\r'));
        window.seen += count + u64::from(waited) - u64::from(self.has_pending_cr);
        let last: Vec<char> = text.chars().rev().take(2).collect();
        last.iter().rev().for_each(|c| {
            self.filter.is_harmless(*c);
        });
    }

    /// Emits a pending carriage return and the character, each with whether it is harmless.
    fn push(&mut self, c: char, emit: &mut impl FnMut(char, bool)) {
        if std::mem::take(&mut self.has_pending_cr) {
            emit('\r', c == '\n');
        }
        let is_harmless = self.filter.is_harmless(c);
        if c == '\r' {
            self.has_pending_cr = true;
        } else {
            emit(c, is_harmless);
        }
    }

    fn finish(&mut self, emit: &mut impl FnMut(char, bool)) {
        if std::mem::take(&mut self.has_pending_cr) {
            emit('\r', false);
        }
    }
}

/// A text that arrives in pieces and is displayed immediately: only complete characters, secrets masked, harmful characters replaced.
pub struct TextStream {
    mask: MaskStream,
    /// The beginning of a character that the last piece cut off.
    partial_char: Vec<u8>,
    display: DisplayFilter,
}

impl TextStream {
    /// At the beginning of a text.
    pub fn new(secrets: &Secrets) -> TextStream {
        let display = DisplayFilter { filter: HarmfulCharFilter::at_file_start(), has_pending_cr: false };
        TextStream { mask: secrets.mask_stream(), partial_char: Vec::new(), display }
    }

    /// Adds a piece and returns the text that is final by now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let masked = self.mask.push(bytes);
        self.partial_char.extend_from_slice(&masked);
        self.decode(false)
    }

    /// Returns the remaining text at the end.
    pub fn finish(&mut self) -> String {
        self.partial_char.extend(self.mask.finish());
        let mut text = self.decode(true);
        self.display.finish(&mut |c, harmless| text.push(if harmless { c } else { replacement_char(c) }));
        text
    }

    fn decode(&mut self, end: bool) -> String {
        let mut out = String::new();
        let display = &mut self.display;
        let used_bytes = decode(&self.partial_char, end, &mut |text: &str| {
            for c in text.chars() {
                display.push(c, &mut |c, harmless| out.push(if harmless { c } else { replacement_char(c) }));
            }
        });
        self.partial_char.drain(..used_bytes);
        out
    }
}

struct PageWindow {
    offset: u64,
    end: u64,
    budget: u64,
    cost: Box<dyn Fn(char) -> u64 + Send>,
    seen: u64,
    text: String,
    replaced: u64,
}

impl PageWindow {
    /// Whether the next `count` characters are all outside the page.
    fn is_outside(&self, count: u64) -> bool {
        self.seen + count <= self.offset || self.seen >= self.end
    }

    fn push(&mut self, c: char, is_harmless: bool) {
        if (self.offset..self.end).contains(&self.seen) {
            let shown = if is_harmless { c } else { replacement_char(c) };
            let cost = (self.cost)(shown);
            let is_full = cost > self.budget || self.text.len() + shown.len_utf8() > MAX_PAGE_BYTES;
            if is_full && !self.text.is_empty() {
                self.end = self.seen;
            } else {
                self.budget = self.budget.saturating_sub(cost);
                self.text.push(shown);
                self.replaced += u64::from(!is_harmless);
            }
        }
        self.seen += 1;
    }
}

/// Decodes the text, masks secrets, passes it to `sink` piece by piece, and returns the hash of the bytes.
fn stream_masked(mut source: impl Read, secrets: &Secrets, mut sink: impl FnMut(&str)) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut mask = secrets.mask_stream();
    let mut buffer = vec![0; 64 << 10];
    let mut held = Vec::new(); // the beginning of a character that the last piece cut
    loop {
        let read = match source.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        hash.update(&buffer[..read]);
        let end = read == 0;
        held.extend_from_slice(&mask.push(&buffer[..read]));
        if end {
            held.extend(mask.finish());
        }
        let used_bytes = decode(&held, end, &mut sink);
        held.drain(..used_bytes);
        if end {
            return Ok(hex(&hash.finalize()));
        }
    }
}

/// Decodes all complete characters and returns how many bytes were used; at the end, an incomplete character becomes U+FFFD.
fn decode(bytes: &[u8], end: bool, sink: &mut impl FnMut(&str)) -> usize {
    let mut used_bytes = 0;
    for chunk in bytes.utf8_chunks() {
        sink(chunk.valid());
        used_bytes += chunk.valid().len();
        let rest = chunk.invalid();
        let may_continue =
            used_bytes + rest.len() == bytes.len() && std::str::from_utf8(rest).is_err_and(|e| e.error_len().is_none());
        if rest.is_empty() || (may_continue && !end) {
            continue;
        }
        sink("\u{fffd}");
        used_bytes += rest.len();
    }
    used_bytes
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

    /// Returns one byte at a time, so that every multi-byte character is cut.
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
            let page = read_page(Drip(bytes), offset, limit, &Secrets::default()).expect("reads");
            text.push_str(&page.text);
            match page.next_offset {
                Some(next) => offset = next,
                None => return text,
            }
        }
    }

    #[test]
    fn joined_pages_are_the_whole_text() {
        let full = "Zażółć gęślą jaźń — 🦀🦀 ok\n".repeat(7);
        for limit in [1, 2, 3, 7, 1000] {
            assert_eq!(all_pages(full.as_bytes(), limit), full, "limit {limit}");
        }
    }

    #[test]
    fn a_page_of_long_characters_is_shorter_and_skips_nothing() {
        let full = "漢字".repeat(40_000);
        let first = read_page(full.as_bytes(), 0, 30_000, &Secrets::default()).expect("reads");
        assert!(first.text.len() <= MAX_PAGE_BYTES && first.next_offset == Some(first.text.chars().count() as u64));
        assert_eq!(all_pages(full.as_bytes(), 30_000), full);
    }

    #[test]
    fn a_page_ends_at_its_budget_and_has_at_least_one_character() {
        let extent = |room| PageLimit { chars: 9, budget: room, cost: Box::new(|c| if c == 'b' { 5 } else { 1 }) };
        for (room, text, next) in [(0, "b", Some(1)), (5, "b", Some(1)), (6, "ba", Some(2)), (7, "baa", None)] {
            let page = read_page(&b"baa"[..], 0, extent(room), &Secrets::default()).expect("reads");
            assert_eq!((page.text.as_str(), page.next_offset), (text, next), "room {room}");
        }
    }

    #[test]
    fn invalid_utf8_is_replaced_as_in_std() {
        let bytes = b"a\xff\xe2\x82b\xf0\x9f\xa6";
        assert_eq!(all_pages(bytes, 2), String::from_utf8_lossy(bytes));
    }

    #[test]
    fn a_page_begins_as_in_the_whole_text() {
        let text = "❤\u{fe0f}\u{200d}🔥\r\na\u{200d}é\u{200d}\u{fe0f}\u{fe0f}\u{200c}x\r";
        let full = read_page(text.as_bytes(), 0, 100, &Secrets::default()).expect("reads").text;
        for limit in 1..9 {
            assert_eq!(all_pages(text.as_bytes(), limit), full, "limit {limit}");
            let offset = full.chars().count() as u64 - limit;
            let end = read_page(text.as_bytes(), offset, limit, &Secrets::default()).expect("reads").text;
            assert!(full.ends_with(&end), "{end:?} of {full:?}");
        }
    }

    #[test]
    fn replacements_keep_the_offsets_of_the_text() {
        let text = "\u{feff}a\r\nb\rc\u{1b}[31m\u{202e}sk-12345678\u{200b}é\r";
        let secrets = Secrets::default().with_values(["sk-12345678".to_owned()]);
        let expected = "\u{feff}a\r\nb␍c␛[31m\u{fffd}***********\u{fffd}é␍";
        let full = read_page(Drip(text.as_bytes()), 0, 100, &secrets).expect("reads");
        assert_eq!((full.text.as_str(), full.replaced), (expected, 5));
        assert_eq!(full.total_chars, count_chars(text.as_bytes()).expect("reads"));
        for at in 0..full.total_chars {
            let single = read_page(text.as_bytes(), at, 1, &secrets).expect("reads");
            assert!(
                expected.chars().nth(at as usize).is_some_and(|c| single.text == c.to_string()),
                "{at}: {single:?}"
            );
            assert_eq!(single.sha256, full.sha256, "of the bytes on disk");
        }
    }

    #[test]
    fn a_streamed_text_equals_its_pages() {
        let text = "\u{feff}a\r\nb\rc\u{1b}[31m\u{202e}sk-12345678\u{200b}é漢\r".as_bytes();
        let secrets = Secrets::default().with_values(["sk-12345678".to_owned()]);
        let full = read_page(text, 0, 1000, &secrets).expect("reads").text;
        for step in [1, 2, 5, 100] {
            let mut stream = TextStream::new(&secrets);
            let pieces: String = text.chunks(step).map(|piece| stream.push(piece)).collect();
            assert_eq!(pieces + &stream.finish(), full, "in pieces of {step}");
        }
    }

    #[test]
    fn the_end_of_a_text_is_reported() {
        let page = read_page(&b"abc"[..], 1, 2, &Secrets::default()).expect("reads");
        assert_eq!((page.text.as_str(), page.total_chars, page.next_offset), ("bc", 3, None));
        assert_eq!(page.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let beyond_end = super::read_page(&b"abc"[..], 9, 2, &Secrets::default()).expect("reads");
        assert_eq!((beyond_end.text.as_str(), beyond_end.next_offset), ("", None));
        assert_eq!(super::read_page(&b""[..], 0, 2, &Secrets::default()).expect("reads").total_chars, 0);
    }

    #[test]
    fn a_page_is_full_when_the_next_character_exceeds_the_most_bytes() {
        let three_bytes = MAX_PAGE_BYTES / 3 + 9;
        for (text, bytes) in [
            ("a".repeat(MAX_PAGE_BYTES), MAX_PAGE_BYTES),
            ("a".repeat(MAX_PAGE_BYTES + 9), MAX_PAGE_BYTES),
            ("漢".repeat(three_bytes), MAX_PAGE_BYTES),
            ("a".to_owned() + &"漢".repeat(three_bytes), MAX_PAGE_BYTES - 2),
        ] {
            let page = read_page(text.as_bytes(), 0, u64::MAX, &Secrets::default()).expect("reads");
            assert_eq!(page.text.len(), bytes);
            let shown = page.text.chars().count() as u64;
            assert_eq!(page.next_offset, (shown < page.total_chars).then_some(shown));
        }
    }

    /// Each read fails with the next error; after that, the text can be read.
    struct Faulty<'a>(Vec<io::ErrorKind>, &'a [u8]);

    impl Read for Faulty<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.pop().map_or_else(|| self.1.read(buffer), |kind| Err(kind.into()))
        }
    }

    #[test]
    fn an_interrupted_read_is_repeated_and_any_other_error_is_returned() {
        use io::ErrorKind::{Interrupted, PermissionDenied};
        for (errors, expected) in [
            (vec![Interrupted, Interrupted], Ok(3)),
            (vec![PermissionDenied], Err(PermissionDenied)),
            (vec![PermissionDenied, Interrupted], Err(PermissionDenied)),
        ] {
            let read = count_chars(Faulty(errors, b"abc")).map_err(|error| error.kind());
            assert_eq!(read, expected);
        }
    }
}
