//! What is said between a supervisor and a warm process: one request with the run's outputs, then lines of JSON. The same
//! connection is the tie between supervisor and keeper for as long as the run lasts: whichever of them dies, the other knows.

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

/// How long a warm process may take to answer; a fork takes some hundredths of a second. After that a cold start is the better one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a question may take to be answered once it is taken: `warm.py` ends the process that answers after so long.
const EXECUTE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest line that a keeper says, in bytes.
const MAX_LINE_BYTES: usize = 4096;
/// What a supervisor says: begin, and that it needs the keeper no more.
const FORK_COMMAND: &[u8] = b"g";
const RELEASE_COMMAND: &[u8] = b"d";

/// Where MassGen's output goes: standard output and standard error.
pub type Outputs = [OwnedFd; 2];

/// A keeper that waits for the word to fork MassGen.
#[derive(Debug)]
pub struct ForkTicket {
    connection: Connection,
    /// The keeper's process.
    pub keeper: u32,
}

/// The process that has MassGen's for a child, of a run that was started warm.
#[derive(Debug)]
pub struct KeeperConnection {
    connection: Connection,
    is_disconnected: bool,
}

/// What a keeper tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperEvent {
    /// MassGen's process was reaped.
    LeaderExited {
        /// How it ended.
        exit: Exit,
        /// Whether processes are left that it started.
        left: bool,
    },
    /// The keeper has gone: with nothing left below it, or because it was killed.
    Disconnected,
}

/// Asks the warm processes of a state folder, one after the other, for a keeper for this launch.
///
/// # Errors
///
/// Why the run has to be started cold: what the first of them answered, or [`ColdReason::NoProcess`] where there is none for this MassGen. Nothing
/// has happened then.
pub async fn request_fork(
    state: &StateFolder,
    kind: &Installation,
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
    let sockets = sockets_for(state, kind, &launch.env);
    let (link, answer) =
        first_accepted_reply(sockets, &request, Some(outputs), |answer| to_u32(&answer["keeper"])).await?;
    Ok(ForkTicket { connection: link, keeper: answer })
}

/// Whether one of the warm processes of a kind would take a run with this environment.
///
/// # Errors
///
/// Why none would; [`ColdReason::NoProcess`] where there is none.
pub async fn check_compatible(
    state: &StateFolder,
    kind: &Installation,
    env: &Environment,
    cwd: &Path,
) -> Result<(), ColdReason> {
    let request = encode_environment(env, cwd).ok_or(ColdReason::NotUtf8)?;
    let sockets = sockets_for(state, kind, env);
    first_accepted_reply(sockets, &request, None, |answer| (answer["fits"] == true).then_some(())).await.map(|_| ())
}

/// Has one of the warm processes of a kind run the program with these arguments, for what it prints and then ends with: a question,
/// and no run. Gives its standard output.
///
/// # Errors
///
/// Why none answered; [`ColdReason::NoProcess`] where there is none.
pub async fn execute(state: &StateFolder, kind: &Installation, launch: &Launch) -> Result<Vec<u8>, ColdReason> {
    let args = launch.args.iter().map(|arg| arg.to_str());
    let argv: Option<Vec<_>> = std::iter::once(launch.program.to_str()).chain(args).collect();
    let mut request = encode_environment(&launch.env, &launch.cwd).ok_or(ColdReason::NotUtf8)?;
    request["ask"] = json!(argv.ok_or(ColdReason::NotUtf8)?);
    let (out, out_end) = io::pipe()?;
    let outputs = [OwnedFd::from(out_end), OwnedFd::from(File::options().write(true).open("/dev/null")?)];
    let sockets = sockets_for(state, kind, &launch.env);
    first_accepted_reply(sockets, &request, Some(&outputs), |answer| (answer["asks"] == true).then_some(())).await?;
    // The process that answers has the only other end.
    drop(outputs);
    let told = tokio::time::timeout(EXECUTE_TIMEOUT, read_all(out)).await.map_err(|_late| ColdReason::TimedOut)??;
    Ok(told)
}

async fn read_all(pipe: io::PipeReader) -> io::Result<Vec<u8>> {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(OwnedFd::from(pipe))?;
    let mut told = Vec::new();
    pipe.read_to_end(&mut told).await?;
    Ok(told)
}

