//! Building on an answer of an earlier run: which one is meant, and what the next run is given of it. The earlier run may be
//! under way: an answer that MassGen has counted stays what it is. It is read, and only the name of the next run is noted there.

use std::path::PathBuf;

use tempfile::TempDir;

use super::conversation::open_files;
use super::{Fleet, FleetError, blocking};
use crate::massgen::answers::{self, Answer};
use crate::massgen::copy::CopyError;
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::massgen::{basis, text};
use crate::registry::{BASIS_FOLDER, OwnerLock, RegistryError, StateFolder};
use crate::run::{AnswerBasis, RunId, RunRecord};

/// The longest name of an answer or an agent that is remembered, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The most labels that a refusal names.
const MAX_LABELS: usize = 20;

/// An answer that cannot be built on.
#[derive(Debug, thiserror::Error)]
pub enum BasisError {
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
pub(super) struct BasisFiles {
    staging_folder: TempDir,
}

impl BasisFiles {
    /// The folder with the answer, to be moved into the run's.
    pub(super) fn folder(&self) -> PathBuf {
        self.staging_folder.path().join(BASIS_FOLDER)
    }
}

impl Fleet {
    /// The answer of a run that is to be built on: by its label, else the best one.
    pub async fn resolve_basis(&self, id: &RunId, label: Option<String>) -> Result<AnswerBasis, FleetError> {
        let record = self.run_record(id).await?;
        let (root, secrets) = (self.run_folder(id), self.secrets.clone());
        blocking(move || {
            let answer = find_answer(&open_files(root.path())?, &record, label.as_deref())?;
            let name = |name: &str| text::single_line(&secrets.mask(name), MAX_NAME_CHARS);
            Ok(AnswerBasis {
                run: record.spec.id,
                answer: answer.label.as_deref().map(name),
                agent: name(&answer.agent),
            })
        })
        .await?
    }

    /// Collects what a run that builds on an answer is to have from its beginning.
    pub(super) async fn stage_basis(&self, from: &AnswerBasis) -> Result<BasisFiles, FleetError> {
        let (state, from) = (self.state().clone(), from.clone());
        blocking(move || stage_files(&state, &from)).await?
    }
}

fn stage_files(state: &StateFolder, from: &AnswerBasis) -> Result<BasisFiles, FleetError> {
    let folder = state.run_folder(&from.run);
    // The shared lock keeps an ended run from being removed; a live one has an owner and is read again.
    let _held = OwnerLock::share(&folder.lock());
    let record = state.load(&from.run)?;
    let files = open_files(folder.path())?;
    let answer = find_answer(&files, &record, from.answer.as_deref())?;
    let basis = BasisFiles { staging_folder: state.create_staging_folder()? };
    let copied = basis::copy_basis(&files, &answer, &basis.folder());
    if !folder.path().exists() {
        return Err(RegistryError::Unknown(from.run.clone()).into());
    }
    copied.map_err(|source| BasisError::Copy { run: from.run.clone(), source })?;
    Ok(basis)
}

fn find_answer(files: &RunFiles, record: &RunRecord, label: Option<&str>) -> Result<Answer, BasisError> {
    let (run, digest) = (&record.spec.id, record.digest.as_ref());
    let layout = Layout::find(files, record.log_dir.as_deref());
    let layout = layout.ok_or_else(|| BasisError::NoAnswer(run.clone()))?;
    let is_over = record.state.ending().is_some();
    let all = match is_over {
        true => answers::candidates(files, &layout, digest),
        false => answers::counted(files, &layout, digest),
    };
    match label {
        Some(label) => find_by_label(all, label, run),
        None if is_over => answers::best(files, &layout, digest).ok_or_else(|| BasisError::NoAnswer(run.clone())),
        None => answers::leading(files, all, digest).ok_or_else(|| BasisError::NoAnswer(run.clone())),
    }
}

fn find_by_label(mut all: Vec<Answer>, label: &str, run: &RunId) -> Result<Answer, BasisError> {
    let shown = |answer: &Answer| answer.label.as_deref().map(|label| text::single_line(label, MAX_NAME_CHARS));
    if let Some(place) = all.iter().position(|answer| shown(answer).as_deref() == Some(label)) {
        return Ok(all.swap_remove(place));
    }
    let there: Vec<String> = all.iter().filter_map(shown).take(MAX_LABELS).collect();
    let there = if there.is_empty() { "none by now".to_owned() } else { there.join(", ") };
    Err(BasisError::Unknown { run: run.clone(), label: text::single_line(label, MAX_NAME_CHARS), there })
}
