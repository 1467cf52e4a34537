//! Opens what commands need from the settings: the runs of the state folder, and the MassGen that a run would use.

use std::path::{Path, PathBuf};

use super::next_steps::person_words;
use crate::fleet::Fleet;
use crate::massgen::program::{self, ProgramError, ProgramPlaces};
use crate::massgen::{setup, text};
use crate::refusal::Refusal;
use crate::registry::{FAILED_IMPORTS_FOLDER, StateFolder};
use crate::secrets::Secrets;
use crate::settings::Settings;

/// The runs of the state folder, with the secrets that are masked in output.
pub(super) fn open_fleet(settings: &Settings, program: &Path) -> Result<Fleet, Refusal> {
    let secrets = Secrets::from_environment(settings.env_file.as_deref()).map_err(|error| {
        let hint = "correct env_file in the settings (`massgen-mcp settings` shows it), or leave it out";
        Refusal::new("env_file", text::error_chain(&error), hint)
    })?;
    Ok(Fleet::new(StateFolder::open(&settings.state_folder)?, program).with_secrets(secrets).with_wording(person_words))
}

/// The MassGen that a run would use.
pub(super) fn massgen_program(settings: &Settings) -> Result<PathBuf, ProgramError> {
    let own_venv = setup::venv_folder(&settings.state_folder);
    let failed_imports = failed_imports(settings);
    let (named, project) = (settings.massgen.as_deref(), settings.project_folder());
    program::find(ProgramPlaces { named, project, own_venv: &own_venv, failed_imports: &failed_imports })
}

/// The folder that records failed imports of MassGen.
pub(super) fn failed_imports(settings: &Settings) -> PathBuf {
    settings.state_folder.join(FAILED_IMPORTS_FOLDER)
}
