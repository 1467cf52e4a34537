//! Converts a run record to the view that an agent gets. Pure, and bounded whatever MassGen wrote: a brief status has
//! at most 120 tokens. A brief status of two agents has at most 300 bytes without a problem, and twice that with one.
//! An absent field is unknown or not applicable.

mod awaited_models;
mod configs;
pub mod group;
pub(crate) mod json;
pub mod list;
mod problems;
mod receipts;
pub mod summary;
mod token_budget;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::massgen::outcome::exit_label;
use crate::massgen::{text, warnings};
use crate::run::{
    AgentDigest, AgentState, AnswerBasis, AnswerSummary, Cap, ChangedFiles, Continuation, Ending, InferredActivity,
    Moment, Outcome, QuietPeriod, RunId, RunRecord, RunState, StopCause, Usd, Wording,
};

pub use configs::{ConfigView, config_view};
pub use problems::{ProblemView, WarningView, problem_view, warning_view};
pub use receipts::{ReceiptView, ended_receipt, failed_receipt, receipt};

use self::problems::{run_problem, top_warning};

/// The states of a run that has ended.
const END_STATES: [&str; 6] = ["succeeded", "failed", "timed_out", "over_budget", "killed", "lost"];
/// The longest agent id, label or phase in a brief status, in bytes.
const MAX_WORD_BYTES: usize = 32;
/// The most changed files that a brief status names.
const MAX_BRIEF_FILES: usize = 3;
/// The longest message of a problem in a brief status, in bytes.
const MAX_BRIEF_MESSAGE_BYTES: usize = 160;
/// How many characters of the question a full status repeats.
const MAX_QUESTION_CHARS: usize = 200;

/// A run as check_status and run_massgen show it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunView {
    /// The run id.
    pub run_id: String,
    /// Its group label; in the list of the latest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub group: Option<String>,
    /// Its question, truncated; in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub question: Option<String>,
    /// Its config: in a list, and in the answer of run_massgen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub config: Option<String>,
    /// Seconds since the request; in the list of the latest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub age_s: Option<u64>,
    /// queued, starting, running, stopping; or its end: succeeded, failed, timed_out, over_budget, killed, lost.
    pub state: String,
    /// initial_answer, enforcement: voting, presentation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub phase: Option<String>,
    /// Seconds from the call that started it to now, or to the end.
    pub elapsed_s: u64,
    /// The current activity of each agent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<String, String>,
    /// Votes by answer label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub votes: BTreeMap<String, u32>,
    /// US dollars so far; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub cost_usd: Option<f64>,
    /// Some tokens have no price: cost_usd is too low.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub cost_unknown: Option<bool>,
    /// Input and output tokens so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub tokens: Option<u64>,
    /// From 80 % on: how much is spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub budget: Option<String>,
    /// Its place in the queue, and what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub queue: Option<String>,
    /// Messages of steer_run that MassGen has not read yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub messages_waiting: Option<usize>,
    /// Messages that MassGen had not read when the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub never_delivered: Option<usize>,
    /// The agent that gave the winning, presented answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub winner: Option<String>,
    /// The agent that gave the answer of read_result if no answer has won: the run was stopped, failed, or had no vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub best: Option<String>,
    /// Length of that answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub answer_chars: Option<u64>,
    /// True: the answer can be read now; the run only has to exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub answer_ready: Option<bool>,
    /// True: the answer is the best so far, not a final one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub partial: Option<bool>,
    /// The answer itself, if it has at most 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub answer: Option<String>,
    /// With detail full: MassGen's exit code or signal, which says nothing of success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub exit: Option<String>,
    /// Why the run was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub reason: Option<String>,
    /// Seconds without any activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub quiet_s: Option<u64>,
    /// What the run seems to do during that time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub seems: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProblemView")]
    pub problem: Option<ProblemView>,
    /// Project files that changed while the run could write to the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    pub changed: Option<Vec<String>>,
    /// What the run lacked, even if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WarningView")]
    pub warning: Option<WarningView>,
    /// From run_massgen: pass it as since to check_status, so that nothing that happens before that call is missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub cursor: Option<String>,
    /// From run_massgen: the next step, and how long waits are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub hint: Option<String>,
    /// An earlier call with the same request started this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub reused: Option<bool>,
    /// From run_massgen: the config keys that the overrides change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub applied: Vec<String>,
    /// From run_massgen: the conversation that the run continues.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub continues: Option<String>,
    /// From run_massgen: the answer that the run builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub from: Option<String>,
    /// From run_massgen: what will fail or have no effect, as far as that is known before the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub warnings: Vec<WarningView>,
    /// With detail full: paths, limits, numbers per agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub details: Option<Details>,
}

