//! An ending as run.json holds it.

use serde::{Deserialize, Serialize};

use super::moment::MomentFile;
use super::{duration_from_secs, from_label, to_label};
use crate::run::{
    AnswerSource, AnswerSummary, Ending, Exit, Force, NextStep, Outcome, Problem, Retry, Step, StopReport, Survivor,
    Warning,
};

#[derive(Serialize, Deserialize)]
pub(super) struct EndingFile {
    outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exit_signal: Option<i32>,
    #[serde(default)]
    never_started: bool,
    at: MomentFile,
    took_s: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerSummaryFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop: Option<StopReportFile>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningFile>,
}

#[derive(Serialize, Deserialize)]
struct WarningFile {
    code: String,
    message: String,
    #[serde(flatten)]
    next: NextStepFile,
}

/// Advice in place of a step of a newer version.
const UNKNOWN_STEP: &str = "a newer massgen-mcp has recorded what to do: update this one";

/// The next step: its label, and the fact that belongs to it. Versions up to 0.2.0 wrote the hint for the agent in
/// `hint`, and require the field.
#[derive(Serialize, Deserialize)]
struct NextStepFile {
    #[serde(default)]
    hint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_detail: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ProblemFile {
    code: String,
    message: String,
    #[serde(flatten)]
    next: NextStepFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AnswerSummaryFile {
    agent: String,
    chars: u64,
    partial: bool,
}

#[derive(Serialize, Deserialize)]
struct StopReportFile {
    took_s: f64,
    force: String,
    processes: u32,
    survivors: Vec<SurvivorFile>,
}

#[derive(Serialize, Deserialize)]
struct SurvivorFile {
    pid: u32,
    name: String,
}

const RETRY_LABELS: &[(&str, Retry)] = &[("now", Retry::Now), ("later", Retry::Later), ("no", Retry::No)];
const FORCE_LABELS: &[(&str, Force)] =
    &[("none", Force::None), ("interrupt", Force::Interrupt), ("terminate", Force::Terminate), ("kill", Force::Kill)];

impl From<&Ending> for EndingFile {
    fn from(ending: &Ending) -> EndingFile {
        let (outcome, problem, reason) = match &ending.outcome {
            Outcome::Succeeded => ("succeeded", None, None),
            Outcome::Failed(problem) => ("failed", Some(problem), None),
            Outcome::TimedOut { ours: true, problem } => ("timed_out", problem.as_deref(), None),
            Outcome::TimedOut { ours: false, problem } => ("timed_out_by_massgen", problem.as_deref(), None),
            Outcome::OverBudget => ("over_budget", None, None),
            Outcome::Killed { reason, problem } => ("killed", problem.as_deref(), reason.clone()),
            Outcome::Lost => ("lost", None, None),
        };
        let (exit_code, exit_signal) = match ending.exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::NeverStarted | Exit::Unknown => (None, None),
        };
        EndingFile {
            outcome: outcome.to_owned(),
            problem: problem.map(ProblemFile::from),
            reason,
            exit_code,
            exit_signal,
            never_started: ending.exit == Exit::NeverStarted,
            at: MomentFile::from(&ending.ended_at),
            took_s: ending.duration.as_secs_f64(),
            answer: ending.answer.as_ref().map(AnswerSummaryFile::from),
            stop: ending.stop.as_deref().map(StopReportFile::from),
            warnings: ending.warnings.iter().map(WarningFile::from).collect(),
        }
    }
}

impl From<EndingFile> for Ending {
    fn from(file: EndingFile) -> Ending {
        let exit = match (file.exit_code, file.exit_signal) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) if file.never_started => Exit::NeverStarted,
            (None, None) => Exit::Unknown,
        };
        Ending {
            outcome: outcome_from_label(&file.outcome, file.problem.map(Problem::from), file.reason),
            exit,
            ended_at: file.at.into(),
            duration: duration_from_secs(file.took_s),
            answer: file.answer.map(AnswerSummary::from),
            stop: file.stop.map(|stop| Box::new(stop.into())),
            warnings: file.warnings.into_iter().map(Warning::from).collect(),
        }
    }
}

