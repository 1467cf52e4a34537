//! Keeping MassGen warm: a start begins a warm process, where there is none for such runs and there is room for one, and is the
//! first to be forked from it. What goes wrong with that is no trouble of the run's, which is started cold then.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use super::{Fleet, blocking};
use crate::massgen::launch::Launch;
use crate::massgen::text::chain;
use crate::massgen::{launch, program};
use crate::registry::StateFolder;
use crate::run::RunSpec;
use crate::supervisor;
use crate::warm::{self, Beginning, Cold, Environment, Kind, Progress};

impl Fleet {
    /// Begins a warm process for runs like this one, unless one is there that would take such a run.
    ///
    /// A server that an agent of a run started begins none: whatever it starts ends with that run.
    pub(super) async fn keep_warm(&self, spec: &RunSpec) {
        if spec.warm
            && self.parent.is_none()
            && let Err(error) = begin(self.state.clone(), spec).await
        {
            tracing::warn!(error = chain(&error), "no warm process could be begun");
        }
    }
}

impl Fleet {
    /// Begins a warm process for runs like this one, unless one is there, and waits until it takes runs.
    ///
    /// # Errors
    ///
    /// It cannot be started, or its files cannot be made.
    pub async fn warm_up(&self, spec: &RunSpec) -> io::Result<Result<(), Cold>> {
        if let Err(cold) = begin(self.state.clone(), spec).await? {
            return Ok(Err(cold));
        }
        let kind = match Kind::of(&spec.program) {
            Ok(kind) => kind,
            Err(unfit) => return Ok(Err(unfit.into())),
        };
        let (env, folder) = (environment(spec)?, warm::folder(&self.state));
        loop {
            // Asked before: one that ends between the two questions has left no doubt.
            let progress = warm::progress(&self.state, &kind, &env);
            let fits = warm::fits(&self.state, &kind, &env, &folder).await;
            if fits.is_ok() || progress == Progress::Listens {
                return Ok(fits);
            }
            if progress == Progress::None {
                let refused = warm::refused(&self.state, &kind, &env, &folder);
                return Ok(Err(refused.unwrap_or(Cold::Failed(folder))));
            }
            tokio::time::sleep(warm::LOOK_AGAIN).await;
        }
    }

    /// Why runs like this one are started cold, although a warm process is there for them or was begun; none where that is not known.
    pub async fn refused(&self, spec: &RunSpec) -> Option<Cold> {
        let (kind, env) = (Kind::of(&spec.program).ok()?, environment(spec).ok()?);
        if let Some(refused) = warm::refused(&self.state, &kind, &env, &spec.project) {
            return Some(refused);
        }
        // Without one of their own, the next run begins it.
        let is_there = warm::progress(&self.state, &kind, &env) == Progress::Listens;
        let fits = warm::fits(&self.state, &kind, &env, &warm::folder(&self.state)).await;
        fits.err().filter(|cold| is_there && matches!(cold, Cold::Refused(_)))
    }
}

impl Fleet {
    /// What MassGen prints when a warm process runs it with these arguments in this folder; one that imports it yet is waited for. It
    /// begins none.
    ///
    /// # Errors
    ///
    /// Why MassGen has to be asked in the usual way.
    pub async fn ask_warm(&self, spec: &RunSpec, args: Vec<OsString>, folder: &Path) -> Result<Vec<u8>, Cold> {
        if !spec.warm {
            return Err(Cold::Off);
        }
        let kind = Kind::of(&spec.program)?;
        let env = environment(spec)?;
        let launch = Launch { program: spec.program.clone(), args, env, cwd: folder.to_owned() };
        while warm::progress(&self.state, &kind, &launch.env) == Progress::Imports {
            tokio::time::sleep(warm::LOOK_AGAIN).await;
        }
        warm::question(&self.state, &kind, &launch).await
    }
}

/// Sees to a warm process for runs like this one, which may be importing yet; `Err` says why there is none.
async fn begin(state: StateFolder, spec: &RunSpec) -> io::Result<Result<(), Cold>> {
    let kind = match Kind::of(&spec.program) {
        Ok(kind) => kind,
        Err(unfit) => return Ok(Err(unfit.into())),
    };
    let env = environment(spec)?;
    let run = launch::env_folder(spec, &warm::folder(&state)).to_owned();
    if warm::progress(&state, &kind, &env) != Progress::None || warm::fits(&state, &kind, &env, &run).await.is_ok() {
        return Ok(Ok(()));
    }
    if let Some(refused) = warm::refused(&state, &kind, &env, &run) {
        return Ok(Err(refused));
    }
    let begun = blocking(move || match warm::has_room(&state) {
        true => warm::beginning(&state, &kind, env, &run).map(Ok),
        false => Ok(Err(Cold::NoRoom)),
    });
    match begun.await.map_err(io::Error::other)?? {
        Ok(Some(beginning)) => start(beginning).map(Ok),
        Ok(None) => Ok(Ok(())),
        Err(cold) => Ok(Err(cold)),
    }
}

fn start(begun: Beginning) -> io::Result<()> {
    let mut command = Command::new(&begun.program);
    command.args(&begun.args).env_clear().envs(begun.env).current_dir(&begun.cwd);
    // It turns them into its log at once; see `main` of `warm.py`.
    command.stdin(begun.lock).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // While this process lives it is the parent, and must not leave it a zombie.
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// What a run like this one gets, but for what is of each run.
fn environment(spec: &RunSpec) -> io::Result<Environment> {
    let reaches = supervisor::environment(spec).map_err(io::Error::other)?;
    Ok(launch::furnished(reaches, &program::scripts(&spec.program)))
}