/// Fields that only a full status shows. The schema is left open: describing them would cost every client more tokens
/// than it is worth.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    question: String,
    config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    mode: &'static str,
    context: &'static str,
    timeout_s: f64,
    /// The most that the run and its nested runs may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    /// What the run and its nested runs have spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_cost_usd: Option<f64>,
    tree_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// The previous run of the conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<String>,
    /// The turn number in that conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    /// Runs that this run started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<String>,
    /// The answer that this run builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<AnswerBasisView>,
    /// Runs that build on an answer of this run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    built_on_by: Vec<String>,
    created: String,
    folder: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_dir: Option<String>,
    massgen: String,
    /// warm: forked from a process that had imported MassGen; cold: not.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<&'static str>,
    /// How long the run waited for a warm process to import MassGen.
    #[serde(skip_serializing_if = "Option::is_none")]
    import_s: Option<u64>,
    /// Why the start was not warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    cold_because: Option<String>,
    /// The command that shows the run to a person in a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    viewer: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    agents: BTreeMap<String, AgentView>,
    /// All that the run lacked, if that is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// The latest sample while the run is quiet.
    #[serde(skip_serializing_if = "Option::is_none")]
    looked_at: Option<QuietSampleView>,
}

/// The answer of an earlier run that this run builds on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnswerBasisView {
    run_id: String,
    /// Its label; absent for a presented answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    agent: String,
}

/// The latest sample of a quiet run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QuietSampleView {
    ago_s: u64,
    processes: u32,
    /// CPU use between the last two samples; 100 is one processor.
    cpu_percent: u32,
    /// The state of MassGen's own process: R, S, D, T.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<char>,
    /// Open outgoing connections.
    connections: Vec<String>,
    /// Tool calls that have started and not ended.
    tools: Vec<String>,
    live_children: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<String>,
}

/// One agent in a full status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AgentView {
    answers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The answer of run_massgen: a run as check_status shows it, or the result of a dry run. The schema describes only the
/// fields that matter at a start. It leaves the rest open, because every client would pay for the same descriptions
/// twice.
pub struct RunMassgenOutput;

impl JsonSchema for RunMassgenOutput {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Answered".into()
    }

    fn json_schema(_generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object",
            "properties": {
                "run_id": {"type": "string"},
                "state": {"type": "string"},
                "config": {"type": "string", "description": "The config that was taken."},
                "applied": {"type": "array", "items": {"type": "string"}, "description": "Keys that overrides change."},
                "cursor": {"type": "string", "description": "For since."},
                "reused": {"type": "boolean", "description": "The same request had started this run before."},
                "warnings": {
                    "type": "array",
                    "description": "Each {code, message, hint}: what will go wrong or do nothing.",
                    "items": {"type": "object"},
                },
            },
        })
    }
}

/// The level of detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// The fields that show the progress of a run.
    #[default]
    Brief,
    /// With paths, limits, and numbers per agent.
    Full,
}

/// Facts about a run that are not in its record.
#[derive(Debug, Clone, Copy)]
pub struct RunExtras<'a> {
    /// The run's folder.
    pub folder: &'a std::path::Path,
    /// The runs that the run started.
    pub children: &'a [RunId],
    /// The runs that build on an answer of the run.
    pub dependents: &'a [RunId],
    /// How many runs wait before it, and how many wait in all.
    pub queue_position: Option<(usize, usize)>,
    /// How many messages of steer_run MassGen has not read yet.
    pub pending_messages: usize,
    /// The model of each agent; only while the run waits for a model.
    pub awaited_models: &'a BTreeMap<String, String>,
    /// The words for next steps.
    pub wording: Wording,
}

