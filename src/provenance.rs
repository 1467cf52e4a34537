//! What a run was and what it left, in one document: the manifest. The holder of the run's lock writes it once, at the run's
//! end, before the end is on record; `check` holds it against what is there later.
//! It proves that files are as they were, not who wrote them: a process that can change the run's folder can write a new manifest.
//! Nothing here judges a run, and no link is followed.

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

/// The manifest of a run, as it is on disk and as it is read. What a newer version adds is passed over, what an older one
/// did not write is absent; paths are relative to the run's folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Of this format.
    pub version: u32,
    /// Whether it was made at the run's end; otherwise it says what was known at one moment and is not stored.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The run.
    pub run_id: String,
    /// The label that joins it with others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Who made it.
    pub versions: ManifestVersions,
    /// What MassGen was configured with.
    pub config: ManifestConfig,
    /// What was asked.
    pub question: ManifestQuestion,
    /// The JSON merge patch on the config, secrets masked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrides: Option<Value>,
    /// `full` or `quick`.
    pub mode: String,
    /// `none`, `read` or `write`.
    pub context: String,
    /// Which model each agent uses, by the effective config.
    pub models: BTreeMap<String, String>,
    /// When it was asked for, RFC 3339 as all times here.
    pub created: String,
    /// When its supervisor began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its end was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Seconds between the two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_s: Option<f64>,
    /// Its state's word.
    pub state: String,
    /// MassGen's exit code or signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<String>,
    /// What it has spent by itself.
    pub spent: ManifestCosts,
    /// What the runs below it have spent, all generations.
    pub spent_below: ManifestCosts,
    /// Its best answer; absent as well where its path holds a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<ManifestAnswer>,
    /// The workspace that was saved with that answer; absent as well where its path holds a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<ManifestWorkspace>,
    /// Where it stands among other runs.
    pub lineage: ManifestLineage,
}

/// The programs that made a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestVersions {
    /// This program.
    pub massgen_mcp: String,
    /// MassGen, where its installation tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub massgen: Option<String>,
    /// The format of the run's records.
    pub record: u32,
}

/// What MassGen was configured with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestConfig {
    /// The config file that was asked for, or the rehearsal.
    pub asked: String,
    /// SHA-256 of what runs are compared by: the config with its overrides, before the question.
    pub hash: String,
    /// What MassGen read: the effective config, with the question in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HashedFile>,
    /// That file's text, secrets masked; absent of one that cannot be read as a config.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestQuestion {
    /// Its length in characters.
    pub chars: u64,
    /// Of its UTF-8.
    pub sha256: String,
}

/// What was spent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestCosts {
    /// US dollars, of which more may be unknown.
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
    /// Whose it is.
    pub agent: String,
    /// Its length in characters.
    pub chars: u64,
    /// Its file.
    #[serde(flatten)]
    pub file: HashedFile,
}

/// A file, its bytes as they are on disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HashedFile {
    /// Where it is.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Of its bytes, in lower-case hex.
    pub sha256: String,
}

/// A workspace. Links, pipes and devices in it are none of its files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestWorkspace {
    /// Its folder.
    pub path: String,
    /// Its files, by paths relative to it.
    pub files: Vec<HashedFile>,
    /// What is there and not among them, since there is too much of it or a secret is in its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<OmittedFiles>,
}

/// What is not in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OmittedFiles {
    /// Files; at least so many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Where a run stands among others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestLineage {
    /// The run whose agent started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The first of its ancestors; itself where it has none.
    pub root: String,
    /// 0 of a run without a parent.
    pub depth: u32,
    /// The run before it in its conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continues: Option<String>,
    /// Which turn of that it is.
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
    /// The answer's label; absent of a presented one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// Whose it is.
    pub agent: String,
    /// The run's own copy of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<HashedFile>,
}

impl Manifest {
    /// What is known of a run now; final where it is over. What cannot be read of its folder is absent.
    pub fn for_run(files: &RunFiles, record: &RunRecord, secrets: &Secrets) -> Manifest {
        collect::collect_manifest(files, record, secrets)
    }

    /// Reads one, of whatever version.
    ///
    /// # Errors
    ///
    /// Where it is no JSON, or a field has another type than every version gave it.
    pub fn from_json(bytes: &[u8]) -> Result<Manifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As it is kept and shown.
    pub fn to_json(&self) -> String {
        // It holds no map with keys that are not text, so that it always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

/// Makes the manifest of a run whose ending is about to go on record, and keeps it in the run's folder. Where that fails, the
/// run has none; nothing else hangs on it.
pub fn save_manifest(folder: &RunFolder, record: &RunRecord, held: &OwnerLock, secrets: &Secrets) {
    let files = match RunFiles::open(folder.path()) {
        Ok(files) => files,
        Err(error) => return tracing::warn!(%error, "the run's folder cannot be opened, and it has no manifest"),
    };
    let made = Manifest::for_run(&files, record, secrets);
    if let Err(error) = folder.save_manifest(made.to_json().as_bytes(), held) {
        tracing::warn!(run = %record.spec.id, error = text::error_chain(&error), "the manifest could not be written");
    }
}

#[cfg(test)]
mod tests;
