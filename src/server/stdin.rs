//! Standard input that tells when it ends. rmcp lets a waiting call go on for five seconds after the end of input; with this
//! every wait ends at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::CancellationToken;

/// A reader that cancels a token at its end or first error.
pub(super) struct UntilEof<R> {
    reader: R,
    ended: CancellationToken,
}

impl<R> UntilEof<R> {
    pub(super) fn new(reader: R, ended: CancellationToken) -> UntilEof<R> {
        UntilEof { reader, ended }
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for UntilEof<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.reader).poll_read(context, buffer);
        let ended = match &read {
            Poll::Ready(Ok(())) => buffer.filled().len() == before && buffer.remaining() > 0,
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        if ended {
            self.ended.cancel();
        }
        read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn the_end_is_told_and_not_before() {
        let ended = CancellationToken::new();
        let mut reader = UntilEof::new(&b"line"[..], ended.clone());
        let mut buffer = [0; 4];
        reader.read_exact(&mut buffer).await.expect("read");
        assert!(!ended.is_cancelled());
        assert_eq!(reader.read(&mut buffer).await.expect("read"), 0);
        assert!(ended.is_cancelled());
    }
}