/// Builds the view of a run at a given time.
pub fn run_view(record: &RunRecord, extras: &RunExtras<'_>, detail: Detail, now: &Moment) -> RunView {
    let digest = record.digest.as_ref();
    let ending = record.state.ending();
    let ready = record.ready_answer.as_ref().filter(|_| ending.is_none());
    let answer = ending.and_then(|ending| ending.answer.as_ref()).or(ready);
    let quiet = record.quiet.as_ref().filter(|_| is_active(&record.state));
    let is_over = ending.is_some();
    let messages = Some(extras.pending_messages).filter(|count| *count > 0);
    let is_partial = |answer: &AnswerSummary| record.state.is_partial_answer(answer.source);
    let winner_answer = answer.filter(|answer| record.has_winner(is_partial(answer)));
    let waiting = awaited_models::awaited_agents(digest, extras.awaited_models);
    let view = RunView {
        run_id: record.spec.id.to_string(),
        group: None,
        question: None,
        config: None,
        age_s: None,
        state: record.state.as_str().to_owned(),
        phase: digest.filter(|_| ending.is_none()).and_then(|digest| digest.phase.as_deref()).map(short_word),
        elapsed_s: record.elapsed(now).as_secs(),
        agents: digest
            .map(|digest| token_budget::agent_counts(&digest.agents, usize::MAX, is_over))
            .unwrap_or_default(),
        votes: digest.map(|digest| displayed_votes(&digest.votes)).unwrap_or_default(),
        cost_usd: shown_cost(record),
        cost_unknown: record.total_spent().is_unpriced.then_some(true),
        tokens: digest.and_then(|digest| digest.tokens).map(|tokens| tokens.max(record.spent.tokens)),
        budget: budget_text(record),
        queue: extras.queue_position.map(|position| queue_text(position, record.spec.allowance.slots)),
        messages_waiting: messages.filter(|_| !is_over),
        never_delivered: messages.filter(|_| is_over),
        winner: winner_answer.map(|answer| short_word(&answer.agent)),
        best: answer.filter(|_| winner_answer.is_none()).map(|answer| short_word(&answer.agent)),
        answer_chars: answer.map(|answer| answer.chars),
        answer_ready: ready.map(|_| true),
        partial: answer.filter(|answer| is_partial(answer)).map(|_| true),
        answer: None,
        exit: ending.filter(|_| detail == Detail::Full).and_then(|ending| exit_label(ending.exit)),
        reason: stop_reason(&record.state),
        quiet_s: quiet.map(|quiet| quiet.duration(now).as_secs()),
        seems: quiet.map(|quiet| inferred_activity_text(quiet, waiting.as_deref(), now)),
        problem: run_problem(record, quiet, waiting.as_deref(), now)
            .map(|problem| problem_view(problem, extras.wording)),
        changed: record.changed_files.as_ref().map(|changed| changed_file_names(changed, detail)),
        warning: ending.and_then(|ending| top_warning(&ending.warnings, detail, extras.wording)),
        cursor: None,
        hint: None,
        reused: None,
        applied: Vec::new(),
        continues: None,
        from: None,
        warnings: Vec::new(),
        details: (detail == Detail::Full)
            .then(|| Details { looked_at: quiet.map(|q| quiet_sample(q, now)), ..details(record, extras) }),
    };
    match detail {
        Detail::Brief => token_budget::fit_to_budget(view, digest),
        Detail::Full => view,
    }
}

impl RunView {
    /// Whether the run has ended.
    pub fn has_ended(&self) -> bool {
        END_STATES.contains(&self.state.as_str())
    }

    /// The agent that gave the available answer.
    pub fn answer_agent(&self) -> Option<&str> {
        self.winner.as_deref().or(self.best.as_deref())
    }

    /// Adds the run's group label, for a list of runs that the call did not name.
    #[must_use]
    pub fn with_group(self, record: &RunRecord) -> RunView {
        RunView { group: record.spec.group.as_deref().map(short_word), ..self }
    }
}

/// The conversation that a run continues, and its turn number.
pub fn continuation_text(before: &Continuation) -> String {
    format!(
        "turn {} of the conversation of {}; its config, mode and context hold where you name no others",
        before.turn, before.run
    )
}

/// The answer that a run builds on.
pub fn basis_text(from: &AnswerBasis) -> String {
    let answer = from.answer.as_deref().map_or_else(|| "the final answer".to_owned(), short_word);
    format!("{answer} of {}, by {}", from.run, short_word(&from.agent))
}