/// An outcome that only a newer version knows becomes a failure with a message about it.
fn outcome_from_label(label: &str, problem: Option<Problem>, reason: Option<String>) -> Outcome {
    match label {
        "succeeded" => Outcome::Succeeded,
        "timed_out" => Outcome::TimedOut { ours: true, problem: problem.map(Box::new) },
        "timed_out_by_massgen" => Outcome::TimedOut { ours: false, problem: problem.map(Box::new) },
        "over_budget" => Outcome::OverBudget,
        "killed" => Outcome::Killed { reason, problem: problem.map(Box::new) },
        "lost" => Outcome::Lost,
        other => Outcome::Failed(problem.unwrap_or_else(|| {
            Problem::new(
                "unknown_outcome",
                &format!("the run ended as `{other}`, which this version does not know"),
                Step::UpdateForMore,
            )
        })),
    }
}

impl From<&Problem> for ProblemFile {
    fn from(problem: &Problem) -> ProblemFile {
        ProblemFile {
            code: problem.code.clone(),
            message: problem.message.clone(),
            next: NextStepFile::from(&problem.next),
            retry: problem.retry.map(|retry| to_label(RETRY_LABELS, retry)),
            provider: problem.provider.clone(),
        }
    }
}

impl From<ProblemFile> for Problem {
    fn from(file: ProblemFile) -> Problem {
        let retry = file.retry.and_then(|label| from_label(RETRY_LABELS, &label));
        Problem { code: file.code, message: file.message, next: file.next.into(), retry, provider: file.provider }
    }
}

impl From<&Warning> for WarningFile {
    fn from(warning: &Warning) -> WarningFile {
        let Warning { code, message, next } = warning;
        WarningFile { code: code.clone(), message: message.clone(), next: next.into() }
    }
}

impl From<WarningFile> for Warning {
    fn from(WarningFile { code, message, next }: WarningFile) -> Warning {
        Warning { code, message, next: next.into() }
    }
}

impl From<&NextStep> for NextStepFile {
    fn from(next: &NextStep) -> NextStepFile {
        let detail = next.detail().to_owned();
        if next.step() == Step::Advice {
            return NextStepFile { hint: detail, next: None, next_detail: None };
        }
        NextStepFile {
            hint: String::new(),
            next: Some(next.step().label().to_owned()),
            next_detail: Some(detail).filter(|detail| !detail.is_empty()),
        }
    }
}

impl From<NextStepFile> for NextStep {
    fn from(file: NextStepFile) -> NextStep {
        let step = file.next.as_deref().and_then(Step::from_label);
        match step {
            Some(step) => step.with(file.next_detail.unwrap_or_default()),
            None if file.next.is_some() && file.hint.is_empty() => UNKNOWN_STEP.into(),
            None => file.hint.into(),
        }
    }
}

impl From<&AnswerSummary> for AnswerSummaryFile {
    fn from(answer: &AnswerSummary) -> AnswerSummaryFile {
        let partial = answer.source == AnswerSource::Partial;
        AnswerSummaryFile { agent: answer.agent.clone(), chars: answer.chars, partial }
    }
}

impl From<AnswerSummaryFile> for AnswerSummary {
    fn from(file: AnswerSummaryFile) -> AnswerSummary {
        let source = if file.partial { AnswerSource::Partial } else { AnswerSource::Final };
        AnswerSummary { agent: file.agent, chars: file.chars, source }
    }
}

impl From<&StopReport> for StopReportFile {
    fn from(report: &StopReport) -> StopReportFile {
        let survivors = report.survivors.iter().map(|s| SurvivorFile { pid: s.pid, name: s.name.clone() });
        StopReportFile {
            took_s: report.duration.as_secs_f64(),
            force: to_label(FORCE_LABELS, report.force),
            processes: report.processes,
            survivors: survivors.collect(),
        }
    }
}

impl From<StopReportFile> for StopReport {
    fn from(file: StopReportFile) -> StopReport {
        let survivors = file.survivors.into_iter().map(|s| Survivor { pid: s.pid, name: s.name });
        StopReport {
            duration: duration_from_secs(file.took_s),
            force: from_label(FORCE_LABELS, &file.force).unwrap_or(Force::Kill),
            processes: file.processes,
            survivors: survivors.collect(),
        }
    }
}
