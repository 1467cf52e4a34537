//! MassGen's own process: how it is started as leader of a session of its own that ends when its supervisor dies.
//! The exec step stands between: it is this program again, which becomes MassGen without another process in between.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal};

use tokio::task::JoinHandle;

use super::output::{self, Log};
use crate::massgen::launch::Launch;
use crate::massgen::reasons::CANNOT_EXECUTE;
use crate::registry::RunFolder;
use crate::secrets::Secrets;

/// The exit code of an exec step that could not become MassGen.
const NOT_EXECUTED: i32 = 127;

/// MassGen's process, just started, and the tasks that keep what it prints.
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) outputs: Vec<JoinHandle<()>>,
}

/// Starts MassGen. It must be called on the thread that lives as long as the supervisor: the parent-death
/// signal belongs to the thread that forked.
pub(super) fn start(me: &Path, launch: &Launch, folder: &RunFolder, secrets: &Secrets) -> io::Result<Started> {
    let mut command = Command::new(me);
    command.arg0("massgen-mcp").arg("exec").arg(std::process::id().to_string()).arg(&launch.program).args(&launch.args);
    command.env_clear().envs(launch.env.iter().map(|(name, value)| (name, value))).current_dir(&launch.cwd);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // What can fail for want of room comes first: once MassGen lives, it must not be taken for never started.
    let (out, err) = (Log::create(folder.stdout_log())?, Log::create(folder.stderr_log())?);
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().map(|pipe| output::drain(pipe, out, secrets)).transpose()?;
    let stderr = child.stderr.take().map(|pipe| output::drain(pipe, err, secrets)).transpose()?;
    // The handle is let go without a wait: the supervisor reaps all its children in one place.
    Ok(Started { pid: child.id(), outputs: [stdout, stderr].into_iter().flatten().collect() })
}

/// The exec step: a new session, a signal at the supervisor's death, then MassGen in place of this program.
/// It returns only where that failed.
pub fn become_massgen(supervisor: u32, program: &Path, args: &[OsString]) -> Result<Infallible, (i32, String)> {
    let refused = |error: io::Error| (NOT_EXECUTED, format!("{CANNOT_EXECUTE} `{}`: {error}", program.display()));
    rustix::process::setsid().map_err(|error| refused(error.into()))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| refused(error.into()))?;
    // Had the supervisor died before the line above, nobody would signal us any more.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get().unsigned_abs()) != Some(supervisor) {
        return Err(refused(io::Error::other("its supervisor is gone")));
    }
    Err(refused(Command::new(program).args(args).exec()))
}
