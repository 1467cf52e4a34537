//! Keeping MassGen warm for the runs to come: a run that had to be started cold begins a warm process, where there is room for one.
//! It is done beside the run, and what goes wrong with it is no trouble of the run's: the next one is started cold as well.

use std::io;
use std::process::Stdio;

use tokio::process::Command;

use super::{Fleet, blocking};
use crate::massgen::launch;
use crate::massgen::text::chain;
use crate::registry::StateFolder;
use crate::run::{RunRecord, RunSpec};
use crate::supervisor;
use crate::warm::{self, Environment, Kind};

impl Fleet {
    /// Begins a warm process for runs like this one, unless it was started warm itself, or one is there that would take such a run.
    ///
    /// A server that an agent of a run started begins none: whatever it starts ends with that run.
    pub(super) fn keep_warm(&self, record: &RunRecord) {
        if !record.spec.warm || record.keeper.is_some() || self.parent.is_some() {
            return;
        }
        let (state, spec) = (self.state.clone(), record.spec.clone());
        tokio::spawn(async move {
            if let Err(error) = begin(state, spec).await {
                tracing::warn!(error = chain(&error), "no warm process could be begun");
            }
        });
    }
}

async fn begin(state: StateFolder, spec: RunSpec) -> io::Result<()> {
    let Some(kind) = Kind::of(&spec.program) else { return Ok(()) };
    let env = environment(&spec)?;
    if warm::fits(&state, &kind, &env, &warm::folder(&state)).await {
        return Ok(());
    }
    let begun = blocking(move || {
        if !warm::has_room(&state) {
            return Ok(None);
        }
        warm::beginning(&state, &kind, env).map(Some)
    });
    let Some(begun) = begun.await.map_err(io::Error::other)?? else { return Ok(()) };
    let mut command = Command::new(&begun.program);
    command.args(&begun.args).env_clear().envs(begun.env).current_dir(&begun.cwd);
    command.stdin(Stdio::null()).stdout(begun.log.try_clone()?).stderr(begun.log);
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
