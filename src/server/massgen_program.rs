//! The MassGen program of a start: where it is, and whether an earlier attempt to import MassGen has failed. This module
//! does not start MassGen.

use std::path::{Path, PathBuf};

use crate::massgen::configs::ValidateError;
use crate::massgen::program::{self, ProgramError, ProgramPlaces};
use crate::massgen::{broken_import, setup, text};
use crate::refusal::Refusal;
use crate::registry::{FAILED_IMPORTS_FOLDER, StateFolder};
use crate::run::Problem;
use crate::settings::Settings;

/// The MassGen program.
pub(super) fn find(settings: &Settings, state: &StateFolder) -> Result<PathBuf, ProgramError> {
    program::find(ProgramPlaces {
        named: settings.massgen.as_deref(),
        project: settings.project_folder(),
        own_venv: &setup::venv_folder(&settings.state_folder),
        failed_imports: &failed_imports_folder(state),
    })
}

/// The MassGen program; one that is known to fail its import is refused.
pub(super) fn find_importable(settings: &Settings, state: &StateFolder) -> Result<PathBuf, Refusal> {
    let program = find(settings, state)?;
    known_problem(&program, state).map_or(Ok(program), |problem| Err(Refusal::broken_import(problem)))
}

/// Why MassGen cannot be imported, if that is known.
pub(super) fn known_problem(program: &Path, state: &StateFolder) -> Option<Problem> {
    broken_import::known_problem(program, &failed_imports_folder(state))
}

/// Remembers the failure, so that the next call need not try the import again.
pub(super) fn record_import_failure(error: &ValidateError, program: &Path, state: &StateFolder) {
    if let ValidateError::BrokenImport(problem) = error
        && let Err(error) = broken_import::record_failure(problem, program, &failed_imports_folder(state))
    {
        tracing::warn!(error = text::error_chain(&error), "that MassGen cannot be imported could not be kept");
    }
}

/// The folder that records failed imports of MassGen.
fn failed_imports_folder(state: &StateFolder) -> PathBuf {
    state.root().join(FAILED_IMPORTS_FOLDER)
}