/// The sockets of one kind; that of the process for this environment comes first.
fn sockets_for(state: &StateFolder, kind: &Installation, env: &Environment) -> Vec<PathBuf> {
    let (own, mut all) = (socket_path(state, kind, env), sockets(state, Some(kind)));
    all.sort_by_key(|socket| *socket != own);
    all
}

/// The first answer that is as wanted; else the first reason why there is none.
async fn first_accepted_reply<T>(
    sockets: Vec<PathBuf>,
    request: &Value,
    outputs: Option<&Outputs>,
    wanted: impl Fn(&Value) -> Option<T>,
) -> Result<(Connection, T), ColdReason> {
    let mut cold = None;
    for socket in sockets {
        let reason = match tokio::time::timeout(REPLY_TIMEOUT, send_request(&socket, request, outputs)).await {
            Ok(Ok((link, answer))) => match wanted(&answer) {
                Some(good) => return Ok((link, good)),
                None => ColdReason::Refused(answer["cold"].as_str().unwrap_or("it gives no reason").to_owned()),
            },
            Ok(Err(error)) => {
                // Nothing listens there any more.
                tracing::debug!(socket = %socket.display(), %error, "no warm process");
                continue;
            }
            Err(_late) => ColdReason::TimedOut,
        };
        cold.get_or_insert(reason);
    }
    Err(cold.unwrap_or(ColdReason::NoProcess))
}

/// Of this process, which a cold start would inherit.
fn current_umask() -> Option<u32> {
    Process::myself().ok()?.status().ok()?.umask
}

/// Only what is text can be said; none where something is not.
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
    let mut link = Connection { stream: UnixStream::from_std(stream)?, buffer: Vec::new() };
    link.stream.write_all(&text).await?;
    let answer = link.read_line().await?;
    Ok((link, answer))
}

fn send_with_outputs(stream: impl AsFd, bytes: &[u8], outputs: Option<&Outputs>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let outputs = outputs.map(|outputs| outputs.each_ref().map(AsFd::as_fd));
    if let Some(outputs) = &outputs {
        along.push(SendAncillaryMessage::ScmRights(outputs));
    }
    sendmsg(stream, &[IoSlice::new(bytes)], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl ForkTicket {
    /// Takes it up: MassGen's process is forked. Gives its pid and its start, in clock ticks since boot.
    ///
    /// # Errors
    ///
    /// The keeper went, or did not answer in time. If it has forked MassGen's process by then, it ends that once this is dropped.
    pub async fn fork(mut self) -> io::Result<(KeeperConnection, u32, u64)> {
        let begun = async {
            self.connection.stream.write_all(FORK_COMMAND).await?;
            self.connection.read_line().await
        };
        let answer = tokio::time::timeout(REPLY_TIMEOUT, begun).await??;
        let leader = to_u32(&answer["leader"]).zip(answer["start_ticks"].as_u64());
        let (pid, start_ticks) = leader.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((KeeperConnection { connection: self.connection, is_disconnected: false }, pid, start_ticks))
    }
}

impl KeeperConnection {
    /// Resolves when there may be news; never after the keeper has gone. Nothing is lost where this is given up.
    pub async fn readable(&self) {
        if self.is_disconnected || self.connection.stream.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// All news until now.
    pub fn events(&mut self) -> Vec<KeeperEvent> {
        let was_gone = self.is_disconnected;
        self.is_disconnected = was_gone || self.connection.fill_buffer();
        let lines = std::iter::from_fn(|| self.connection.next_line());
        let ends = lines.filter_map(|line| {
            let exit = &line["exit"];
            let code = exit["code"].as_i64().and_then(|code| i32::try_from(code).ok()).map(Exit::Code);
            let signal = exit["signal"].as_i64().and_then(|signal| i32::try_from(signal).ok()).map(Exit::Signal);
            Some(KeeperEvent::LeaderExited { exit: code.or(signal)?, left: line["left"] == true })
        });
        let mut news: Vec<KeeperEvent> = ends.collect();
        news.extend((self.is_disconnected && !was_gone).then_some(KeeperEvent::Disconnected));
        news
    }

    /// Lets it go, with what may be left below it; without this word it would end that.
    pub fn release(self) {
        // If it has gone already, there is no receiver.
        let _gone = self.connection.stream.try_write(RELEASE_COMMAND);
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

    /// Takes in what has arrived; `true` at the end of it.
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
