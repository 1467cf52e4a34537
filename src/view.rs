//! A record → what an agent sees of it. Pure, and bounded whatever MassGen wrote: a brief status has at most 120 tokens; one of two
//! agents at most 300 bytes while nothing is wrong, and twice that with a problem in it. Absent means unknown or not applicable.

mod configs;
mod fit;
pub mod group;
pub mod list;
pub(crate) mod notation;
mod waiting;
pub mod words;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::massgen::outcome::exit_word;
use crate::massgen::{text, warnings};
use crate::run::{
    AgentDigest, AgentState, AnswerFact, BuiltOn, Cap, Changed, Continued, Ending, Force, Moment, Outcome, Problem,
    Quiet, Retry, RunId, RunRecord, RunState, Seems, StopCause, Usd, Warning,
};

pub use configs::{ConfigView, config};

/// The states of a run that has ended.
const ENDS: [&str; 6] = ["succeeded", "failed", "timed_out", "over_budget", "killed", "lost"];
/// The longest agent id, label or phase in a brief status, in bytes.
const WORD_BYTES: usize = 32;
/// The most changed files that a brief status names.
const BRIEF_FILES: usize = 3;
/// The longest message of a problem in a brief status, in bytes.
const BRIEF_MESSAGE: usize = 160;
/// The longest name of a provider, in bytes.
const PROVIDER_BYTES: usize = 40;
/// The longest sentence of a warning, in characters.
const WARNING_CHARS: usize = 300;
/// How much of the question a full status repeats, in characters.
const QUESTION_CHARS: usize = 200;

/// A run, as check_status and run_massgen show it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RunView {
    /// The run's handle.
    pub run_id: String,
    /// Its label, in the list of the latest runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub group: Option<String>,
    /// Its question, cut; in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub question: Option<String>,
    /// Its config: in a list, and in the answer of run_massgen.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub config: Option<String>,
    /// Seconds since it was asked for; in the list of the latest runs.
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
    /// What each agent is at.
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
    /// Its place, and what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub queue: Option<String>,
    /// Messages of steer_run that MassGen has not taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub messages_waiting: Option<usize>,
    /// Messages that MassGen never took up before the run ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub never_delivered: Option<usize>,
    /// Whose answer won and was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub winner: Option<String>,
    /// Whose answer read_result gives where none has won: the run was stopped, failed, or had no vote.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub best: Option<String>,
    /// Length of that answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub answer_chars: Option<u64>,
    /// True: it can be read now; the run has only to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub answer_ready: Option<bool>,
    /// True: the answer is the best so far, not a final one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub partial: Option<bool>,
    /// The answer itself, where it has at most 500 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub answer: Option<String>,
    /// With detail full: MassGen's exit code or signal, which says nothing of success.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub exit: Option<String>,
    /// Why it was stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub reason: Option<String>,
    /// How long there was no sign of life.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub quiet_s: Option<u64>,
    /// What it seems to do then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub seems: Option<String>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "ProblemView")]
    pub problem: Option<ProblemView>,
    /// Files of the project that changed while it could write there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Vec<String>")]
    pub changed: Option<Vec<String>>,
    /// What it lacked, also where it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "WarningView")]
    pub warning: Option<WarningView>,
    /// From run_massgen: pass it as since to check_status, so that nothing that happens before that call is missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub cursor: Option<String>,
    /// From run_massgen: what to do next, and how long its waits are.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub hint: Option<String>,
    /// The same request had started this run before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub reused: Option<bool>,
    /// From run_massgen: the keys of it that overrides change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub applied: Vec<String>,
    /// From run_massgen: the conversation that it goes on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub continues: Option<String>,
    /// From run_massgen: the answer that it builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub from: Option<String>,
    /// From run_massgen: what will go wrong or do nothing, as far as it is known before the start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub warnings: Vec<WarningView>,
    /// With detail full: paths, limits, numbers per agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub details: Option<Details>,
}

/// What went wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct ProblemView {
    /// A stable word.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether the same again can help: now, later, no; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub retry: Option<&'static str>,
    /// Whose model it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub provider: Option<String>,
}

