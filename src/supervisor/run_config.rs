//! The config of a run, as MassGen reads it.

use std::io;
use std::path::PathBuf;

use super::agent_facts::AgentFacts;
use super::{SupervisorError, io_error, known_secrets};
use crate::massgen::configs::{self, ConfigChanges, Tree};
use crate::massgen::{basis, launch};
use crate::registry::{Durability, RunFolder, write_atomic};
use crate::rehearsal::{self, Rehearsal};
use crate::run::{ConfigChoice, Context, RunSpec};

/// A config as MassGen will read it.
pub(super) struct PreparedConfig {
    pub(super) path: PathBuf,
    /// MassGen's own timeout, in seconds, if the config sets one.
    pub(super) own_timeout: Option<f64>,
    pub(super) agents: AgentFacts,
    /// The endpoint of a rehearsal's models; it is served until this is dropped.
    pub(super) rehearsal: Option<Rehearsal>,
}

/// Prepares the config that MassGen reads: the one that the server checked and put into the run's folder, with the question added.
pub(super) async fn prepare_config(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedConfig, SupervisorError> {
    let (checked, rehearsal) = match &spec.config {
        ConfigChoice::Rehearsal(name) => {
            let served = rehearsal::serve().await?;
            (Some((folder.config(), rehearsal::config_yaml(name, &served.base_url())?)), Some(served))
        }
        ConfigChoice::File(_) => (None, None),
    };
    let (path, text) = match checked {
        Some(own) => own,
        None => checked_config(folder).map_err(io_error("read the config"))?,
    };
    let prompt = launch::escape_prompt(&question_text(folder, spec)?);
    let overrides = spec.overrides.as_ref().filter(|_| rehearsal.is_some());
    let session = spec.continuation.as_ref().map(|_| spec.id.as_str());
    let from = spec.basis.as_ref().map(|_| folder.basis());
    let hand_over = Some(spec.context).filter(|context| *context != Context::None);
    let context = hand_over.map(|context| (spec.project.as_path(), context.as_str()));
    let changes =
        ConfigChanges { overrides, project: None, prompt: Some(&prompt), session, read: from.as_deref(), context };
    let effective = configs::effective_config(&path, &text, changes)?;
    let copy = if effective.is_json { path } else { folder.config() };
    write_atomic(&copy, effective.text.as_bytes(), Durability::NotSynced)
        .map_err(io_error("write the effective config"))?;
    let tree = effective.tree.as_ref();
    Ok(PreparedConfig {
        own_timeout: tree.and_then(Tree::own_timeout).filter(|_| rehearsal.is_none()),
        agents: tree.map(AgentFacts::from_config).unwrap_or_default(),
        path: copy,
        rehearsal,
    })
}

/// The question for the agents, with the answer of an earlier run if this run builds on one.
fn question_text(folder: &RunFolder, spec: &RunSpec) -> Result<String, SupervisorError> {
    let Some(from) = &spec.basis else { return Ok(spec.question.clone()) };
    let whole = basis::question_with_basis(&spec.question, &spec.id, from, &folder.basis(), &known_secrets(folder));
    whole.map_err(io_error("read the answer that it builds on"))
}

/// The config that the server put into the folder. It has the extension `json` if the server could not read it; MassGen then reports the error.
fn checked_config(folder: &RunFolder) -> io::Result<(PathBuf, String)> {
    let path = folder.config();
    match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let other = path.with_extension("json");
            std::fs::read_to_string(&other).map(|text| (other, text))
        }
        read => read.map(|text| (path, text)),
    }
}
