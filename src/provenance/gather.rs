//! Collecting what a manifest says, from a run's record and its folder. It reads with bounds and fails at nothing: what
//! cannot be read is left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    Answer, BuiltOn, Config, Costs, FileFact, LeftOut, Lineage, Manifest, Question, VERSION, Versions, Workspace, hash,
};
use crate::massgen::answers;
use crate::massgen::configs::{Needs, Tree};
use crate::massgen::files::{Entry, Kind, RunFiles};
use crate::massgen::layout::Layout;
use crate::massgen::outcome::exit_word;
use crate::massgen::{pages, program, text};
use crate::registry::{FORMAT, FROM};
use crate::run::{ConfigChoice, RunId, RunRecord, RunSpec, Spent};
use crate::secrets::Secrets;

/// The most files of a workspace that a manifest names.
const MOST_FILES: usize = 2_000;
/// The most bytes of them that are hashed: a run's end waits for it.
const MOST_BYTES: u64 = 256 << 20;
/// The most entries of a workspace that are looked at.
const MOST_ENTRIES: usize = 20_000;
/// The largest effective config that is read, in bytes: a config and a question.
const MOST_CONFIG: u64 = 16 << 20;
/// The most of its text that is repeated, in characters.
const CONFIG_CHARS: usize = 60_000;
/// The names of an effective config.
const CONFIGS: [&str; 2] = ["config.yaml", "config.json"];

pub(super) fn manifest(files: &RunFiles, record: &RunRecord, secrets: &Secrets) -> Manifest {
    let (spec, ending) = (&record.spec, record.state.ended());
    let (config, models) = config(files, spec, secrets);
    let answer = best(files, record);
    let time = |at: &crate::run::Moment| at.wall.to_string();
    Manifest {
        version: VERSION,
        is_final: ending.is_some(),
        run_id: spec.id.to_string(),
        group: spec.group.clone(),
        versions: versions(spec),
        config,
        question: question(&spec.question),
        overrides: spec.overrides.as_ref().map(|overrides| masked(overrides, secrets)),
        mode: spec.mode.word().to_owned(),
        context: spec.context.word().to_owned(),
        models,
        created: spec.created.to_string(),
        started: record.started.as_ref().map(time),
        ended: ending.map(|ending| time(&ending.at)),
        took_s: ending.map(|ending| ending.took.as_secs_f64()),
        state: record.state.word().to_owned(),
        exit: ending.and_then(|ending| exit_word(ending.exit)),
        spent: costs(record.spent),
        spent_below: costs(record.spent_below),
        workspace: answer.as_ref().and_then(|answer| workspace(files, &answer.path, secrets)),
        answer: answer.and_then(|answer| answer_fact(files, &answer, secrets)),
        lineage: lineage(files, spec),
    }
}

/// The answer that `read_result` gives.
pub(super) fn best(files: &RunFiles, record: &RunRecord) -> Option<answers::Answer> {
    let layout = Layout::find(files, record.log_dir.as_deref())?;
    answers::best(files, &layout, record.digest.as_ref())
}

pub(super) fn versions(spec: &RunSpec) -> Versions {
    Versions {
        massgen_mcp: env!("CARGO_PKG_VERSION").to_owned(),
        massgen: program::version(&spec.program),
        record: FORMAT,
    }
}

pub(super) fn question(text: &str) -> Question {
    Question { chars: text.chars().count() as u64, sha256: hash::of_text(text) }
}

fn config(files: &RunFiles, spec: &RunSpec, secrets: &Secrets) -> (Config, BTreeMap<String, String>) {
    let asked = match &spec.config {
        ConfigChoice::File(path) => path.to_string_lossy().into_owned(),
        ConfigChoice::Rehearsal(name) => name.clone(),
    };
    let path = CONFIGS.into_iter().map(Path::new).find(|path| files.has(path));
    let file = path.and_then(|path| hash::of_file(files, path, path).ok());
    let text = path.and_then(|path| files.head(path, MOST_CONFIG).ok()).and_then(|bytes| String::from_utf8(bytes).ok());
    // Of a text that cannot be read as a config nobody knows what is a key in it.
    let tree = path.zip(text.as_deref()).and_then(|(path, text)| Tree::of_file(path, text).ok());
    let models = tree.as_ref().map(|tree| models(Needs::of(tree), secrets)).unwrap_or_default();
    let text = text.filter(|_| tree.is_some()).map(|text| text::cut(&secrets.mask(&text), CONFIG_CHARS));
    (Config { asked, hash: spec.config_hash.clone(), file, text }, models)
}

