//! What happened in a run, from the files that MassGen 0.1.97 leaves in an attempt's folder: who answered when, who voted for whom,
//! where time, tokens and money went. Each fact says which file it is from. Patient: what is missing or damaged gives less.

use std::path::PathBuf;

/// A file of a run, relative to the run's folder.
pub type Source = PathBuf;

/// A run's attempt, told from its files. Times are seconds from `start`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Story {
    /// When MassGen began to coordinate, in seconds since 1970.
    pub start: Option<f64>,
    /// When the last thing that is known happened, in seconds from `start`.
    pub end: f64,
    /// The agents, in the order in which MassGen lists them, with what each spent.
    pub agents: Vec<AgentStory>,
    /// Answers, oldest first.
    pub answers: Vec<Given>,
    /// Votes, oldest first; those that a newer answer made void too.
    pub votes: Vec<Cast>,
    /// Times at which an agent began anew because of another's answer.
    pub restarts: Vec<Restart>,
    /// Rounds of agents, by agent and time.
    pub rounds: Vec<Round>,
    /// Calls of tools, oldest first.
    pub tools: Vec<ToolCall>,
    /// The presentation of the final answer.
    pub presentation: Option<Presentation>,
    /// What went wrong, oldest first.
    pub troubles: Vec<Trouble>,
    /// What was not there or could not be read whole.
    pub gaps: Vec<String>,
}

/// One agent of a story.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentStory {
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
    /// Seconds in which it waited for its model.
    pub model_wait_s: Option<f64>,
    /// Calls of its model.
    pub model_calls: Option<u64>,
    /// From which file these numbers are.
    pub source: Source,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Given {
    /// When.
    pub at: f64,
    /// By whom.
    pub agent: String,
    /// Its label, such as `agent1.2`.
    pub label: String,
    /// Its length.
    pub chars: u64,
    /// Its file.
    pub source: Source,
}

/// A vote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Cast {
    /// When.
    pub at: f64,
    /// Who voted.
    pub voter: String,
    /// For which agent.
    pub agent: String,
    /// For which answer, where that is told.
    pub label: Option<String>,
    /// Why, in the voter's words.
    pub reason: String,
    /// Whether it stood at the end.
    pub counted: bool,
    /// From which file.
    pub source: Source,
}

/// A new beginning because of another's answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restart {
    /// When.
    pub at: f64,
    /// Of whom.
    pub agent: String,
    /// Why, in MassGen's words.
    pub reason: String,
    /// From which file.
    pub source: Source,
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
    pub from: f64,
    /// When it ended, or the end of the story.
    pub to: f64,
    /// Tokens given and written.
    pub input_tokens: u64,
    /// Tokens written.
    pub output_tokens: u64,
    /// US dollars, where known.
    pub cost_usd: Option<f64>,
    /// From which file.
    pub source: Source,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ToolCall {
    /// When it began.
    pub at: f64,
    /// How long it took; none while it is open.
    pub took: Option<f64>,
    /// Whose.
    pub agent: String,
    /// Which tool.
    pub tool: String,
    /// Whether it failed.
    pub failed: bool,
    /// From which file.
    pub source: Source,
}

/// The presentation of the final answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Presentation {
    /// By whom.
    pub agent: String,
    /// When it began.
    pub from: f64,
    /// When it ended, or the end of the story.
    pub to: f64,
    /// Whether the votes were even.
    pub is_tie: bool,
    /// From which file.
    pub source: Source,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Trouble {
    /// When.
    pub at: f64,
    /// Whose, where it was an agent's.
    pub agent: Option<String>,
    /// What, in one line of MassGen's words.
    pub message: String,
    /// From which file.
    pub source: Source,
}
