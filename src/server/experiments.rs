//! Many runs in one call: converts the call's arrays to the arms and questions of an experiment, checks each arm like a
//! single start, and builds the answer. It starts nothing; one invalid config out of ten refuses the whole call.

use serde::Serialize;
use serde_json::Value;

use super::caller::Caller;
use super::context::{ServerContext, to_json};
use super::dry_run::is_fatal;
use super::next_steps::agent_words;
use super::params::RunMassgen;
use super::starts::{self, check_question, request_text};
use super::wait_limits::AllowedWait;
use crate::clock;
use crate::experiment::forecast::remaining_time;
use crate::experiment::{ExperimentPlan, PlannedRun};
use crate::fleet::{Cursor, ExperimentRequest, MAX_EXPERIMENT_RUNS, Selection, Snapshot, StartRequest, WaitUntil};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::Experiment;
use crate::run::Usd;
use crate::view::group::{self, ExperimentInput, GroupView};
use crate::view::{WarningView, list};

/// The longest label of an arm, in characters.
const MAX_LABEL_CHARS: usize = 160;
/// The most planned runs that an answer lists.
const MAX_PLANNED_SHOWN: usize = 20;
/// The longest variant that an answer shows, in characters.
const MAX_VARIANT_CHARS: usize = 100;

/// The label of an arm until its config is known.
const DEFAULT_CONFIG_LABEL: &str = "the default config";

/// The answer to a call that starts an experiment.
#[derive(Debug, Serialize)]
pub(super) struct StartedExperimentView {
    group: String,
    /// The config of all its runs, where they have the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    runs: usize,
    run_ids: Vec<String>,
    /// The config and question of each run, in the order of `run_ids`; only the first [`MAX_PLANNED_SHOWN`].
    plan: Vec<PlannedRunView>,
    /// How many successes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<ExperimentForecastView>,
    /// For check_status with the group.
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<bool>,
    /// The experiment was interrupted and continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    /// Warnings about any config or question that are known before the start, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// After a wait: the status of the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<GroupView>,
    /// How long waits are, if that is less than requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A planned run.
#[derive(Debug, Serialize)]
struct PlannedRunView {
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
struct ExperimentForecastView {
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// The answer of a dry run of an experiment.
#[derive(Debug, Serialize)]
struct ExperimentDryRun {
    dry_run: bool,
    ok: bool,
    runs: usize,
    questions: usize,
    repeat: u32,
    /// The most that all its runs may spend together.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    /// Problems of the whole; each arm has its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    /// Other effects of the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    /// Warnings about all arms and questions, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// Each arm, with the result of its dry run.
    arms: Vec<Value>,
}

/// Whether a call asks for more than one run. `repeat: 1` is the same as no `repeat`.
pub(super) fn is_experiment(request: &RunMassgen) -> bool {
    let RunMassgen { configs, questions, repeat, keep, overrides, .. } = request;
    configs.is_some()
        || questions.is_some()
        || repeat.is_some_and(|repeat| repeat != 1)
        || keep.is_some()
        || overrides.as_ref().is_some_and(Value::is_array)
}

/// Moves `variants` to where they were before the parameter existed: a list in `overrides`.
pub(super) fn normalize_variants(mut request: RunMassgen) -> Result<RunMassgen, Refusal> {
    let Some(variants) = request.variants.take() else { return Ok(request) };
    if request.overrides.is_some() {
        let message = "both `overrides` and `variants` were given";
        return Err(Refusal::new(
            "arguments_conflict",
            message,
            "nothing was started: write into each variant what all have",
        ));
    }
    Ok(RunMassgen { overrides: Some(Value::Array(variants)), ..request })
}

impl ServerContext {
    pub(super) async fn run_experiment(&self, request: RunMassgen, caller: Caller) -> Result<Value, Refusal> {
        let (wait, dry_run) = (self.allowed_wait(request.wait_s)?, request.dry_run);
        let experiment_request = self.prepare_experiment(request).await?;
        if dry_run {
            return self.dry_run_experiment(experiment_request).await;
        }
        let warnings = self.experiment_warnings(&experiment_request).await?;
        let started = self.fleet.start_experiment(experiment_request).await?;
        let selection = Selection::Group(started.experiment.plan.group.clone());
        let cancelled = self.wait_until_cancelled(caller.cancelled);
        let AllowedWait { max: max_wait, note } = wait;
        let waiting = self.fleet.wait(&selection, WaitUntil::AllEnded, None, max_wait, cancelled);
        let waited = self.with_progress(caller.progress, &selection, max_wait, waiting).await?;
        let status = match max_wait.is_zero() {
            true => None,
            false => Some(group_view(&started.experiment.plan.group, &waited.snapshot)),
        };
        to_json(StartedExperimentView {
            config: common_config(&started.experiment),
            plan: self.planned_runs(&started.experiment.plan),
            keep: started.experiment.plan.keep,
            forecast: experiment_forecast(&started.experiment),
            // The status only counts the runs. check_status is the first to report which have ended.
            cursor: Cursor::naming(&waited.snapshot.runs, |_| false).to_string(),
            reused: started.is_reused.then_some(true),
            resumed: started.is_resumed.then_some(true),
            warnings,
            status,
            hint: note,
            run_ids: started.experiment.plan.runs.iter().map(|run| run.id.to_string()).collect(),
            runs: started.experiment.plan.runs.len(),
            group: started.experiment.plan.group,
        })
    }

