//! What happened in a run, from the files that MassGen leaves in an attempt's folder: who answered when, who voted for whom,
//! where time, tokens and money went. Each fact says which file it is from. Patient and bounded: what is missing, damaged or too
//! much gives less, and a gap says so. It never judges a run.

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

/// The most facts of one kind; a run that has more is told from its beginning.
const MAX_EVENTS: usize = 5_000;

/// A file of a run, relative to the run's folder.
pub type SourcePath = PathBuf;

/// A run's attempt, told from its files. Times are seconds from `start`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// When MassGen began to coordinate, in seconds since 1970.
    pub start: Option<f64>,
    /// When the last thing that is known happened, in seconds from `start`.
    pub end: f64,
    /// The agents, in the order in which MassGen lists them, with what each spent.
    pub agents: Vec<AgentTotals>,
    /// Answers, oldest first.
    pub answers: Vec<AnswerEvent>,
    /// Votes, oldest first; those that a newer answer made void too.
    pub votes: Vec<VoteEvent>,
    /// Times at which an agent restarted because of another agent's answer.
    pub restarts: Vec<Restart>,
    /// Rounds of agents, by agent and time.
    pub rounds: Vec<Round>,
    /// Calls of tools, oldest first.
    pub tools: Vec<ToolCall>,
    /// The presentation of the final answer.
    pub presentation: Option<Presentation>,
    /// What went wrong, oldest first.
    pub errors: Vec<ErrorEvent>,
    /// What was not there or could not be read whole.
    pub gaps: Vec<String>,
    /// The folder that most of its files are in, relative to the run's folder.
    pub attempt: PathBuf,
    /// How long all agents together waited for their models; MassGen does not tell whose wait it was.
    pub model_waits: Option<ModelWaits>,
}

/// One agent of a story.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentTotals {
    /// Its id in the config.
    pub id: String,
    /// The model that the config gives it.
    pub model: Option<String>,
    /// Tokens that it was given.
    pub input_tokens: u64,
    /// Tokens that it wrote.
    pub output_tokens: u64,
    /// US dollars, where known.
    pub cost_usd: Option<f64>,
    /// Seconds in which it waited for its model, where MassGen tells it of this agent: of a lone one, or round by round.
    pub model_wait_s: Option<f64>,
    /// Calls of its model, where MassGen tells them of this agent.
    pub model_calls: Option<u64>,
    /// From which file these numbers are.
    pub source: SourcePath,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnswerEvent {
    /// When.
    pub time_s: f64,
    /// By whom.
    pub agent: String,
    /// Its label, such as `agent1.2`.
    pub label: String,
    /// Its length.
    pub chars: u64,
    /// Its file.
    pub source: SourcePath,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VoteEvent {
    /// When.
    pub time_s: f64,
    /// Who voted.
    pub voter: String,
    /// For which agent.
    pub agent: String,
    /// For which answer, where that is told.
    pub label: Option<String>,
    /// Why, in the voter's words.
    pub reason: String,
    /// Whether it stood at the end: its voter cast none after it, and no agent answered after it, which voids all votes.
    pub counted: bool,
    /// From which file.
    pub source: SourcePath,
}

/// A new beginning because of another's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restart {
    /// When.
    pub time_s: f64,
    /// Of whom.
    pub agent: String,
    /// Why, in MassGen's words.
    pub reason: String,
    /// From which file.
    pub source: SourcePath,
}

/// A round of an agent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    /// Whose.
    pub agent: String,
    /// Its number, from 0.
    pub number: u64,
    /// `initial_answer`, `voting`, `presentation`, …
    pub kind: String,
    /// `answer`, `vote`, `presentation`, `restarted`, `error`, `timeout`; empty while it goes on.
    pub outcome: String,
    /// When it began.
    pub start: f64,
    /// When it ended, or the end of the story.
    pub end: f64,
    /// Tokens given.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// US dollars, where known.
    pub cost_usd: Option<f64>,
    /// From which file.
    pub source: SourcePath,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolCall {
    /// When it began.
    pub time_s: f64,
    /// How long it took; none while it is open.
    pub duration_s: Option<f64>,
    /// Whose.
    pub agent: String,
    /// Which tool.
    pub tool: String,
    /// Whether it failed, by MassGen's word or, of a shell command, by its result's own (`success: false`).
    pub failed: bool,
    /// What it said when it failed, in one line.
    pub error: Option<String>,
    /// From which file.
    pub source: SourcePath,
}

