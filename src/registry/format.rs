//! The formats on disk, version 1: spec.json, run.json, stop.json. They are types of their own, converted by hand in this module.
//! They accept newer files: an unknown word becomes `Unknown` or is skipped, and never causes an error.

mod allowance;
mod ending;
mod experiment;
mod moment;
mod quiet;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::allowance::{AllowanceFile, AnswerBasisFile, ContinuationFile, LineageFile, OriginFile, SpendFile};
use self::ending::{AnswerSummaryFile, EndingFile};
pub(super) use self::experiment::{plan_configs, plan_from_json, plan_to_json, progress_from_json, progress_to_json};
use self::moment::{MomentFile, ProcessIdentityFile};
use self::quiet::QuietPeriodFile;
use crate::run::{
    AgentDigest, AgentState, ChangedFiles, ConfigChoice, Context, DEFAULT_GRACE, Digest, Finish, Mode, RunId,
    RunRecord, RunSpec, RunState, Spend, StopCause, StopRequest,
};

/// The version that this program writes.
pub(super) const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct SpecFile {
    version: u32,
    id: String,
    created: jiff::Timestamp,
    question: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    config_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rehearsal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listed_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    timeout_s: f64,
    mode: String,
    context: String,
    project: PathBuf,
    program: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pass_env: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    warm: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    overrides: Option<serde_json::Value>,
    #[serde(default)]
    allowance: AllowanceFile,
    #[serde(default)]
    lineage: LineageFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continues: Option<ContinuationFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<AnswerBasisFile>,
    #[serde(default)]
    config_hash: String,
    #[serde(default)]
    origin: OriginFile,
}

#[derive(Serialize, Deserialize)]
struct RunFile {
    version: u32,
    seq: u64,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<ProcessIdentityFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keeper: Option<ProcessIdentityFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cold_because: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    import_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<ChangedFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ready: Option<AnswerSummaryFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stop_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<MomentFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    log_dir: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<DigestFile>,
    #[serde(default)]
    spent: SpendFile,
    #[serde(default)]
    spent_below: SpendFile,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quiet: Option<QuietPeriodFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ending: Option<EndingFile>,
}

#[derive(Serialize, Deserialize)]
struct DigestFile {
    phase: Option<String>,
    agents: Vec<AgentFile>,
    votes: BTreeMap<String, u32>,
    winner: Option<String>,
    cost_usd: Option<f64>,
    tokens: Option<u64>,
    finish: Option<String>,
    first_error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first_error_agent: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AgentFile {
    id: String,
    state: String,
    answers: u32,
    label: Option<String>,
    vote: Option<String>,
    error: Option<String>,
    tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    cost_usd: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct StopFile {
    version: u32,
    #[serde(default = "default_grace_s")]
    grace_s: f64,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default = "default_true")]
    tree: bool,
}

fn default_true() -> bool {
    true
}

fn default_grace_s() -> f64 {
    DEFAULT_GRACE.as_secs_f64()
}

/// The longest grace period.
const MAX_GRACE: Duration = Duration::from_secs(60);
/// The longest reason that is stored, in characters.
const MAX_REASON_CHARS: usize = 200;
/// The longest timeout that a spec can have: a hundred days, so that no clock arithmetic overflows.
const MAX_TIMEOUT: Duration = Duration::from_secs(100 * 86_400);

pub(super) fn spec_to_json(spec: &RunSpec) -> io::Result<Vec<u8>> {
    let (config_file, rehearsal) = match &spec.config {
        ConfigChoice::File(path) => (Some(path.clone()), None),
        ConfigChoice::Rehearsal(name) => (None, Some(name.clone())),
    };
    to_json(&SpecFile {
        version: VERSION,
        id: spec.id.to_string(),
        created: spec.created,
        question: spec.question.clone(),
        config_file,
        rehearsal,
        listed_as: spec.listed_as.clone(),
        group: spec.group.clone(),
        timeout_s: spec.timeout.as_secs_f64(),
        mode: to_label(MODES, spec.mode),
        context: to_label(CONTEXTS, spec.context),
        project: spec.project.clone(),
        program: spec.program.clone(),
        pass_env: spec.pass_env.clone(),
        env_file: spec.env_file.clone(),
        warm: spec.warm,
        overrides: spec.overrides.clone(),
        allowance: AllowanceFile::from(&spec.allowance),
        lineage: LineageFile::from(&spec.lineage),
        continues: spec.continuation.as_ref().map(ContinuationFile::from),
        from: spec.basis.as_ref().map(AnswerBasisFile::from),
        config_hash: spec.config_hash.clone(),
        origin: OriginFile::from(&spec.origin),
    })
}

