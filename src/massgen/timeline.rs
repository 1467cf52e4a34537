//! The events of a run, from the files in MassGen's attempt folder: who answered when, who voted for whom, and what took time, tokens and
//! money. Each fact names its source file. Tolerant and bounded: missing, damaged or excess data is omitted and a gap reports it. It never
//! judges a run.

mod clock;
mod events;
mod metrics;
mod read_context;
mod votes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use self::clock::TimelineClock;
use self::read_context::ReadContext;
use super::files::RunFiles;
use super::layout::Layout;
use crate::run::Digest;
use crate::secrets::Secrets;

/// The most facts of one kind; a longer list keeps the earliest.
const MAX_EVENTS: usize = 5_000;

/// A file of a run, relative to the run's folder.
pub type SourcePath = PathBuf;

/// The timeline of a run's attempt. Times are seconds from `start`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// When MassGen began to coordinate, in seconds since 1970.
    pub start: Option<f64>,
    /// The time of the last known event, in seconds from `start`.
    pub end: f64,
    /// The agents in MassGen's order, with what each one used.
    pub agents: Vec<AgentTotals>,
    /// Answers, oldest first.
    pub answers: Vec<AnswerEvent>,
    /// Votes, oldest first, including those that a newer answer made void.
    pub votes: Vec<VoteEvent>,
    /// Times at which an agent restarted because of another agent's answer.
    pub restarts: Vec<Restart>,
    /// Rounds of agents, sorted by agent and time.
    pub rounds: Vec<Round>,
    /// Tool calls, oldest first.
    pub tools: Vec<ToolCall>,
    /// The presentation of the final answer.
    pub presentation: Option<Presentation>,
    /// Errors, oldest first.
    pub errors: Vec<ErrorEvent>,
    /// Data that is missing or could not be read completely.
    pub gaps: Vec<String>,
    /// The folder with most of the files, relative to the run's folder.
    pub attempt: PathBuf,
    /// How long all agents together waited for their models; MassGen does not attribute this time to agents.
    pub model_waits: Option<ModelWaits>,
}

/// One agent of a timeline.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentTotals {
    /// Its id in the config.
    pub id: String,
    /// Its model in the config.
    pub model: Option<String>,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The cost in US dollars, if known.
    pub cost_usd: Option<f64>,
    /// Seconds of waiting for its model, if MassGen reports it for this agent: for a single agent, or per round.
    pub model_wait_s: Option<f64>,
    /// Its model calls, if MassGen reports them for this agent.
    pub model_calls: Option<u64>,
    /// The source file of these numbers.
    pub source: SourcePath,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnswerEvent {
    /// The time.
    pub time_s: f64,
    /// The agent.
    pub agent: String,
    /// Its label, such as `agent1.2`.
    pub label: String,
    /// Its length in characters.
    pub chars: u64,
    /// Its file.
    pub source: SourcePath,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VoteEvent {
    /// The time.
    pub time_s: f64,
    /// The voter.
    pub voter: String,
    /// The agent that the vote is for.
    pub agent: String,
    /// The answer that the vote is for, if known.
    pub label: Option<String>,
    /// The voter's reason.
    pub reason: String,
    /// Whether it was valid at the end: the voter cast no later vote, and no agent answered later, which voids all votes.
    pub counted: bool,
    /// The source file.
    pub source: SourcePath,
}

/// A restart because of another agent's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restart {
    /// The time.
    pub time_s: f64,
    /// The agent that restarted.
    pub agent: String,
    /// MassGen's reason.
    pub reason: String,
    /// The source file.
    pub source: SourcePath,
}

/// A round of an agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    /// The agent.
    pub agent: String,
    /// Its number, from 0.
    pub number: u64,
    /// `initial_answer`, `voting`, `presentation`, …
    pub kind: String,
    /// `answer`, `vote`, `presentation`, `restarted`, `error`, `timeout`; empty while the round continues.
    pub outcome: String,
    /// The start.
    pub start: f64,
    /// The end, or the end of the timeline.
    pub end: f64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// The cost in US dollars, if known.
    pub cost_usd: Option<f64>,
    /// The source file.
    pub source: SourcePath,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolCall {
    /// The start.
    pub time_s: f64,
    /// Its duration; `None` while it is open.
    pub duration_s: Option<f64>,
    /// The agent.
    pub agent: String,
    /// The tool.
    pub tool: String,
    /// Whether it failed, according to MassGen or, for a shell command, according to its result (`success: false`).
    pub failed: bool,
    /// The error, in one line.
    pub error: Option<String>,
    /// The source file.
    pub source: SourcePath,
}

/// The presentation of the final answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Presentation {
    /// The presenting agent.
    pub agent: String,
    /// The start.
    pub start: f64,
    /// The end, or the end of the timeline.
    pub end: f64,
    /// Whether the votes were tied.
    pub is_tie: bool,
    /// The source file.
    pub source: SourcePath,
}