/// Something that keeps no run from going on, such as tools that were missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct WarningView {
    /// A stable word.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// What only a full status shows. Its schema is left open: it would cost every client more than it tells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Details {
    question: String,
    config: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    mode: &'static str,
    context: &'static str,
    timeout_s: u64,
    /// The most that it and the runs below it may spend.
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    /// What it and the runs below it have spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    tree_cost_usd: Option<f64>,
    tree_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    /// The run before it in its conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    continues: Option<String>,
    /// Which turn of that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<u32>,
    /// Runs that it started.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<String>,
    /// The answer that it builds on.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<FromView>,
    /// Runs that build on an answer of it.
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
    /// How long it waited for a warm process to import MassGen.
    #[serde(skip_serializing_if = "Option::is_none")]
    import_s: Option<u64>,
    /// Why it was not warm.
    #[serde(skip_serializing_if = "Option::is_none")]
    cold_because: Option<String>,
    /// Shows the run to a person in a terminal.
    #[serde(skip_serializing_if = "Option::is_none")]
    viewer: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    agents: BTreeMap<String, AgentView>,
    /// All that it lacked, where that is more than one thing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningView>,
    /// What was looked at while it is quiet.
    #[serde(skip_serializing_if = "Option::is_none")]
    looked_at: Option<LookedAt>,
}

/// The answer of an earlier run that a run builds on.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FromView {
    run_id: String,
    /// Its label; absent of a presented answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    agent: String,
}

/// What the newest look at a quiet run saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LookedAt {
    ago_s: u64,
    processes: u32,
    /// Of one processor, between the last two looks.
    cpu_percent: u32,
    /// Of MassGen's own process: R, S, D, T.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<char>,
    /// Open outgoing connections.
    connections: Vec<String>,
    /// Calls that have begun and not ended.
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

/// How a stop went, as kill_run tells it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReceiptView {
    /// The run's handle.
    pub run_id: String,
    /// killed when this stop ended it; another end when it came first; stopping when it is not over yet.
    pub state: String,
    /// True: it had ended before this call, which did nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub already_ended: Option<bool>,
    /// Seconds from the request to the last look.
    pub took_s: f64,
    /// none, SIGINT, SIGTERM or SIGKILL: the strongest that was needed.
    pub force: &'static str,
    /// Processes the run had.
    pub processes: u32,
    /// Processes that would not die; normally empty.
    pub survivors: Vec<String>,
    /// What read_result can still give.
    pub readable: String,
}

/// What run_massgen gives: a run as check_status shows it, or with dry_run what it would be. The schema names only what matters
/// at a start and is left open for the rest, which every client would pay for twice.
pub struct Answered;

impl JsonSchema for Answered {
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
                "cursor": {"type": "string", "description": "For check_status."},
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

/// How much of a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// What answers "how is it going".
    #[default]
    Brief,
    /// With paths, limits, per-agent numbers.
    Full,
}

/// What is known of a run beside its record.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its folder.
    pub folder: &'a std::path::Path,
    /// The runs that it started.
    pub children: &'a [RunId],
    /// The runs that build on an answer of it.
    pub built_on_by: &'a [RunId],
    /// How many wait before it, and how many in all.
    pub queue: Option<(usize, usize)>,
    /// How many messages of steer_run MassGen has not taken up.
    pub messages: usize,
    /// Of a run that waits for a model: each agent's.
    pub models: &'a BTreeMap<String, String>,
}