/// The presentation of the final answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Presentation {
    /// By whom.
    pub agent: String,
    /// When it began.
    pub start: f64,
    /// When it ended, or the end of the story.
    pub end: f64,
    /// Whether the votes were even.
    pub is_tie: bool,
    /// From which file.
    pub source: SourcePath,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ErrorEvent {
    /// When.
    pub time_s: f64,
    /// Whose, where it was an agent's.
    pub agent: Option<String>,
    /// What, in one line of MassGen's words.
    pub message: String,
    /// From which file.
    pub source: SourcePath,
}

/// Calls of models.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ModelWaits {
    /// How many.
    pub calls: u64,
    /// Seconds from each call's start to its end, together; calls of several agents overlap.
    pub waited_s: f64,
    /// The same by the number of the round, where that is told.
    pub rounds: Vec<RoundWaits>,
    /// From which file.
    pub source: SourcePath,
}

/// Calls of models in the rounds of one number, of all agents.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RoundWaits {
    /// The number of the round, from 0.
    pub number: u64,
    /// How many calls.
    pub calls: u64,
    /// Seconds of them together.
    pub waited_s: f64,
}

/// Votes that stand: each voter's newest, where no answer has come after it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StandingVotes {
    /// How many, by the label of the answer, or its agent where that is not told.
    pub votes: BTreeMap<String, u32>,
    /// For what each agent's vote is.
    pub by_agent: BTreeMap<String, String>,
    /// How many votes were ever cast, void ones too.
    pub cast_count: usize,
}

/// The votes that stand in a run's newest attempt, from the ballots alone (`vote.json`); none where MassGen left no ballots. Its own
/// count (`results.votes` of status.json) has those in it that a newer answer made void, and `vote_cast` is an agent's first.
pub fn standing_votes(
    files: &RunFiles,
    layout: &Layout,
    digest: Option<&Digest>,
    secrets: &Secrets,
) -> Option<StandingVotes> {
    votes::standing_votes(&ReadContext::new(files, layout, secrets), digest)
}

impl Timeline {
    /// Reads the newest attempt of a run, live or over. `digest` gives the order of the agents where MassGen left no labels;
    /// secrets come out masked.
    pub fn read(files: &RunFiles, layout: &Layout, digest: Option<&Digest>, secrets: &Secrets) -> Timeline {
        let desk = ReadContext::new(files, layout, secrets);
        let mut story = Timeline { attempt: layout.attempt.clone(), ..Timeline::default() };
        let attempts = files.folders(&layout.turn).iter().filter(|name| name.starts_with("attempt_")).count();
        if attempts > 1 {
            story.gaps.push(format!("MassGen made {attempts} attempts, of which the last is told"));
        }
        let numbers = metrics::Metrics::read(&desk, &mut story.gaps);
        let clock = TimelineClock::new(numbers.start(), events::first_local_time(&desk), layout);
        story.start = clock.start();
        numbers.add_to_timeline(&desk, &clock, &mut story);
        votes::add_answers_and_votes(&desk, &clock, digest, &mut story);
        events::add_events(&desk, &clock, &mut story);
        story.finalize(numbers.last_updated(&clock));
        story
    }

    /// Puts the facts of several files together: order, end, and which votes stood.
    fn finalize(&mut self, seen: Option<f64>) {
        self.truncate();
        self.answers.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.votes.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.errors.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
        self.end = seen.into_iter().chain(self.times()).fold(self.end, f64::max);
        let end = self.end;
        let open = self.rounds.iter_mut().filter(|round| round.outcome.is_empty()).map(|round| &mut round.end);
        let shown = self.presentation.iter_mut().map(|shown| &mut shown.end).filter(|to| **to == 0.0);
        open.chain(shown).for_each(|to| *to = end);
        votes::mark_standing(&mut self.votes, self.answers.iter().map(|answer| answer.time_s));
    }

    fn times(&self) -> impl Iterator<Item = f64> {
        let points = self.answers.iter().map(|answer| answer.time_s).chain(self.votes.iter().map(|vote| vote.time_s));
        let troubles = self.errors.iter().map(|trouble| trouble.time_s);
        let calls = self.tools.iter().map(|call| call.time_s + call.duration_s.unwrap_or_default());
        points.chain(troubles).chain(calls).chain(self.rounds.iter().map(|round| round.end))
    }

    fn truncate(&mut self) {
        fn cut<T>(facts: &mut Vec<T>, what: &str, gaps: &mut Vec<String>) {
            if facts.len() > MAX_EVENTS {
                gaps.push(format!("of {} {what} the first {MAX_EVENTS} are told", facts.len()));
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
