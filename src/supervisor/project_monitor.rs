//! What a run changes in the project that its agents may use: compares the files before and after, and cleans up MassGen's branches.
//! It touches nothing in a project before the run has ended, and never a file of the project.

use super::project_snapshot::ProjectSnapshot;
use super::repository::Repository;
use super::run_context::RunContext;
use crate::ledger::Ledger;
use crate::massgen::warnings::{self, NOT_APPLIED};
use crate::registry::StateFolder;
use crate::run::{ChangedFiles, Context, Outcome, RunSpec, Step, Warning};

/// The project before the run; empty if the run does not use it.
#[derive(Default)]
pub(super) struct ProjectMonitor {
    /// Its files, if the run may write there.
    files: Option<ProjectSnapshot>,
    /// Its Git repository, if the run may read it.
    repository: Option<Repository>,
}

impl ProjectMonitor {
    /// Records the state of the project before MassGen starts.
    pub(super) fn begin(spec: &RunSpec, state: &StateFolder) -> ProjectMonitor {
        let repository = (spec.context != Context::None).then(|| Repository::of(&spec.project)).flatten();
        ProjectMonitor { files: snapshot(spec, state), repository }
    }

    /// The files that have changed since; `None` if the run may not write there, or if there are too many files.
    pub(super) fn changed_files(&self, spec: &RunSpec, state: &StateFolder) -> Option<ChangedFiles> {
        self.files.as_ref().and_then(|before| Some(before.diff(&snapshot(spec, state)?)))
    }

    /// Removes MassGen's leftovers from the project's repository. Branches with changes that MassGen did not apply stay, and the warning names
    /// them. Without such a branch MassGen had no changes to apply, so the warning is dropped.
    pub(super) fn clean(&self, run: &RunContext, spec: &RunSpec, mut warnings: Vec<Warning>) -> Vec<Warning> {
        let Some(repository) = &self.repository else { return warnings };
        let is_shared = is_shared(&run.state, spec);
        let not_applied = warnings.iter().position(|warning| warning.code == NOT_APPLIED);
        let retained = repository.clean(run.folder.path(), is_shared, not_applied.is_some());
        let Some(at) = not_applied.filter(|_| !is_shared) else { return warnings };
        if retained.is_empty() {
            warnings.remove(at);
        } else if let Some(warning) = warnings.get_mut(at) {
            warning.next = Step::MergeBranches.with(retained.join(", "));
        }
        warnings
    }
}

/// A run that could write in the project but changed nothing has not failed; it gets a warning because the caller expected changes.
pub(super) fn warn_if_unchanged(
    changed: Option<&ChangedFiles>,
    outcome: &Outcome,
    mut warnings: Vec<Warning>,
) -> Vec<Warning> {
    let is_nothing = changed.is_some_and(|changed| changed.count == 0);
    if is_nothing && *outcome == Outcome::Succeeded && warnings.iter().all(|warning| warning.code != NOT_APPLIED) {
        warnings.push(warnings::nothing_changed_warning());
    }
    warnings
}

/// The project's files, if the run may write there.
fn snapshot(spec: &RunSpec, state: &StateFolder) -> Option<ProjectSnapshot> {
    (spec.context == Context::Write).then(|| ProjectSnapshot::take(&spec.project, state.root())).flatten()
}

/// Whether another live run may write in the same project; `true` if that is unknown.
fn is_shared(state: &StateFolder, spec: &RunSpec) -> bool {
    let Ok(live) = Ledger::new(state).live_runs(None) else { return true };
    let others = live.iter().filter(|id| **id != spec.id).filter_map(|id| state.load(id).ok());
    let mut specs = others.map(|record| record.spec);
    specs.any(|other| other.context != Context::None && other.project == spec.project)
}