/// What an agent sees of a run at a moment.
pub fn run(record: &RunRecord, seen: &Seen<'_>, detail: Detail, now: &Moment) -> RunView {
    let digest = record.digest.as_ref();
    let ending = record.state.ended();
    let ready = record.ready.as_ref().filter(|_| ending.is_none());
    let answer = ending.and_then(|ending| ending.answer.as_ref()).or(ready);
    let quiet = record.quiet.as_ref().filter(|_| is_at_work(&record.state));
    let is_over = ending.is_some();
    let messages = Some(seen.messages).filter(|count| *count > 0);
    let is_partial = |answer: &AnswerFact| record.state.makes_partial(answer.source);
    let of_winner = answer.filter(|answer| record.has_winner(is_partial(answer)));
    let waiting = waiting::agents(digest, seen.models);
    let view = RunView {
        run_id: record.spec.id.to_string(),
        group: None,
        question: None,
        config: None,
        age_s: None,
        state: record.state.word().to_owned(),
        phase: digest.filter(|_| ending.is_none()).and_then(|digest| digest.phase.as_deref()).map(word),
        elapsed_s: record.elapsed(now).as_secs(),
        agents: digest.map(|digest| fit::agents(&digest.agents, usize::MAX, is_over)).unwrap_or_default(),
        votes: digest.map(|digest| votes(&digest.votes)).unwrap_or_default(),
        cost_usd: cost(record),
        cost_unknown: record.spent_in_all().is_unpriced.then_some(true),
        tokens: digest.and_then(|digest| digest.tokens).map(|tokens| tokens.max(record.spent.tokens)),
        budget: budget(record),
        queue: seen.queue.map(|place| queue(place, record.spec.allowance.slots)),
        messages_waiting: messages.filter(|_| !is_over),
        never_delivered: messages.filter(|_| is_over),
        winner: of_winner.map(|answer| word(&answer.agent)),
        best: answer.filter(|_| of_winner.is_none()).map(|answer| word(&answer.agent)),
        answer_chars: answer.map(|answer| answer.chars),
        answer_ready: ready.map(|_| true),
        partial: answer.filter(|answer| is_partial(answer)).map(|_| true),
        answer: None,
        exit: ending.filter(|_| detail == Detail::Full).and_then(|ending| exit_word(ending.exit)),
        reason: stop_reason(&record.state),
        quiet_s: quiet.map(|quiet| quiet.lasts(now).as_secs()),
        seems: quiet.map(|quiet| seems_words(quiet, waiting.as_deref(), now)),
        problem: problem_of(record, quiet, waiting.as_deref(), now).map(problem),
        changed: record.changed.as_ref().map(|changed| changed_files(changed, detail)),
        warning: ending.and_then(|ending| heaviest(&ending.warnings, detail)),
        cursor: None,
        hint: None,
        reused: None,
        applied: Vec::new(),
        continues: None,
        from: None,
        warnings: Vec::new(),
        details: (detail == Detail::Full)
            .then(|| Details { looked_at: quiet.map(|q| looked_at(q, now)), ..details(record, seen) }),
    };
    match detail {
        Detail::Brief => fit::fitted(view, digest),
        Detail::Full => view,
    }
}

impl RunView {
    /// Whether the run has ended.
    pub fn is_over(&self) -> bool {
        ENDS.contains(&self.state.as_str())
    }

    /// Whose answer there is.
    pub fn answered_by(&self) -> Option<&str> {
        self.winner.as_deref().or(self.best.as_deref())
    }

    /// With the run's label, for a list of runs that nobody named.
    #[must_use]
    pub fn with_group(self, record: &RunRecord) -> RunView {
        RunView { group: record.spec.group.as_deref().map(word), ..self }
    }
}

/// Which turn of which conversation a run is.
pub fn continued(before: &Continued) -> String {
    format!(
        "turn {} of the conversation of {}; its config, mode and context hold where you name no others",
        before.turn, before.run
    )
}

/// Which answer a run builds on.
pub fn built_on(from: &BuiltOn) -> String {
    let answer = from.answer.as_deref().map_or_else(|| "the final answer".to_owned(), word);
    format!("{answer} of {}, by {}", from.run, word(&from.agent))
}

/// A stop that could not be asked for.
pub fn failed_receipt(record: &RunRecord, why: &str) -> ReceiptView {
    ReceiptView { readable: format!("not stopped: {why}"), ..receipt(record) }
}

/// How the stop of a run went.
pub fn receipt(record: &RunRecord) -> ReceiptView {
    let ending = record.state.ended();
    let report = ending.and_then(|ending| ending.stop.as_ref());
    let survivors = report.map(|report| report.survivors.iter().map(|s| format!("{} {}", s.pid, s.name)).collect());
    let took = report.map(|report| report.took).unwrap_or_default();
    ReceiptView {
        run_id: record.spec.id.to_string(),
        state: record.state.word().to_owned(),
        already_ended: None,
        took_s: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        force: report.map_or("none", |report| force_word(report.force)),
        processes: report.map(|report| report.processes).unwrap_or_default(),
        survivors: survivors.unwrap_or_default(),
        readable: readable(ending),
    }
}

/// A stop of a run that had ended before: nothing was done, and how an earlier stop went is not this one's to tell.
pub fn ended_receipt(record: &RunRecord) -> ReceiptView {
    let is_over = Some(record.state.ended().is_some()).filter(|over| *over);
    ReceiptView {
        already_ended: is_over,
        took_s: 0.0,
        force: force_word(Force::None),
        processes: 0,
        survivors: Vec::new(),
        ..receipt(record)
    }
}

fn readable(ending: Option<&Ending>) -> String {
    match ending {
        None => "the stop is still under way; call kill_run or check_status again".to_owned(),
        Some(ending) => match &ending.answer {
            Some(answer) if ending.outcome == Outcome::Succeeded => {
                format!("the final answer, {} characters", answer.chars)
            }
            Some(answer) => format!("the best answer so far, {} characters", answer.chars),
            None => "no answer; parts `log` and `errors`".to_owned(),
        },
    }
}

