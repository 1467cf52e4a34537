//! A dry run of a start: possible refusals, the effective config, limits, MassGen's validation result and a forecast.
//! It starts nothing and records nothing.

use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};

use super::context::ServerContext;
use super::next_steps::agent_words;
use super::{massgen_program, start_config, warnings};
use crate::fleet::{Fleet, StartRequest};
use crate::ledger::AdmissionDecision;
use crate::massgen::configs::{self, Needs, Tree, ValidationRequest};
use crate::massgen::{program, text};
use crate::refusal::Refusal;
use crate::registry::{CHECK_PREFIX, VALIDATION_CACHE_FOLDER};
use crate::run::{Cap, Problem};
use crate::view::{self, WarningView};

/// A shorter wait for the import of MassGen is not reported.
const MIN_REPORTED_WAIT: Duration = Duration::from_secs(2);

/// Checks a start without doing it: the effective config, limits, MassGen's validation result and a forecast.
pub(super) async fn check(context: &ServerContext, start: StartRequest) -> Result<DryRun, Refusal> {
    let admission = context.fleet.preview_start(start.clone()).await.map_err(Refusal::from);
    report(context, start, Some(admission)).await
}

/// Checks an arm of an experiment. The admission of the whole experiment is previewed once, and its runs wait for their turns.
pub(super) async fn check_arm(context: &ServerContext, start: StartRequest) -> Result<DryRun, Refusal> {
    report(context, start, None).await
}

async fn report(
    context: &ServerContext,
    start: StartRequest,
    admission: Option<Result<AdmissionDecision, Refusal>>,
) -> Result<DryRun, Refusal> {
    let forecast = context.fleet.forecast(&start.spec.config_hash).await?;
    let forecast = forecast.map(|forecast| {
        json!({"from_runs": forecast.runs, "took_s": forecast.took_s, "cost_usd": forecast.cost_usd, "tokens": forecast.tokens})
    });
    // A refusal by the ledger is part of the answer too.
    let (decision, refusal) = match admission {
        Some(Ok(decision)) => (Some(decision), None),
        Some(Err(refusal)) => (None, Some(refusal)),
        None => (None, None),
    };
    let cap = match &decision {
        Some(AdmissionDecision::Granted { cap, .. }) => *cap,
        Some(AdmissionDecision::Duplicate(_)) | None => start.requested_cap.component_min(start.limits.per_run.cap),
    };
    let limits = limits_json(&start, cap);
    let warnings = warnings::find(&context.settings, vec![start.clone()], vec![start.spec.question.clone()]).await?;
    let (fatal, warnings) = warnings.into_iter().partition::<Vec<_>, _>(is_fatal);
    let mut report = DryRun {
        dry_run: true,
        ok: true,
        config: start.spec.config_name(),
        applied: start.spec.overrides.as_ref().map(configs::changed_keys).unwrap_or_default(),
        continues: start.spec.continuation.as_ref().map(view::continuation_text),
        from: start.spec.basis.as_ref().map(view::basis_text),
        agents: Vec::new(),
        problems: Vec::new(),
        warnings,
        notes: Vec::new(),
        limits,
        forecast,
        effective_config: None,
    };
    match decision {
        Some(AdmissionDecision::Duplicate(run)) => {
            report.notes.push(format!("the same request has started {run}, and would give it again"))
        }
        Some(AdmissionDecision::Granted { waits: true, .. }) => {
            report.notes.push("it would wait in the queue".to_owned())
        }
        Some(AdmissionDecision::Granted { waits: false, .. }) | None => {}
    }
    report.problems.extend(refusal.map(|refusal| refusal.to_single_line(agent_words)));
    report
        .problems
        .extend(fatal.into_iter().map(|problem| format!("{}: {} ({})", problem.code, problem.message, problem.hint)));
    let config = start.config.clone().or_else(|| changed_rehearsal(&start));
    if let Some((name, text)) = &config {
        validate(&context.fleet, &mut report, &start, name, text).await?;
    }
    report.ok = report.problems.is_empty();
    Ok(report)
}

