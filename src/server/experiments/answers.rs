//! The answers to a call that starts or checks an experiment.

use serde::Serialize;
use serde_json::Value;

use crate::experiment::forecast::remaining_time;
use crate::experiment::{ExperimentPlan, PlannedRun};
use crate::massgen::text;
use crate::registry::Experiment;
use crate::run::Usd;
use crate::secrets::Secrets;
use crate::view::group::GroupView;
use crate::view::{WarningView, list};

/// The most planned runs that an answer lists.
const MAX_PLANNED_SHOWN: usize = 20;
/// The longest variant that an answer shows, in characters.
const MAX_VARIANT_CHARS: usize = 100;

/// The answer to a call that starts an experiment.
#[derive(Debug, Serialize)]
pub(super) struct StartedExperimentView {
    pub(super) group: String,
    /// The config of all its runs, where they have the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<String>,
    pub(super) runs: usize,
    pub(super) run_ids: Vec<String>,
    /// The config and question of each run, in the order of `run_ids`; only the first [`MAX_PLANNED_SHOWN`].
    pub(super) plan: Vec<PlannedRunView>,
    /// How many successes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) keep: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) forecast: Option<ExperimentForecastView>,
    /// For check_status with the group.
    pub(super) cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reused: Option<bool>,
    /// The experiment was interrupted and continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) resumed: Option<bool>,
    /// Warnings about any config or question that are known before the start, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<WarningView>,
    /// After a wait: the status of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) status: Option<GroupView>,
    /// How long waits are, if that is less than requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

/// A planned run.
#[derive(Debug, Serialize)]
pub(super) struct PlannedRunView {
    run_id: String,
    config: String,
    /// Its overrides, if the call has several variants.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    question: String,
    /// Its repetition number, from 1, if the call repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<u32>,
}

/// The expected time and cost, based on earlier runs of the same configs.
#[derive(Debug, Serialize)]
pub(super) struct ExperimentForecastView {
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// The answer of a dry run of an experiment.
#[derive(Debug, Serialize)]
pub(super) struct ExperimentDryRun {
    pub(super) dry_run: bool,
    pub(super) ok: bool,
    pub(super) runs: usize,
    pub(super) questions: usize,
    pub(super) repeat: u32,
    /// The most that all its runs may spend together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    /// Problems of the whole; each arm has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) problems: Vec<String>,
    /// Other effects of the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
    /// Warnings about all arms and questions, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) warnings: Vec<WarningView>,
    /// Each arm, with the result of its dry run.
    pub(super) arms: Vec<Value>,
}

/// The config and question of each planned run.
pub(super) fn list_planned_runs(plan: &ExperimentPlan, secrets: &Secrets) -> Vec<PlannedRunView> {
    let has_variants = plan.arms.iter().any(|arm| arm.spec.overrides != plan.arms[0].spec.overrides);
    let is_repeated = plan.runs.iter().any(|run| run.repeat > 1);
    let view = |run: &PlannedRun| {
        let (arm, question) = (plan.arms.get(run.arm)?, plan.questions.get(run.question)?);
        let variant = arm.spec.overrides.as_ref().filter(|_| has_variants);
        Some(PlannedRunView {
            run_id: run.id.to_string(),
            config: list::short_config(&arm.spec.config_name()),
            variant: variant.map(|variant| text::single_line(&variant.to_string(), MAX_VARIANT_CHARS)),
            question: list::short_question(&secrets.mask(question)),
            repeat: is_repeated.then_some(run.repeat),
        })
    };
    plan.runs.iter().take(MAX_PLANNED_SHOWN).filter_map(view).collect()
}

/// The config of all runs, if they have the same one.
pub(super) fn common_config(experiment: &Experiment) -> Option<String> {
    let mut names = experiment.plan.arms.iter().map(|arm| arm.spec.config_name());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

/// The expected time and cost of an experiment; `None` if no config has run before.
pub(super) fn forecast(experiment: &Experiment) -> Option<ExperimentForecastView> {
    let plan = &experiment.plan;
    let duration =
        remaining_time(&[], plan.expected_duration(), &[], plan.runs.len(), plan.global_limits.slots as usize);
    let (ends_in_s, cost_usd) = (duration.map(|left| left.as_secs()), plan.expected_cost().map(Usd::as_f64));
    (ends_in_s.is_some() || cost_usd.is_some()).then_some(ExperimentForecastView { ends_in_s, cost_usd })
}