/// Which model each agent of a config uses.
pub(super) fn models(needs: Needs, secrets: &Secrets) -> BTreeMap<String, String> {
    let told = |word: String| secrets.mask(&word).into_owned();
    needs.agents.into_iter().filter_map(|agent| Some((told(agent.id), told(agent.model?)))).collect()
}

/// Overrides without keys: those that are known, and those that stand where a config has them.
fn masked(overrides: &Value, secrets: &Secrets) -> Value {
    let own = Tree::from_json(overrides).map(|tree| tree.secrets()).unwrap_or_default();
    let secrets = secrets.with(own.into_iter().map(|secret| secret.value));
    text::each_text(overrides.clone(), &|text| secrets.mask(text).into_owned())
}

pub(super) fn costs(spent: Spent) -> Costs {
    Costs { cost_usd: spent.usd.as_f64(), cost_unknown: spent.is_unpriced, tokens: spent.tokens }
}

fn answer_fact(files: &RunFiles, answer: &answers::Answer, secrets: &Secrets) -> Option<Answer> {
    let file = hash::of_file(files, &answer.path, &answer.path).ok().filter(|file| is_tellable(&file.path, secrets))?;
    let chars = files.open_file(&answer.path).and_then(|(file, _)| pages::count_chars(file)).ok()?;
    Some(Answer { agent: secrets.mask(&answer.agent).into_owned(), chars, file })
}

/// Whether a path holds no secret: agents name files, and a name that is told masked could not be found again.
fn is_tellable(path: &str, secrets: &Secrets) -> bool {
    secrets.name_in(path).is_none()
}

fn lineage(files: &RunFiles, spec: &RunSpec) -> Lineage {
    Lineage {
        parent: spec.lineage.parent.as_ref().map(RunId::to_string),
        root: spec.lineage.root.to_string(),
        depth: spec.lineage.depth,
        continues: spec.continues.as_ref().map(|before| before.run.to_string()),
        turn: spec.continues.as_ref().map(|before| before.turn),
        from: spec.from.as_ref().map(|from| built_on(files, from)),
    }
}

fn built_on(files: &RunFiles, from: &crate::run::BuiltOn) -> BuiltOn {
    let copy = Path::new(FROM).join("answer.txt");
    BuiltOn {
        run_id: from.run.to_string(),
        answer: from.answer.clone(),
        agent: from.agent.clone(),
        file: hash::of_file(files, &copy, &copy).ok(),
    }
}

/// The workspace that was saved with an answer lies beside it.
pub(super) fn beside(answer: impl AsRef<Path>) -> String {
    answer.as_ref().with_file_name("workspace").to_string_lossy().into_owned()
}

fn workspace(files: &RunFiles, answer: &Path, secrets: &Secrets) -> Option<Workspace> {
    let folder = answer.with_file_name("workspace");
    if !files.is_folder(&folder) || !is_tellable(&beside(answer), secrets) {
        return None;
    }
    let seen = walk(files, &folder);
    let mut hashed: Vec<FileFact> = Vec::new();
    let (mut left_out, mut room) = (LeftOut::default(), MOST_BYTES);
    for (path, size) in seen.files {
        let fits = hashed.len() < MOST_FILES && size <= room && is_tellable(&path.to_string_lossy(), secrets);
        match fits.then(|| hash::of_file(files, &folder.join(&path), &path)) {
            Some(Ok(fact)) => {
                room = room.saturating_sub(fact.bytes);
                hashed.push(fact);
            }
            // What is named in no UTF-8 cannot be opened by the name that is told.
            Some(Err(_)) | None => {
                left_out.files += 1;
                left_out.bytes += size;
            }
        }
    }
    let is_whole = seen.is_whole && left_out.files == 0;
    Some(Workspace { path: beside(answer), files: hashed, left_out: (!is_whole).then_some(left_out) })
}

/// What a walk through a folder found.
pub(super) struct Walk {
    /// Paths relative to the folder, with their sizes.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// Whether it came to its end.
    is_whole: bool,
}

/// The regular files below a folder, in the order of their paths.
pub(super) fn walk(files: &RunFiles, folder: &Path) -> Walk {
    let (mut found, mut open, mut seen) = (Vec::new(), vec![PathBuf::new()], 0);
    while seen < MOST_ENTRIES
        && let Some(inner) = open.pop()
    {
        for Entry { name, kind, size } in files.list(&folder.join(&inner)) {
            seen += 1;
            match kind {
                Kind::File => found.push((inner.join(name), size)),
                Kind::Folder => open.push(inner.join(name)),
                Kind::Other => {}
            }
        }
    }
    found.sort();
    Walk { files: found, is_whole: open.is_empty() }
}
