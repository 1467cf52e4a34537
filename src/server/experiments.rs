//! Many runs in one call: checks each arm like a single start, starts the experiment and builds the answer. One invalid config
//! out of ten refuses the whole call.

mod answers;
mod arms;

use serde_json::Value;

use self::answers::{ExperimentDryRun, StartedExperimentView};
use super::answers::to_json;
use super::caller::Caller;
use super::context::ServerContext;
use super::next_steps::agent_words;
use super::params::RunMassgen;
use super::request_identity::RequestDefaults;
use super::wait_limits::AllowedWait;
use super::{dry_run, fields, overview, progress, questions, request_identity, warnings};
use crate::fleet::{Cursor, ExperimentRequest, MAX_EXPERIMENT_RUNS, Selection, StartRequest, WaitUntil};
use crate::refusal::Refusal;
use crate::run::Usd;
use crate::view::WarningView;

/// Whether a call asks for more than one run. `repeat: 1` is the same as no `repeat`.
pub(super) fn is_requested(request: &RunMassgen) -> bool {
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

/// Starts an experiment, or only checks it in a dry run.
pub(super) async fn start(context: &ServerContext, request: RunMassgen, caller: Caller) -> Result<Value, Refusal> {
    let (wait, is_dry_run) = (context.allowed_wait(request.wait_s)?, request.dry_run);
    let experiment_request = prepare(context, request).await?;
    if is_dry_run {
        return check(context, experiment_request).await;
    }
    let warnings = find_warnings(context, &experiment_request).await?;
    let started = context.fleet.start_experiment(experiment_request).await?;
    let selection = Selection::Group(started.experiment.plan.group.clone());
    let cancelled = context.wait_until_cancelled(caller.cancelled);
    let AllowedWait { max: max_wait, note } = wait;
    let waiting = context.fleet.wait(&selection, WaitUntil::AllEnded, None, max_wait, cancelled);
    let waited = progress::report_while(context, caller.progress, &selection, max_wait, waiting).await?;
    let status = match max_wait.is_zero() {
        true => None,
        false => Some(overview::build_group(&started.experiment.plan.group, &waited.snapshot)),
    };
    to_json(StartedExperimentView {
        config: answers::common_config(&started.experiment),
        plan: answers::list_planned_runs(&started.experiment.plan, context.fleet.secrets()),
        keep: started.experiment.plan.keep,
        forecast: answers::forecast(&started.experiment),
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

/// Checks everything about an experiment that can be checked before the ledger.
async fn prepare(context: &ServerContext, params: RunMassgen) -> Result<ExperimentRequest, Refusal> {
    arms::check_no_contradictions(&params)?;
    let request = request_identity::describe(&params, &RequestDefaults::for_experiment(&context.settings));
    let questions = match params.questions.clone() {
        Some(questions) => check_each("questions", questions.into_iter().map(questions::check))?,
        None => vec![questions::load(context, &params).await?],
    };
    let arms = arms::prepare(context, &params, &questions).await?;
    let repeat = u32::try_from(params.repeat.unwrap_or(1)).unwrap_or(u32::MAX);
    let run_count = arms.len().saturating_mul(questions.len()).saturating_mul(repeat as usize);
    check_run_count(run_count, params.keep)?;
    Ok(ExperimentRequest {
        group: params.group.map(fields::check_group_name).transpose()?,
        budget: fields::parse_cap(params.budget_usd, params.max_tokens)?,
        keep: params.keep,
        request_key: params.request_key.map(fields::check_request_key).transpose()?,
        fresh: params.fresh,
        arms,
        questions,
        repeat,
        request,
    })
}

/// Collects the results; the first refusal ends the check and names its index.
fn check_each(list: &str, checked: impl Iterator<Item = Result<String, Refusal>>) -> Result<Vec<String>, Refusal> {
    checked
        .enumerate()
        .map(|(n, result)| result.map_err(|refusal| refusal.with_location(&format!("{list}[{n}]"))))
        .collect()
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

async fn find_warnings(
    context: &ServerContext,
    experiment_request: &ExperimentRequest,
) -> Result<Vec<WarningView>, Refusal> {
    // The budget applies to all runs together.
    let starts = experiment_request
        .arms
        .iter()
        .map(|(_, start)| StartRequest { requested_cap: experiment_request.budget, ..start.clone() })
        .collect();
    warnings::find(&context.settings, starts, experiment_request.questions.clone()).await
}

/// Checks an experiment without starting it.
async fn check(context: &ServerContext, experiment_request: ExperimentRequest) -> Result<Value, Refusal> {
    // The arm's own result already lists a fatal warning as a problem.
    let mut warnings = find_warnings(context, &experiment_request).await?;
    warnings.retain(|warning| !dry_run::is_fatal(warning));
    let preview = context.fleet.preview_experiment(experiment_request.clone()).await.map_err(Refusal::from);
    let (problems, notes) = match preview {
        Ok(None) => (Vec::new(), Vec::new()),
        Ok(Some(group)) => (
            Vec::new(),
            vec![format!(
                "the same request has started group {group}: the start would return it, and resume it if it was interrupted"
            )],
        ),
        Err(refusal) => (vec![refusal.to_single_line(agent_words)], Vec::new()),
    };
    let runs = experiment_request.arms.len() * experiment_request.questions.len() * experiment_request.repeat as usize;
    let (mut arms, mut ok) = (Vec::new(), problems.is_empty());
    for (label, mut start) in experiment_request.arms {
        // Cap each run at the budget of the whole experiment.
        start.requested_cap = experiment_request.budget;
        let output = to_json(dry_run::check_arm(context, start).await?.without_warnings(&warnings))?;
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