    /// The config and question of each planned run.
    fn planned_runs(&self, plan: &ExperimentPlan) -> Vec<PlannedRunView> {
        let has_variants = plan.arms.iter().any(|arm| arm.spec.overrides != plan.arms[0].spec.overrides);
        let is_repeated = plan.runs.iter().any(|run| run.repeat > 1);
        let view = |run: &PlannedRun| {
            let (arm, question) = (plan.arms.get(run.arm)?, plan.questions.get(run.question)?);
            let variant = arm.spec.overrides.as_ref().filter(|_| has_variants);
            Some(PlannedRunView {
                run_id: run.id.to_string(),
                config: list::short_config(&arm.spec.config_name()),
                variant: variant.map(|variant| text::single_line(&variant.to_string(), MAX_VARIANT_CHARS)),
                question: list::short_question(&self.fleet.secrets().mask(question)),
                repeat: is_repeated.then_some(run.repeat),
            })
        };
        plan.runs.iter().take(MAX_PLANNED_SHOWN).filter_map(view).collect()
    }

    /// Checks everything about an experiment that can be checked before the ledger.
    async fn prepare_experiment(&self, params: RunMassgen) -> Result<ExperimentRequest, Refusal> {
        check_no_contradictions(&params)?;
        let request = request_text(&params, &self.per_run_defaults());
        let questions = match params.questions.clone() {
            Some(questions) => check_each("questions", questions.into_iter().map(check_question))?,
            None => vec![self.load_question(&params).await?],
        };
        let mut arms: Vec<(String, StartRequest)> = Vec::new();
        for (variant, arm_params) in arm_requests(&params, &questions) {
            let label = label(arm_params.config.as_deref().unwrap_or(DEFAULT_CONFIG_LABEL), &variant);
            let start = self.prepare_start(arm_params).await.map_err(|refusal| refusal.with_location(&label))?;
            if arms.iter().any(|(_, earlier)| is_same_start(earlier, &start)) {
                return Err(duplicate_refusal(&label));
            }
            // The call may name no config or a full path. The arm uses the name that list_configs shows.
            arms.push((self::label(&start.spec.config_name(), &variant), start));
        }
        let repeat = u32::try_from(params.repeat.unwrap_or(1)).unwrap_or(u32::MAX);
        let run_count = arms.len().saturating_mul(questions.len()).saturating_mul(repeat as usize);
        check_run_count(run_count, params.keep)?;
        Ok(ExperimentRequest {
            group: params.group.map(starts::check_group_name).transpose()?,
            budget: starts::parse_cap(params.budget_usd, params.max_tokens)?,
            keep: params.keep,
            request_key: params.request_key.map(starts::check_request_key).transpose()?,
            fresh: params.fresh,
            arms,
            questions,
            repeat,
            request,
        })
    }