/// What an agent is at; of a run that has ended, what it had come to.
fn doing(agent: &AgentDigest, is_over: bool) -> String {
    let with = |verb: &str, label: &Option<String>| match label {
        Some(label) => format!("{verb} {}", word(label)),
        None => verb.to_owned(),
    };
    match agent.state {
        AgentState::Working | AgentState::Thinking | AgentState::Restarting if is_over => "unfinished".to_owned(),
        AgentState::Working => "working".to_owned(),
        AgentState::Thinking => "thinking".to_owned(),
        AgentState::Answered => with("answered", &agent.label),
        AgentState::Voted => with("voted", &agent.vote),
        AgentState::Restarting => "restarting".to_owned(),
        AgentState::Failed => "failed".to_owned(),
        AgentState::TimedOut => "timed out".to_owned(),
        AgentState::Unknown => "unknown".to_owned(),
    }
}

fn votes(all: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    all.iter().map(|(label, count)| (word(label), *count)).collect()
}

/// A word of MassGen's, made harmless and cut to [`WORD_BYTES`] at a character boundary.
fn word(text: &str) -> String {
    let text = text::line(text, WORD_BYTES);
    let end = (0..=WORD_BYTES.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    text[..end].to_owned()
}

/// The names of changed files, a few of them in a brief status, and how many more there are.
fn changed_files(changed: &Changed, detail: Detail) -> Vec<String> {
    let named = match detail {
        Detail::Brief => changed.files.iter().take(BRIEF_FILES).map(|name| word(name)).collect::<Vec<_>>(),
        Detail::Full => changed.files.clone(),
    };
    let more = changed.count.saturating_sub(named.len() as u64);
    named.into_iter().chain((more > 0).then(|| format!("{more} more"))).collect()
}

fn stop_reason(state: &RunState) -> Option<String> {
    match state {
        RunState::Ended(Ending { outcome: Outcome::Killed { reason, .. }, .. })
        | RunState::Stopping { cause: StopCause::Asked { reason }, .. } => {
            reason.as_deref().map(|reason| text::line(reason, 80))
        }
        RunState::Ended(_)
        | RunState::Stopping { .. }
        | RunState::Queued
        | RunState::Starting { .. }
        | RunState::Running { .. }
        | RunState::Unknown(_) => None,
    }
}

/// How much of the budget is spent, from four fifths on; in dollars where those come nearer to their limit than the tokens.
fn budget(record: &RunRecord) -> Option<String> {
    let (cap, spent) = (record.spec.allowance.cap, record.spent_in_all());
    let used = cap.percent(spent);
    let by_usd = Cap { tokens: None, ..cap }.percent(spent) == used;
    let most = match (cap.usd.filter(|_| by_usd), cap.tokens) {
        (Some(usd), _) => usd.to_string(),
        (None, Some(tokens)) => format!("{tokens} tokens"),
        (None, None) => return None,
    };
    (used >= 80).then(|| format!("{used} % of {most}"))
}

/// What was counted; of a run that nothing was counted of (its supervisor died, or it costs nothing), what MassGen says.
fn cost(record: &RunRecord) -> Option<f64> {
    let counted = Some(record.spent.usd).filter(|usd| *usd > Usd(0)).map(Usd::as_f64);
    let told = record.digest.as_ref().and_then(|digest| digest.cost_usd);
    counted.or_else(|| told.map(|cost| (cost * 1e6).round() / 1e6))
}

fn queue((ahead, all): (usize, usize), slots: u32) -> String {
    format!("{ahead} ahead of it, {all} waiting for a slot ({slots} in all)")
}

/// A budget that was overrun says by how much.
fn over_budget(record: &RunRecord) -> Problem {
    let (cap, spent) = (record.spec.allowance.cap, record.spent_in_all());
    if cap.percent(spent) < 100 {
        return known(
            "cost_unknown",
            "it was stopped because MassGen has no price for a model of it, and this server allows none without",
            "use a config whose models have prices; only the person who configured this server can allow others (unknown_cost)",
            Retry::No,
        );
    }
    let usd = cap.usd.filter(|most| spent.usd >= *most);
    let (told, limit) = match (usd, cap.tokens) {
        (Some(most), _) => (format!("{} of {most} (over by {})", spent.usd, Usd(spent.usd.0 - most.0)), "budget_usd"),
        (None, most) => {
            let most = most.unwrap_or_default();
            let over = spent.tokens.saturating_sub(most);
            (format!("{} of {most} tokens (over by {over})", spent.tokens), "max_tokens")
        }
    };
    let circling = not_converging(record).map(|problem| again(&problem.hint));
    let larger = || format!("read_result has the best answer so far; for more, run it with a larger {limit}");
    let hint = circling.unwrap_or_else(larger);
    known("budget_spent", &format!("stopped at its budget: {told}"), &hint, Retry::No)
}

/// Whether MassGen is at work, so that it can be quiet.
fn is_at_work(state: &RunState) -> bool {
    match state {
        RunState::Starting { .. } | RunState::Running { .. } => true,
        RunState::Queued | RunState::Stopping { .. } | RunState::Ended(_) | RunState::Unknown(_) => false,
    }
}

/// What a quiet run seems to do; of one that waits for models, whose and for how long.
fn seems_words(quiet: &Quiet, waiting: Option<&str>, now: &Moment) -> String {
    let seems = quiet.seems(now);
    let waiting = waiting.filter(|_| seems == Seems::WaitingForModel);
    let who = waiting.map(|agents| format!(": {agents}, {} s", quiet.lasts(now).as_secs()));
    seems_word(seems).to_owned() + &who.unwrap_or_default()
}

fn seems_word(seems: Seems) -> &'static str {
    match seems {
        Seems::Stopped => "stopped",
        Seems::Working => "working",
        Seems::WaitingForRuns => "waiting for runs",
        Seems::WaitingInTool => "waiting in a tool",
        Seems::WaitingForModel => "waiting for a model",
        Seems::Idle => "idle",
        Seems::Wedged => "wedged",
    }
}

