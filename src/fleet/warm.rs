//! Keeps MassGen warm: a start begins a warm process if none exists for such runs and the limit allows one, and is the
//! first run forked from it. A failure here does not fail the run: the run starts cold.

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
    /// Begins a warm process for runs like this one, unless one exists that accepts such a run.
    ///
    /// A server that an agent of a run started begins none: its processes end with that run.
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
    /// Begins a warm process for runs like this one, unless one exists, and waits until it accepts runs.
    ///
    /// # Errors
    ///
    /// It cannot be started, or its files cannot be made.
    pub async fn warm_up(&self, spec: &RunSpec) -> io::Result<Result<(), ColdReason>> {
        if let Err(cold) = begin_warm_process(self.state.clone(), spec).await? {
            return Ok(Err(cold));
        }
        let kind = match Installation::for_program(&spec.program) {
            Ok(kind) => kind,
            Err(unfit) => return Ok(Err(unfit.into())),
        };
        let (env, folder) = (shared_environment(spec)?, warm::warm_folder(&self.state));
        loop {
            // Read the progress before connecting: if the process dies in between, `None` is conclusive.
            let progress = warm::warm_state(&self.state, &kind, &env);
            let fits = warm::check_compatible(&self.state, &kind, &env, &folder).await;
            if fits.is_ok() || progress == WarmState::Ready {
                return Ok(fits);
            }
            if progress == WarmState::Absent {
                let refused = warm::recorded_refusal(&self.state, &kind, &env, &folder);
                return Ok(Err(refused.unwrap_or(ColdReason::ImportFailed(folder))));
            }
            tokio::time::sleep(warm::POLL_INTERVAL).await;
        }
    }

    /// Why runs like this one start cold although a warm process exists or was begun for them; `None` if unknown.
    pub async fn cold_reason(&self, spec: &RunSpec) -> Option<ColdReason> {
        let (kind, env) = (Installation::for_program(&spec.program).ok()?, shared_environment(spec).ok()?);
        if let Some(refused) = warm::recorded_refusal(&self.state, &kind, &env, &spec.project) {
            return Some(refused);
        }
        // Without one of their own, the next run begins it.
        let is_there = warm::warm_state(&self.state, &kind, &env) == WarmState::Ready;
        let fits = warm::check_compatible(&self.state, &kind, &env, &warm::warm_folder(&self.state)).await;
        fits.err().filter(|cold| is_there && matches!(cold, ColdReason::Refused(_)))
    }
}

impl Fleet {
    /// What MassGen prints when a warm process runs it with these arguments in this folder. Waits for a process that still imports;
    /// begins none.
    ///
    /// # Errors
    ///
    /// Why MassGen has to be called in the usual way.
    pub async fn execute_warm(
        &self,
        spec: &RunSpec,
        args: Vec<OsString>,
        folder: &Path,
    ) -> Result<Vec<u8>, ColdReason> {
        if !spec.warm {
            return Err(ColdReason::Disabled);
        }
        let kind = Installation::for_program(&spec.program)?;
        let env = shared_environment(spec)?;
        let launch = Launch { program: spec.program.clone(), args, env, cwd: folder.to_owned() };
        while warm::warm_state(&self.state, &kind, &launch.env) == WarmState::Importing {
            tokio::time::sleep(warm::POLL_INTERVAL).await;
        }
        warm::execute(&self.state, &kind, &launch).await
    }
}

/// Ensures a warm process for runs like this one, which may still be importing; `Err` says why none exists.
async fn begin_warm_process(state: StateFolder, spec: &RunSpec) -> io::Result<Result<(), ColdReason>> {
    let kind = match Installation::for_program(&spec.program) {
        Ok(kind) => kind,
        Err(unfit) => return Ok(Err(unfit.into())),
    };
    let env = shared_environment(spec)?;
    let run = launch::env_folder(spec, &warm::warm_folder(&state)).to_owned();
    if warm::warm_state(&state, &kind, &env) != WarmState::Absent
        || warm::check_compatible(&state, &kind, &env, &run).await.is_ok()
    {
        return Ok(Ok(()));
    }
    if let Some(refused) = warm::recorded_refusal(&state, &kind, &env, &run) {
        return Ok(Err(refused));
    }
    let begun = blocking(move || match warm::has_capacity(&state) {
        true => warm::spawn_spec(&state, &kind, env, &run).map(Ok),
        false => Ok(Err(ColdReason::NoCapacity)),
    });
    match begun.await.map_err(io::Error::other)?? {
        Ok(Some(beginning)) => spawn(beginning).map(Ok),
        Ok(None) => Ok(Ok(())),
        Err(cold) => Ok(Err(cold)),
    }
}

fn spawn(begun: SpawnSpec) -> io::Result<()> {
    let mut command = Command::new(&begun.program);
    command.args(&begun.args).env_clear().envs(begun.env).current_dir(&begun.cwd);
    // It turns them into its log at once; see `main` of `warm.py`.
    command.stdin(begun.lock.hand_on()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // This process is the parent while it lives, so it must reap the warm process.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// What a run like this one gets, but for what is of each run.
fn shared_environment(spec: &RunSpec) -> io::Result<Environment> {
    let reaches = supervisor::environment(spec).map_err(io::Error::other)?;
    Ok(launch::with_required_variables(reaches, &program::scripts(&spec.program)))
}