async fn validate(
    fleet: &Fleet,
    report: &mut DryRun,
    start: &StartRequest,
    name: &str,
    text: &str,
) -> Result<(), Refusal> {
    let staging_error =
        |error: std::io::Error| Refusal::new("state_folder", format!("cannot check: {error}"), "tell the operator");
    let staging_folder =
        tempfile::Builder::new().prefix(CHECK_PREFIX).tempdir_in(fleet.state().root()).map_err(staging_error)?;
    let file = staging_folder.path().join(name);
    std::fs::write(&file, text).map_err(staging_error)?;
    let cache = fleet.state().root().join(VALIDATION_CACHE_FOLDER);
    let version = program::package(&start.spec.program).as_deref().and_then(program::version);
    let question = ValidationRequest {
        program: &start.spec.program,
        version: version.as_deref(),
        config: &file,
        folder: staging_folder.path(),
        cache: &cache,
    };
    let (mut cold, mut warm_wait, begun) = (None, None, Instant::now());
    let warm_output = async {
        let output = fleet.execute_warm(&start.spec, question.args(), staging_folder.path()).await;
        warm_wait = output.is_ok().then(|| begun.elapsed()).filter(|waited| *waited >= MIN_REPORTED_WAIT);
        output.map_err(|reason| cold = Some((reason, Instant::now()))).ok()
    };
    let verdict = configs::validate(question, warm_output).await;
    let verdict = verdict
        .inspect_err(|error| massgen_program::record_import_failure(error, &start.spec.program, fleet.state()))?;
    report.notes.extend(cold.map(|(reason, since)| {
        format!("MassGen was started to check the config, which took {} s: {reason}", since.elapsed().as_secs())
    }));
    report.notes.extend(warm_wait.map(|waited| {
        format!("MassGen was imported for this check, which took {} s; the next check is quick", waited.as_secs())
    }));
    let tree = Tree::parse_file(&file, text).ok();
    let needs = tree.as_ref().map(Needs::from_config).unwrap_or_default();
    report.problems.extend(verdict.errors.iter().map(|finding| {
        let fix = finding.suggestion.as_deref().map(|fix| format!(" ({fix})")).unwrap_or_default();
        format!("{}{fix}", finding_with_path(finding))
    }));
    report.warnings.extend(verdict.warnings.iter().map(|finding| {
        let hint = finding.suggestion.as_deref().unwrap_or("see MassGen's documentation of the config");
        view::warning_view(&Problem::new("massgen_warns", &finding_with_path(finding), hint).into(), agent_words)
    }));
    report.agents = needs
        .agents
        .iter()
        .map(|agent| format!("{}: {}", agent.id, agent.model.as_deref().or(agent.backend.as_deref()).unwrap_or("?")))
        .collect();
    // A config that cannot be parsed cannot be searched for secrets, so do not echo it.
    report.effective_config = tree.map(|_| text::truncate(text, 8_000));
    Ok(())
}

/// The answer of a dry run.
#[derive(Debug, Serialize)]
pub(super) struct DryRun {
    dry_run: bool,
    /// Whether a start would succeed.
    ok: bool,
    config: String,
    /// The keys that the overrides change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    applied: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<String>,
    /// The answer that the run would build on.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    agents: Vec<String>,
    problems: Vec<String>,
    /// The warnings of run_massgen, and those of MassGen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// Other effects of the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    limits: Value,
    /// Medians of earlier runs of the same config.
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    effective_config: Option<String>,
}

impl DryRun {
    /// Removes the warnings that are reported elsewhere.
    pub(super) fn without_warnings(mut self, known: &[WarningView]) -> DryRun {
        self.warnings.retain(|warning| !known.contains(warning));
        self
    }
}

/// The config of a rehearsal with overrides; without overrides there is nothing to validate.
fn changed_rehearsal(start: &StartRequest) -> Option<(&'static str, String)> {
    start.spec.overrides.as_ref().filter(|_| start.config.is_none())?;
    Some(("config.yaml", start_config::effective_tree(start)?.to_yaml().ok()?))
}

/// Whether the warning says that the run cannot succeed; a start reports that only as a warning.
pub(super) fn is_fatal(warning: &WarningView) -> bool {
    configs::FATAL_CODES.contains(&warning.code.as_str())
}

/// A finding with its path in the config.
fn finding_with_path(finding: &configs::Finding) -> String {
    let path = Some(finding.location.as_str()).filter(|path| !path.is_empty());
    path.map(|path| format!("{path}: ")).unwrap_or_default() + &finding.message
}

fn limits_json(start: &StartRequest, cap: Cap) -> Value {
    let mut limits = json!({"timeout_s": start.spec.timeout.as_secs_f64(), "nested_depth": start.limits.per_run.depth});
    if let Some(usd) = cap.usd {
        limits["budget_usd"] = json!(usd.as_f64());
    }
    if let Some(tokens) = cap.tokens {
        limits["max_tokens"] = json!(tokens);
    }
    limits
}
