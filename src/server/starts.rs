//! Prepares a start: the question, the config with its overrides, what it continues or builds on, and its limits. This
//! module starts nothing. Everything that reaches a run is checked here or in the modules that it uses.

use super::context::ServerContext;
use super::params::RunMassgen;
use super::request_identity::RequestDefaults;
use super::{fields, massgen_program, project, questions, request_identity, start_config};
use crate::fleet::{ConfigKeys, Fleet, StartLimits, StartRequest};
use crate::massgen::configs::{self, EffectiveConfig};
use crate::refusal::Refusal;
use crate::run::{AnswerBasis, Context, Continuation, Mode, RunSpec};

/// What a run continues or builds on.
struct Predecessors {
    continuation: Option<Continuation>,
    basis: Option<AnswerBasis>,
}

/// Checks everything about a start that can be checked before the ledger.
pub(super) async fn prepare(context: &ServerContext, params: RunMassgen) -> Result<StartRequest, Refusal> {
    let defaults = RequestDefaults::for_single_run(&context.settings, context.fleet.parent().is_some());
    let request = request_identity::describe(&params, &defaults);
    let basis = resolve_basis(&context.fleet, &params).await?;
    let (params, continuation) = apply_continuation(&context.fleet, params).await?;
    let (context, predecessors) = (context.clone(), Predecessors { continuation, basis });
    let prepared = tokio::task::spawn_blocking(move || build_request(&context, params, predecessors, request)).await;
    prepared.map_err(|_| Refusal::panicked())?
}

fn build_request(
    context: &ServerContext,
    params: RunMassgen,
    predecessors: Predecessors,
    request: String,
) -> Result<StartRequest, Refusal> {
    let ServerContext { fleet, settings, .. } = context;
    let question = questions::read(settings, fleet.secrets(), &params)?;
    let program = massgen_program::find_importable(settings, fleet.state())?;
    let project_access = params.context.map(Context::from).unwrap_or_default();
    project::check_access(settings, project_access)?;
    let checked =
        start_config::check(settings, params.config.as_deref(), params.overrides.as_ref(), &program, project_access)?;
    let spec = RunSpec {
        group: params.group.map(fields::check_group_name).transpose()?,
        timeout: fields::check_timeout(params.timeout_s, &settings.limits)?,
        mode: params.mode.map(Mode::from).unwrap_or_default(),
        context: project_access,
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        warm: settings.warm,
        overrides: checked.overrides,
        listed_as: checked.listed_as,
        config_hash: checked.hash,
        continuation: predecessors.continuation,
        basis: predecessors.basis,
        ..RunSpec::new(
            fleet.state().new_id()?,
            &question,
            checked.choice,
            settings.project.clone().unwrap_or_default(),
            program,
        )
    };
    let (config, keys) = split_keys(checked.effective);
    let start = StartRequest {
        spec,
        config,
        keys,
        requested_cap: fields::parse_cap(params.budget_usd, params.max_tokens)?,
        limits: StartLimits::from(settings),
        request,
        request_key: params.request_key.map(fields::check_request_key).transpose()?,
        fresh: params.fresh,
        share: None,
    };
    check_context_used(&start)?;
    Ok(start)
}

/// Separates a config file from the keys that were written in it; they reach MassGen as variables.
fn split_keys(effective: Option<EffectiveConfig>) -> (Option<(&'static str, String)>, ConfigKeys) {
    let Some(effective) = effective else { return (None, ConfigKeys::default()) };
    let name = if effective.is_json { "config.json" } else { "config.yaml" };
    let keys = effective.secrets.into_iter().map(|secret| (secret.variable, secret.value));
    (Some((name, effective.text)), ConfigKeys(keys.collect()))
}

/// Refuses write access to the project if no agent of the config can write.
fn check_context_used(start: &StartRequest) -> Result<(), Refusal> {
    let config = start_config::effective_tree(start);
    match config.and_then(|config| configs::without_writers(&config, start.spec.context)) {
        Some(problem) => Err(Refusal::new(configs::CONTEXT_UNUSED, problem.message, problem.next)),
        None => Ok(()),
    }
}

/// What a continued run inherits from the run before it unless the call sets it. The inherited values are checked
/// like values of the call.
async fn apply_continuation(
    fleet: &Fleet,
    mut request: RunMassgen,
) -> Result<(RunMassgen, Option<Continuation>), Refusal> {
    let Some(name) = &request.continue_run else { return Ok((request, None)) };
    let (before, continued) = fleet.resolve_continuation(&fields::parse_run_id(name)?).await?;
    let before = before.spec;
    if request.config.is_none() {
        request.overrides = request.overrides.or(before.overrides);
        request.config = Some(before.config.name());
    }
    request.mode = request.mode.or(Some(before.mode.into()));
    request.context = request.context.or(Some(before.context.into()));
    Ok((request, Some(continued)))
}

/// The answer that a run builds on. A continued conversation uses its own last answer.
async fn resolve_basis(fleet: &Fleet, request: &RunMassgen) -> Result<Option<AnswerBasis>, Refusal> {
    let Some(basis) = &request.from else { return Ok(None) };
    if request.continue_run.is_some() {
        let message = "both `from_run` and `continue_run` were given";
        let hint = "give one: with continue_run the same agents go on with their conversation and its config; with from_run the \
                    agents of any config get one answer as material";
        return Err(Refusal::new("from_conflict", message, hint));
    }
    let label = basis.answer.as_deref().map(|label| label.trim().to_owned());
    Ok(Some(fleet.resolve_basis(&fields::parse_run_id(&basis.run_id)?, label).await?))
}
