//! Reads lines of bytes up to a maximum length, whatever the client sends.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

use super::overlong::IdScan;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum InputLine {
    /// The line, with its line end if it has one.
    Complete(Vec<u8>),
    /// The line was too long and is discarded; only its id is stored, as JSON.
    TooLong(Option<Vec<u8>>),
}

/// Reads lines.
pub(super) struct LineReader<R> {
    reader: BufReader<R>,
    max_bytes: usize,
    buffer: Vec<u8>,
    /// Set while the rest of an overlong line is skipped.
    overlong_id: Option<IdScan>,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(super) fn new(reader: R, max_bytes: usize) -> LineReader<R> {
        LineReader { reader: BufReader::new(reader), max_bytes, buffer: Vec::new(), overlong_id: None }
    }

    /// The next line; `None` at the end. The last line needs no line end. Cancel-safe: a partly read line stays in this
    /// reader.
    pub(super) async fn next_line(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            let chunk = self.reader.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(chunk.len(), |end| end + 1);
            self.buffer.extend_from_slice(&chunk[..used]);
            if self.overlong_id.is_some() || self.buffer.len() > self.max_bytes {
                self.overlong_id.get_or_insert_default().push(&std::mem::take(&mut self.buffer));
            }
            self.reader.consume(used);
            if end.is_some() || used == 0 {
                return Ok(self.take_line());
            }
        }
    }

    fn take_line(&mut self) -> Option<InputLine> {
        let line = std::mem::take(&mut self.buffer);
        if let Some(scan) = self.overlong_id.take() {
            return Some(InputLine::TooLong(scan.into_id()));
        }
        (!line.is_empty()).then_some(InputLine::Complete(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_complete_or_reported_as_too_long() {
        let mut lines = LineReader::new(&b"12345678\n\n123456789\n1\r\n12"[..], 9);
        let complete = |text: &str| Some(InputLine::Complete(text.into()));
        for expected in [
            complete("12345678\n"),
            complete("\n"),
            Some(InputLine::TooLong(None)),
            complete("1\r\n"),
            complete("12"),
            None,
            None,
        ] {
            assert_eq!(lines.next_line().await.expect("read"), expected);
        }
    }

    #[tokio::test]
    async fn a_long_line_is_not_buffered() {
        let mut lines = LineReader::new(tokio::io::AsyncReadExt::take(tokio::io::repeat(b'x'), 1 << 20), 9);
        assert_eq!(lines.next_line().await.expect("read"), Some(InputLine::TooLong(None)));
        assert_eq!(lines.buffer.capacity(), 0);
    }
}
