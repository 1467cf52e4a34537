//! The client's lines: a transport for rmcp over standard input and output. rmcp's own transport does not answer a line
//! that it cannot parse, and gives one answer to two requests with the same id; here every request gets one answer.
//! rmcp also lets calls continue for five seconds after the client is gone; this transport ends their waits at once.
//! This module knows no tools.

mod lines;
mod message;
mod overlong;
mod parsed_line;
mod surrogates;
mod unreadable;

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{
    ClientJsonRpcMessage, ClientNotification, ErrorData, JsonRpcMessage, RequestId, ServerJsonRpcMessage,
};
use rmcp::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::lines::{InputLine, LineReader};
use self::parsed_line::ParsedLine;
pub(super) use self::unreadable::{ParseFault, UnparsableArgument, nesting_fault};
use super::wait_limits::WaitLimits;
use crate::view::json;

/// The longest line that is read, in bytes. The largest question, fully escaped, takes less than half of it.
const MAX_LINE_BYTES: usize = 16 << 20;

/// How long answers may take after the end of input, once all waits have ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long after the end of input a write may wait for a client that does not read. So the server of such a client
/// ends within 5 s.
const UNREAD_WRITE_TIMEOUT: Duration = Duration::from_secs(4);

/// How many refusals may wait for a client that does not read them. At this number, further lines wait too.
const MAX_PENDING_REFUSALS: usize = 10_000;

/// A message that is being written.
type PendingWrite = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// The input and output of a client.
pub(super) struct StdioTransport<R, W> {
    lines: LineReader<R>,
    /// `None` once it is closed. The mutex makes writes sequential.
    writer: Arc<Mutex<Option<W>>>,
    /// The unread messages of a batch.
    batch: VecDeque<Vec<u8>>,
    /// Requests that have no answer yet.
    open_requests: HashSet<RequestId>,
    /// The refusal that is being written. It is a field because `receive` may be dropped during the write.
    current_refusal: Option<PendingWrite>,
    /// Refusals that wait for the current one.
    pending_refusals: VecDeque<ServerJsonRpcMessage>,
    /// Notified of every line.
    line_received: Arc<Notify>,
    /// Learns from every call that the client cancels.
    wait_limits: WaitLimits,
    /// Cancelled when the client is gone: its input has ended, it does not read the output, or it died and left the
    /// pipes open.
    disconnected: CancellationToken,
    /// Cancelled some time after `disconnected`: the client will never read a write that still blocks then.
    write_abandoned: CancellationToken,
    /// The deadline for the open answers, once the input has ended.
    drain_deadline: Option<Instant>,
}

