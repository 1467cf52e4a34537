//! Holding a manifest against what is there now: pure comparison of hashes, one finding for each thing that it names.

use std::collections::BTreeSet;
use std::path::Path;

use super::{FileFact, GroupManifest, Manifest, Workspace, gather, hash};
use crate::massgen::files::RunFiles;
use crate::registry::StateFolder;
use crate::run::{RunId, RunRecord};

/// What became of something since the manifest was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is as it was.
    Same,
    /// It is another now.
    Changed,
    /// It is gone, or cannot be read any more.
    Missing,
    /// It was not there.
    New,
    /// The manifest says nothing of it.
    Unknown,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What became of it.
    pub found: Found,
    /// What it is: `manifest` (of a run, in that of its group), `question`, `config hash`, `config`, `answer`, `basis` (the answer that the run builds on), `file`.
    pub what: &'static str,
    /// Where it is, relative to the run's folder or, of a file, to the workspace; empty where it is no file.
    pub path: String,
}

/// Holds a manifest against the run's record and folder.
pub fn check(manifest: &Manifest, files: &RunFiles, record: &RunRecord) -> Vec<Check> {
    let spec = &record.spec;
    let mut checks = vec![
        plain("question", manifest.question == gather::question(&spec.question)),
        plain("config hash", manifest.config.hash == spec.config_hash),
    ];
    checks.extend(manifest.config.file.as_ref().map(|file| of_file(files, "config", Path::new(""), file)));
    checks.extend(manifest.answer.as_ref().map(|answer| of_file(files, "answer", Path::new(""), &answer.file)));
    let basis = manifest.lineage.from.as_ref().and_then(|from| from.file.as_ref());
    checks.extend(basis.map(|file| of_file(files, "basis", Path::new(""), file)));
    checks.extend(another_answer(manifest, files, record));
    let beside = manifest.answer.as_ref().map(|answer| gather::beside(&answer.file.path));
    let none = Workspace { path: beside.unwrap_or_default(), ..Workspace::default() };
    checks.extend(of_workspace(manifest.workspace.as_ref().unwrap_or(&none), files));
    checks
}

/// Holds the manifest of a group against the manifests of its runs; what those say is each one's own to check.
pub fn check_group(manifest: &GroupManifest, state: &StateFolder) -> Vec<Check> {
    let named = manifest.runs.iter().filter_map(|run| Some((run.run_id.parse().ok()?, run.manifest_sha256.as_ref()?)));
    let of_run = |(id, then): (RunId, &String)| {
        let found = match hash::of_manifest(&state.folder(&id)) {
            Some(now) if now == *then => Found::Same,
            Some(_) => Found::Changed,
            None => Found::Missing,
        };
        Check { found, what: "manifest", path: id.to_string() }
    };
    named.map(of_run).collect()
}

fn plain(what: &'static str, is_same: bool) -> Check {
    Check { found: if is_same { Found::Same } else { Found::Changed }, what, path: String::new() }
}

fn of_file(files: &RunFiles, what: &'static str, folder: &Path, fact: &FileFact) -> Check {
    let path = Path::new(&fact.path);
    let found = match hash::of_file(files, &folder.join(path), path) {
        Ok(now) if now == *fact => Found::Same,
        Ok(_) => Found::Changed,
        Err(_) => Found::Missing,
    };
    Check { found, what, path: fact.path.clone() }
}

/// An answer that would be read in the place of the one that the manifest names.
fn another_answer(manifest: &Manifest, files: &RunFiles, record: &RunRecord) -> Option<Check> {
    let path = gather::best(files, record)?.path.to_string_lossy().into_owned();
    let known = manifest.answer.as_ref().map(|answer| answer.file.path.as_str());
    (known != Some(path.as_str())).then_some(Check { found: Found::New, what: "answer", path })
}

fn of_workspace(workspace: &Workspace, files: &RunFiles) -> Vec<Check> {
    if workspace.path.is_empty() {
        return Vec::new();
    }
    let folder = Path::new(&workspace.path);
    let mut checks: Vec<Check> = workspace.files.iter().map(|file| of_file(files, "file", folder, file)).collect();
    let named: BTreeSet<&str> = workspace.files.iter().map(|file| file.path.as_str()).collect();
    // Where some were left out, nobody can tell those from new ones.
    let found = if workspace.left_out.is_some() { Found::Unknown } else { Found::New };
    let there = gather::walk(files, folder).files.into_iter().map(|(path, _)| path.to_string_lossy().into_owned());
    checks.extend(there.filter(|path| !named.contains(path.as_str())).map(|path| Check { found, what: "file", path }));
    checks
}
