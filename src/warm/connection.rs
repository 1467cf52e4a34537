//! The protocol between a supervisor and a warm process: one request with the run's outputs, then lines of JSON. The same
//! connection stays open between supervisor and keeper until the run ends, so each process detects the exit of the other.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::Process;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::process::socket_path;
use super::socket::connect;
use super::{ColdReason, Environment, Installation, sockets};
use crate::massgen::launch::Launch;
use crate::registry::StateFolder;
use crate::run::Exit;

/// How long to wait for a warm process's answer; a fork takes some hundredths of a second. After that a cold start is faster.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the answer to an accepted query may take: `warm.py` ends a process that takes longer.
const EXECUTE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line from a keeper, in bytes.
const MAX_LINE_BYTES: usize = 4096;
/// The supervisor's commands: fork, and release the keeper.
const FORK_COMMAND: &[u8] = b"g";
const RELEASE_COMMAND: &[u8] = b"d";

/// The pipes for MassGen's standard output and standard error.
pub type Outputs = [OwnedFd; 2];

/// A keeper that waits for the command to fork MassGen.
#[derive(Debug)]
pub struct ForkTicket {
    connection: Connection,
    /// The keeper's process.
    pub keeper: u32,
}

/// The connection to the keeper: the parent of MassGen's process in a run that was started warm.
#[derive(Debug)]
pub struct KeeperConnection {
    connection: Connection,
    is_disconnected: bool,
}

/// The keeper's reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperEvent {
    /// MassGen's process was reaped.
    LeaderExited {
        /// How it ended.
        exit: Exit,
        /// Whether processes that it started remain.
        left: bool,
    },
    /// The keeper has exited: no process remained below it, or it was killed.
    Disconnected,
}

/// Requests a keeper for this launch from the warm processes of a state folder, one after the other.
///
/// # Errors
///
/// Why the run needs a cold start: the first refusal, or [`ColdReason::NoProcess`] if no process exists for this MassGen. Nothing has
/// started yet.
pub async fn request_fork(
    state: &StateFolder,
    installation: &Installation,
    launch: &Launch,
    lock: &Path,
    outputs: &Outputs,
) -> Result<ForkTicket, ColdReason> {
    let args = launch.args.iter().map(|arg| arg.to_str());
    let argv: Option<Vec<_>> = std::iter::once(launch.program.to_str()).chain(args).collect();
    let mut request = encode_environment(&launch.env, &launch.cwd).ok_or(ColdReason::NotUtf8)?;
    request["argv"] = json!(argv.ok_or(ColdReason::NotUtf8)?);
    request["lock"] = json!(lock.to_str().ok_or(ColdReason::NotUtf8)?);
    request["umask"] = json!(current_umask().ok_or_else(|| ColdReason::Io("/proc shows no umask".to_owned()))?);
    let sockets = sockets_for(state, installation, &launch.env);
    let (connection, keeper) =
        first_accepted_reply(sockets, &request, Some(outputs), |answer| to_u32(&answer["keeper"])).await?;
    Ok(ForkTicket { connection, keeper })
}

/// Whether a warm process of this installation would accept a run with this environment.
///
/// # Errors
///
/// Why none accepts it; [`ColdReason::NoProcess`] if none exists.
pub async fn check_compatible(
    state: &StateFolder,
    installation: &Installation,
    env: &Environment,
    cwd: &Path,
) -> Result<(), ColdReason> {
    let request = encode_environment(env, cwd).ok_or(ColdReason::NotUtf8)?;
    let sockets = sockets_for(state, installation, env);
    first_accepted_reply(sockets, &request, None, |answer| (answer["fits"] == true).then_some(())).await.map(|_| ())
}

/// Makes a warm process of this installation execute the program with these arguments. This is for a query, not a run: the
/// program prints an answer and exits. Returns its standard output.
///
/// # Errors
///
/// Why none answered; [`ColdReason::NoProcess`] if none exists.
pub async fn execute(state: &StateFolder, installation: &Installation, launch: &Launch) -> Result<Vec<u8>, ColdReason> {
    let args = launch.args.iter().map(|arg| arg.to_str());
    let argv: Option<Vec<_>> = std::iter::once(launch.program.to_str()).chain(args).collect();
    let mut request = encode_environment(&launch.env, &launch.cwd).ok_or(ColdReason::NotUtf8)?;
    request["ask"] = json!(argv.ok_or(ColdReason::NotUtf8)?);
    let (out, out_end) = io::pipe()?;
    let outputs = [OwnedFd::from(out_end), OwnedFd::from(File::options().write(true).open("/dev/null")?)];
    let sockets = sockets_for(state, installation, &launch.env);
    first_accepted_reply(sockets, &request, Some(&outputs), |answer| (answer["asks"] == true).then_some(())).await?;
    // The answering process must have the only write ends, so that a read reaches the end of the output.
    drop(outputs);
    let output = tokio::time::timeout(EXECUTE_TIMEOUT, read_all(out)).await.map_err(|_late| ColdReason::TimedOut)??;
    Ok(output)
}

async fn read_all(pipe: io::PipeReader) -> io::Result<Vec<u8>> {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(OwnedFd::from(pipe))?;
    let mut output = Vec::new();
    pipe.read_to_end(&mut output).await?;
    Ok(output)
}

/// The sockets of one installation; the socket of the process for this environment comes first.
fn sockets_for(state: &StateFolder, installation: &Installation, env: &Environment) -> Vec<PathBuf> {
    let (own, mut all) = (socket_path(state, installation, env), sockets(state, Some(installation)));
    all.sort_by_key(|socket| *socket != own);
    all
}