impl<R, W> StdioTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    pub(super) fn new(
        reader: R,
        writer: W,
        input_received: Arc<Notify>,
        disconnected: CancellationToken,
    ) -> StdioTransport<R, W> {
        StdioTransport {
            lines: LineReader::new(reader, MAX_LINE_BYTES),
            writer: Arc::new(Mutex::new(Some(writer))),
            batch: VecDeque::new(),
            open_requests: HashSet::new(),
            current_refusal: None,
            pending_refusals: VecDeque::new(),
            line_received: input_received,
            wait_limits: WaitLimits::default(),
            disconnected,
            write_abandoned: CancellationToken::new(),
            drain_deadline: None,
        }
    }

    /// Sets the wait limits that learn from cancelled calls.
    pub(super) fn with_wait_limits(self, wait_limits: WaitLimits) -> StdioTransport<R, W> {
        StdioTransport { wait_limits, ..self }
    }

    /// The next message for rmcp; `None` at the end. Cancel-safe.
    async fn next_message(&mut self) -> io::Result<Option<ClientJsonRpcMessage>> {
        loop {
            let parsed = match self.batch.pop_front() {
                Some(part) => message::parse_message(&part),
                None => match self.next_line().await? {
                    Some(InputLine::Complete(line)) => message::parse_line(&line),
                    Some(InputLine::TooLong(id)) => message::line_too_long(MAX_LINE_BYTES, id.as_deref()),
                    None => return Ok(None),
                },
            };
            if let Some(message) = self.handle_line(parsed) {
                return Ok(Some(message));
            }
        }
    }

    /// The next line. Refusals are written at the same time, because a client that does not read them may still end its input.
    async fn next_line(&mut self) -> io::Result<Option<InputLine>> {
        loop {
            self.start_refusal();
            tokio::select! {
                biased;
                refused = finish_write(&mut self.current_refusal) => refused?,
                line = self.lines.next_line(), if self.pending_refusals.len() < MAX_PENDING_REFUSALS => {
                    self.line_received.notify_one();
                    return line;
                }
            }
        }
    }

    /// Starts writing the next refusal, unless one is being written.
    fn start_refusal(&mut self) {
        if self.current_refusal.is_none()
            && let Some(refusal) = self.pending_refusals.pop_front()
        {
            self.current_refusal = Some(Box::pin(self.write_message(refusal)));
        }
    }

    /// Writes a message. After the end of input, `unread` cancels the write.
    fn write_message(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let (writer, disconnected, write_abandoned) =
            (Arc::clone(&self.writer), self.disconnected.clone(), self.write_abandoned.clone());
        async move {
            let line = json::to_json_line(&message)?;
            tokio::select! {
                biased;
                sent = write_line(&writer, &line) => sent.inspect_err(|_| disconnected.cancel()),
                () = write_abandoned.cancelled() => Err(io::ErrorKind::TimedOut.into()),
            }
        }
    }

    /// Handles the loss of the client; returns the deadline for the remaining answers.
    fn start_drain(&mut self) -> Instant {
        self.disconnected.cancel();
        let write_abandoned = self.write_abandoned.clone();
        *self.drain_deadline.get_or_insert_with(|| {
            tokio::spawn(async move {
                tokio::time::sleep(UNREAD_WRITE_TIMEOUT).await;
                write_abandoned.cancel();
            });
            Instant::now() + DRAIN_TIMEOUT
        })
    }

    /// Writes the remaining refusals.
    async fn flush_refusals(&mut self) {
        self.start_refusal();
        while self.current_refusal.is_some() {
            if let Err(error) = finish_write(&mut self.current_refusal).await {
                tracing::debug!(%error, "a refusal was not read");
            }
            self.start_refusal();
        }
    }

    fn handle_line(&mut self, parsed: ParsedLine) -> Option<ClientJsonRpcMessage> {
        match parsed {
            ParsedLine::Message(message) => return self.accept(*message),
            ParsedLine::Batch(parts) => self.batch.extend(parts),
            ParsedLine::Ignored => {}
            ParsedLine::Refused(error, id) => self.refuse(error, id),
        }
        None
    }

    /// Accepts requests, and cancellations of open requests. The server uses no other client messages, and rmcp ends a
    /// session whose first message is one.
    fn accept(&mut self, message: ClientJsonRpcMessage) -> Option<ClientJsonRpcMessage> {
        let expected = match &message {
            JsonRpcMessage::Request(request) => {
                let new = self.open_requests.insert(request.id.clone());
                if !new {
                    let error = ErrorData::invalid_request("a request with this id has no answer yet", None);
                    self.refuse(error, Some(request.id.clone()));
                }
                new
            }
            // A cancelled request needs no answer, and rmcp sends none.
            JsonRpcMessage::Notification(notification) => {
                cancelled_request(&notification.notification).is_some_and(|(id, reason)| {
                    self.wait_limits.record_cancelled(id, reason);
                    self.open_requests.remove(id)
                })
            }
            JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => false,
        };
        expected.then_some(message)
    }

    fn refuse(&mut self, error: ErrorData, id: Option<RequestId>) {
        tracing::warn!(?id, message = %error.message, "a line was refused");
        self.pending_refusals.push_back(ServerJsonRpcMessage::error(error, id));
    }
}

