//! The config of a run, as MassGen reads it. It was written when the run was admitted, with the question, and is only read here. The one
//! exception is a rehearsal: its config names the endpoint of its models, which this process serves.

use std::io;
use std::path::{Path, PathBuf};

use super::agent_facts::AgentFacts;
use super::{SupervisorError, io_error, known_secrets};
use crate::massgen::basis::BasisCopy;
use crate::massgen::configs::Tree;
use crate::massgen::run_config::{self, ConfigSource};
use crate::registry::{Durability, RunFolder, write_atomic};
use crate::rehearsal::{self, Rehearsal};
use crate::run::{ConfigChoice, RunSpec};

/// A config as MassGen will read it.
pub(super) struct PreparedConfig {
    pub(super) path: PathBuf,
    /// MassGen's own timeout, in seconds, if the config sets one.
    pub(super) own_timeout: Option<f64>,
    pub(super) agents: AgentFacts,
    /// The endpoint of a rehearsal's models; it is served until this is dropped.
    pub(super) rehearsal: Option<Rehearsal>,
}

/// The config of the run in `folder`.
pub(super) async fn prepare_config(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedConfig, SupervisorError> {
    match &spec.config {
        ConfigChoice::File(_) => read_config(folder, spec),
        ConfigChoice::Rehearsal(name) => write_rehearsal_config(folder, spec, name).await,
    }
}

fn read_config(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedConfig, SupervisorError> {
    let (path, text) = stored_config(&folder.config()).map_err(io_error("read the config"))?;
    let parsed = Tree::parse_file(&path, &text);
    // Without a question in its config, MassGen would wait for one forever or answer another one.
    if !run_config::has_question(parsed.as_ref().ok(), &text, &spec.question) {
        return Err(parsed.err().map_or(SupervisorError::NoQuestion(path), SupervisorError::Config));
    }
    // MassGen reports what is wrong with a config that cannot be parsed.
    let tree = parsed.ok();
    Ok(PreparedConfig {
        own_timeout: tree.as_ref().and_then(Tree::own_timeout),
        agents: tree.as_ref().map(AgentFacts::from_config).unwrap_or_default(),
        path,
        rehearsal: None,
    })
}

/// The config's file and text. It has the extension `json` if it is JSON that the server could not parse.
fn stored_config(yaml: &Path) -> io::Result<(PathBuf, String)> {
    match std::fs::read_to_string(yaml) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let json = yaml.with_extension("json");
            std::fs::read_to_string(&json).map(|text| (json, text))
        }
        read => read.map(|text| (yaml.to_owned(), text)),
    }
}

/// Serves a rehearsal's models and writes its config.
async fn write_rehearsal_config(
    folder: &RunFolder,
    spec: &RunSpec,
    name: &str,
) -> Result<PreparedConfig, SupervisorError> {
    let served = rehearsal::serve().await?;
    let (path, text) = (folder.config(), rehearsal::config_yaml(name, &served.base_url())?);
    let basis_folder = folder.basis();
    let answer = BasisCopy { folder: &basis_folder, final_folder: &basis_folder };
    let question = run_config::agents_question(spec, answer, &known_secrets(folder));
    let question = question.map_err(io_error("read the answer that it builds on"))?;
    let source = ConfigSource { path: &path, text: &text, overrides: spec.overrides.as_ref() };
    let effective = run_config::effective_config(spec, source, &question, &basis_folder)?;
    write_atomic(&path, effective.text.as_bytes(), Durability::NotSynced)
        .map_err(io_error("write the effective config"))?;
    let agents = effective.tree.as_ref().map(AgentFacts::from_config).unwrap_or_default();
    Ok(PreparedConfig { path, own_timeout: None, agents, rehearsal: Some(served) })
}
