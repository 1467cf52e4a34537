//! Building on an answer of an earlier run: which one is meant, and what the next run is given of it. The earlier run may be
//! under way: an answer that MassGen has counted stays what it is. It is read, and only the name of the next run is noted there.

use std::path::PathBuf;

use tempfile::TempDir;

use super::conversation::open;
use super::{Fleet, FleetError, blocking};
use crate::massgen::answers::{self, Answer};
use crate::massgen::copy::CopyError;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::{basis, text};
use crate::registry::{FROM, RegistryError, RunLock, StateFolder};
use crate::run::{BuiltOn, RunId, RunRecord};

/// The longest name of an answer or an agent that is remembered, in characters.
const NAME_CHARS: usize = 64;
/// The most labels that a refusal names.
const MOST_LABELS: usize = 20;

/// An answer that cannot be built on.
#[derive(Debug, thiserror::Error)]
pub enum NotBuilt {
    /// There is none.
    #[error("{0} has no answer")]
    NoAnswer(RunId),
    /// There is none of that label.
    #[error("{run} has no answer `{label}`; it has {there}")]
    Unknown {
        /// The run.
        run: RunId,
        /// What was asked for.
        label: String,
        /// What there is.
        there: String,
    },
    /// What belongs to it cannot be handed on.
    #[error("cannot hand on the answer of {run}")]
    Copy {
        /// The run.
        run: RunId,
        /// Why not.
        source: CopyError,
    },
}

/// What a run that builds on an answer has to be given; in a folder that is gone when this is dropped.
pub(super) struct Basis {
    place: TempDir,
}

impl Basis {
    /// The folder with the answer, to be moved into the run's.
    pub(super) fn folder(&self) -> PathBuf {
        self.place.path().join(FROM)
    }
}

impl Fleet {
    /// The answer of a run that is to be built on: by its label, else the best one.
    pub async fn to_build_on(&self, id: &RunId, label: Option<String>) -> Result<BuiltOn, FleetError> {
        let record = self.look(id).await?;
        let (root, secrets) = (self.folder(id), self.secrets.clone());
        blocking(move || {
            let answer = find(&open(root.path())?, &record, label.as_deref())?;
            let name = |name: &str| text::line(&secrets.mask(name), NAME_CHARS);
            Ok(BuiltOn { run: record.spec.id, answer: answer.label.as_deref().map(name), agent: name(&answer.agent) })
        })
        .await?
    }

    /// Collects what a run that builds on an answer is to have from its beginning.
    pub(super) async fn basis(&self, from: &BuiltOn) -> Result<Basis, FleetError> {
        let (state, from) = (self.state().clone(), from.clone());
        blocking(move || collect(&state, &from)).await?
    }
}

fn collect(state: &StateFolder, from: &BuiltOn) -> Result<Basis, FleetError> {
    let folder = state.folder(&from.run);
    // Nobody removes an ended run meanwhile; one under way has an owner, and is looked at again.
    let _held = RunLock::share(&folder.lock());
    let record = state.load(&from.run)?;
    let files = open(folder.path())?;
    let answer = find(&files, &record, from.answer.as_deref())?;
    let basis = Basis { place: state.workshop()? };
    let copied = basis::lay(&files, &answer, &basis.folder());
    if !folder.path().exists() {
        return Err(RegistryError::Unknown(from.run.clone()).into());
    }
    copied.map_err(|source| NotBuilt::Copy { run: from.run.clone(), source })?;
    Ok(basis)
}

fn find(files: &RunFiles, record: &RunRecord, label: Option<&str>) -> Result<Answer, NotBuilt> {
    let (run, digest) = (&record.spec.id, record.digest.as_ref());
    let layout = Layout::find(files, record.log_dir.as_deref());
    let layout = layout.ok_or_else(|| NotBuilt::NoAnswer(run.clone()))?;
    let is_over = record.state.ended().is_some();
    let all = match is_over {
        true => answers::candidates(files, &layout, digest),
        false => answers::counted(files, &layout, digest),
    };
    match label {
        Some(label) => named(all, label, run),
        None if is_over => answers::best(files, &layout, digest).ok_or_else(|| NotBuilt::NoAnswer(run.clone())),
        None => answers::leading(files, all, digest).ok_or_else(|| NotBuilt::NoAnswer(run.clone())),
    }
}

fn named(mut all: Vec<Answer>, label: &str, run: &RunId) -> Result<Answer, NotBuilt> {
    let shown = |answer: &Answer| answer.label.as_deref().map(|label| text::line(label, NAME_CHARS));
    if let Some(place) = all.iter().position(|answer| shown(answer).as_deref() == Some(label)) {
        return Ok(all.swap_remove(place));
    }
    let there: Vec<String> = all.iter().filter_map(shown).take(MOST_LABELS).collect();
    let there = if there.is_empty() { "none by now".to_owned() } else { there.join(", ") };
    Err(NotBuilt::Unknown { run: run.clone(), label: text::line(label, NAME_CHARS), there })
}
