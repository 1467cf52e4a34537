//! Warnings before a start, which do not prevent it: what the config lacks on this machine or sets without effect, and
//! references in a question that MassGen would not follow. This module starts nothing and does not call MassGen.

use std::collections::BTreeSet;
use std::path::Path;

use super::next_steps::agent_words;
use super::{search_paths, start_config};
use crate::fleet::StartRequest;
use crate::massgen::configs::{self, Needs, Tree};
use crate::massgen::docker::DockerEngine;
use crate::massgen::priced_models::PricedModels;
use crate::massgen::variables::VariableSources;
use crate::massgen::{program, references, text};
use crate::refusal::Refusal;
use crate::run::{ConfigChoice, Context, Problem, Unpriced, Usd};
use crate::settings::Settings;
use crate::view::{self, WarningView};

/// The most models that a warning names.
const MAX_NAMED_MODELS: usize = 3;
/// The most warnings of one answer.
const MAX_WARNINGS: usize = 10;

/// The warnings about some starts and their questions, each once.
pub(super) async fn find(
    settings: &Settings,
    starts: Vec<StartRequest>,
    questions: Vec<String>,
) -> Result<Vec<WarningView>, Refusal> {
    let settings = settings.clone();
    let problems = tokio::task::spawn_blocking(move || find_problems(&settings, &starts, &questions)).await;
    let mut warnings: Vec<WarningView> = Vec::new();
    for problem in problems.map_err(|_| Refusal::panicked())? {
        let warning = view::warning_view(&problem.into(), agent_words);
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Ok(warnings)
}

fn find_problems(settings: &Settings, starts: &[StartRequest], questions: &[String]) -> Vec<Problem> {
    let config_problems = starts.iter().flat_map(|start| config_problems(settings, start));
    // An agent with access to the project can find a file by its name in the question.
    let has_no_project_access = starts.iter().any(|start| start.spec.context == Context::None);
    let exists = |name: &str| settings.project_folder().is_some_and(|project| is_in_project(project, name));
    let question_problems =
        questions.iter().filter(|_| has_no_project_access).filter_map(|question| references::warning(question, exists));
    config_problems.chain(question_problems).collect()
}

fn config_problems(settings: &Settings, start: &StartRequest) -> Vec<Problem> {
    let Some(config) = start_config::effective_tree(start) else { return Vec::new() };
    let ignored = start.spec.overrides.as_ref().and_then(configs::ignored_keys_problem);
    if let ConfigChoice::Rehearsal(_) = &start.spec.config {
        // The config lacks only file access.
        return configs::no_files_problem(&config, start.spec.context).into_iter().chain(ignored).collect();
    }
    let package = program::package(&start.spec.program);
    let sources = search_paths::for_variables(settings, start.spec.context, package.as_deref());
    let variables = variable_names(&sources, start);
    let engine = || DockerEngine::find(sources.docker_host().as_deref());
    let mut problems = configs::warnings(&config, start.spec.context, |name| variables.contains(name), engine);
    problems.extend(ignored);
    let given_budget = start.limits.per_run.cap.usd.filter(|_| settings.is_given("budget_usd"));
    problems.extend(
        start
            .requested_cap
            .usd
            .or(given_budget)
            .and_then(|usd| unpriced_budget_problem(usd, start, &config, package.as_deref())),
    );
    problems
}

/// The names of the variables that a run would have.
fn variable_names(sources: &VariableSources<'_>, start: &StartRequest) -> BTreeSet<String> {
    let mut names = sources.names();
    names.extend(start.keys.0.iter().map(|(name, _)| name.clone()));
    names
}

/// A problem if a call or a person set a dollar budget that cannot be enforced, because MassGen counts no cost for some
/// models.
fn unpriced_budget_problem(
    budget: Usd,
    start: &StartRequest,
    config: &Tree,
    package: Option<&Path>,
) -> Option<Problem> {
    let (prices, allowance) = (PricedModels::load(package), &start.limits.per_run);
    if start.requested_cap.tokens.or(allowance.cap.tokens).is_some() {
        return None;
    }
    let is_estimated = |model: &str| allowance.unpriced == Unpriced::Estimate && allowance.prices.contains_key(model);
    let models: BTreeSet<String> =
        Needs::from_config(config).agents.into_iter().filter_map(|agent| agent.model).collect();
    let unpriced = models.iter().filter(|model| !prices.has(model) && !is_estimated(model));
    let named: Vec<String> = unpriced.take(MAX_NAMED_MODELS).map(|model| text::single_line(model, 60)).collect();
    (!named.is_empty()).then(|| {
        let message = format!(
            "MassGen knows no price for {}: what it costs is unknown, and a budget of {budget} does not stop it",
            named.join(", ")
        );
        Problem::new("budget_blind", &message, "set max_tokens as well: tokens are counted for every model")
    })
}

/// Whether a file or folder of this name exists in the project.
fn is_in_project(project: &Path, name: &str) -> bool {
    let is_short = name.len() <= 255 && text::safe_name(name) == name;
    is_short && !name.contains("..") && project.join(name).starts_with(project) && project.join(name).exists()
}
