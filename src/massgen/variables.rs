//! Which environment variables a run would have: those that reach MassGen from the server, and those that MassGen itself reads from `.env`
//! files. It exposes names, and only values that are not secret.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::environment;
use crate::run::Context;
use crate::secrets;

/// The sources of variables.
#[derive(Debug, Clone, Copy)]
pub struct VariableSources<'a> {
    /// The user's home folder, with `.massgen/.env` and `.config/massgen/.env`.
    pub home: Option<&'a Path>,
    /// The operator's env file.
    pub env_file: Option<&'a Path>,
    /// Names and patterns of further variables that reach MassGen.
    pub pass_env: &'a [String],
    /// The project folder, if there is one.
    pub project: Option<&'a Path>,
    /// The agents' access to the project.
    pub context: Context,
    /// The installed package.
    pub package: Option<&'a Path>,
}

impl VariableSources<'_> {
    /// The names of all variables with a value.
    pub fn names(self) -> BTreeSet<String> {
        let passed = environment::select(self.passed_variables().into_iter(), self.pass_env);
        let passed = passed.into_iter().filter(|(_, value)| !value.is_empty());
        let passed = passed.filter_map(|(name, _)| name.into_string().ok());
        let user_files = [".massgen/.env", ".config/massgen/.env"];
        let files = user_files.iter().filter_map(|file| Some(self.home?.join(file)));
        let files = files.chain(env_files(self.context, self.package, self.project));
        let read = files.filter_map(|file| secrets::read_env_file(&file).ok()).flatten();
        let read = read.filter(|(_, value)| !value.is_empty()).map(|(name, _)| name);
        let operator_names =
            self.operator_variables().into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name);
        passed.chain(read).chain(operator_names).collect()
    }

    /// `DOCKER_HOST` as MassGen receives it.
    pub fn docker_host(self) -> Option<String> {
        let mut passed = self.passed_variables().into_iter();
        passed.find(|(name, _)| name == "DOCKER_HOST").and_then(|(_, value)| value.into_string().ok())
    }

    fn passed_variables(self) -> Vec<(OsString, OsString)> {
        environment::merge(std::env::vars_os(), &self.operator_variables())
    }

    fn operator_variables(self) -> Vec<(String, String)> {
        self.env_file.and_then(|file| secrets::read_env_file(file).ok()).unwrap_or_default()
    }
}

/// The `.env` files that MassGen reads in addition to the user's (`cli/env.py`): `configs/.env` of its working folder, and the first one
/// found from its package folder upwards.
pub fn env_files(context: Context, package: Option<&Path>, project: Option<&Path>) -> Vec<PathBuf> {
    let folder_file = project.filter(|_| context != Context::None).map(|project| project.join("configs/.env"));
    let upwards = package.into_iter().flat_map(Path::ancestors).map(|folder| folder.join(".env"));
    let package_file = upwards.into_iter().find(|file| file.is_file());
    folder_file.into_iter().chain(package_file).filter_map(|file| file.canonicalize().ok()).collect()
}