impl<R, W> Transport<RoleServer> for StdioTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(&mut self, message: ServerJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        if let Some(id) = answered_request(&message) {
            self.open_requests.remove(id);
        }
        self.write_message(message)
    }

    /// After the end of input rmcp handles only answers, but some calls need it to handle more before they can finish.
    /// So the end is reported to rmcp only when all answers are sent. rmcp calls this again after each answer.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        let disconnected = self.disconnected.clone();
        if self.drain_deadline.is_none() {
            let received = tokio::select! {
                next = self.next_message() => next.inspect_err(|error| tracing::warn!(%error, "the input of the client cannot be read")),
                () = disconnected.cancelled() => {
                    self.start_drain();
                    return None;
                }
            };
            if let Some(message) = received.ok().flatten() {
                return Some(message);
            }
        }
        let drained = self.start_drain();
        self.flush_refusals().await;
        if !self.open_requests.is_empty() {
            tokio::time::sleep_until(drained).await;
        }
        None
    }

    async fn close(&mut self) -> io::Result<()> {
        self.writer.lock().await.take();
        Ok(())
    }
}

/// Writes a line.
async fn write_line(writer: &Mutex<Option<impl AsyncWrite + Unpin>>, line: &[u8]) -> io::Result<()> {
    let mut writer = writer.lock().await;
    let writer = writer.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    writer.write_all(line).await?;
    writer.flush().await
}

/// Resolves when the current write is done; never resolves without one.
async fn finish_write(sending: &mut Option<PendingWrite>) -> io::Result<()> {
    match sending {
        None => std::future::pending().await,
        Some(message) => {
            let written = message.await;
            *sending = None;
            written
        }
    }
}

/// The request that a client cancels, and the reason.
fn cancelled_request(notification: &ClientNotification) -> Option<(&RequestId, Option<&str>)> {
    if let ClientNotification::CancelledNotification(cancelled) = notification {
        Some((cancelled.params.request_id.as_ref()?, cancelled.params.reason.as_deref()))
    } else {
        None
    }
}

fn answered_request(message: &ServerJsonRpcMessage) -> Option<&RequestId> {
    match message {
        JsonRpcMessage::Response(response) => Some(&response.id),
        JsonRpcMessage::Error(error) => error.id.as_ref(),
        JsonRpcMessage::Request(_) | JsonRpcMessage::Notification(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rmcp::model::ServerResult;

    use super::*;

    #[tokio::test]
    async fn the_client_is_disconnected_only_after_the_end_of_input() {
        let disconnected = CancellationToken::new();
        let request = &br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#[..];
        let mut transport = StdioTransport::new(request, tokio::io::sink(), Arc::default(), disconnected.clone());
        assert!(transport.receive().await.is_some(), "a last line needs no line end");
        assert!(!disconnected.is_cancelled());
        assert!(tokio::time::timeout(Duration::ZERO, transport.receive()).await.is_err(), "a request is open");
        assert!(disconnected.is_cancelled(), "waits are cancelled at once");
        let answer = ServerJsonRpcMessage::response(ServerResult::empty(()), RequestId::Number(1));
        transport.send(answer).await.expect("sent");
        assert!(transport.receive().await.is_none());
    }

    #[tokio::test]
    async fn an_output_without_a_reader_disconnects() {
        let disconnected = CancellationToken::new();
        let (output, reader) = tokio::io::duplex(64);
        drop(reader);
        let mut transport = StdioTransport::new(tokio::io::empty(), output, Arc::default(), disconnected.clone());
        let error =
            ErrorData::invalid_request("too long for a buffer of this size, and the output has no reader", None);
        transport.send(ServerJsonRpcMessage::error(error, None)).await.expect_err("no reader");
        assert!(disconnected.is_cancelled());
    }
}