    async fn experiment_warnings(&self, experiment_request: &ExperimentRequest) -> Result<Vec<WarningView>, Refusal> {
        // The budget applies to all runs together.
        let starts = experiment_request
            .arms
            .iter()
            .map(|(_, start)| StartRequest { requested_cap: experiment_request.budget, ..start.clone() })
            .collect();
        self.start_warnings(starts, experiment_request.questions.clone()).await
    }

    async fn dry_run_experiment(&self, experiment_request: ExperimentRequest) -> Result<Value, Refusal> {
        // The arm's own result already lists a fatal warning as a problem.
        let mut warnings = self.experiment_warnings(&experiment_request).await?;
        warnings.retain(|warning| !is_fatal(warning));
        let preview = self.fleet.preview_experiment(experiment_request.clone()).await.map_err(Refusal::from);
        let (problems, notes) = match preview {
            Ok(None) => (Vec::new(), Vec::new()),
            Ok(Some(group)) => {
                (Vec::new(), vec![format!("the same request has started group {group}, and would give it again")])
            }
            Err(refusal) => (vec![refusal.to_single_line(agent_words)], Vec::new()),
        };
        let runs =
            experiment_request.arms.len() * experiment_request.questions.len() * experiment_request.repeat as usize;
        let (mut arms, mut ok) = (Vec::new(), problems.is_empty());
        for (label, mut start) in experiment_request.arms {
            // Cap each run at the budget of the whole experiment.
            start.requested_cap = experiment_request.budget;
            let output = to_json(self.dry_run(start).await?.without_warnings(&warnings))?;
            ok &= output["ok"] == true;
            arms.push(serde_json::json!({"arm": label, "dry_run": output}));
        }
        to_json(ExperimentDryRun {
            dry_run: true,
            ok,
            runs,
            questions: experiment_request.questions.len(),
            repeat: experiment_request.repeat,
            budget_usd: experiment_request.budget.usd.map(Usd::as_f64),
            max_tokens: experiment_request.budget.tokens,
            problems,
            notes,
            warnings,
            arms,
        })
    }
}

/// The totals of a group's runs.
pub(super) fn group_view(name: &str, snapshot: &Snapshot) -> GroupView {
    let experiment = snapshot.experiment.as_ref().map(|status| ExperimentInput {
        plan: &status.experiment.plan,
        progress: &status.experiment.progress,
        has_live_driver: status.has_live_driver,
    });
    group::group_view(name, &snapshot.runs, experiment, &clock::now(), agent_words)
}

/// The arms of a call: one single-run call per arm, with the label of its variant.
fn arm_requests(request: &RunMassgen, questions: &[String]) -> Vec<(String, RunMassgen)> {
    let configs: Vec<Option<String>> = match &request.configs {
        Some(configs) => configs.iter().cloned().map(Some).collect(),
        None => vec![request.config.clone()],
    };
    let variants: Vec<Option<Value>> = match &request.overrides {
        Some(Value::Array(variants)) => variants.iter().cloned().map(Some).collect(),
        one => vec![one.clone()],
    };
    let arm_params = |config: &Option<String>, overrides: &Option<Value>| RunMassgen {
        question: questions.first().cloned(),
        config: config.clone(),
        overrides: overrides.clone(),
        mode: request.mode,
        context: request.context,
        timeout_s: request.timeout_s,
        from: request.from.clone(),
        fresh: true,
        ..RunMassgen::default()
    };
    let variant_of = |overrides: &Option<Value>| {
        let chosen_variant = overrides.as_ref().filter(|_| variants.len() > 1);
        chosen_variant.map(|variant| format!(" with {variant}")).unwrap_or_default()
    };
    let pairs = configs.iter().flat_map(|config| variants.iter().map(move |variant| (config, variant)));
    pairs.map(|(config, variant)| (variant_of(variant), arm_params(config, variant))).collect()
}

/// The label that distinguishes an arm from the others.
fn label(config: &str, variant: &str) -> String {
    text::single_line(&format!("{config}{variant}"), MAX_LABEL_CHARS)
}

fn check_no_contradictions(request: &RunMassgen) -> Result<(), Refusal> {
    let both_given = |one: &str, other: &str| {
        let message = format!("both `{one}` and `{other}` were given");
        Err(Refusal::new("arguments_conflict", message, "nothing was started: give one of them"))
    };
    match request {
        RunMassgen { config: Some(_), configs: Some(_), .. } => both_given("massgen_config", "configs"),
        RunMassgen { question: Some(_), questions: Some(_), .. } => both_given("question", "questions"),
        RunMassgen { question_file: Some(_), questions: Some(_), .. } => both_given("question_file", "questions"),
        RunMassgen { continue_run: Some(_), .. } => {
            let message = "`continue_run` goes on with one conversation, and several runs were asked for";
            Err(Refusal::new(
                "arguments_conflict",
                message,
                "nothing was started: leave one or the other out; `from_run` gives one answer of that run to all of these",
            ))
        }
        _ => check_no_duplicates(request),
    }
}

/// Refuses duplicates: a mistake, or a repetition that `repeat` must express to be counted.
fn check_no_duplicates(request: &RunMassgen) -> Result<(), Refusal> {
    let texts = [request.configs.as_deref(), request.questions.as_deref()].into_iter().flatten();
    let duplicate = texts.flat_map(|list| {
        list.iter().enumerate().filter(|(n, text)| list[..*n].iter().any(|earlier| earlier.trim() == text.trim()))
    });
    duplicate.map(|(_, text)| text).next().map_or(Ok(()), |text| Err(duplicate_refusal(&text::single_line(text, 80))))
}

fn duplicate_refusal(noun: &str) -> Refusal {
    let message = format!("`{noun}` is there twice");
    Refusal::new("arguments_conflict", message, "nothing was started: name it once; `repeat` asks for it several times")
}

/// Two configs may be equal in content, or become equal through the overrides.
fn is_same_start(one: &StartRequest, other: &StartRequest) -> bool {
    one.spec.config_hash == other.spec.config_hash && one.spec.config == other.spec.config
}

fn check_run_count(count: usize, keep: Option<usize>) -> Result<(), Refusal> {
    if count > MAX_EXPERIMENT_RUNS {
        let message = format!("these are {count} runs, and {MAX_EXPERIMENT_RUNS} is the most for one call");
        return Err(Refusal::new(
            "out_of_range",
            message,
            "nothing was started: ask for fewer, or split them over groups",
        ));
    }
    match keep {
        Some(keep) if keep > count => Err(Refusal::out_of_range("keep", keep as f64, 1.0, count as f64)),
        Some(_) | None => Ok(()),
    }
}

/// Collects the results; the first refusal ends the check and names its index.
fn check_each(list: &str, checked: impl Iterator<Item = Result<String, Refusal>>) -> Result<Vec<String>, Refusal> {
    checked
        .enumerate()
        .map(|(n, result)| result.map_err(|refusal| refusal.with_location(&format!("{list}[{n}]"))))
        .collect()
}

fn common_config(experiment: &Experiment) -> Option<String> {
    let mut names = experiment.plan.arms.iter().map(|arm| arm.spec.config_name());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

fn experiment_forecast(experiment: &Experiment) -> Option<ExperimentForecastView> {
    let plan = &experiment.plan;
    let duration =
        remaining_time(&[], plan.expected_duration(), &[], plan.runs.len(), plan.global_limits.slots as usize);
    let (ends_in_s, cost_usd) = (duration.map(|left| left.as_secs()), plan.expected_cost().map(Usd::as_f64));
    (ends_in_s.is_some() || cost_usd.is_some()).then_some(ExperimentForecastView { ends_in_s, cost_usd })
}
