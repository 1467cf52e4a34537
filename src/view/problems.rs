//! Problems and warnings of a run: what is shown of a live run and of one that has ended, and what to do next. Pure.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Detail, truncate_words};
use crate::massgen::{text, warnings};
use crate::run::{
    Ending, Moment, NextStep, Outcome, Problem, QuietPeriod, Retry, RunRecord, Step, Usd, Warning, Wording,
};

/// The longest name of a provider, in bytes.
const MAX_PROVIDER_BYTES: usize = 40;
/// The longest message of a warning, in characters.
const MAX_WARNING_CHARS: usize = 300;

/// What went wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ProblemView {
    /// A stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether a retry of the same call can help: now, later, no; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub retry: Option<&'static str>,
    /// The provider of the model in question.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub provider: Option<String>,
}

/// A problem that does not stop the run, such as missing tools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WarningView {
    /// A stable code.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

pub(super) fn run_problem(
    record: &RunRecord,
    quiet: Option<&QuietPeriod>,
    waiting: Option<&str>,
    now: &Moment,
) -> Option<Problem> {
    let Some(ending) = record.state.ending() else {
        let problem = quiet.and_then(|quiet| quiet.problem_with_agents(waiting, now));
        return problem.or_else(|| convergence_problem(record).filter(|_| record.ready_answer.is_none()));
    };
    ending_problem(record, ending)
}

fn ending_problem(record: &RunRecord, ending: &Ending) -> Option<Problem> {
    let problem = match &ending.outcome {
        Outcome::Lost => problem_with_retry(
            "supervisor_died",
            "the run's supervisor was killed; its end was not seen",
            Step::RestartAfterLoss,
            Retry::Now,
        ),
        Outcome::TimedOut { problem: Some(problem), .. } => problem.as_ref().clone(),
        Outcome::TimedOut { ours: true, problem: None } => {
            let next = Step::RaiseTimeout;
            timeout_problem(
                record,
                problem_with_retry("timeout_s_reached", "it was stopped at its timeout_s", next, Retry::No),
            )
        }
        Outcome::TimedOut { ours: false, problem: None } => {
            let next = Step::RaiseMassgenTimeout;
            timeout_problem(
                record,
                problem_with_retry("massgen_timeout", "MassGen's own timeout ended it", next, Retry::No),
            )
        }
        Outcome::OverBudget => over_budget_problem(record),
        Outcome::Succeeded | Outcome::Failed(_) | Outcome::Killed { .. } => ending.outcome.problem()?.clone(),
    };
    // The caller may have caused what MassGen reports about the config.
    let is_callers = problem.next.step() == Step::AskConfigAuthor && record.spec.overrides.is_some();
    Some(if is_callers { Problem { next: Step::CorrectOverrides.into(), ..problem } } else { problem })
}

/// The problem of a run over its budget, with the amount of the overrun.
fn over_budget_problem(record: &RunRecord) -> Problem {
    let (cap, spent) = (record.spec.allowance.cap, record.total_spent());
    if cap.percent_used(spent) < 100 {
        return problem_with_retry(
            "cost_unknown",
            "it was stopped because MassGen has no price for a model of it, and this server allows none without",
            Step::UseOtherModels,
            Retry::No,
        );
    }
    let usd = cap.usd.filter(|cap_tokens| spent.usd >= *cap_tokens);
    let (message, limit) = match (usd, cap.tokens) {
        (Some(cap_tokens), _) => {
            (format!("{} of {cap_tokens} (over by {})", spent.usd, Usd(spent.usd.0 - cap_tokens.0)), "budget_usd")
        }
        (None, cap_tokens) => {
            let cap_tokens = cap_tokens.unwrap_or_default();
            let excess = spent.tokens.saturating_sub(cap_tokens);
            (format!("{} of {cap_tokens} tokens (over by {excess})", spent.tokens), "max_tokens")
        }
    };
    let convergence_step = convergence_problem(record).map(|problem| step_after_end(&problem.next));
    let next = convergence_step.unwrap_or_else(|| Step::RaiseLimit.with(limit));
    problem_with_retry("budget_spent", &format!("stopped at its budget: {message}"), next, Retry::No)
}

pub(super) fn convergence_problem(record: &RunRecord) -> Option<Problem> {
    record.digest.as_ref().and_then(|digest| digest.convergence_problem())
}

/// The step for a problem of a live run, once the run has ended.
fn step_after_end(next: &NextStep) -> NextStep {
    let is_limit = next.step() == Step::StopAndLimitAnswers;
    if is_limit { Step::LimitAnswers.with(next.detail()) } else { next.clone() }
}

/// More time would not help if the agents keep submitting new answers.
fn timeout_problem(record: &RunRecord, timeout: Problem) -> Problem {
    match convergence_problem(record) {
        Some(problem) => Problem {
            message: format!("{}: {}", timeout.message, problem.message),
            next: step_after_end(&problem.next),
            ..problem
        },
        None => timeout,
    }
}

pub(super) fn problem_with_retry(code: &str, message: &str, next: impl Into<NextStep>, retry: Retry) -> Problem {
    Problem { retry: Some(retry), ..Problem::new(code, message, next) }
}

/// Converts a problem to its view.
pub fn problem_view(problem: Problem, wording: Wording) -> ProblemView {
    let provider = problem.provider.map(|provider| truncate_words(&provider, MAX_PROVIDER_BYTES));
    let retry = problem.retry.map(retry_label);
    ProblemView { code: problem.code, message: problem.message, hint: wording(&problem.next), retry, provider }
}

/// Converts a warning to its view, with bounded length whatever a config or log contains.
pub fn warning_view(warning: &Warning, wording: Wording) -> WarningView {
    let bounded = |text: &str| text::truncate_sentence(text, MAX_WARNING_CHARS);
    WarningView {
        code: warning.code.clone(),
        message: bounded(&warning.message),
        hint: bounded(&wording(&warning.next)),
    }
}

/// The most important warning. If others are not shown, its hint says so.
pub(super) fn top_warning(warnings: &[Warning], detail: Detail, wording: Wording) -> Option<WarningView> {
    let mut first = warnings::by_weight(warnings).first().map(|first| warning_view(first, wording))?;
    match (warnings.len() - 1, detail) {
        (0, _) | (_, Detail::Full) => {}
        (more, Detail::Brief) => first.hint = format!("{}; {more} more: detail full", first.hint),
    }
    Some(first)
}

fn retry_label(retry: Retry) -> &'static str {
    match retry {
        Retry::Now => "now",
        Retry::Later => "later",
        Retry::No => "no",
    }
}
