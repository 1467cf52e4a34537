//! Many runs in one call: its arrays → the arms and questions of an experiment, each checked as a start of its own; and what the
//! call is answered with. Nothing is started here, and of ten configs one bad one lets nothing start.

use serde::Serialize;
use serde_json::Value;

use super::calls::{Caller, Desk, json};
use super::dry_run::is_fatal;
use super::params::RunMassgen;
use super::patience::Wait;
use super::starts::{self, checked_question, request};
use crate::clock;
use crate::experiment::forecast::ends_in;
use crate::experiment::{Plan, Planned};
use crate::fleet::{Begin, Cursor, MOST_PLANNED, Selection, Sight, Start, Until};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::Experiment;
use crate::run::Usd;
use crate::view::group::{self, Conducted, GroupView};
use crate::view::{WarningView, list};

/// The longest name of an arm, in characters.
const MOST_LABEL: usize = 160;
/// The most planned runs that an answer shows one by one.
const MOST_PLANS: usize = 20;
/// The longest variant that it shows, in characters.
const MOST_VARIANT: usize = 100;

/// How an arm is called until its config is known.
const DEFAULT: &str = "the default config";

/// What a call that begins an experiment is answered with.
#[derive(Debug, Serialize)]
pub(super) struct BegunView {
    group: String,
    /// The config of all its runs, where they have the same one.
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    runs: usize,
    run_ids: Vec<String>,
    /// Which run is of which config and question: of the first [`MOST_PLANS`], in the order of `run_ids`.
    plan: Vec<PlannedView>,
    /// How many successes are enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<ForecastView>,
    /// For check_status with the group.
    cursor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reused: Option<bool>,
    /// It had been left half-way, and goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<bool>,
    /// What is known before the start of any of its configs and questions, once each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// After a wait: how it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<GroupView>,
    /// How long its waits are, where that is less than was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// A planned run.
#[derive(Debug, Serialize)]
struct PlannedView {
    run_id: String,
    config: String,
    /// The overrides of it, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<String>,
    question: String,
    /// Which time it is, from 1, where each is asked several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    repeat: Option<u32>,
}

/// What it will take, by earlier runs of the same configs.
#[derive(Debug, Serialize)]
struct ForecastView {
    #[serde(skip_serializing_if = "Option::is_none")]
    ends_in_s: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
}

/// What an experiment would be, without one.
#[derive(Debug, Serialize)]
struct DryExperiment {
    dry_run: bool,
    ok: bool,
    runs: usize,
    questions: usize,
    repeat: u32,
    /// What all its runs may spend together.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    /// Of all arms and questions, once each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// Each arm, with what a dry run of it tells.
    arms: Vec<Value>,
}

/// Whether a call asks for more than one run. One repetition is what a call without `repeat` asks for as well.
pub(super) fn is_asked_for(asked: &RunMassgen) -> bool {
    let RunMassgen { configs, questions, repeat, keep, overrides, .. } = asked;
    configs.is_some()
        || questions.is_some()
        || repeat.is_some_and(|repeat| repeat != 1)
        || keep.is_some()
        || overrides.as_ref().is_some_and(Value::is_array)
}

/// Gives a call's `variants` the place that they had before they were a parameter: `overrides`, as a list.
pub(super) fn with_variants(mut asked: RunMassgen) -> Result<RunMassgen, Refusal> {
    let Some(variants) = asked.variants.take() else { return Ok(asked) };
    if asked.overrides.is_some() {
        let message = "both `overrides` and `variants` were given";
        return Err(Refusal::new(
            "arguments_conflict",
            message,
            "nothing was started: write into each variant what all have",
        ));
    }
    Ok(RunMassgen { overrides: Some(Value::Array(variants)), ..asked })
}

impl Desk {
    pub(super) async fn run_experiment(&self, asked: RunMassgen, caller: Caller) -> Result<Value, Refusal> {
        let (wait, dry_run) = (self.wait(asked.wait_s)?, asked.dry_run);
        let begin = self.prepare_experiment(asked).await?;
        if dry_run {
            return self.rehearse_experiment(begin).await;
        }
        let warnings = self.warnings_of(&begin).await?;
        let begun = self.fleet.begin(begin).await?;
        let selection = Selection::Group(begun.experiment.plan.group.clone());
        let given_up = self.given_up(caller.cancelled);
        let Wait { most, note } = wait;
        let waiting = self.fleet.wait(&selection, Until::AllDone, None, most, given_up);
        let waited = self.telling(caller.progress, &selection, most, waiting).await?;
        let status = match most.is_zero() {
            true => None,
            false => Some(group_view(&begun.experiment.plan.group, &waited.sight)),
        };
        json(BegunView {
            config: only_config(&begun.experiment),
            plan: self.planned(&begun.experiment.plan),
            keep: begun.experiment.plan.keep,
            forecast: forecast(&begun.experiment),
            // The status counts the runs; check_status is the first to name those that have ended.
            cursor: Cursor::naming(&waited.sight.runs, |_| false).to_string(),
            reused: begun.is_reused.then_some(true),
            resumed: begun.is_resumed.then_some(true),
            warnings,
            status,
            hint: note,
            run_ids: begun.experiment.plan.runs.iter().map(|run| run.id.to_string()).collect(),
            runs: begun.experiment.plan.runs.len(),
            group: begun.experiment.plan.group,
        })
    }

