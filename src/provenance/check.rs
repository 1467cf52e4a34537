//! Compares a manifest with the current files by their hashes; gives one finding for each entry of the manifest.

use std::collections::BTreeSet;
use std::path::Path;

use super::{GroupManifest, HashedFile, Manifest, ManifestWorkspace, collect, hash};
use crate::massgen::files::RunFiles;
use crate::registry::StateFolder;
use crate::run::{RunId, RunRecord};

/// The result of a comparison with the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckFinding {
    /// It is unchanged.
    Unchanged,
    /// It has changed.
    Changed,
    /// It does not exist or cannot be read.
    Missing,
    /// It is new.
    Added,
    /// The manifest does not list it.
    NotRecorded,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestCheck {
    /// The result.
    pub finding: CheckFinding,
    /// The kind of entry: `manifest` (of a run of the group), `question`, `config hash`, `config`, `answer`, `basis` (the answer that the run
    /// builds on), `file`.
    pub subject: &'static str,
    /// Its path, relative to the run's folder or, for `file`, to the workspace; empty if the entry is not a file.
    pub path: String,
}

/// Compares a manifest with the run's record and folder.
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
    let workspace_path = manifest.answer.as_ref().map(|answer| collect::workspace_path(&answer.file.path));
    let empty_workspace =
        ManifestWorkspace { path: workspace_path.unwrap_or_default(), ..ManifestWorkspace::default() };
    checks.extend(check_workspace(manifest.workspace.as_ref().unwrap_or(&empty_workspace), files));
    checks
}

/// Compares the manifest of a group with the manifests of its runs, but not these with their runs.
pub fn check_group(manifest: &GroupManifest, state: &StateFolder) -> Vec<ManifestCheck> {
    let named = manifest.runs.iter().filter_map(|run| Some((run.run_id.parse().ok()?, run.manifest_sha256.as_ref()?)));
    let check = |(id, recorded): (RunId, &String)| {
        let finding = match hash::manifest_sha256(&state.run_folder(&id)) {
            Some(current) if current == *recorded => CheckFinding::Unchanged,
            Some(_) => CheckFinding::Changed,
            None => CheckFinding::Missing,
        };
        ManifestCheck { finding, subject: "manifest", path: id.to_string() }
    };
    named.map(check).collect()
}

fn hash_check(subject: &'static str, is_same: bool) -> ManifestCheck {
    ManifestCheck {
        finding: if is_same { CheckFinding::Unchanged } else { CheckFinding::Changed },
        subject,
        path: String::new(),
    }
}

fn check_file(files: &RunFiles, subject: &'static str, folder: &Path, recorded: &HashedFile) -> ManifestCheck {
    let path = Path::new(&recorded.path);
    let finding = match hash::hash_file(files, &folder.join(path), path) {
        Ok(current) if current == *recorded => CheckFinding::Unchanged,
        Ok(_) => CheckFinding::Changed,
        Err(_) => CheckFinding::Missing,
    };
    ManifestCheck { finding, subject, path: recorded.path.clone() }
}

/// Finds an answer that would now be read instead of the one in the manifest.
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
    // If some files were left out, they cannot be distinguished from new files.
    let finding = if workspace.left_out.is_some() { CheckFinding::NotRecorded } else { CheckFinding::Added };
    let current =
        collect::walk_folder(files, folder).files.into_iter().map(|(path, _)| path.to_string_lossy().into_owned());
    checks.extend(current.filter(|path| !named.contains(path.as_str())).map(|path| ManifestCheck {
        finding,
        subject: "file",
        path,
    }));
    checks
}
