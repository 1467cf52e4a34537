//! Verifies the files of a run against the manifest that was written at its end. It reads and hashes; it changes nothing.

use super::{Fleet, FleetError, Selection, blocking};
use crate::massgen::files::RunFiles;
use crate::provenance::{self, GroupManifest, Manifest, ManifestCheck};
use crate::registry::MANIFEST_FILE;
use crate::run::{RunId, RunRecord};

/// The most bytes of a manifest that are read: enough for some thousand files, a config and overrides.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// The result of verifying a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// The run's manifest.
    pub manifest: Manifest,
    /// Each comparison of the manifest with the files.
    pub checks: Vec<ManifestCheck>,
}

/// A run that cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The run has not ended: its manifest is written at its end.
    #[error("{0} has not ended")]
    NotEnded(RunId),
    /// The run has no manifest.
    #[error("{0} has no manifest: it was ended by an older massgen-mcp, or the manifest could not be written")]
    NoManifest(RunId),
    /// The manifest cannot be parsed.
    #[error("the manifest of {run} cannot be read")]
    Damaged {
        /// The run.
        run: RunId,
        /// The cause.
        source: serde_json::Error,
    },
    /// The run could not be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

impl Fleet {
    /// Reads and hashes the files that the manifest of an ended run names, and compares them with it.
    ///
    /// # Errors
    ///
    /// If the run does not exist, has not ended, or has no readable manifest.
    pub async fn verify(&self, id: &RunId) -> Result<Verification, VerifyError> {
        let record = self.run_record(id).await?;
        if record.state.ending().is_none() {
            return Err(VerifyError::NotEnded(id.clone()));
        }
        let root = self.run_folder(id).path().to_owned();
        blocking(move || verify_run(&root, &record)).await?
    }
}

/// The result of verifying a group.
#[derive(Debug)]
pub struct GroupVerification {
    /// The group's manifest compared with those of its runs; empty if the group is not an experiment and so has no manifest.
    pub checks: Vec<ManifestCheck>,
    /// The result for each started run that has ended.
    pub runs: Vec<(RunId, Result<Verification, VerifyError>)>,
}

impl Fleet {
    /// Builds the manifest of a group from its current state; `None` if no run has that label.
    pub async fn group_manifest(&self, group: &str) -> Result<Option<GroupManifest>, FleetError> {
        let snapshot = self.snapshot(&Selection::Group(group.to_owned())).await?;
        if snapshot.runs.is_empty() && snapshot.experiment.is_none() {
            return Ok(None);
        }
        let (state, group, secrets) = (self.state.clone(), group.to_owned(), self.secrets.clone());
        let manifest = blocking(move || {
            let experiment = snapshot.experiment.as_ref().map(|experiment| &experiment.experiment);
            let planned = experiment.map(|experiment| (&experiment.plan, &experiment.progress));
            GroupManifest::for_group(&group, &snapshot.runs, planned, &state, &secrets)
        });
        Ok(Some(manifest.await?))
    }

    /// Writes the manifest of a group to the experiment's folder.
    pub async fn save_group_manifest(&self, group: &str) -> Result<(), FleetError> {
        let Some(manifest) = self.group_manifest(group).await? else { return Ok(()) };
        let folder = self.state.experiment(group);
        blocking(move || folder.export(MANIFEST_FILE, manifest.to_json().as_bytes())).await??;
        Ok(())
    }

    /// Verifies the runs of a group against their manifests, and these manifests against the group's.
    ///
    /// # Errors
    ///
    /// If the runs cannot be read. A run that cannot be verified is part of the result.
    pub async fn verify_group(&self, group: &str) -> Result<GroupVerification, FleetError> {
        let snapshot = self.snapshot(&Selection::Group(group.to_owned())).await?;
        let (state, path) = (self.state.clone(), self.state.experiment(group).path().join(MANIFEST_FILE));
        let checks = blocking(move || {
            let saved = std::fs::read(path).ok().and_then(|bytes| GroupManifest::from_json(&bytes).ok());
            saved.map(|saved| provenance::check_group(&saved, &state)).unwrap_or_default()
        });
        let mut verified = GroupVerification { checks: checks.await?, runs: Vec::new() };
        for run in snapshot.runs.iter().filter(|run| run.state.ending().is_some() && !run.is_never_started()) {
            verified.runs.push((run.spec.id.clone(), self.verify(&run.spec.id).await));
        }
        Ok(verified)
    }
}

fn verify_run(root: &std::path::Path, record: &RunRecord) -> Result<Verification, VerifyError> {
    let run = record.spec.id.clone();
    let missing = |_| VerifyError::NoManifest(run.clone());
    let files = RunFiles::open(root).map_err(missing)?;
    let bytes = files.head(MANIFEST_FILE.as_ref(), MAX_MANIFEST_BYTES).map_err(missing)?;
    let manifest = Manifest::from_json(&bytes).map_err(|source| VerifyError::Damaged { run, source })?;
    let checks = provenance::check_run(&manifest, &files, record);
    Ok(Verification { manifest, checks })
}
