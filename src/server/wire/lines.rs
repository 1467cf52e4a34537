//! Lines of bytes from a reader, none longer than allowed, whatever is sent.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::overlong::IdScan;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// With its line end, where it has one.
    Whole(Vec<u8>),
    /// It was longer than allowed, and is thrown away but for its id, as JSON.
    TooLong(Option<Vec<u8>>),
}

/// Reads lines.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    most: usize,
    line: Vec<u8>,
    /// Set while a line that is too long passes by.
    too_long: Option<IdScan>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) fn new(reader: R, most: usize) -> Lines<R> {
        Lines { reader: BufReader::new(reader), most, line: Vec::new(), too_long: None }
    }

    /// The next line; `None` at the end. The last one needs no line end. Cancel-safe: what was read of a line stays here.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            self.line.extend_from_slice(&chunk[..taken]);
            if self.too_long.is_some() || self.line.len() > self.most {
                self.too_long.get_or_insert_default().read(&std::mem::take(&mut self.line));
            }
            self.reader.consume(taken);
            if end.is_some() || taken == 0 {
                return Ok(self.finished());
            }
        }
    }

    fn finished(&mut self) -> Option<Line> {
        let line = std::mem::take(&mut self.line);
        if let Some(scan) = self.too_long.take() {
            return Some(Line::TooLong(scan.id()));
        }
        (!line.is_empty()).then_some(Line::Whole(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_or_are_too_long() {
        let mut lines = Lines::new(&b"12345678\n\n123456789\n1\r\n12"[..], 9);
        let whole = |text: &str| Some(Line::Whole(text.into()));
        for expected in
            [whole("12345678\n"), whole("\n"), Some(Line::TooLong(None)), whole("1\r\n"), whole("12"), None, None]
        {
            assert_eq!(lines.next().await.expect("read"), expected);
        }
    }

    #[tokio::test]
    async fn a_long_line_is_not_kept() {
        let mut lines = Lines::new(tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), 1 << 20), 9);
        assert_eq!(lines.next().await.expect("read"), Some(Line::TooLong(None)));
        assert_eq!(lines.line.capacity(), 0);
    }
}
