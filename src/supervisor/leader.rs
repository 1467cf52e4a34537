//! Starts MassGen's own process as leader of its own session. It ends when its supervisor dies.
//! The exec step is this program again: it prepares the process and then becomes MassGen, without another process in between.

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::group;
use super::output::{self, RotatingLog};
use super::reaper::{KeeperReaper, LeaderChild, Reaper};
use crate::massgen::launch::Launch;
use crate::massgen::reasons::CANNOT_EXECUTE_PREFIX;
use crate::registry::{RunFolder, StateFolder};
use crate::run::{Leader, ProcessIdentity, RunSpec};
use crate::secrets::Secrets;
use crate::warm::{self, ColdReason, ForkTicket, Installation, WarmState};

/// The exit code of an exec step that failed to become MassGen.
const EXIT_NOT_EXECUTED: i32 = 127;

/// How long an import may take. On a machine busy with ten imports, a cold start takes just as long.
const IMPORT_TIMEOUT: Duration = Duration::from_secs(60);

/// MassGen's newly started process, its reaper, and the tasks that copy its output.
pub(super) struct StartedLeader {
    pub(super) leader: Leader,
    pub(super) reaper: Reaper,
    pub(super) outputs: Vec<JoinHandle<()>>,
}

/// A keeper that waits for the command to fork MassGen, and the read ends of its outputs.
pub(super) struct WarmStart {
    ticket: ForkTicket,
    /// The keeper's process.
    pub(super) keeper: ProcessIdentity,
    /// How long the run waited for it.
    pub(super) import_wait: Duration,
    outputs: [PipeReader; 2],
}

/// Requests a warm start. If the warm process still imports MassGen, this waits, which takes no longer than an import of the
/// run's own; it calls `on_wait` before waiting.
///
/// # Errors
///
/// Why the run needs a cold start: no warm process would behave like a cold start. Nothing has started yet.
pub(super) async fn request_warm_start(
    launch: &Launch,
    folder: &RunFolder,
    state: &StateFolder,
    spec: &RunSpec,
    on_wait: impl FnOnce(),
) -> Result<WarmStart, ColdReason> {
    if !spec.warm {
        return Err(ColdReason::Disabled);
    }
    let installation = Installation::for_program(&launch.program)?;
    let (started_at, mut on_wait) = (Instant::now(), Some(on_wait));
    // The worker gets the same signals and stops whatever has started by then.
    let mut shutdown = std::pin::pin!(super::shutdown_signal());
    let ((out, out_end), (err, err_end)) = (io::pipe()?, io::pipe()?);
    let ends = [OwnedFd::from(out_end), OwnedFd::from(err_end)];
    loop {
        let is_importing = warm::warm_state(state, &installation, &launch.env) == WarmState::Importing;
        let cold = match warm::request_fork(state, &installation, launch, &folder.lock(), &ends).await {
            Ok(ticket) => {
                let keeper = group::identify(ticket.keeper).ok_or(ColdReason::NoProcess)?;
                return Ok(WarmStart { ticket, keeper, import_wait: started_at.elapsed(), outputs: [out, err] });
            }
            Err(cold) => cold,
        };
        if !is_importing {
            return Err(explain_cold_start(cold, launch, &installation, state, spec, on_wait.is_none()));
        }
        if started_at.elapsed() > IMPORT_TIMEOUT {
            return Err(ColdReason::ImportTimedOut);
        }
        if folder.stop_request().is_some() {
            return Err(ColdReason::Stopped);
        }
        on_wait.take().into_iter().for_each(|on_wait| on_wait());
        tokio::select! {
            () = tokio::time::sleep(warm::POLL_INTERVAL) => {}
            () = &mut shutdown => return Err(ColdReason::Stopped),
        }
    }
}