    /// Which run is of which config and question.
    fn planned(&self, plan: &Plan) -> Vec<PlannedView> {
        let has_variants = plan.arms.iter().any(|arm| arm.spec.overrides != plan.arms[0].spec.overrides);
        let is_repeated = plan.runs.iter().any(|run| run.repeat > 1);
        let view = |run: &Planned| {
            let (arm, question) = (plan.arms.get(run.arm)?, plan.questions.get(run.question)?);
            let variant = arm.spec.overrides.as_ref().filter(|_| has_variants);
            Some(PlannedView {
                run_id: run.id.to_string(),
                config: list::config(&arm.spec.config_name()),
                variant: variant.map(|variant| text::line(&variant.to_string(), MOST_VARIANT)),
                question: list::question(&self.fleet.secrets().mask(question)),
                repeat: is_repeated.then_some(run.repeat),
            })
        };
        plan.runs.iter().take(MOST_PLANS).filter_map(view).collect()
    }

    /// Checks everything about an experiment that can be checked before the ledger is asked.
    async fn prepare_experiment(&self, asked: RunMassgen) -> Result<Begin, Refusal> {
        no_contradictions(&asked)?;
        let request = request(&asked, &self.defaults_of_each());
        let questions = match asked.questions.clone() {
            Some(questions) => named("questions", questions.into_iter().map(checked_question))?,
            None => vec![self.question_of(&asked).await?],
        };
        let mut arms: Vec<(String, Start)> = Vec::new();
        for (variant, own) in arms_of(&asked, &questions) {
            let label = label(own.config.as_deref().unwrap_or(DEFAULT), &variant);
            let start = self.prepare(own).await.map_err(|refusal| refusal.about(&label))?;
            if arms.iter().any(|(_, known)| is_same(known, &start)) {
                return Err(twice(&label));
            }
            // The call may name no config, or its whole path; the arm has the name that list_configs gives.
            arms.push((self::label(&start.spec.config_name(), &variant), start));
        }
        let repeat = u32::try_from(asked.repeat.unwrap_or(1)).unwrap_or(u32::MAX);
        let all = arms.len().saturating_mul(questions.len()).saturating_mul(repeat as usize);
        fits(all, asked.keep)?;
        Ok(Begin {
            group: asked.group.map(starts::group_name).transpose()?,
            budget: starts::cap(asked.budget_usd, asked.max_tokens)?,
            keep: asked.keep,
            request_key: asked.request_key.map(starts::request_key).transpose()?,
            fresh: asked.fresh,
            arms,
            questions,
            repeat,
            request,
        })
    }

    async fn warnings_of(&self, begin: &Begin) -> Result<Vec<WarningView>, Refusal> {
        // The budget is that of all runs together.
        let starts = begin.arms.iter().map(|(_, start)| Start { asked: begin.budget, ..start.clone() }).collect();
        self.warnings(starts, begin.questions.clone()).await
    }

