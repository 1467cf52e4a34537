//! Starting a supervisor on this machine. The run's lock goes along as its standard input, so that the run has an owner at
//! every moment; one word on its standard output says that MassGen's process is on record.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::crash;
use crate::registry::{RunFolder, RunLock};
use crate::supervisor::READY;

/// A supervisor that did not begin its work.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It could not be started.
    #[error("cannot start a supervisor with `{}`", program.display())]
    NotStarted {
        /// What was executed.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It ended before it was ready.
    #[error("the supervisor gave up: {said}")]
    GaveUp {
        /// The end of what it said.
        said: String,
    },
}

/// Starts the supervisor of a run and waits until it has the run in hand.
///
/// `keys` go into its environment alone.
pub(super) async fn launch(
    me: &Path,
    folder: &RunFolder,
    lock: RunLock,
    keys: Vec<(String, String)>,
) -> Result<(), LaunchError> {
    let not_started = |source| LaunchError::NotStarted { program: me.to_owned(), source };
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(folder.supervisor_log())
        .map_err(not_started)?;
    let mut command = Command::new(me);
    command.arg0("massgen-mcp").arg("supervise").arg(folder.path());
    command.envs(keys).stdin(lock.hand_on()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(not_started)?;
    // The command still holds our end of the lock; from here on the supervisor is its only holder.
    drop(command);
    crash::point("supervisor-started");
    let said = child.stdout.take();
    // While this server lives it is the supervisor's parent, and must not leave it a zombie.
    tokio::spawn(async move { child.wait().await });
    let mut word = String::new();
    if let Some(said) = said {
        BufReader::new(said).read_line(&mut word).await.map_err(not_started)?;
    }
    if word.trim_end() == READY {
        return Ok(());
    }
    let log = std::fs::read_to_string(folder.supervisor_log()).unwrap_or_default();
    let said = log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
    Err(LaunchError::GaveUp { said })
}
