//! What is said between a supervisor and a warm process: one request with the run's outputs, then lines of JSON. The same
//! connection is the tie between supervisor and keeper for as long as the run lasts: whichever of them dies, the other knows.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use procfs::process::Process;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::process::socket;
use super::{Cold, Environment, Kind, sockets};
use crate::massgen::launch::Launch;
use crate::registry::StateFolder;
use crate::run::Exit;

/// How long a warm process may take to answer; a fork takes some hundredths of a second. After that a cold start is the better one.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a question may take to be answered once it is taken: `warm.py` ends the process that answers after so long.
const ANSWER: Duration = Duration::from_secs(60);
/// The longest line that a keeper says, in bytes.
const MOST_LINE: usize = 4096;
/// What a supervisor says: begin, and that it needs the keeper no more.
const GO: &[u8] = b"g";
const DONE: &[u8] = b"d";

/// Where MassGen's output goes: standard output and standard error.
pub type Outputs = [OwnedFd; 2];

/// A keeper that waits for the word to fork MassGen.
#[derive(Debug)]
pub struct Offer {
    link: Link,
    /// The keeper's process.
    pub keeper: u32,
}

/// The process that has MassGen's for a child, of a run that was started warm.
#[derive(Debug)]
pub struct Keeper {
    link: Link,
    is_gone: bool,
}

/// What a keeper tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// MassGen's process was reaped.
    Ended {
        /// How it ended.
        exit: Exit,
        /// Whether processes are left that it started.
        left: bool,
    },
    /// The keeper has gone: with nothing left below it, or because somebody ended it.
    Gone,
}

/// Asks the warm processes of a state folder, one after the other, for a keeper for this launch.
///
/// # Errors
///
/// Why the run has to be started cold: what the first of them answered, or [`Cold::None`] where there is none for this MassGen. Nothing
/// has happened then.
pub async fn ask(
    state: &StateFolder,
    kind: &Kind,
    launch: &Launch,
    lock: &Path,
    outputs: &Outputs,
) -> Result<Offer, Cold> {
    let args = launch.args.iter().map(|arg| arg.to_str());
    let argv: Option<Vec<_>> = std::iter::once(launch.program.to_str()).chain(args).collect();
    let mut request = environment(&launch.env, &launch.cwd).ok_or(Cold::NotText)?;
    request["argv"] = json!(argv.ok_or(Cold::NotText)?);
    request["lock"] = json!(lock.to_str().ok_or(Cold::NotText)?);
    request["umask"] = json!(umask().ok_or_else(|| Cold::Io("/proc shows no umask".to_owned()))?);
    let sockets = sockets_for(state, kind, &launch.env);
    let (link, answer) = answered(sockets, &request, Some(outputs), |answer| number(&answer["keeper"])).await?;
    Ok(Offer { link, keeper: answer })
}

/// Whether one of the warm processes of a kind would take a run with this environment.
///
/// # Errors
///
/// Why none would; [`Cold::None`] where there is none.
pub async fn fits(state: &StateFolder, kind: &Kind, env: &Environment, cwd: &Path) -> Result<(), Cold> {
    let request = environment(env, cwd).ok_or(Cold::NotText)?;
    let sockets = sockets_for(state, kind, env);
    answered(sockets, &request, None, |answer| (answer["fits"] == true).then_some(())).await.map(|_| ())
}

/// Has one of the warm processes of a kind run the program with these arguments, for what it prints and then ends with: a question,
/// and no run. Gives its standard output.
///
/// # Errors
///
/// Why none answered; [`Cold::None`] where there is none.
pub async fn question(state: &StateFolder, kind: &Kind, launch: &Launch) -> Result<Vec<u8>, Cold> {
    let args = launch.args.iter().map(|arg| arg.to_str());
    let argv: Option<Vec<_>> = std::iter::once(launch.program.to_str()).chain(args).collect();
    let mut request = environment(&launch.env, &launch.cwd).ok_or(Cold::NotText)?;
    request["ask"] = json!(argv.ok_or(Cold::NotText)?);
    let (out, out_end) = io::pipe()?;
    let outputs = [OwnedFd::from(out_end), OwnedFd::from(File::options().write(true).open("/dev/null")?)];
    let sockets = sockets_for(state, kind, &launch.env);
    answered(sockets, &request, Some(&outputs), |answer| (answer["asks"] == true).then_some(())).await?;
    // The process that answers has the only other end.
    drop(outputs);
    let told = tokio::time::timeout(ANSWER, read_all(out)).await.map_err(|_late| Cold::Silent)??;
    Ok(told)
}

async fn read_all(pipe: io::PipeReader) -> io::Result<Vec<u8>> {
    let mut pipe = tokio::net::unix::pipe::Receiver::from_owned_fd(OwnedFd::from(pipe))?;
    let mut told = Vec::new();
    pipe.read_to_end(&mut told).await?;
    Ok(told)
}

/// The sockets of one kind; that of the process for this environment comes first.
fn sockets_for(state: &StateFolder, kind: &Kind, env: &Environment) -> Vec<PathBuf> {
    let (own, mut all) = (socket(state, kind, env), sockets(state, Some(kind)));
    all.sort_by_key(|socket| *socket != own);
    all
}