fn retry_word(retry: Retry) -> &'static str {
    match retry {
        Retry::Now => "now",
        Retry::Later => "later",
        Retry::No => "no",
    }
}

fn looked_at(quiet: &Quiet, now: &Moment) -> LookedAt {
    let seen = quiet.evidence.clone();
    LookedAt {
        ago_s: quiet.looked.until(now).as_secs(),
        processes: seen.processes,
        cpu_percent: seen.cpu_percent,
        state: seen.leader_state,
        connections: seen.connections,
        tools: seen.tools,
        live_children: seen.runs,
        last_event: seen.last_event,
        last_error: seen.last_error,
    }
}

fn problem_of(record: &RunRecord, quiet: Option<&Quiet>, waiting: Option<&str>, now: &Moment) -> Option<Problem> {
    let Some(ending) = record.state.ended() else {
        let trouble = quiet.and_then(|quiet| quiet.trouble_of(waiting, now));
        return trouble.or_else(|| not_converging(record).filter(|_| record.ready.is_none()));
    };
    ending_problem(record, ending)
}

fn not_converging(record: &RunRecord) -> Option<Problem> {
    record.digest.as_ref().and_then(|digest| digest.not_converging())
}

/// The hint of a live run's problem, for one that is over already.
fn again(hint: &str) -> String {
    hint.replacen("kill_run, then run_massgen again", "run it again", 1)
}

/// More time would not help agents that answer again and again.
fn out_of_time(record: &RunRecord, timeout: Problem) -> Problem {
    match not_converging(record) {
        Some(found) => {
            Problem { message: format!("{}: {}", timeout.message, found.message), hint: again(&found.hint), ..found }
        }
        None => timeout,
    }
}

/// A problem, as it is shown.
pub fn problem(problem: Problem) -> ProblemView {
    let provider = problem.provider.map(|provider| short(&provider, PROVIDER_BYTES));
    let retry = problem.retry.map(retry_word);
    ProblemView { code: problem.code, message: problem.message, hint: problem.hint, retry, provider }
}

/// A warning in an answer, bounded whatever stands in a config or a log.
pub fn warning(warning: &Warning) -> WarningView {
    let bounded = |words: &str| text::sentence(words, WARNING_CHARS);
    WarningView { code: warning.code.clone(), message: bounded(&warning.message), hint: bounded(&warning.hint) }
}

/// The most important of some warnings. Where there are more and the others are not shown, its hint says so.
fn heaviest(all: &[Warning], detail: Detail) -> Option<WarningView> {
    let mut first = warnings::by_weight(all).first().map(|first| warning(first))?;
    match (all.len() - 1, detail) {
        (0, _) | (_, Detail::Full) => {}
        (more, Detail::Brief) => first.hint = format!("{}; {more} more: detail full", first.hint),
    }
    Some(first)
}

