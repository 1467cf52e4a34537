//! Holding what a run left against the manifest that was made at its end. It reads and hashes; it changes nothing.

use super::{Fleet, FleetError, Selection, blocking};
use crate::massgen::files::RunFiles;
use crate::provenance::{self, GroupManifest, Manifest, ManifestCheck};
use crate::registry::MANIFEST_FILE;
use crate::run::{RunId, RunRecord};

/// The largest manifest that is read, in bytes: some thousand files, a config, overrides.
const MAX_MANIFEST_BYTES: u64 = 16 << 20;

/// What was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// What the run's manifest says.
    pub manifest: Manifest,
    /// How that compares with what is there.
    pub checks: Vec<ManifestCheck>,
}

/// A run that cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not over: its manifest is made at its end.
    #[error("{0} has not ended")]
    NotEnded(RunId),
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
    pub async fn verify(&self, id: &RunId) -> Result<Verification, VerifyError> {
        let record = self.run_record(id).await?;
        if record.state.ending().is_none() {
            return Err(VerifyError::NotEnded(id.clone()));
        }
        let root = self.run_folder(id).path().to_owned();
        blocking(move || verify_run(&root, &record)).await?
    }
}

/// What was verified of a group.
#[derive(Debug)]
pub struct GroupVerification {
    /// Its own manifest held against those of its runs; empty of runs that only a label joins, which have none together.
    pub checks: Vec<ManifestCheck>,
    /// Each run that has ended and was started.
    pub runs: Vec<(RunId, Result<Verification, VerifyError>)>,
}

impl Fleet {
    /// The manifest of a group as it is now; none where no run has that label.
    pub async fn group_manifest(&self, group: &str) -> Result<Option<GroupManifest>, FleetError> {
        let sight = self.snapshot(&Selection::Group(group.to_owned())).await?;
        if sight.runs.is_empty() && sight.experiment.is_none() {
            return Ok(None);
        }
        let (state, group, secrets) = (self.state.clone(), group.to_owned(), self.secrets.clone());
        let made = blocking(move || {
            let seen = sight.experiment.as_ref().map(|seen| &seen.experiment);
            let asked = seen.map(|experiment| (&experiment.plan, &experiment.progress));
            GroupManifest::for_group(&group, &sight.runs, asked, &state, &secrets)
        });
        Ok(Some(made.await?))
    }

    /// Leaves the manifest of an experiment in its folder, once it is over.
    pub async fn save_group_manifest(&self, group: &str) -> Result<(), FleetError> {
        let Some(manifest) = self.group_manifest(group).await? else { return Ok(()) };
        let folder = self.state.experiment(group);
        blocking(move || folder.export(MANIFEST_FILE, manifest.to_json().as_bytes())).await??;
        Ok(())
    }

    /// Holds what the runs of a group left against their manifests, and those against the group's.
    ///
    /// # Errors
    ///
    /// Where the runs could not be looked at; a run that cannot be verified is told of with the others.
    pub async fn verify_group(&self, group: &str) -> Result<GroupVerification, FleetError> {
        let sight = self.snapshot(&Selection::Group(group.to_owned())).await?;
        let (state, path) = (self.state.clone(), self.state.experiment(group).path().join(MANIFEST_FILE));
        let checks = blocking(move || {
            let kept = std::fs::read(path).ok().and_then(|bytes| GroupManifest::from_json(&bytes).ok());
            kept.map(|kept| provenance::check_group(&kept, &state)).unwrap_or_default()
        });
        let mut verified = GroupVerification { checks: checks.await?, runs: Vec::new() };
        for run in sight.runs.iter().filter(|run| run.state.ending().is_some() && !run.is_never_started()) {
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
