//! A config in a list: its origin, its requirements, and what prevents a run.

use super::Needs;
use crate::run::ConfigChoice;

/// The origin of a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// It is in the project folder.
    Project,
    /// It is in `~/.config/massgen`.
    User,
    /// It comes with MassGen.
    Example,
    /// It is not a file: its models are scripted.
    Rehearsal,
}

impl ConfigOrigin {
    /// The name of the origin: `project`, `user`, `example` or `rehearsal`.
    pub fn as_str(self) -> &'static str {
        match self {
            ConfigOrigin::Project => "project",
            ConfigOrigin::User => "user",
            ConfigOrigin::Example => "example",
            ConfigOrigin::Rehearsal => "rehearsal",
        }
    }
}

/// A config that can be run.
#[derive(Debug, Clone)]
pub struct ListedConfig {
    /// The value for `massgen_config` of run_massgen; [`super::resolve`] maps it to this file.
    pub name: String,
    /// Its origin.
    pub origin: ConfigOrigin,
    /// What the name refers to.
    pub choice: ConfigChoice,
    /// Its requirements; empty if it could not be read.
    pub needs: Needs,
    /// The missing keys that it requires, each as [`super::needs::RequiredKey`].
    pub missing: Vec<String>,
    /// The comment at its beginning, in one line of at most 200 characters; may be empty.
    pub description: String,
    /// Why a run cannot succeed: the config is unreadable, a start refuses it, or MassGen is known to fail at it.
    pub problem: Option<String>,
}

impl ListedConfig {
    /// Whether no known fault prevents a run: no key is missing, and there is no problem.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.problem.is_none()
    }

    /// The sort order of a list: ready configs first, then ready ones with a requirement that cannot be checked here.
    pub(super) fn rank(&self) -> u8 {
        match (self.is_ready(), self.needs.unchecked_requirements().is_empty()) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    }
}
