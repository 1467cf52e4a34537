//! What commands need of the settings: the runs of the state folder, the MassGen that a run would use, and the set-up of one.

use std::path::{Path, PathBuf};

use crate::fleet::Fleet;
use crate::massgen::program::{self, Places, ProgramError};
use crate::massgen::{setup, text};
use crate::refusal::Refusal;
use crate::registry::{FAILED_IMPORTS, StateFolder};
use crate::secrets::Secrets;
use crate::settings::Settings;

/// The runs of the state folder, with the secrets that are masked in output.
pub(super) fn open_fleet(settings: &Settings, me: &Path) -> Result<Fleet, Refusal> {
    let secrets = Secrets::from_environment(settings.env_file.as_deref()).map_err(|error| {
        let hint = "correct env_file in the settings (`massgen-mcp settings` shows it), or leave it out";
        Refusal::new("env_file", text::chain(&error), hint)
    })?;
    Ok(Fleet::new(StateFolder::open(&settings.home)?, me).with_secrets(secrets))
}

/// The MassGen that a run would use.
pub(super) fn program_of(settings: &Settings) -> Result<PathBuf, ProgramError> {
    let own_venv = setup::venv(&settings.home);
    let seen = failed_imports(settings);
    let (named, project) = (settings.massgen.as_deref(), settings.project_folder());
    program::find(Places { named, project, own_venv: &own_venv, seen: &seen })
}

/// The folder with failures of MassGen's import.
pub(super) fn failed_imports(settings: &Settings) -> PathBuf {
    settings.home.join(FAILED_IMPORTS)
}
