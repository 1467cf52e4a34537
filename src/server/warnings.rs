//! What is said before a start, without keeping it from starting: what the config lacks here or does nothing with, and references in
//! a question that MassGen would not follow. It starts nothing and asks MassGen nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::calls::Desk;
use crate::fleet::Start;
use crate::massgen::configs::{self, Tree};
use crate::massgen::docker::Engine;
use crate::massgen::{program, references, text};
use crate::refusal::Refusal;
use crate::rehearsal;
use crate::run::{ConfigChoice, Context, Problem, RunSpec};
use crate::view::{self, WarningView};

/// The most warnings of one answer.
const MOST_WARNINGS: usize = 10;

impl Desk {
    /// What to say of some starts and of the questions of all, each thing once.
    pub(super) async fn warnings(
        &self,
        starts: Vec<Start>,
        questions: Vec<String>,
    ) -> Result<Vec<WarningView>, Refusal> {
        let desk = self.clone();
        let found = tokio::task::spawn_blocking(move || desk.found(&starts, &questions)).await;
        let mut warnings: Vec<WarningView> = Vec::new();
        for problem in found.map_err(|_| Refusal::panicked())? {
            let warning = view::warning(&problem.into());
            if warnings.len() < MOST_WARNINGS && !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Ok(warnings)
    }

    fn found(&self, starts: &[Start], questions: &[String]) -> Vec<Problem> {
        let of_configs = starts.iter().flat_map(|start| self.of_config(start));
        // Who may read the project finds the file by its name in the question.
        let is_alone = starts.iter().any(|start| start.spec.context == Context::None);
        let exists = |name: &str| self.settings.project_folder().is_some_and(|project| is_inside(project, name));
        let of_questions = questions.iter().filter(|_| is_alone).filter_map(|asked| references::warning(asked, exists));
        of_configs.chain(of_questions).collect()
    }

    fn of_config(&self, start: &Start) -> Vec<Problem> {
        if let ConfigChoice::Rehearsal(name) = &start.spec.config {
            return of_rehearsal(name, &start.spec).into_iter().collect();
        }
        let read = start.config.as_ref().and_then(|(name, text)| Tree::of_file(Path::new(name), text).ok());
        let Some(config) = read else { return Vec::new() };
        let package = program::package(&start.spec.program);
        let (variables, origins) = (self.variables(start), self.origins(start.spec.context, package.as_deref()));
        let engine = || Engine::find(origins.docker_host().as_deref());
        configs::warnings(&config, start.spec.context, |name| variables.contains(name), engine)
    }

    /// Which variables a run would have, by name.
    pub(super) fn variables(&self, start: &Start) -> BTreeSet<String> {
        let package = program::package(&start.spec.program);
        let mut variables = self.origins(start.spec.context, package.as_deref()).names();
        variables.extend(start.keys.0.iter().map(|(name, _)| name.clone()));
        variables
    }
}

/// A rehearsal lacks nothing but files.
fn of_rehearsal(name: &str, spec: &RunSpec) -> Option<Problem> {
    // The address is of no matter: no run uses this text.
    let mut config = Tree::read(&rehearsal::config(name, "http://127.0.0.1").ok()?).ok()?;
    spec.overrides.iter().try_for_each(|overrides| config.merge(overrides)).ok()?;
    configs::without_files(&config, spec.context)
}

/// Whether a name is that of a file or folder in the project.
fn is_inside(project: &Path, name: &str) -> bool {
    let is_short = name.len() <= 255 && text::name(name) == name;
    is_short && !name.contains("..") && project.join(name).starts_with(project) && project.join(name).exists()
}
