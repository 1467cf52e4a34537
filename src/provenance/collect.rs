//! Collecting what a manifest says, from a run's record and its folder. It reads with bounds and fails at nothing: what
//! cannot be read is left out.

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

/// The most files of a workspace that a manifest names.
const MAX_FILES: usize = 2_000;
/// The most bytes of them that are hashed: a run's end waits for it.
const MAX_HASHED_BYTES: u64 = 256 << 20;
/// The most entries of a workspace that are looked at.
const MAX_ENTRIES: usize = 20_000;
/// The largest effective config that is read, in bytes: a config and a question.
const MAX_CONFIG_BYTES: u64 = 16 << 20;
/// The most of its text that is repeated, in characters.
const MAX_CONFIG_CHARS: usize = 60_000;
/// The names of an effective config.
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

/// The answer that `read_result` gives.
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
    let asked = match &spec.config {
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
    (ManifestConfig { asked, hash: spec.config_hash.clone(), file, text }, models)
}

/// Which model each agent of a config uses.
pub(super) fn agent_models(needs: Needs, secrets: &Secrets) -> BTreeMap<String, String> {
    let told = |word: String| secrets.mask(&word).into_owned();
    needs.agents.into_iter().filter_map(|agent| Some((told(agent.id), told(agent.model?)))).collect()
}

/// Overrides without keys: those that are known, and those that stand where a config has them.
fn mask_overrides(overrides: &Value, secrets: &Secrets) -> Value {
    let own = Tree::from_json(overrides).map(|tree| tree.secrets()).unwrap_or_default();
    let secrets = secrets.with_values(own.into_iter().map(|secret| secret.value));
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

/// Whether a path holds no secret: agents name files, and a name that is told masked could not be found again.
fn contains_no_secret(path: &str, secrets: &Secrets) -> bool {
    secrets.find_name(path).is_none()
}

fn manifest_lineage(files: &RunFiles, spec: &RunSpec) -> ManifestLineage {
    ManifestLineage {
        parent: spec.lineage.parent.as_ref().map(RunId::to_string),
        root: spec.lineage.root.to_string(),
        depth: spec.lineage.depth,
        continues: spec.continuation.as_ref().map(|before| before.run.to_string()),
        turn: spec.continuation.as_ref().map(|before| before.turn),
        from: spec.basis.as_ref().map(|from| manifest_basis(files, from)),
    }
}

fn manifest_basis(files: &RunFiles, from: &crate::run::AnswerBasis) -> ManifestBasis {
    let copy = Path::new(BASIS_FOLDER).join("answer.txt");
    ManifestBasis {
        run_id: from.run.to_string(),
        answer: from.answer.clone(),
        agent: from.agent.clone(),
        file: hash::hash_file(files, &copy, &copy).ok(),
    }
}

/// The workspace that was saved with an answer lies beside it.
pub(super) fn workspace_path(answer: impl AsRef<Path>) -> String {
    answer.as_ref().with_file_name("workspace").to_string_lossy().into_owned()
}

fn manifest_workspace(files: &RunFiles, answer: &Path, secrets: &Secrets) -> Option<ManifestWorkspace> {
    let folder = answer.with_file_name("workspace");
    if !files.is_folder(&folder) || !contains_no_secret(&workspace_path(answer), secrets) {
        return None;
    }
    let seen = walk_folder(files, &folder);
    let mut hashed: Vec<HashedFile> = Vec::new();
    let (mut left_out, mut room) = (OmittedFiles::default(), MAX_HASHED_BYTES);
    for (path, size) in seen.files {
        let fits = hashed.len() < MAX_FILES && size <= room && contains_no_secret(&path.to_string_lossy(), secrets);
        match fits.then(|| hash::hash_file(files, &folder.join(&path), &path)) {
            Some(Ok(fact)) => {
                room = room.saturating_sub(fact.bytes);
                hashed.push(fact);
            }
            // A non-UTF-8 name cannot be opened again by its lossy display form; skip it.
            Some(Err(_)) | None => {
                left_out.files += 1;
                left_out.bytes += size;
            }
        }
    }
    let is_whole = seen.is_complete && left_out.files == 0;
    Some(ManifestWorkspace { path: workspace_path(answer), files: hashed, left_out: (!is_whole).then_some(left_out) })
}

/// What a walk through a folder found.
pub(super) struct FolderWalk {
    /// Paths relative to the folder, with their sizes.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// Whether it came to its end.
    is_complete: bool,
}

/// The regular files below a folder, in the order of their paths.
pub(super) fn walk_folder(files: &RunFiles, folder: &Path) -> FolderWalk {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![PathBuf::new()], 0);
    while seen < MAX_ENTRIES
        && let Some(inner) = open.pop()
    {
        for FolderEntry { name, kind, size } in files.list(&folder.join(&inner)) {
            seen += 1;
            match kind {
                EntryKind::File => found.push((inner.join(name), size)),
                EntryKind::Folder => open.push(inner.join(name)),
                EntryKind::Other => {}
            }
        }
    }
    found.sort();
    FolderWalk { files: found, is_complete: open.is_empty() }
}
