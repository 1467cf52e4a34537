//! The facts taken from MassGen's status.json, in types of our own; their size is bounded by the number of agents.
//! They say what MassGen wrote, not how the run ended: `massgen::outcome` decides that from evidence.

use std::collections::BTreeMap;

/// The newest good reading of status.json.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Digest {
    /// `coordination.phase`: `initial_answer`, `enforcement` (voting) or `presentation`.
    pub phase: Option<String>,
    /// The agents, in the order MassGen lists them.
    pub agents: Vec<AgentDigest>,
    /// Votes by answer label, for answers that are still valid.
    pub votes: BTreeMap<String, u32>,
    /// How many votes MassGen has counted, including void ones (the sum of `results.votes`). Not stored in a record.
    pub votes_counted: u32,
    /// The agent whose answer is presented.
    pub winner: Option<String>,
    /// US dollars so far; `None` if MassGen has no price for a model that was used.
    pub cost_usd: Option<f64>,
    /// Input and output tokens of all agents so far.
    pub tokens: Option<u64>,
    /// MassGen's `finish_reason`, which does not prove how the run ended.
    pub finish_reason: Option<Finish>,
    /// The first error of a model call that MassGen recorded.
    pub first_error: Option<String>,
    /// The agent that made that call.
    pub first_error_agent: Option<String>,
}

/// One agent of a digest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentDigest {
    /// Its id in the config.
    pub id: String,
    /// Its state.
    pub state: AgentState,
    /// How many answers it has given.
    pub answers: u32,
    /// Its newest answer, such as `agent1.2`.
    pub label: Option<String>,
    /// The label that it votes for, while the vote is valid.
    pub vote: Option<String>,
    /// MassGen's error message.
    pub error: Option<String>,
    /// Input and output tokens so far.
    pub tokens: Option<u64>,
    /// Output tokens so far.
    pub output_tokens: Option<u64>,
    /// US dollars so far, if known.
    pub cost_usd: Option<f64>,
}

/// The state of an agent, from `agents.*.status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentState {
    /// MassGen's `waiting`: working on a first answer.
    #[default]
    Working,
    /// MassGen's `streaming`: has answered and works on.
    Thinking,
    /// Has answered and waits for the others.
    Answered,
    /// Has voted.
    Voted,
    /// Starts over because another agent gave a new answer.
    Restarting,
    /// Left the run because of an error.
    Failed,
    /// Left the run because of MassGen's timeout.
    TimedOut,
    /// A value that this version does not know.
    Unknown,
}

/// MassGen's `finish_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The run is in progress.
    InProgress,
    /// The final round began.
    Completed,
    /// MassGen's timeout expired.
    Timeout,
    /// At least one agent failed.
    Error,
    /// A value that this version does not know.
    Unknown,
}

impl Digest {
    /// Whether the change from `before` is notable: a phase, an answer, a vote, a winner or an error; tokens and time
    /// alone are not.
    pub fn is_notable_change(&self, before: Option<&Digest>) -> bool {
        before.is_none_or(|before| self.notable_fields() != before.notable_fields())
    }

    fn notable_fields(&self) -> impl PartialEq + '_ {
        let agents: Vec<_> = self.agents.iter().map(|a| (&a.id, a.answers, &a.label, &a.vote, &a.error)).collect();
        (&self.phase, agents, &self.votes, &self.winner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(label: &str, tokens: u64) -> AgentDigest {
        AgentDigest { id: "a".into(), label: Some(label.into()), tokens: Some(tokens), ..AgentDigest::default() }
    }

    #[test]
    fn tokens_are_not_notable_and_an_answer_is() {
        let before = Digest { agents: vec![agent("agent1.1", 5)], ..Digest::default() };
        let tick = Digest { agents: vec![agent("agent1.1", 9)], tokens: Some(9), ..Digest::default() };
        let answer = Digest { agents: vec![agent("agent1.2", 9)], ..Digest::default() };
        assert!(before.is_notable_change(None));
        assert!(!tick.is_notable_change(Some(&before)));
        assert!(answer.is_notable_change(Some(&before)));
    }
}