pub(super) fn spec_from_json(bytes: &[u8]) -> Result<RunSpec, serde_json::Error> {
    let file: SpecFile = serde_json::from_slice(bytes)?;
    let config = match (file.config_file, file.rehearsal) {
        (_, Some(name)) => ConfigChoice::Rehearsal(name),
        (Some(path), None) => ConfigChoice::File(path),
        (None, None) => return Err(serde::de::Error::missing_field("config_file")),
    };
    let id: RunId = file.id.parse().map_err(serde::de::Error::custom)?;
    Ok(RunSpec {
        created: file.created,
        question: file.question,
        config,
        listed_as: file.listed_as,
        group: file.group,
        timeout: duration_from_secs(file.timeout_s).min(MAX_TIMEOUT),
        mode: from_label(MODES, &file.mode).unwrap_or_default(),
        context: from_label(CONTEXTS, &file.context).unwrap_or_default(),
        project: file.project,
        program: file.program,
        pass_env: file.pass_env,
        env_file: file.env_file,
        warm: file.warm,
        overrides: file.overrides,
        allowance: file.allowance.into(),
        lineage: file.lineage.into_lineage(&id),
        continuation: file.continues.and_then(ContinuationFile::into_continuation),
        basis: file.from.and_then(AnswerBasisFile::into_answer_basis),
        config_hash: file.config_hash,
        origin: file.origin.into(),
        id,
    })
}

/// The project files that a run changed.
#[derive(Serialize, Deserialize)]
struct ChangedFile {
    files: Vec<String>,
    count: u64,
}

impl From<&ChangedFiles> for ChangedFile {
    fn from(changed: &ChangedFiles) -> ChangedFile {
        ChangedFile { files: changed.files.clone(), count: changed.count }
    }
}

impl From<ChangedFile> for ChangedFiles {
    fn from(file: ChangedFile) -> ChangedFiles {
        ChangedFiles { files: file.files, count: file.count }
    }
}

pub(super) fn initial_record(spec: RunSpec) -> RunRecord {
    let state = RunState::Starting { leader: None };
    RunRecord {
        spec,
        version: VERSION,
        seq: 0,
        state,
        digest: None,
        keeper: None,
        cold_start_reason: None,
        import_wait: None,
        changed_files: None,
        ready_answer: None,
        started: None,
        log_dir: None,
        spent: Spend::default(),
        spent_by_descendants: Spend::default(),
        quiet: None,
    }
}

pub(super) fn run_to_json(record: &RunRecord) -> io::Result<Vec<u8>> {
    let (state, stop, ending) = match &record.state {
        RunState::Queued => ("queued", None, None),
        RunState::Starting { .. } => ("starting", None, None),
        RunState::Running { .. } => ("running", None, None),
        RunState::Stopping { cause, .. } => ("stopping", Some(cause), None),
        RunState::Ended(ending) => ("ended", None, Some(EndingFile::from(ending))),
        RunState::Unknown(label) => (label.as_str(), None, None),
    };
    to_json(&RunFile {
        version: VERSION,
        seq: record.seq,
        state: state.to_owned(),
        leader: record.state.leader().map(ProcessIdentityFile::from),
        keeper: record.keeper.as_ref().map(ProcessIdentityFile::from),
        cold_because: record.cold_start_reason.clone(),
        import_s: record.import_wait.map(|time| time.as_secs_f64()),
        changed: record.changed_files.as_ref().map(ChangedFile::from),
        ready: record.ready_answer.as_ref().map(AnswerSummaryFile::from),
        stop_cause: stop.map(|cause| cause_label(cause).to_owned()),
        stop_reason: stop.and_then(cause_reason),
        started: record.started.as_ref().map(MomentFile::from),
        log_dir: record.log_dir.clone(),
        digest: record.digest.as_ref().map(digest_to_file),
        spent: SpendFile::from(record.spent),
        spent_below: SpendFile::from(record.spent_by_descendants),
        quiet: record.quiet.as_ref().map(QuietPeriodFile::from),
        ending,
    })
}

pub(super) fn run_from_json(spec: RunSpec, bytes: &[u8]) -> Result<RunRecord, serde_json::Error> {
    let file: RunFile = serde_json::from_slice(bytes)?;
    let leader = file.leader.map(Into::into);
    let state = match (file.state.as_str(), leader, file.ending) {
        ("queued", ..) => RunState::Queued,
        ("starting", leader, _) => RunState::Starting { leader },
        ("running", Some(leader), _) => RunState::Running { leader },
        ("stopping", Some(leader), _) => {
            let cause = cause_from_label(file.stop_cause.as_deref(), file.stop_reason);
            RunState::Stopping { leader, cause }
        }
        ("ended", _, Some(ending)) => RunState::Ended(ending.into()),
        (other, _, _) => RunState::Unknown(other.to_owned()),
    };
    Ok(RunRecord {
        spec,
        version: file.version,
        seq: file.seq,
        state,
        digest: file.digest.map(digest_from_file),
        keeper: file.keeper.map(Into::into),
        cold_start_reason: file.cold_because,
        import_wait: file.import_s.map(duration_from_secs),
        changed_files: file.changed.map(Into::into),
        ready_answer: file.ready.map(Into::into),
        started: file.started.map(Into::into),
        log_dir: file.log_dir,
        spent: file.spent.into(),
        spent_by_descendants: file.spent_below.into(),
        quiet: file.quiet.map(Into::into),
    })
}

