//! Starts warm processes: the start of a run also starts a warm process if none exists for such runs and the limit allows one,
//! and that run is the first one forked from it. A failure here does not fail the run: the run starts cold.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::{Fleet, blocking};
use crate::massgen::launch::Launch;
use crate::massgen::text::error_chain;
use crate::massgen::{launch, program};
use crate::registry::StateFolder;
use crate::run::RunSpec;
use crate::supervisor;
use crate::warm::{self, ColdReason, Environment, Installation, SpawnSpec, WarmState};

impl Fleet {
    /// Starts a warm process for runs like this one, unless one exists that accepts such a run.
    ///
    /// A server inside a run starts none, because its processes end with that run.
    pub(super) async fn ensure_warm_process(&self, spec: &RunSpec) {
        if spec.warm
            && self.parent.is_none()
            && let Err(error) = begin_warm_process(self.state.clone(), spec).await
        {
            tracing::warn!(error = error_chain(&error), "no warm process could be begun");
        }
    }
}

impl Fleet {
    /// Starts a warm process for runs like this one, unless one exists, and waits until it accepts runs.
    ///
    /// # Errors
    ///
    /// If it cannot be started or its files cannot be created.
    pub async fn warm_up(&self, spec: &RunSpec) -> io::Result<Result<(), ColdReason>> {
        if let Err(cold) = begin_warm_process(self.state.clone(), spec).await? {
            return Ok(Err(cold));
        }
        let installation = match Installation::for_program(&spec.program) {
            Ok(installation) => installation,
            Err(unsupported) => return Ok(Err(unsupported.into())),
        };
        let (env, folder) = (shared_environment(spec)?, warm::warm_folder(&self.state));
        loop {
            // Read the progress before connecting: if the process dies in between, `None` is conclusive.
            let progress = warm::warm_state(&self.state, &installation, &env);
            let compatible = warm::check_compatible(&self.state, &installation, &env, &folder).await;
            if compatible.is_ok() || progress == WarmState::Ready {
                return Ok(compatible);
            }
            if progress == WarmState::Absent {
                let reason = warm::recorded_refusal(&self.state, &installation, &env, &folder);
                return Ok(Err(reason.unwrap_or(ColdReason::ImportFailed(folder))));
            }
            tokio::time::sleep(warm::POLL_INTERVAL).await;
        }
    }

    /// Why runs like this one start cold although a warm process exists or was started for them; `None` if unknown.
    pub async fn cold_reason(&self, spec: &RunSpec) -> Option<ColdReason> {
        let (installation, env) = (Installation::for_program(&spec.program).ok()?, shared_environment(spec).ok()?);
        if let Some(reason) = warm::recorded_refusal(&self.state, &installation, &env, &spec.project) {
            return Some(reason);
        }
        // If no warm process exists for these runs, the next run starts it, so there is nothing to report.
        let is_ready = warm::warm_state(&self.state, &installation, &env) == WarmState::Ready;
        let compatible =
            warm::check_compatible(&self.state, &installation, &env, &warm::warm_folder(&self.state)).await;
        compatible.err().filter(|cold| is_ready && matches!(cold, ColdReason::Refused(_)))
    }
}

impl Fleet {
    /// The output of MassGen when a warm process runs it with these arguments in this folder. Starts a warm process if none exists, and
    /// waits until its import is complete: that takes no longer than a cold start, and the next call is quick.
    ///
    /// # Errors
    ///
    /// The reason why the caller has to start MassGen cold.
    pub async fn execute_warm(
        &self,
        spec: &RunSpec,
        args: Vec<OsString>,
        folder: &Path,
    ) -> Result<Vec<u8>, ColdReason> {
        if !spec.warm {
            return Err(ColdReason::Disabled);
        }
        let installation = Installation::for_program(&spec.program)?;
        let env = shared_environment(spec)?;
        let launch = Launch { program: spec.program.clone(), args, env, cwd: folder.to_owned() };
        self.ensure_warm_process(spec).await;
        while warm::warm_state(&self.state, &installation, &launch.env) == WarmState::Importing {
            tokio::time::sleep(warm::POLL_INTERVAL).await;
        }
        warm::execute(&self.state, &installation, &launch).await
    }
}

/// Ensures a warm process for runs like this one, which may still be importing; `Err` says why none exists.
async fn begin_warm_process(state: StateFolder, spec: &RunSpec) -> io::Result<Result<(), ColdReason>> {
    let installation = match Installation::for_program(&spec.program) {
        Ok(installation) => installation,
        Err(unsupported) => return Ok(Err(unsupported.into())),
    };
    let env = shared_environment(spec)?;
    let run = launch::env_folder(spec, &warm::warm_folder(&state)).to_owned();
    if warm::warm_state(&state, &installation, &env) != WarmState::Absent
        || warm::check_compatible(&state, &installation, &env, &run).await.is_ok()
    {
        return Ok(Ok(()));
    }
    if let Some(reason) = warm::recorded_refusal(&state, &installation, &env, &run) {
        return Ok(Err(reason));
    }
    let spawn_spec = blocking(move || match warm::has_capacity(&state) {
        true => warm::spawn_spec(&state, &installation, env, &run).map(Ok),
        false => Ok(Err(ColdReason::NoCapacity)),
    });
    match spawn_spec.await.map_err(io::Error::other)?? {
        Ok(Some(spec)) => spawn(spec).map(Ok),
        Ok(None) => Ok(Ok(())),
        Err(cold) => Ok(Err(cold)),
    }
}

fn spawn(spec: SpawnSpec) -> io::Result<()> {
    let mut command = Command::new(&spec.program);
    command.args(&spec.args).env_clear().envs(spec.env).current_dir(&spec.cwd);
    // The process redirects its output to its log at once; see `main` of `warm.py`.
    command.stdin(spec.lock.hand_on()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // This process is the parent while it lives, so it must reap the warm process.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// The environment of runs like this one, without the variables that differ per run.
fn shared_environment(spec: &RunSpec) -> io::Result<Environment> {
    let env = supervisor::environment(spec).map_err(io::Error::other)?;
    Ok(launch::with_required_variables(env, &program::scripts(&spec.program)))
}
