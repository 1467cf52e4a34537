//! Where MassGen looks for configs and for environment variables, according to the operator's settings. It reads nothing.

use std::path::Path;

use crate::massgen::configs::ConfigPlaces;
use crate::massgen::variables::VariableSources;
use crate::run::Context;
use crate::settings::Settings;

/// The folders of configs.
pub(super) fn for_configs<'a>(settings: &'a Settings, package: Option<&'a Path>) -> ConfigPlaces<'a> {
    ConfigPlaces { project: settings.project_folder(), home: settings.user_home.as_deref(), package }
}

/// The sources of a run's environment variables.
pub(super) fn for_variables<'a>(
    settings: &'a Settings,
    context: Context,
    package: Option<&'a Path>,
) -> VariableSources<'a> {
    VariableSources {
        home: settings.user_home.as_deref(),
        env_file: settings.env_file.as_deref(),
        pass_env: &settings.pass_env,
        project: settings.project_folder(),
        context,
        package,
    }
}