pub(super) fn stop_to_json(ask: &StopRequest) -> io::Result<Vec<u8>> {
    let grace_s = ask.grace.as_secs_f64();
    to_json(&StopFile { version: VERSION, grace_s, reason: ask.reason.clone(), tree: ask.tree })
}

/// An unreadable request still counts as one, with the default grace. A process that can write this file gets no more than a
/// tool call could request.
pub(super) fn stop_from_json(bytes: &[u8]) -> StopRequest {
    match serde_json::from_slice::<StopFile>(bytes) {
        Ok(file) => StopRequest {
            grace: duration_from_secs(file.grace_s).min(MAX_GRACE),
            reason: file.reason.map(|reason| reason.chars().take(MAX_REASON_CHARS).collect()),
            tree: file.tree,
        },
        Err(_) => StopRequest { grace: DEFAULT_GRACE, reason: None, tree: true },
    }
}

fn digest_to_file(digest: &Digest) -> DigestFile {
    let agents = digest.agents.iter().map(|agent| AgentFile {
        id: agent.id.clone(),
        state: to_label(AGENT_STATES, agent.state),
        answers: agent.answers,
        label: agent.label.clone(),
        vote: agent.vote.clone(),
        error: agent.error.clone(),
        tokens: agent.tokens,
        output_tokens: agent.output_tokens,
        cost_usd: agent.cost_usd,
    });
    DigestFile {
        phase: digest.phase.clone(),
        agents: agents.collect(),
        votes: digest.votes.clone(),
        winner: digest.winner.clone(),
        cost_usd: digest.cost_usd,
        tokens: digest.tokens,
        finish: digest.finish_reason.map(|finish| to_label(FINISHES, finish)),
        first_error: digest.first_error.clone(),
        first_error_agent: digest.first_error_agent.clone(),
    }
}

fn digest_from_file(file: DigestFile) -> Digest {
    let agents = file.agents.into_iter().map(|agent| AgentDigest {
        id: agent.id,
        state: from_label(AGENT_STATES, &agent.state).unwrap_or(AgentState::Unknown),
        answers: agent.answers,
        label: agent.label,
        vote: agent.vote,
        error: agent.error,
        tokens: agent.tokens,
        output_tokens: agent.output_tokens,
        cost_usd: agent.cost_usd,
    });
    Digest {
        phase: file.phase,
        agents: agents.collect(),
        votes: file.votes,
        votes_counted: 0,
        winner: file.winner,
        cost_usd: file.cost_usd,
        tokens: file.tokens,
        finish_reason: file.finish.map(|label| from_label(FINISHES, &label).unwrap_or(Finish::Unknown)),
        first_error: file.first_error,
        first_error_agent: file.first_error_agent,
    }
}

const MODES: &[(&str, Mode)] = &[("full", Mode::Full), ("quick", Mode::Quick)];
const CONTEXTS: &[(&str, Context)] = &[("none", Context::None), ("read", Context::Read), ("write", Context::Write)];
const FINISHES: &[(&str, Finish)] = &[
    ("in_progress", Finish::InProgress),
    ("completed", Finish::Completed),
    ("timeout", Finish::Timeout),
    ("error", Finish::Error),
    ("unknown", Finish::Unknown),
];
const AGENT_STATES: &[(&str, AgentState)] = &[
    ("working", AgentState::Working),
    ("thinking", AgentState::Thinking),
    ("answered", AgentState::Answered),
    ("voted", AgentState::Voted),
    ("restarting", AgentState::Restarting),
    ("failed", AgentState::Failed),
    ("timed_out", AgentState::TimedOut),
    ("unknown", AgentState::Unknown),
];

/// The label of a value, from a table that contains every value.
fn to_label<T: PartialEq>(table: &[(&str, T)], value: T) -> String {
    table.iter().find(|(_, known)| *known == value).map(|(label, _)| (*label).to_owned()).unwrap_or_default()
}

fn from_label<T: Copy>(table: &[(&str, T)], label: &str) -> Option<T> {
    table.iter().find(|(known, _)| *known == label).map(|(_, value)| *value)
}

fn cause_label(cause: &StopCause) -> &'static str {
    match cause {
        StopCause::Requested { .. } => "asked",
        StopCause::Deadline => "deadline",
        StopCause::Budget => "budget",
    }
}

fn cause_reason(cause: &StopCause) -> Option<String> {
    match cause {
        StopCause::Requested { reason } => reason.clone(),
        StopCause::Deadline | StopCause::Budget => None,
    }
}

fn cause_from_label(label: Option<&str>, reason: Option<String>) -> StopCause {
    match label {
        Some("deadline") => StopCause::Deadline,
        Some("budget") => StopCause::Budget,
        Some(_) | None => StopCause::Requested { reason },
    }
}

/// Seconds as a duration. A negative value or NaN becomes zero, a too large one the maximum.
fn duration_from_secs(value: f64) -> Duration {
    let limit = if value > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(value).unwrap_or(limit)
}

/// Returns an error for a value that JSON cannot represent, such as a path that is not UTF-8. Otherwise an empty file would be written.
fn to_json(value: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec_pretty(value)?)
}

#[cfg(test)]
mod tests;
