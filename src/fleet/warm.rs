//! Keeping MassGen warm: a start begins a warm process, where there is none for such runs and there is room for one, and is the
//! first to be forked from it. What goes wrong with that is no trouble of the run's, which is started cold then.

use std::io;

use tokio::process::Command;

use super::{Fleet, blocking};
use crate::massgen::text::chain;
use crate::massgen::{launch, program};
use crate::registry::StateFolder;
use crate::run::RunSpec;
use crate::supervisor;
use crate::warm::{self, Beginning, Environment, Kind, Progress, Unfit};

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

/// What came of the wish for a warm process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warmth {
    /// There is one; it may be importing yet.
    Begun,
    /// MassGen is none that could be kept.
    Unfit(Unfit),
    /// Too many are there for other environments, or memory is short.
    NoRoom,
}

impl Fleet {
    /// Begins a warm process for runs like this one, unless one is there, and waits until it takes runs. `false`: it ended before,
    /// and says why in the newest log of its folder.
    ///
    /// # Errors
    ///
    /// It cannot be started, or its files cannot be made.
    pub async fn warm_up(&self, spec: &RunSpec) -> io::Result<(Warmth, bool)> {
        let warmth = begin(self.state.clone(), spec).await?;
        let (Ok(kind), Warmth::Begun) = (Kind::of(&spec.program), warmth) else { return Ok((warmth, false)) };
        let env = environment(spec)?;
        loop {
            // Asked before: one that ends between the two questions has left no doubt.
            let progress = warm::progress(&self.state, &kind, &env);
            if warm::fits(&self.state, &kind, &env, &warm::folder(&self.state)).await {
                return Ok((warmth, true));
            }
            if progress == Progress::None {
                return Ok((warmth, false));
            }
            tokio::time::sleep(warm::LOOK_AGAIN).await;
        }
    }
}

async fn begin(state: StateFolder, spec: &RunSpec) -> io::Result<Warmth> {
    let kind = match Kind::of(&spec.program) {
        Ok(kind) => kind,
        Err(unfit) => return Ok(Warmth::Unfit(unfit)),
    };
    let env = environment(spec)?;
    if warm::progress(&state, &kind, &env) != Progress::None
        || warm::fits(&state, &kind, &env, &warm::folder(&state)).await
    {
        return Ok(Warmth::Begun);
    }
    let begun = blocking(move || match warm::has_room(&state) {
        true => warm::beginning(&state, &kind, env).map(Ok),
        false => Ok(Err(Warmth::NoRoom)),
    });
    match begun.await.map_err(io::Error::other)?? {
        Ok(Some(beginning)) => start(beginning).map(|()| Warmth::Begun),
        Ok(None) => Ok(Warmth::Begun),
        Err(none) => Ok(none),
    }
}

fn start(begun: Beginning) -> io::Result<()> {
    let mut command = Command::new(&begun.program);
    command.args(&begun.args).env_clear().envs(begun.env).current_dir(&begun.cwd);
    command.stdin(begun.lock).stdout(begun.log.try_clone()?).stderr(begun.log);
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
