//! Collects the contents of a manifest from a run's record and folder. Its reads are bounded, and it never fails: entries that
//! cannot be read are left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    HashedFile, MANIFEST_VERSION, Manifest, ManifestAnswer, ManifestBasis, ManifestConfig, ManifestCosts,
    ManifestLineage, ManifestQuestion, ManifestVersions, ManifestWorkspace, OmittedFiles, hash,
};
use crate::massgen::answers;
use crate::massgen::configs::{Needs, Tree};
use crate::massgen::files::{EntryKind, FolderEntry, RunFiles};
use crate::massgen::layout::Layout;
use crate::massgen::outcome::exit_label;
use crate::massgen::{pages, program, text};
use crate::registry::{BASIS_FOLDER, FORMAT_VERSION};
use crate::run::{ConfigChoice, RunId, RunRecord, RunSpec, Spend};
use crate::secrets::Secrets;

/// The most files of a workspace that a manifest lists.
const MAX_FILES: usize = 2_000;
/// The most bytes of a workspace that are hashed: the end of a run waits for it.
const MAX_HASHED_BYTES: u64 = 256 << 20;
/// The most entries of a workspace that are read.
const MAX_ENTRIES: usize = 20_000;
/// The most bytes of an effective config that are read; it contains the question.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// The most characters of its text in the manifest.
const MAX_CONFIG_CHARS: usize = 60_000;
/// The possible names of an effective config.
const CONFIG_FILE_NAMES: [&str; 2] = ["config.yaml", "config.json"];

pub(super) fn collect_manifest(files: &RunFiles, record: &RunRecord, secrets: &Secrets) -> Manifest {
    let (spec, ending) = (&record.spec, record.state.ending());
    let (config, models) = manifest_config(files, spec, secrets);
    let answer = best_answer(files, record);
    let time = |at: &crate::run::Moment| at.wall.to_string();
    Manifest {
        version: MANIFEST_VERSION,
        is_final: ending.is_some(),
        run_id: spec.id.to_string(),
        group: spec.group.clone(),
        versions: manifest_versions(spec),
        config,
        question: manifest_question(&spec.question),
        overrides: spec.overrides.as_ref().map(|overrides| mask_overrides(overrides, secrets)),
        mode: spec.mode.as_str().to_owned(),
        context: spec.context.as_str().to_owned(),
        models,
        created: spec.created.to_string(),
        started: record.started.as_ref().map(time),
        ended: ending.map(|ending| time(&ending.ended_at)),
        took_s: ending.map(|ending| ending.duration.as_secs_f64()),
        state: record.state.as_str().to_owned(),
        exit: ending.and_then(|ending| exit_label(ending.exit)),
        spent: manifest_costs(record.spent),
        spent_below: manifest_costs(record.spent_by_descendants),
        workspace: answer.as_ref().and_then(|answer| manifest_workspace(files, &answer.path, secrets)),
        answer: answer.and_then(|answer| manifest_answer(files, &answer, secrets)),
        lineage: manifest_lineage(files, spec),
    }
}

/// The answer that `read_result` returns.
pub(super) fn best_answer(files: &RunFiles, record: &RunRecord) -> Option<answers::Answer> {
    let layout = Layout::find(files, record.log_dir.as_deref())?;
    answers::best(files, &layout, record.digest.as_ref())
}

pub(super) fn manifest_versions(spec: &RunSpec) -> ManifestVersions {
    ManifestVersions {
        massgen_mcp: env!("CARGO_PKG_VERSION").to_owned(),
        massgen: program::version(&spec.program),
        record: FORMAT_VERSION,
    }
}

pub(super) fn manifest_question(text: &str) -> ManifestQuestion {
    ManifestQuestion { chars: text.chars().count() as u64, sha256: hash::text_sha256(text) }
}