/// The current activity of an agent; after the end of the run, its last status.
fn agent_status(agent: &AgentDigest, is_over: bool) -> String {
    let with_label = |verb: &str, label: &Option<String>| match label {
        Some(label) => format!("{verb} {}", short_word(label)),
        None => verb.to_owned(),
    };
    match agent.state {
        AgentState::Working | AgentState::Thinking | AgentState::Restarting if is_over => "unfinished".to_owned(),
        AgentState::Working => "working".to_owned(),
        AgentState::Thinking => "thinking".to_owned(),
        AgentState::Answered => with_label("answered", &agent.label),
        AgentState::Voted => with_label("voted", &agent.vote),
        AgentState::Restarting => "restarting".to_owned(),
        AgentState::Failed => "failed".to_owned(),
        AgentState::TimedOut => "timed out".to_owned(),
        AgentState::Unknown => "unknown".to_owned(),
    }
}

fn displayed_votes(votes: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    votes.iter().map(|(label, count)| (short_word(label), *count)).collect()
}

/// A short text of MassGen, sanitized and truncated to [`MAX_WORD_BYTES`] at a character boundary.
fn short_word(text: &str) -> String {
    let text = text::single_line(text, MAX_WORD_BYTES);
    let end = (0..=MAX_WORD_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text[..end].to_owned()
}

/// The names of changed files and the number of omitted names; a brief status names only a few.
fn changed_file_names(changed: &ChangedFiles, detail: Detail) -> Vec<String> {
    let named = match detail {
        Detail::Brief => changed.files.iter().take(MAX_BRIEF_FILES).map(|name| short_word(name)).collect::<Vec<_>>(),
        Detail::Full => changed.files.clone(),
    };
    let omitted = changed.count.saturating_sub(named.len() as u64);
    named.into_iter().chain((omitted > 0).then(|| format!("{omitted} more"))).collect()
}

fn stop_reason(state: &RunState) -> Option<String> {
    match state {
        RunState::Ended(Ending { outcome: Outcome::Killed { reason, .. }, .. })
        | RunState::Stopping { cause: StopCause::Requested { reason }, .. } => {
            reason.as_deref().map(|reason| text::single_line(reason, 80))
        }
        RunState::Ended(_)
        | RunState::Stopping { .. }
        | RunState::Queued
        | RunState::Starting { .. }
        | RunState::Running { .. }
        | RunState::Unknown(_) => None,
    }
}

/// The spent part of the budget, from 80 % on. It is in dollars if the dollars are closer to their limit than the tokens.
fn budget_text(record: &RunRecord) -> Option<String> {
    let (cap, spent) = (record.spec.allowance.cap, record.total_spent());
    let percent = cap.percent_used(spent);
    let by_usd = Cap { tokens: None, ..cap }.percent_used(spent) == percent;
    let cap_text = match (cap.usd.filter(|_| by_usd), cap.tokens) {
        (Some(usd), _) => usd.to_string(),
        (None, Some(tokens)) => format!("{tokens} tokens"),
        (None, None) => return None,
    };
    (percent >= 80).then(|| format!("{percent} % of {cap_text}"))
}

/// The counted cost. If nothing was counted (the supervisor died, or the run costs nothing), the cost that MassGen
/// reports.
fn shown_cost(record: &RunRecord) -> Option<f64> {
    let counted = Some(record.spent.usd).filter(|usd| *usd > Usd(0)).map(Usd::as_f64);
    let reported = record.digest.as_ref().and_then(|digest| digest.cost_usd);
    counted.or_else(|| reported.map(|cost| (cost * 1e6).round() / 1e6))
}

fn queue_text((ahead, all): (usize, usize), slots: u32) -> String {
    format!("{ahead} ahead of it, {all} waiting for a slot ({slots} in all)")
}

/// Whether MassGen is working; only then can it be quiet.
fn is_active(state: &RunState) -> bool {
    match state {
        RunState::Starting { .. } | RunState::Running { .. } => true,
        RunState::Queued | RunState::Stopping { .. } | RunState::Ended(_) | RunState::Unknown(_) => false,
    }
}

/// What a quiet run seems to do. If it waits for models, the text names their agents and the time.
fn inferred_activity_text(quiet: &QuietPeriod, waiting: Option<&str>, now: &Moment) -> String {
    let activity = quiet.inferred_activity(now);
    let waiting = waiting.filter(|_| activity == InferredActivity::WaitingForModel);
    let agents_text = waiting.map(|agents| format!(": {agents}, {} s", quiet.duration(now).as_secs()));
    inferred_activity_label(activity).to_owned() + &agents_text.unwrap_or_default()
}

fn inferred_activity_label(activity: InferredActivity) -> &'static str {
    match activity {
        InferredActivity::Stopped => "stopped",
        InferredActivity::Working => "working",
        InferredActivity::WaitingForRuns => "waiting for runs",
        InferredActivity::WaitingInTool => "waiting in a tool",
        InferredActivity::WaitingForModel => "waiting for a model",
        InferredActivity::Idle => "idle",
        InferredActivity::Wedged => "wedged",
    }
}