/// Why no warm process accepts the run: the reason given by the process for its environment, or why no such process exists.
fn explain_cold_start(
    cold: ColdReason,
    launch: &Launch,
    installation: &Installation,
    state: &StateFolder,
    spec: &RunSpec,
    has_waited: bool,
) -> ColdReason {
    if let Some(refused) = warm::recorded_refusal(state, installation, &launch.env, &launch.cwd) {
        return refused;
    }
    let is_from_another_process = matches!(cold, ColdReason::NoProcess | ColdReason::Refused(_));
    if !is_from_another_process || warm::warm_state(state, installation, &launch.env) == WarmState::Ready {
        return cold;
    }
    let log = warm::log_path(state, installation, &launch.env);
    match (spec.lineage.parent.is_some(), log) {
        (_, Some(log)) if has_waited => ColdReason::ImportFailed(log),
        (true, _) if cold == ColdReason::NoProcess => ColdReason::Nested,
        (true, _) => cold,
        (false, _) if !warm::has_capacity(state) => ColdReason::NoCapacity,
        (false, Some(log)) => ColdReason::ImportFailed(log),
        (false, None) => cold,
    }
}

impl WarmStart {
    /// Forks MassGen's process.
    pub(super) async fn fork_leader(
        self,
        folder: &RunFolder,
        secrets: &Secrets,
        closing: &Arc<Notify>,
    ) -> io::Result<StartedLeader> {
        let logs = [RotatingLog::create(folder.stdout_log())?, RotatingLog::create(folder.stderr_log())?];
        let (connection, pid, start_ticks) = self.ticket.fork().await?;
        let leader = Leader { pid, start_ticks, boot_id: self.keeper.boot_id.clone() };
        let reaper = Reaper::Keeper(KeeperReaper::new(connection, self.keeper, leader.clone(), &folder.bin()));
        let drains = self.outputs.into_iter().zip(logs).map(|(pipe, log)| output::drain(pipe, log, secrets, closing));
        let outputs = drains.collect::<io::Result<_>>()?;
        Ok(StartedLeader { leader, reaper, outputs })
    }
}

/// Starts MassGen cold. The caller must be a thread that lives as long as the supervisor: the parent-death signal is bound to
/// the thread that forked.
pub(super) fn start_cold(
    me: &Path,
    launch: &Launch,
    folder: &RunFolder,
    secrets: &Secrets,
    closing: &Arc<Notify>,
) -> io::Result<StartedLeader> {
    let mut command = Command::new(me);
    command.arg0("massgen-mcp").arg("exec").arg(std::process::id().to_string()).arg(&launch.program).args(&launch.args);
    command.env_clear().envs(launch.env.iter().map(|(name, value)| (name, value))).current_dir(&launch.cwd);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Create the logs first, since a full disk may prevent it: once MassGen lives, the run must not count as never started.
    let (out, err) = (RotatingLog::create(folder.stdout_log())?, RotatingLog::create(folder.stderr_log())?);
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().map(|pipe| output::drain(pipe, out, secrets, closing)).transpose()?;
    let stderr = child.stderr.take().map(|pipe| output::drain(pipe, err, secrets, closing)).transpose()?;
    // The child is not reaped yet, so its pid is not reused. Without /proc no run can be supervised. Dropping the handle without
    // a wait is correct: the supervisor reaps all its children in one place.
    let leader = group::identify(child.id()).ok_or_else(|| io::Error::other("/proc does not show it"))?;
    let reaper = Reaper::Supervisor(LeaderChild::new(&leader));
    Ok(StartedLeader { leader, reaper, outputs: [stdout, stderr].into_iter().flatten().collect() })
}

/// The exec step: creates a session, sets a signal for the supervisor's death, then replaces this program by MassGen.
/// It returns only on failure.
pub fn exec_massgen(supervisor: u32, program: &Path, args: &[OsString]) -> Result<Infallible, (i32, String)> {
    let refused =
        |error: io::Error| (EXIT_NOT_EXECUTED, format!("{CANNOT_EXECUTE_PREFIX} `{}`: {error}", program.display()));
    rustix::process::setsid().map_err(|error| refused(error.into()))?;
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM)).map_err(|error| refused(error.into()))?;
    // If the supervisor died before the line above, no death signal arrives.
    if rustix::process::getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get().unsigned_abs()) != Some(supervisor) {
        return Err(refused(io::Error::other("its supervisor is gone")));
    }
    Err(refused(Command::new(program).args(args).exec()))
}
