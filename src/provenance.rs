//! The manifest: one document with the inputs and outputs of a run. The holder of the run's lock writes it once, at the run's end,
//! before the ending is recorded; `check` later compares it with the files.
//! It proves that files are unchanged, not who wrote them: a process that can change the run's folder can write a new manifest.
//! This module does not evaluate runs and follows no links.

mod check;
mod collect;
mod group;
mod hash;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::massgen::files::RunFiles;
use crate::massgen::text;
use crate::registry::{OwnerLock, RunFolder};
use crate::run::RunRecord;
use crate::secrets::Secrets;

pub use check::{CheckFinding, ManifestCheck, check_group, check_run};
pub use group::GroupManifest;

/// The version that this program writes.
const MANIFEST_VERSION: u32 = 1;

/// The manifest of a run, in the format on disk. Fields that a newer version adds are ignored; fields that an older version did not
/// write are absent. Paths are relative to the run's folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// The version of this format.
    pub version: u32,
    /// Whether it was built at the run's end; otherwise it describes a live run and is not stored.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The run.
    pub run_id: String,
    /// The label of its group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The programs that produced the run.
    pub versions: ManifestVersions,
    /// The configuration of MassGen.
    pub config: ManifestConfig,
    /// The question.
    pub question: ManifestQuestion,
    /// The JSON merge patch on the config, with secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Value>,
    /// `full` or `quick`.
    pub mode: String,
    /// `none`, `read` or `write`.
    pub context: String,
    /// The model of each agent, from the effective config.
    pub models: BTreeMap<String, String>,
    /// When it was requested; RFC 3339, like all times here.
    pub created: String,
    /// When its supervisor started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its end was observed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Seconds from start to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
    /// The name of its state.
    pub state: String,
    /// MassGen's exit code or signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// Its own spend.
    pub spent: ManifestCosts,
    /// The spend of all its descendants.
    pub spent_below: ManifestCosts,
    /// Its best answer; also absent if its path contains a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<ManifestAnswer>,
    /// The workspace saved with that answer; also absent if its path contains a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<ManifestWorkspace>,
    /// Its relation to other runs.
    pub lineage: ManifestLineage,
}

/// The programs that produced a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestVersions {
    /// This program.
    pub massgen_mcp: String,
    /// The version of MassGen, if its installation provides it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub massgen: Option<String>,
    /// The format of the run's records.
    pub record: u32,
}

/// The configuration of MassGen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestConfig {
    /// The requested config file or rehearsal.
    pub asked: String,
    /// SHA-256 of the config with its overrides, without the question: equal for comparable runs.
    pub hash: String,
    /// The effective config that MassGen read, with the question.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HashedFile>,
    /// The text of that file, with secrets masked; absent if it cannot be parsed as a config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The question of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestQuestion {
    /// Its length in characters.
    pub chars: u64,
    /// SHA-256 of its UTF-8 bytes.
    pub sha256: String,
}

/// The spend of a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestCosts {
    /// US dollars, without unpriced tokens.
    pub cost_usd: f64,
    /// Whether some tokens have no price.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cost_unknown: bool,
    /// Input and output tokens.
    pub tokens: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestAnswer {
    /// The agent that gave it.
    pub agent: String,
    /// Its length in characters.
    pub chars: u64,
    /// Its file.
    #[serde(flatten)]
    pub file: HashedFile,
}

/// A file and the hash of its bytes on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HashedFile {
    /// Its path.
    pub path: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// SHA-256 of its bytes, in lower-case hex.
    pub sha256: String,
}

/// A workspace. Links, pipes and devices in it do not count as files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestWorkspace {
    /// Its folder.
    pub path: String,
    /// Its files, with paths relative to it.
    pub files: Vec<HashedFile>,
    /// The files that are not listed, because there are too many or their names contain secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<OmittedFiles>,
}

/// The files that a manifest leaves out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OmittedFiles {
    /// The number of files, or a lower bound of it.
    pub files: u64,
    /// Their size, in bytes.
    pub bytes: u64,
}

/// The relation of a run to other runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestLineage {
    /// The run whose agent started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The first of its ancestors; the run itself if it has none.
    pub root: String,
    /// 0 for a run without a parent.
    pub depth: u32,
    /// The previous run of its conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// The number of its turn in that conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<u32>,
    /// The answer that it builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<ManifestBasis>,
}

/// An answer of an earlier run that a run builds on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestBasis {
    /// The earlier run.
    pub run_id: String,
    /// The answer's label; absent for a presented answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The agent that gave it.
    pub agent: String,
    /// The run's own copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HashedFile>,
}

impl Manifest {
    /// Builds the manifest of a run; final if it has ended. Files that cannot be read are absent.
    pub fn for_run(files: &RunFiles, record: &RunRecord, secrets: &Secrets) -> Manifest {
        collect::collect_manifest(files, record, secrets)
    }

    /// Parses a manifest of any version.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or a field does not have the type of any version.
    pub fn from_json(bytes: &[u8]) -> Result<Manifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The text that is stored and shown.
    pub fn to_json(&self) -> String {
        // This cannot fail: all keys of its maps are texts.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Builds the manifest of a run before its ending is recorded, and stores it in the run's folder. If that fails, the run has no
/// manifest; nothing else depends on it.
pub fn save_manifest(folder: &RunFolder, record: &RunRecord, lock: &OwnerLock, secrets: &Secrets) {
    let files = match RunFiles::open(folder.path()) {
        Ok(files) => files,
        Err(error) => return tracing::warn!(%error, "the run's folder cannot be opened, and it has no manifest"),
    };
    let manifest = Manifest::for_run(&files, record, secrets);
    if let Err(error) = folder.save_manifest(manifest.to_json().as_bytes(), lock) {
        tracing::warn!(run = %record.spec.id, error = text::error_chain(&error), "the manifest could not be written");
    }
}

#[cfg(test)]
mod tests;
