//! The config of a start: found, read, merged with the overrides and checked. It is read once; what was checked is what the
//! run gets. Nothing is started here.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::trust::{self, invalid_config};
use super::{overrides, project, search_paths};
use crate::fleet::StartRequest;
use crate::massgen::configs::{self, ConfigChanges, EffectiveConfig, Tree};
use crate::massgen::pages::hex;
use crate::massgen::program;
use crate::refusal::Refusal;
use crate::rehearsal;
use crate::run::{ConfigChoice, Context};
use crate::settings::Settings;

/// A checked config.
pub(super) struct CheckedConfig {
    pub(super) choice: ConfigChoice,
    pub(super) listed_as: Option<String>,
    /// The config that MassGen reads, without the question; only for a config file.
    pub(super) effective: Option<EffectiveConfig>,
    /// The overrides, with the additions that MassGen needs.
    pub(super) overrides: Option<Value>,
    pub(super) hash: String,
}

/// Checks a config with its overrides. It reads files, so it blocks.
pub(super) fn check(
    settings: &Settings,
    name: Option<&str>,
    overrides: Option<&Value>,
    program: &Path,
    context: Context,
) -> Result<CheckedConfig, Refusal> {
    if name.is_some_and(|name| name.trim().is_empty()) {
        return Err(Refusal::new(
            "config_missing",
            "the name of a config is empty",
            "leave it out for MassGen's default config, or give a path (list_configs finds configs)",
        ));
    }
    overrides::parse(overrides)?;
    let package = program::package(program);
    trust::check_env_files(settings, context, package.as_deref())?;
    match name.filter(|name| rehearsal::is_rehearsal(name)) {
        Some(name) => check_rehearsal(settings, name, overrides),
        None => check_file(settings, name, overrides, package.as_deref()),
    }
}

fn check_rehearsal(settings: &Settings, name: &str, overrides: Option<&Value>) -> Result<CheckedConfig, Refusal> {
    rehearsal::check_name(name)?;
    let completed = overrides.map(|overrides| complete_rehearsal_overrides(settings, name, overrides)).transpose()?;
    let hash = hash(&format!("{name}\n{}", completed.as_ref().map(Value::to_string).unwrap_or_default()));
    let choice = ConfigChoice::Rehearsal(name.to_owned());
    Ok(CheckedConfig { choice, listed_as: None, effective: None, overrides: completed, hash })
}

/// Checks the overrides of a rehearsal, and adds what MassGen needs.
fn complete_rehearsal_overrides(settings: &Settings, name: &str, overrides: &Value) -> Result<Value, Refusal> {
    let mut config = rehearsal_config(name)?;
    trust::check_overrides(settings, Some(overrides), Some(&config))?;
    overrides::check_known_keys(overrides, Some(&config))?;
    let completed = configs::with_folders(overrides, &config);
    config.merge(&completed).map_err(|error| overrides::edit_refusal(&error))?;
    overrides::check_effective_config(&config)?;
    Ok(completed)
}

fn check_file(
    settings: &Settings,
    name: Option<&str>,
    overrides: Option<&Value>,
    package: Option<&Path>,
) -> Result<CheckedConfig, Refusal> {
    let places = || search_paths::for_configs(settings, package);
    let choice = configs::resolve(name, places()).map_err(|error| project::explain_missing(settings, error.into()))?;
    let ConfigChoice::File(path) = &choice else { return Err(Refusal::panicked()) };
    let original = trust::read_config(settings, path, overrides, package)?;
    let completed = overrides.map(|overrides| complete_file_overrides(path, &original, overrides)).transpose()?;
    let changes =
        ConfigChanges { overrides: completed.as_ref(), project: settings.project_folder(), ..ConfigChanges::default() };
    let effective = configs::effective_config(path, &original, changes).map_err(|error| match overrides {
        Some(_) => overrides::edit_refusal(&error),
        None => invalid_config(path, &error),
    })?;
    if overrides.is_some() {
        Tree::parse(&effective.text).ok().as_ref().map_or(Ok(()), overrides::check_effective_config)?;
    }
    let hash = hash(&effective.text);
    let listed_as = configs::name_of(path, places());
    Ok(CheckedConfig { choice, listed_as, effective: Some(effective), overrides: completed, hash })
}

/// Checks the keys of a config file's overrides, and adds what MassGen needs.
fn complete_file_overrides(path: &Path, original: &str, overrides: &Value) -> Result<Value, Refusal> {
    let config = Tree::parse_file(path, original).ok();
    overrides::check_known_keys(overrides, config.as_ref())?;
    Ok(config.map_or_else(|| overrides.clone(), |config| configs::with_folders(overrides, &config)))
}

/// The config as MassGen will read it, without the question and the address of a rehearsal's models; `None` if it
/// cannot be read.
pub(super) fn effective_tree(start: &StartRequest) -> Option<Tree> {
    let ConfigChoice::Rehearsal(name) = &start.spec.config else {
        let (name, text) = start.config.as_ref()?;
        return Tree::parse_file(Path::new(name), text).ok();
    };
    let mut config = Tree::parse(&rehearsal::config_yaml(name, "http://127.0.0.1").ok()?).ok()?;
    start.spec.overrides.iter().try_for_each(|overrides| config.merge(overrides)).ok()?;
    Some(config)
}

/// The rehearsal config as the run will use it, without the address of its models.
fn rehearsal_config(name: &str) -> Result<Tree, Refusal> {
    Tree::parse(&rehearsal::config_yaml(name, "http://127.0.0.1:9/v1")?)
        .map_err(|error| invalid_config(Path::new(name), &error))
}

fn hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}
