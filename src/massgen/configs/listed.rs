//! A config in a list: where it comes from, what it needs, and what keeps it from running.

use super::Needs;
use crate::run::ConfigChoice;

/// Whose a config is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// It lies in the project folder.
    Project,
    /// It lies in `~/.config/massgen`.
    User,
    /// It comes with MassGen.
    Example,
    /// It is no file: its models are scripted.
    Rehearsal,
}

impl ConfigOrigin {
    /// The word for it: `project`, `user`, `example` or `rehearsal`.
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
    /// What `massgen_config` of run_massgen takes for it; [`super::resolve`] gives this very file.
    pub name: String,
    /// Whose it is.
    pub origin: ConfigOrigin,
    /// What that name stands for.
    pub choice: ConfigChoice,
    /// What it needs; nothing where it could not be read.
    pub needs: Needs,
    /// The keys that it needs and that are not there, each as [`super::needs::RequiredKey`].
    pub missing: Vec<String>,
    /// The comment at its beginning, in one line of at most 200 characters; may be empty.
    pub description: String,
    /// Why no run of it can succeed: it cannot be read, a start refuses it, or MassGen is known to fail at it.
    pub problem: Option<String>,
}

impl ListedConfig {
    /// Whether nothing is known that keeps a run of it from succeeding: no key is missing, and it has no problem.
    pub fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.problem.is_none()
    }

    /// What comes first in a list: what is ready, then what is ready and needs something of which nothing is known here.
    pub(super) fn rank(&self) -> u8 {
        match (self.is_ready(), self.needs.unchecked_requirements().is_empty()) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        }
    }
}
