//! Builds on an answer of an earlier run: finds the answer and copies it, with its workspace, for the next run. The earlier run
//! may still be running: an answer that MassGen has counted does not change. This module only reads that run.

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

/// The longest recorded name of an answer or an agent, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The most labels that an error lists.
const MAX_LABELS: usize = 20;

/// An answer that cannot be built on.
#[derive(Debug, thiserror::Error)]
pub enum BasisError {
    /// The run has no answer.
    #[error("{0} has no answer")]
    NoAnswer(RunId),
    /// The run has no answer with that label.
    #[error("{run} has no answer `{label}`; it has {there}")]
    Unknown {
        /// The run.
        run: RunId,
        /// The requested label.
        label: String,
        /// The labels of the existing answers.
        there: String,
    },
    /// The answer or its workspace cannot be copied.
    #[error("cannot hand on the answer of {run}")]
    Copy {
        /// The run.
        run: RunId,
        /// The cause.
        source: CopyError,
    },
}

/// The files for a run that builds on an answer, in a staging folder that is removed on drop.
pub(super) struct BasisFiles {
    staging_folder: TempDir,
}

impl BasisFiles {
    /// The folder with the answer, which is moved into the run's folder.
    pub(super) fn folder(&self) -> PathBuf {
        self.staging_folder.path().join(BASIS_FOLDER)
    }
}

impl Fleet {
    /// Finds the answer to build on: by its label, or the best one without a label.
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

    /// Copies the files for a run that builds on an answer.
    pub(super) async fn stage_basis(&self, basis: &AnswerBasis) -> Result<BasisFiles, FleetError> {
        let (state, basis) = (self.state().clone(), basis.clone());
        blocking(move || stage_files(&state, &basis)).await?
    }
}

fn stage_files(state: &StateFolder, answer_basis: &AnswerBasis) -> Result<BasisFiles, FleetError> {
    let folder = state.run_folder(&answer_basis.run);
    // The shared lock prevents the removal of an ended run. A live run is locked by its owner and cannot be removed.
    let _lock = OwnerLock::share(&folder.lock());
    let record = state.load(&answer_basis.run)?;
    let files = open_files(folder.path())?;
    let answer = find_answer(&files, &record, answer_basis.answer.as_deref())?;
    let basis = BasisFiles { staging_folder: state.create_staging_folder()? };
    let copied = basis::copy_basis(&files, &answer, &basis.folder());
    if !folder.path().exists() {
        return Err(RegistryError::Unknown(answer_basis.run.clone()).into());
    }
    copied.map_err(|source| BasisError::Copy { run: answer_basis.run.clone(), source })?;
    Ok(basis)
}

fn find_answer(files: &RunFiles, record: &RunRecord, label: Option<&str>) -> Result<Answer, BasisError> {
    let (run, digest) = (&record.spec.id, record.digest.as_ref());
    let layout = Layout::find(files, record.log_dir.as_deref());
    let layout = layout.ok_or_else(|| BasisError::NoAnswer(run.clone()))?;
    let is_over = record.state.ending().is_some();
    let answers = match is_over {
        true => answers::candidates(files, &layout, digest),
        false => answers::counted(files, &layout, digest),
    };
    match label {
        Some(label) => find_by_label(answers, label, run),
        None if is_over => answers::best(files, &layout, digest).ok_or_else(|| BasisError::NoAnswer(run.clone())),
        None => answers::leading(files, answers, digest).ok_or_else(|| BasisError::NoAnswer(run.clone())),
    }
}

fn find_by_label(mut answers: Vec<Answer>, label: &str, run: &RunId) -> Result<Answer, BasisError> {
    let label_of = |answer: &Answer| answer.label.as_deref().map(|label| text::single_line(label, MAX_NAME_CHARS));
    if let Some(index) = answers.iter().position(|answer| label_of(answer).as_deref() == Some(label)) {
        return Ok(answers.swap_remove(index));
    }
    let labels: Vec<String> = answers.iter().filter_map(label_of).take(MAX_LABELS).collect();
    let labels = if labels.is_empty() { "none by now".to_owned() } else { labels.join(", ") };
    Err(BasisError::Unknown { run: run.clone(), label: text::single_line(label, MAX_NAME_CHARS), there: labels })
}
