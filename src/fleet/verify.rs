//! Holding what a run left against the manifest that was made at its end. It reads and hashes; it changes nothing.

use super::{Fleet, FleetError, blocking};
use crate::massgen::files::RunFiles;
use crate::provenance::{self, Check, Manifest};
use crate::registry::MANIFEST;
use crate::run::{RunId, RunRecord};

/// The largest manifest that is read, in bytes: some thousand files, a config, overrides.
const MOST_BYTES: u64 = 16 << 20;

/// What was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What the run's manifest says.
    pub manifest: Manifest,
    /// How that compares with what is there.
    pub checks: Vec<Check>,
}

/// A run that cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum NotVerified {
    /// It is not over: its manifest is made at its end.
    #[error("{0} has not ended")]
    Lives(RunId),
    /// It has none.
    #[error("{0} has no manifest: it was ended by an older massgen-mcp, or the manifest could not be written")]
    NoManifest(RunId),
    /// It is none.
    #[error("the manifest of {run} cannot be read")]
    Damaged {
        /// The run.
        run: RunId,
        /// Where it departs.
        source: serde_json::Error,
    },
    /// The run could not be looked at.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl Fleet {
    /// Reads and hashes again what the manifest of an ended run names, and compares.
    ///
    /// # Errors
    ///
    /// Where there is no such run, it is not over, or it has no manifest that can be read.
    pub async fn verify(&self, id: &RunId) -> Result<Verified, NotVerified> {
        let record = self.look(id).await?;
        if record.state.ended().is_none() {
            return Err(NotVerified::Lives(id.clone()));
        }
        let root = self.folder(id).path().to_owned();
        blocking(move || verified(&root, &record)).await?
    }
}

fn verified(root: &std::path::Path, record: &RunRecord) -> Result<Verified, NotVerified> {
    let run = record.spec.id.clone();
    let missing = |_| NotVerified::NoManifest(run.clone());
    let files = RunFiles::open(root).map_err(missing)?;
    let bytes = files.head(MANIFEST.as_ref(), MOST_BYTES).map_err(missing)?;
    let manifest = Manifest::read(&bytes).map_err(|source| NotVerified::Damaged { run, source })?;
    let checks = provenance::check(&manifest, &files, record);
    Ok(Verified { manifest, checks })
}
