//! Starts the owner of a run (its supervisor) or of an experiment (its driver) on this machine. The owner inherits the lock as
//! standard input, so the folder always has an owner. It writes one line to its standard output when it is ready.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::crash;
use crate::registry::OwnerLock;
use crate::secrets::SecretNameRules;
use crate::supervisor::READY;

/// The process that will own a folder.
pub(super) struct OwnerProcess<'a> {
    /// The subcommand of this program that starts it.
    pub(super) subcommand: &'static str,
    /// The folder that it owns.
    pub(super) folder: &'a Path,
    /// Its log file.
    pub(super) log: PathBuf,
}

/// An owner that did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started.
    #[error("cannot start `{}`", program.display())]
    NotStarted {
        /// The executed program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("it gave up: {said}")]
    ExitedEarly {
        /// The last line of its log.
        said: String,
    },
}

/// Starts an owner and waits until it is ready.
///
/// Only its environment gets the `keys`.
pub(super) async fn launch(
    program: &Path,
    owner: OwnerProcess<'_>,
    lock: OwnerLock,
    keys: Vec<(String, String)>,
) -> Result<(), LaunchError> {
    let not_started = |source| LaunchError::NotStarted { program: program.to_owned(), source };
    let log = std::fs::File::options().create(true).append(true).mode(0o600).open(&owner.log).map_err(not_started)?;
    let mut command = Command::new(program);
    command.arg0("massgen-mcp").arg(owner.subcommand).arg(owner.folder);
    command
        .envs(keys)
        .envs(SecretNameRules::child_variables())
        .stdin(lock.hand_on())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().map_err(not_started)?;
    // The command still holds our end of the lock; from here on the owner is its only holder.
    drop(command);
    crash::point("supervisor-started");
    let stdout = child.stdout.take();
    // While this process lives it is the owner's parent, and must not leave it a zombie.
    tokio::spawn(async move { child.wait().await });
    let mut ready_line = String::new();
    if let Some(stdout) = stdout {
        BufReader::new(stdout).read_line(&mut ready_line).await.map_err(not_started)?;
    }
    if ready_line.trim_end() == READY {
        return Ok(());
    }
    let log = std::fs::read_to_string(&owner.log).unwrap_or_default();
    let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Err(LaunchError::ExitedEarly { said })
}