    async fn rehearse_experiment(&self, begin: Begin) -> Result<Value, Refusal> {
        // What keeps an arm from succeeding stands there as a problem.
        let mut warnings = self.warnings_of(&begin).await?;
        warnings.retain(|warning| !is_fatal(warning));
        let runs = begin.arms.len() * begin.questions.len() * begin.repeat as usize;
        let (mut arms, mut ok) = (Vec::new(), true);
        for (label, mut start) in begin.arms {
            // No run may spend more than all may together.
            start.asked = begin.budget;
            let told = json(self.rehearse_start(start).await?.without(&warnings))?;
            ok &= told["ok"] == true;
            arms.push(serde_json::json!({"arm": label, "dry_run": told}));
        }
        json(DryExperiment {
            dry_run: true,
            ok,
            runs,
            questions: begin.questions.len(),
            repeat: begin.repeat,
            budget_usd: begin.budget.usd.map(Usd::as_f64),
            max_tokens: begin.budget.tokens,
            warnings,
            arms,
        })
    }
}

/// The runs of a group, seen together.
pub(super) fn group_view(name: &str, sight: &Sight) -> GroupView {
    let experiment = sight.experiment.as_ref().map(|seen| Conducted {
        plan: &seen.experiment.plan,
        progress: &seen.experiment.progress,
        is_alive: seen.is_alive,
    });
    group::group(name, &sight.runs, experiment, &clock::now())
}

/// What the arms of a call are, each as a call of its own for one run, with its variant in words.
fn arms_of(asked: &RunMassgen, questions: &[String]) -> Vec<(String, RunMassgen)> {
    let configs: Vec<Option<String>> = match &asked.configs {
        Some(configs) => configs.iter().cloned().map(Some).collect(),
        None => vec![asked.config.clone()],
    };
    let variants: Vec<Option<Value>> = match &asked.overrides {
        Some(Value::Array(variants)) => variants.iter().cloned().map(Some).collect(),
        one => vec![one.clone()],
    };
    let own = |config: &Option<String>, overrides: &Option<Value>| RunMassgen {
        question: questions.first().cloned(),
        config: config.clone(),
        overrides: overrides.clone(),
        mode: asked.mode,
        context: asked.context,
        timeout_s: asked.timeout_s,
        from: asked.from.clone(),
        fresh: true,
        ..RunMassgen::default()
    };
    let variant_of = |overrides: &Option<Value>| {
        let one_of_many = overrides.as_ref().filter(|_| variants.len() > 1);
        one_of_many.map(|variant| format!(" with {variant}")).unwrap_or_default()
    };
    let pairs = configs.iter().flat_map(|config| variants.iter().map(move |variant| (config, variant)));
    pairs.map(|(config, variant)| (variant_of(variant), own(config, variant))).collect()
}

/// How an arm is told from the others.
fn label(config: &str, variant: &str) -> String {
    text::line(&format!("{config}{variant}"), MOST_LABEL)
}

fn no_contradictions(asked: &RunMassgen) -> Result<(), Refusal> {
    let both = |one: &str, other: &str| {
        let message = format!("both `{one}` and `{other}` were given");
        Err(Refusal::new("arguments_conflict", message, "nothing was started: give one of them"))
    };
    match asked {
        RunMassgen { config: Some(_), configs: Some(_), .. } => both("massgen_config", "configs"),
        RunMassgen { question: Some(_), questions: Some(_), .. } => both("question", "questions"),
        RunMassgen { question_file: Some(_), questions: Some(_), .. } => both("question_file", "questions"),
        RunMassgen { continue_run: Some(_), .. } => {
            let message = "`continue_run` goes on with one conversation, and several runs were asked for";
            Err(Refusal::new(
                "arguments_conflict",
                message,
                "nothing was started: leave one or the other out; `from_run` gives one answer of that run to all of these",
            ))
        }
        _ => same_twice(asked),
    }
}

/// The same twice is a slip, or a repeat that would not be counted as one.
fn same_twice(asked: &RunMassgen) -> Result<(), Refusal> {
    let texts = [asked.configs.as_deref(), asked.questions.as_deref()].into_iter().flatten();
    let found = texts.flat_map(|list| {
        list.iter().enumerate().filter(|(n, text)| list[..*n].iter().any(|one| one.trim() == text.trim()))
    });
    found.map(|(_, text)| text).next().map_or(Ok(()), |text| Err(twice(&text::line(text, 80))))
}

fn twice(what: &str) -> Refusal {
    let message = format!("`{what}` is there twice");
    Refusal::new("arguments_conflict", message, "nothing was started: name it once; `repeat` asks for it several times")
}

/// Two configs may come to the same by their content or by what overrides make of them.
fn is_same(one: &Start, other: &Start) -> bool {
    one.spec.config_hash == other.spec.config_hash && one.spec.config == other.spec.config
}

fn fits(all: usize, keep: Option<usize>) -> Result<(), Refusal> {
    if all > MOST_PLANNED {
        let message = format!("these are {all} runs, and {MOST_PLANNED} is the most for one call");
        return Err(Refusal::new(
            "out_of_range",
            message,
            "nothing was started: ask for fewer, or split them over groups",
        ));
    }
    match keep {
        Some(keep) if keep > all => Err(Refusal::out_of_range("keep", keep as f64, 1.0, all as f64)),
        Some(_) | None => Ok(()),
    }
}

/// The first that is refused, by its place.
fn named(list: &str, checked: impl Iterator<Item = Result<String, Refusal>>) -> Result<Vec<String>, Refusal> {
    checked.enumerate().map(|(n, one)| one.map_err(|refusal| refusal.about(&format!("{list}[{n}]")))).collect()
}

fn only_config(experiment: &Experiment) -> Option<String> {
    let mut names = experiment.plan.arms.iter().map(|arm| arm.spec.config_name());
    let first = names.next()?;
    names.all(|name| name == first).then_some(first)
}

fn forecast(experiment: &Experiment) -> Option<ForecastView> {
    let plan = &experiment.plan;
    let ends = ends_in(&[], plan.takes(), &[], plan.runs.len(), plan.rules.slots as usize);
    let (ends_in_s, cost_usd) = (ends.map(|left| left.as_secs()), plan.costs().map(Usd::as_f64));
    (ends_in_s.is_some() || cost_usd.is_some()).then_some(ForecastView { ends_in_s, cost_usd })
}