/// The first accepted answer; otherwise the first reason for a cold start.
async fn first_accepted_reply<T>(
    sockets: Vec<PathBuf>,
    request: &Value,
    outputs: Option<&Outputs>,
    accept: impl Fn(&Value) -> Option<T>,
) -> Result<(Connection, T), ColdReason> {
    let mut first_reason = None;
    for socket in sockets {
        let reason = match tokio::time::timeout(REPLY_TIMEOUT, send_request(&socket, request, outputs)).await {
            Ok(Ok((connection, answer))) => match accept(&answer) {
                Some(accepted) => return Ok((connection, accepted)),
                None => ColdReason::Refused(answer["cold"].as_str().unwrap_or("it gives no reason").to_owned()),
            },
            Ok(Err(error)) => {
                // No process listens on this socket any more.
                tracing::debug!(socket = %socket.display(), %error, "no warm process");
                continue;
            }
            Err(_late) => ColdReason::TimedOut,
        };
        first_reason.get_or_insert(reason);
    }
    Err(first_reason.unwrap_or(ColdReason::NoProcess))
}

/// The umask of this process, which a cold start would inherit.
fn current_umask() -> Option<u32> {
    Process::myself().ok()?.status().ok()?.umask
}

/// The environment as JSON; `None` if a value is not UTF-8.
fn encode_environment(env: &Environment, cwd: &Path) -> Option<Value> {
    let pairs: Option<serde_json::Map<_, _>> =
        env.iter().map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.into()))).collect();
    Some(json!({"env": pairs?, "cwd": cwd.to_str()?}))
}

async fn send_request(socket: &Path, request: &Value, outputs: Option<&Outputs>) -> io::Result<(Connection, Value)> {
    let stream = connect(socket)?;
    let text = request.to_string().into_bytes();
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes();
    send_with_outputs(&stream, &length, outputs)?;
    stream.set_nonblocking(true)?;
    let mut connection = Connection { stream: UnixStream::from_std(stream)?, buffer: Vec::new() };
    connection.stream.write_all(&text).await?;
    let answer = connection.read_line().await?;
    Ok((connection, answer))
}

fn send_with_outputs(stream: impl AsFd, bytes: &[u8], outputs: Option<&Outputs>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let outputs = outputs.map(|outputs| outputs.each_ref().map(AsFd::as_fd));
    if let Some(outputs) = &outputs {
        ancillary.push(SendAncillaryMessage::ScmRights(outputs));
    }
    sendmsg(stream, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl ForkTicket {
    /// Sends the keeper the command to fork MassGen's process. Returns its pid and its start time, in clock ticks since boot.
    ///
    /// # Errors
    ///
    /// The keeper exited or did not answer in time. If it has forked MassGen's process by then, it ends that process once this is dropped.
    pub async fn fork(mut self) -> io::Result<(KeeperConnection, u32, u64)> {
        let exchange = async {
            self.connection.stream.write_all(FORK_COMMAND).await?;
            self.connection.read_line().await
        };
        let answer = tokio::time::timeout(REPLY_TIMEOUT, exchange).await??;
        let leader = to_u32(&answer["leader"]).zip(answer["start_ticks"].as_u64());
        let (pid, start_ticks) = leader.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((KeeperConnection { connection: self.connection, is_disconnected: false }, pid, start_ticks))
    }
}

impl KeeperConnection {
    /// Resolves when there may be events, but never after the keeper has exited. Cancel-safe.
    pub async fn readable(&self) {
        if self.is_disconnected || self.connection.stream.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// All events until now.
    pub fn events(&mut self) -> Vec<KeeperEvent> {
        let was_disconnected = self.is_disconnected;
        self.is_disconnected = was_disconnected || self.connection.fill_buffer();
        let lines = std::iter::from_fn(|| self.connection.next_line());
        let exits = lines.filter_map(|line| {
            let exit = &line["exit"];
            let code = exit["code"].as_i64().and_then(|code| i32::try_from(code).ok()).map(Exit::Code);
            let signal = exit["signal"].as_i64().and_then(|signal| i32::try_from(signal).ok()).map(Exit::Signal);
            Some(KeeperEvent::LeaderExited { exit: code.or(signal)?, left: line["left"] == true })
        });
        let mut events: Vec<KeeperEvent> = exits.collect();
        events.extend((self.is_disconnected && !was_disconnected).then_some(KeeperEvent::Disconnected));
        events
    }

    /// Releases the keeper and the remaining processes below it; without this command the keeper would end them.
    pub fn release(self) {
        // If the keeper has already exited, the command has no receiver.
        let _disconnected = self.connection.stream.try_write(RELEASE_COMMAND);
    }
}

fn to_u32(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn read_line(&mut self) -> io::Result<Value> {
        loop {
            if let Some(line) = self.next_line() {
                return Ok(line);
            }
            let read = self.stream.read_buf(&mut self.buffer).await?;
            if read == 0 || self.buffer.len() > MAX_LINE_BYTES {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the available bytes into the buffer; `true` at the end of the stream.
    fn fill_buffer(&mut self) -> bool {
        loop {
            match self.stream.try_read_buf(&mut self.buffer) {
                Ok(1..) if self.buffer.len() <= MAX_LINE_BYTES => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(_) | Err(_) => return true,
            }
        }
    }

    fn next_line(&mut self) -> Option<Value> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        Some(serde_json::from_slice(&line).unwrap_or_default())
    }
}