/// At most so many bytes, cut between words, or at a character's border in a long word; where something was cut, the end says so.
fn short(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let room = most.saturating_sub('…'.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", text::whole_words(&text[..end], text[end..].starts_with(' ')))
}

fn ending_problem(record: &RunRecord, ending: &Ending) -> Option<Problem> {
    let problem = match &ending.outcome {
        Outcome::Lost => known(
            "supervisor_died",
            "the run's supervisor was killed; its end was not seen",
            "read_result gives the best answer so far; start it again with run_massgen",
            Retry::Now,
        ),
        Outcome::TimedOut { problem: Some(problem), .. } => problem.as_ref().clone(),
        Outcome::TimedOut { ours: true, problem: None } => {
            let hint = "read_result gives the best answer so far, if any; for more time start it again with a larger timeout_s";
            out_of_time(record, known("timeout_s_reached", "it was stopped at its timeout_s", hint, Retry::No))
        }
        Outcome::TimedOut { ours: false, problem: None } => {
            let hint =
                "read_result gives what it presented, if anything; raise timeout_s, or timeout_settings in the config";
            out_of_time(record, known("massgen_timeout", "MassGen's own timeout ended it", hint, Retry::No))
        }
        Outcome::OverBudget => over_budget(record),
        Outcome::Succeeded | Outcome::Failed(_) | Outcome::Killed { .. } => ending.outcome.problem()?.clone(),
    };
    Some(problem)
}

fn known(code: &str, message: &str, hint: &str, retry: Retry) -> Problem {
    Problem { retry: Some(retry), ..Problem::new(code, message, hint) }
}

fn details(record: &RunRecord, seen: &Seen<'_>) -> Details {
    let (spec, folder) = (&record.spec, seen.folder);
    let agents =
        record.digest.iter().flat_map(|digest| &digest.agents).map(|agent| (agent.id.clone(), agent_view(agent)));
    let warnings = record.state.ended().map(|ending| warnings::by_weight(&ending.warnings));
    let log_dir = record.log_dir.as_ref().map(|log| folder.join(log).display().to_string());
    Details {
        question: text::line(&spec.question, QUESTION_CHARS),
        config: spec.config.name(),
        group: spec.group.clone(),
        mode: spec.mode.word(),
        context: spec.context.word(),
        timeout_s: spec.timeout.as_secs(),
        budget_usd: spec.allowance.cap.usd.map(Usd::as_f64),
        max_tokens: spec.allowance.cap.tokens,
        tree_cost_usd: record.spent_in_all().known_usd().map(Usd::as_f64),
        tree_tokens: record.spent_in_all().tokens,
        parent: spec.lineage.parent.as_ref().map(RunId::to_string),
        root: spec.lineage.parent.as_ref().map(|_| spec.lineage.root.to_string()),
        continues: spec.continues.as_ref().map(|before| before.run.to_string()),
        turn: spec.continues.as_ref().map(|before| before.turn),
        children: seen.children.iter().map(RunId::to_string).collect(),
        from: spec.from.as_ref().map(|from| FromView {
            run_id: from.run.to_string(),
            answer: from.answer.clone(),
            agent: from.agent.clone(),
        }),
        built_on_by: seen.built_on_by.iter().map(RunId::to_string).collect(),
        created: spec.created.to_string(),
        folder: folder.display().to_string(),
        viewer: log_dir.as_ref().map(|log| viewer(&spec.program, log)),
        log_dir,
        massgen: spec.program.display().to_string(),
        start: record.started.as_ref().map(|_| if record.keeper.is_some() { "warm" } else { "cold" }),
        import_s: record.import.map(|time| time.as_secs()),
        cold_because: record.cold_because.clone(),
        agents: agents.collect(),
        warnings: warnings.filter(|all| all.len() > 1).into_iter().flatten().map(warning).collect(),
        looked_at: None,
    }
}

/// The command with which a person watches the run in a terminal.
fn viewer(program: &std::path::Path, log: &str) -> String {
    format!("{} viewer {}", text::shell_word(&program.display().to_string()), text::shell_word(log))
}

fn agent_view(agent: &AgentDigest) -> AgentView {
    AgentView { answers: agent.answers, tokens: agent.tokens, cost_usd: agent.cost_usd, error: agent.error.clone() }
}

fn force_word(force: Force) -> &'static str {
    match force {
        Force::None => "none",
        Force::Interrupt => "SIGINT",
        Force::Terminate => "SIGTERM",
        Force::Kill => "SIGKILL",
    }
}

#[cfg(test)]
mod tests;