/// An error.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorEvent {
    /// The time.
    pub time_s: f64,
    /// The agent, if the error is an agent's.
    pub agent: Option<String>,
    /// MassGen's message, in one line.
    pub message: String,
    /// The source file.
    pub source: SourcePath,
}

/// Model calls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelWaits {
    /// The number of calls.
    pub calls: u64,
    /// The sum of all call durations in seconds; calls of several agents overlap.
    pub waited_s: f64,
    /// The same by round number, if known.
    pub rounds: Vec<RoundWaits>,
    /// The source file.
    pub source: SourcePath,
}

/// Model calls of all agents in the rounds with one number.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundWaits {
    /// The round number, from 0.
    pub number: u64,
    /// The number of calls.
    pub calls: u64,
    /// The sum of their durations in seconds.
    pub waited_s: f64,
}

/// The valid votes: each voter's newest, if no answer came after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandingVotes {
    /// The number of votes by answer label, or by agent if the label is unknown.
    pub votes: BTreeMap<String, u32>,
    /// Each agent's vote.
    pub by_agent: BTreeMap<String, String>,
    /// The number of all votes, including void ones.
    pub cast_count: usize,
}

/// The valid votes in a run's newest attempt, from the `vote.json` files alone; `None` if MassGen left none. MassGen's own count
/// (`results.votes` of status.json) includes votes that a newer answer made void, and its `vote_cast` is an agent's first vote.
pub fn standing_votes(
    files: &RunFiles,
    layout: &Layout,
    digest: Option<&Digest>,
    secrets: &Secrets,
) -> Option<StandingVotes> {
    votes::standing_votes(&ReadContext::new(files, layout, secrets), digest)
}

impl Timeline {
    /// Reads the newest attempt of a live or ended run. `digest` gives the order of the agents if MassGen left no labels; secrets are
    /// masked.
    pub fn read(files: &RunFiles, layout: &Layout, digest: Option<&Digest>, secrets: &Secrets) -> Timeline {
        let context = ReadContext::new(files, layout, secrets);
        let mut timeline = Timeline { attempt: layout.attempt.clone(), ..Timeline::default() };
        let attempts = files.folders(&layout.turn).iter().filter(|name| name.starts_with("attempt_")).count();
        if attempts > 1 {
            timeline.gaps.push(format!("MassGen made {attempts} attempts; the last one is shown"));
        }
        let numbers = metrics::Metrics::read(&context, &mut timeline.gaps);
        let clock = TimelineClock::new(numbers.start(), events::first_local_time(&context), layout);
        timeline.start = clock.start();
        numbers.add_to_timeline(&context, &clock, &mut timeline);
        votes::add_answers_and_votes(&context, &clock, digest, &mut timeline);
        events::add_events(&context, &clock, &mut timeline);
        timeline.finalize(numbers.last_updated(&clock));
        timeline
    }

    /// Combines the facts of several files: order, end, and valid votes.
    fn finalize(&mut self, last_seen: Option<f64>) {
        self.truncate();
        self.answers.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.votes.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.errors.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.end = last_seen.into_iter().chain(self.times()).fold(self.end, f64::max);
        let end = self.end;
        let open_ends = self.rounds.iter_mut().filter(|round| round.outcome.is_empty()).map(|round| &mut round.end);
        let presentation_end = self
            .presentation
            .iter_mut()
            .map(|presentation_end| &mut presentation_end.end)
            .filter(|end_time| **end_time == 0.0);
        open_ends.chain(presentation_end).for_each(|end_time| *end_time = end);
        votes::mark_standing(&mut self.votes, self.answers.iter().map(|answer| answer.time_s));
    }

    fn times(&self) -> impl Iterator<Item = f64> {
        let event_times =
            self.answers.iter().map(|answer| answer.time_s).chain(self.votes.iter().map(|vote| vote.time_s));
        let errors = self.errors.iter().map(|error| error.time_s);
        let calls = self.tools.iter().map(|call| call.time_s + call.duration_s.unwrap_or_default());
        event_times.chain(errors).chain(calls).chain(self.rounds.iter().map(|round| round.end))
    }

    fn truncate(&mut self) {
        fn cut<T>(facts: &mut Vec<T>, noun: &str, gaps: &mut Vec<String>) {
            if facts.len() > MAX_EVENTS {
                gaps.push(format!("of {} {noun} the first {MAX_EVENTS} are shown", facts.len()));
                facts.truncate(MAX_EVENTS);
            }
        }
        cut(&mut self.answers, "answers", &mut self.gaps);
        cut(&mut self.votes, "votes", &mut self.gaps);
        cut(&mut self.restarts, "restarts", &mut self.gaps);
        cut(&mut self.rounds, "rounds", &mut self.gaps);
        cut(&mut self.tools, "calls of tools", &mut self.gaps);
        cut(&mut self.errors, "errors", &mut self.gaps);
    }
}

#[cfg(test)]
mod tests;