fn manifest_config(files: &RunFiles, spec: &RunSpec, secrets: &Secrets) -> (ManifestConfig, BTreeMap<String, String>) {
    let requested = match &spec.config {
        ConfigChoice::File(path) => path.to_string_lossy().into_owned(),
        ConfigChoice::Rehearsal(name) => name.clone(),
    };
    let path = CONFIG_FILE_NAMES.into_iter().map(Path::new).find(|path| files.has_file(path));
    let file = path.and_then(|path| hash::hash_file(files, path, path).ok());
    let text =
        path.and_then(|path| files.head(path, MAX_CONFIG_BYTES).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    // A config that cannot be parsed cannot be searched for secrets, so do not echo it.
    let tree = path.zip(text.as_deref()).and_then(|(path, text)| Tree::parse_file(path, text).ok());
    let models = tree.as_ref().map(|tree| agent_models(Needs::from_config(tree), secrets)).unwrap_or_default();
    let text = text.filter(|_| tree.is_some()).map(|text| text::truncate(&secrets.mask(&text), MAX_CONFIG_CHARS));
    (ManifestConfig { asked: requested, hash: spec.config_hash.clone(), file, text }, models)
}

/// The model of each agent of a config.
pub(super) fn agent_models(needs: Needs, secrets: &Secrets) -> BTreeMap<String, String> {
    let masked = |text: String| secrets.mask(&text).into_owned();
    needs.agents.into_iter().filter_map(|agent| Some((masked(agent.id), masked(agent.model?)))).collect()
}

/// Masks the known secrets in overrides, and the values at the places of keys in a config.
fn mask_overrides(overrides: &Value, secrets: &Secrets) -> Value {
    let embedded = Tree::from_json(overrides).map(|tree| tree.secrets()).unwrap_or_default();
    let secrets = secrets.with_values(embedded.into_iter().map(|secret| secret.value));
    text::map_texts(overrides.clone(), &|text| secrets.mask(text).into_owned())
}

pub(super) fn manifest_costs(spent: Spend) -> ManifestCosts {
    ManifestCosts { cost_usd: spent.usd.as_f64(), cost_unknown: spent.is_unpriced, tokens: spent.tokens }
}

fn manifest_answer(files: &RunFiles, answer: &answers::Answer, secrets: &Secrets) -> Option<ManifestAnswer> {
    let file = hash::hash_file(files, &answer.path, &answer.path)
        .ok()
        .filter(|file| contains_no_secret(&file.path, secrets))?;
    let chars = files.open_file(&answer.path).and_then(|(file, _)| pages::count_chars(file)).ok()?;
    Some(ManifestAnswer { agent: secrets.mask(&answer.agent).into_owned(), chars, file })
}

/// Whether a path contains no secret. Agents choose file names, and a masked name could not be opened again.
fn contains_no_secret(path: &str, secrets: &Secrets) -> bool {
    secrets.find_name(path).is_none()
}

fn manifest_lineage(files: &RunFiles, spec: &RunSpec) -> ManifestLineage {
    ManifestLineage {
        parent: spec.lineage.parent.as_ref().map(RunId::to_string),
        root: spec.lineage.root.to_string(),
        depth: spec.lineage.depth,
        continues: spec.continuation.as_ref().map(|continuation| continuation.run.to_string()),
        turn: spec.continuation.as_ref().map(|continuation| continuation.turn),
        from: spec.basis.as_ref().map(|basis| manifest_basis(files, basis)),
    }
}

fn manifest_basis(files: &RunFiles, basis: &crate::run::AnswerBasis) -> ManifestBasis {
    let copy = Path::new(BASIS_FOLDER).join("answer.txt");
    ManifestBasis {
        run_id: basis.run.to_string(),
        answer: basis.answer.clone(),
        agent: basis.agent.clone(),
        file: hash::hash_file(files, &copy, &copy).ok(),
    }
}

/// The workspace that MassGen saved in the folder of an answer.
pub(super) fn workspace_path(answer: impl AsRef<Path>) -> String {
    answer.as_ref().with_file_name("workspace").to_string_lossy().into_owned()
}

fn manifest_workspace(files: &RunFiles, answer: &Path, secrets: &Secrets) -> Option<ManifestWorkspace> {
    let folder = answer.with_file_name("workspace");
    if !files.is_folder(&folder) || !contains_no_secret(&workspace_path(answer), secrets) {
        return None;
    }
    let walk = walk_folder(files, &folder);
    let mut hashed: Vec<HashedFile> = Vec::new();
    let (mut left_out, mut remaining_bytes) = (OmittedFiles::default(), MAX_HASHED_BYTES);
    for (path, size) in walk.files {
        let fits =
            hashed.len() < MAX_FILES && size <= remaining_bytes && contains_no_secret(&path.to_string_lossy(), secrets);
        match fits.then(|| hash::hash_file(files, &folder.join(&path), &path)) {
            Some(Ok(file)) => {
                remaining_bytes = remaining_bytes.saturating_sub(file.bytes);
                hashed.push(file);
            }
            // A non-UTF-8 name cannot be opened again by its lossy display form; skip it.
            Some(Err(_)) | None => {
                left_out.files += 1;
                left_out.bytes += size;
            }
        }
    }
    let is_complete = walk.is_complete && left_out.files == 0;
    Some(ManifestWorkspace {
        path: workspace_path(answer),
        files: hashed,
        left_out: (!is_complete).then_some(left_out),
    })
}

/// The result of walking a folder.
pub(super) struct FolderWalk {
    /// Paths relative to the folder, with their sizes.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// Whether all entries were read.
    is_complete: bool,
}

/// The regular files below a folder, sorted by path.
pub(super) fn walk_folder(files: &RunFiles, folder: &Path) -> FolderWalk {
    let (mut regular_files, mut pending, mut entries_read) = (Vec::new(), vec![PathBuf::new()], 0);
    while entries_read < MAX_ENTRIES
        && let Some(subfolder) = pending.pop()
    {
        for FolderEntry { name, kind, size } in files.list(&folder.join(&subfolder)) {
            entries_read += 1;
            match kind {
                EntryKind::File => regular_files.push((subfolder.join(name), size)),
                EntryKind::Folder => pending.push(subfolder.join(name)),
                EntryKind::Other => {}
            }
        }
    }
    regular_files.sort();
    FolderWalk { files: regular_files, is_complete: pending.is_empty() }
}