fn quiet_sample(quiet: &QuietPeriod, now: &Moment) -> QuietSampleView {
    let evidence = quiet.evidence.clone();
    QuietSampleView {
        ago_s: quiet.sampled_at.duration_until(now).as_secs(),
        processes: evidence.processes,
        cpu_percent: evidence.cpu_percent,
        state: evidence.leader_state,
        connections: evidence.connections,
        tools: evidence.tools,
        live_children: evidence.runs,
        last_event: evidence.last_event,
        last_error: evidence.last_error,
    }
}

/// Truncates a text to a number of bytes, between words, or at a character boundary in a long word. A truncated text
/// ends with a mark.
fn truncate_words(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let budget = max_bytes.saturating_sub('…'.len_utf8());
    let end = (0..=budget).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", text::trim_cut_word(&text[..end], text[end..].starts_with(' ')))
}

fn details(record: &RunRecord, extras: &RunExtras<'_>) -> Details {
    let (spec, folder) = (&record.spec, extras.folder);
    let agents =
        record.digest.iter().flat_map(|digest| &digest.agents).map(|agent| (agent.id.clone(), agent_view(agent)));
    let warnings = record.state.ending().map(|ending| warnings::by_weight(&ending.warnings));
    let log_dir = record.log_dir.as_ref().map(|log| folder.join(log).display().to_string());
    Details {
        question: text::single_line(&spec.question, MAX_QUESTION_CHARS),
        config: spec.config.name(),
        group: spec.group.clone(),
        mode: spec.mode.as_str(),
        context: spec.context.as_str(),
        timeout_s: spec.timeout.as_secs_f64(),
        budget_usd: spec.allowance.cap.usd.map(Usd::as_f64),
        max_tokens: spec.allowance.cap.tokens,
        tree_cost_usd: record.total_spent().known_usd().map(Usd::as_f64),
        tree_tokens: record.total_spent().tokens,
        parent: spec.lineage.parent.as_ref().map(RunId::to_string),
        root: spec.lineage.parent.as_ref().map(|_| spec.lineage.root.to_string()),
        continues: spec.continuation.as_ref().map(|before| before.run.to_string()),
        turn: spec.continuation.as_ref().map(|before| before.turn),
        children: extras.children.iter().map(RunId::to_string).collect(),
        from: spec.basis.as_ref().map(|basis| AnswerBasisView {
            run_id: basis.run.to_string(),
            answer: basis.answer.clone(),
            agent: basis.agent.clone(),
        }),
        built_on_by: extras.dependents.iter().map(RunId::to_string).collect(),
        created: spec.created.to_string(),
        folder: folder.display().to_string(),
        viewer: log_dir.as_ref().map(|log| viewer_command(&spec.program, log)),
        log_dir,
        massgen: spec.program.display().to_string(),
        start: record.started.as_ref().map(|_| if record.keeper.is_some() { "warm" } else { "cold" }),
        import_s: record.import_wait.map(|time| time.as_secs()),
        cold_because: record.cold_start_reason.clone(),
        agents: agents.collect(),
        warnings: warnings
            .filter(|all| all.len() > 1)
            .into_iter()
            .flatten()
            .map(|warning| warning_view(warning, extras.wording))
            .collect(),
        looked_at: None,
    }
}

/// The command that shows the run to a person in a terminal.
fn viewer_command(program: &std::path::Path, log: &str) -> String {
    format!("{} viewer {}", text::shell_quote(&program.display().to_string()), text::shell_quote(log))
}

fn agent_view(agent: &AgentDigest) -> AgentView {
    AgentView { answers: agent.answers, tokens: agent.tokens, cost_usd: agent.cost_usd, error: agent.error.clone() }
}

#[cfg(test)]
mod tests;
