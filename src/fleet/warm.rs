//! Keeping MassGen warm: a start begins a warm process, where there is none for such runs and there is room for one, and is the
//! first to be forked from it. What goes wrong with that is no trouble of the run's, which is started cold then.

use std::io;

use tokio::process::Command;

use super::{Fleet, blocking};
use crate::massgen::launch;
use crate::massgen::text::chain;
use crate::registry::StateFolder;
use crate::run::RunSpec;
use crate::supervisor;
use crate::warm::{self, Environment, Kind};

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

async fn begin(state: StateFolder, spec: &RunSpec) -> io::Result<()> {
    let Some(kind) = Kind::of(&spec.program) else { return Ok(()) };
    let env = environment(spec)?;
    if warm::has_begun(&state, &kind, &env) || warm::fits(&state, &kind, &env, &warm::folder(&state)).await {
        return Ok(());
    }
    let begun = blocking(move || {
        let room = warm::has_room(&state);
        room.then(|| warm::beginning(&state, &kind, env)).transpose().map(Option::flatten)
    });
    let Some(begun) = begun.await.map_err(io::Error::other)?? else { return Ok(()) };
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
    Ok(launch::furnished(reaches, spec.program.parent().unwrap_or(&spec.project)))
}