/// The first answer that is as wanted; else the first reason why there is none.
async fn answered<T>(
    sockets: Vec<PathBuf>,
    request: &Value,
    outputs: Option<&Outputs>,
    wanted: impl Fn(&Value) -> Option<T>,
) -> Result<(Link, T), Cold> {
    let mut cold = None;
    for socket in sockets {
        let reason = match tokio::time::timeout(PATIENCE, asked(&socket, request, outputs)).await {
            Ok(Ok((link, answer))) => match wanted(&answer) {
                Some(good) => return Ok((link, good)),
                None => Cold::Refused(answer["cold"].as_str().unwrap_or("it gives no reason").to_owned()),
            },
            Ok(Err(error)) => {
                // Nothing listens there any more.
                tracing::debug!(socket = %socket.display(), %error, "no warm process");
                continue;
            }
            Err(_late) => Cold::Silent,
        };
        cold.get_or_insert(reason);
    }
    Err(cold.unwrap_or(Cold::None))
}

/// Of this process, which a cold start would inherit.
fn umask() -> Option<u32> {
    Process::myself().ok()?.status().ok()?.umask
}

/// Only what is text can be said; none where something is not.
fn environment(env: &Environment, cwd: &Path) -> Option<Value> {
    let pairs: Option<serde_json::Map<_, _>> =
        env.iter().map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.into()))).collect();
    Some(json!({"env": pairs?, "cwd": cwd.to_str()?}))
}

async fn asked(socket: &Path, request: &Value, outputs: Option<&Outputs>) -> io::Result<(Link, Value)> {
    let stream = connect(socket)?;
    let text = request.to_string().into_bytes();
    let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_be_bytes();
    send_with(&stream, &length, outputs)?;
    stream.set_nonblocking(true)?;
    let mut link = Link { stream: UnixStream::from_std(stream)?, heard: Vec::new() };
    link.stream.write_all(&text).await?;
    let answer = link.line().await?;
    Ok((link, answer))
}

/// A socket's address may have some hundred bytes, fewer than a path; so its folder is opened, and named by its number.
pub(super) fn connect(socket: &Path) -> io::Result<std::os::unix::net::UnixStream> {
    let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    std::os::unix::net::UnixStream::connect(Path::new(&format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name))
}

fn send_with(stream: impl AsFd, bytes: &[u8], outputs: Option<&Outputs>) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut along = SendAncillaryBuffer::new(&mut space);
    let outputs = outputs.map(|outputs| outputs.each_ref().map(AsFd::as_fd));
    if let Some(outputs) = &outputs {
        along.push(SendAncillaryMessage::ScmRights(outputs));
    }
    sendmsg(stream, &[IoSlice::new(bytes)], &mut along, SendFlags::NOSIGNAL)?;
    Ok(())
}

impl Offer {
    /// Takes it up: MassGen's process is forked. Gives its pid and its start, in clock ticks since boot.
    ///
    /// # Errors
    ///
    /// The keeper went, or did not answer in time. If it has forked MassGen's process by then, it ends that once this is dropped.
    pub async fn begin(mut self) -> io::Result<(Keeper, u32, u64)> {
        let begun = async {
            self.link.stream.write_all(GO).await?;
            self.link.line().await
        };
        let answer = tokio::time::timeout(PATIENCE, begun).await??;
        let leader = number(&answer["leader"]).zip(answer["start_ticks"].as_u64());
        let (pid, start_ticks) = leader.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((Keeper { link: self.link, is_gone: false }, pid, start_ticks))
    }
}

impl Keeper {
    /// Resolves when there may be news; never after the keeper has gone. Nothing is lost where this is given up.
    pub async fn stirs(&self) {
        if self.is_gone || self.link.stream.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// All news until now.
    pub fn news(&mut self) -> Vec<News> {
        let was_gone = self.is_gone;
        self.is_gone = was_gone || self.link.take_in();
        let lines = std::iter::from_fn(|| self.link.next_line());
        let ends = lines.filter_map(|line| {
            let exit = &line["exit"];
            let code = exit["code"].as_i64().and_then(|code| i32::try_from(code).ok()).map(Exit::Code);
            let signal = exit["signal"].as_i64().and_then(|signal| i32::try_from(signal).ok()).map(Exit::Signal);
            Some(News::Ended { exit: code.or(signal)?, left: line["left"] == true })
        });
        let mut news: Vec<News> = ends.collect();
        news.extend((self.is_gone && !was_gone).then_some(News::Gone));
        news
    }

    /// Lets it go, with what may be left below it; without this word it would end that.
    pub fn dismiss(self) {
        // Where it has gone already, there is nobody to be told.
        let _gone = self.link.stream.try_write(DONE);
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok())
}

#[derive(Debug)]
struct Link {
    stream: UnixStream,
    heard: Vec<u8>,
}

impl Link {
    async fn line(&mut self) -> io::Result<Value> {
        loop {
            if let Some(line) = self.next_line() {
                return Ok(line);
            }
            let read = self.stream.read_buf(&mut self.heard).await?;
            if read == 0 || self.heard.len() > MOST_LINE {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Takes in what has arrived; `true` at the end of it.
    fn take_in(&mut self) -> bool {
        loop {
            match self.stream.try_read_buf(&mut self.heard) {
                Ok(1..) if self.heard.len() <= MOST_LINE => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Ok(_) | Err(_) => return true,
            }
        }
    }

    fn next_line(&mut self) -> Option<Value> {
        let end = self.heard.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.heard.drain(..=end).collect();
        Some(serde_json::from_slice(&line).unwrap_or_default())
    }
}
