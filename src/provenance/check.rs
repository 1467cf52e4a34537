//! Holding a manifest against what is there now: pure comparison of hashes, one finding for each thing that it names.

use std::collections::BTreeSet;
use std::path::Path;

use super::{GroupManifest, HashedFile, Manifest, ManifestWorkspace, collect, hash};
use crate::massgen::files::RunFiles;
use crate::registry::StateFolder;
use crate::run::{RunId, RunRecord};

/// What became of something since the manifest was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFinding {
    /// It is as it was.
    Unchanged,
    /// It is another now.
    Changed,
    /// It is gone, or cannot be read any more.
    Missing,
    /// It was not there.
    Added,
    /// The manifest says nothing of it.
    NotRecorded,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestCheck {
    /// What became of it.
    pub finding: CheckFinding,
    /// What it is: `manifest` (of a run, in that of its group), `question`, `config hash`, `config`, `answer`, `basis` (the answer that the run builds on), `file`.
    pub subject: &'static str,
    /// Where it is, relative to the run's folder or, of a file, to the workspace; empty where it is no file.
    pub path: String,
}

/// Holds a manifest against the run's record and folder.
pub fn check_run(manifest: &Manifest, files: &RunFiles, record: &RunRecord) -> Vec<ManifestCheck> {
    let spec = &record.spec;
    let mut checks = vec![
        hash_check("question", manifest.question == collect::manifest_question(&spec.question)),
        hash_check("config hash", manifest.config.hash == spec.config_hash),
    ];
    checks.extend(manifest.config.file.as_ref().map(|file| check_file(files, "config", Path::new(""), file)));
    checks.extend(manifest.answer.as_ref().map(|answer| check_file(files, "answer", Path::new(""), &answer.file)));
    let basis = manifest.lineage.from.as_ref().and_then(|from| from.file.as_ref());
    checks.extend(basis.map(|file| check_file(files, "basis", Path::new(""), file)));
    checks.extend(check_other_answer(manifest, files, record));
    let beside = manifest.answer.as_ref().map(|answer| collect::workspace_path(&answer.file.path));
    let none = ManifestWorkspace { path: beside.unwrap_or_default(), ..ManifestWorkspace::default() };
    checks.extend(check_workspace(manifest.workspace.as_ref().unwrap_or(&none), files));
    checks
}

/// Holds the manifest of a group against the manifests of its runs; what those say is each one's own to check.
pub fn check_group(manifest: &GroupManifest, state: &StateFolder) -> Vec<ManifestCheck> {
    let named = manifest.runs.iter().filter_map(|run| Some((run.run_id.parse().ok()?, run.manifest_sha256.as_ref()?)));
    let of_run = |(id, then): (RunId, &String)| {
        let found = match hash::manifest_sha256(&state.run_folder(&id)) {
            Some(now) if now == *then => CheckFinding::Unchanged,
            Some(_) => CheckFinding::Changed,
            None => CheckFinding::Missing,
        };
        ManifestCheck { finding: found, subject: "manifest", path: id.to_string() }
    };
    named.map(of_run).collect()
}

fn hash_check(what: &'static str, is_same: bool) -> ManifestCheck {
    ManifestCheck {
        finding: if is_same { CheckFinding::Unchanged } else { CheckFinding::Changed },
        subject: what,
        path: String::new(),
    }
}

fn check_file(files: &RunFiles, what: &'static str, folder: &Path, fact: &HashedFile) -> ManifestCheck {
    let path = Path::new(&fact.path);
    let found = match hash::hash_file(files, &folder.join(path), path) {
        Ok(now) if now == *fact => CheckFinding::Unchanged,
        Ok(_) => CheckFinding::Changed,
        Err(_) => CheckFinding::Missing,
    };
    ManifestCheck { finding: found, subject: what, path: fact.path.clone() }
}

/// An answer that would be read in the place of the one that the manifest names.
fn check_other_answer(manifest: &Manifest, files: &RunFiles, record: &RunRecord) -> Option<ManifestCheck> {
    let path = collect::best_answer(files, record)?.path.to_string_lossy().into_owned();
    let known = manifest.answer.as_ref().map(|answer| answer.file.path.as_str());
    (known != Some(path.as_str())).then_some(ManifestCheck { finding: CheckFinding::Added, subject: "answer", path })
}

fn check_workspace(workspace: &ManifestWorkspace, files: &RunFiles) -> Vec<ManifestCheck> {
    if workspace.path.is_empty() {
        return Vec::new();
    }
    let folder = Path::new(&workspace.path);
    let mut checks: Vec<ManifestCheck> =
        workspace.files.iter().map(|file| check_file(files, "file", folder, file)).collect();
    let named: BTreeSet<&str> = workspace.files.iter().map(|file| file.path.as_str()).collect();
    // If some were left out, they cannot be told from new ones.
    let found = if workspace.left_out.is_some() { CheckFinding::NotRecorded } else { CheckFinding::Added };
    let there =
        collect::walk_folder(files, folder).files.into_iter().map(|(path, _)| path.to_string_lossy().into_owned());
    checks.extend(there.filter(|path| !named.contains(path.as_str())).map(|path| ManifestCheck {
        finding: found,
        subject: "file",
        path,
    }));
    checks
}
