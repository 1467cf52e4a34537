//! What is worth keeping of MassGen's status.json: small, bounded by the number of agents, in our own words.
//! It says what MassGen wrote, never how the run ended: that is decided from evidence, elsewhere.

use std::collections::BTreeMap;

/// The newest good reading of status.json.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Digest {
    /// `coordination.phase`: `initial_answer`, `enforcement` (voting) or `presentation`.
    pub phase: Option<String>,
    /// The agents, in the order MassGen lists them.
    pub agents: Vec<AgentDigest>,
    /// Votes by answer label, for answers that still stand.
    pub votes: BTreeMap<String, u32>,
    /// How many votes MassGen has counted, void ones too (the sum of `results.votes`). Not kept in a record.
    pub votes_counted: u32,
    /// The agent whose answer is presented.
    pub winner: Option<String>,
    /// US dollars so far; absent when MassGen has no price for a model that was used.
    pub cost_usd: Option<f64>,
    /// Input and output tokens of all agents so far.
    pub tokens: Option<u64>,
    /// What `finish_reason` says, which is no proof of anything.
    pub finish_reason: Option<Finish>,
    /// The first error that MassGen noted of a call to a model.
    pub first_error: Option<String>,
    /// Which agent's call that was.
    pub first_error_agent: Option<String>,
}

/// One agent of a digest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AgentDigest {
    /// Its id in the config.
    pub id: String,
    /// What it is at.
    pub state: AgentState,
    /// How many answers it has given.
    pub answers: u32,
    /// Its newest answer, such as `agent1.2`.
    pub label: Option<String>,
    /// The label that its vote is for, while it stands.
    pub vote: Option<String>,
    /// MassGen's own words for what went wrong.
    pub error: Option<String>,
    /// Input and output tokens so far.
    pub tokens: Option<u64>,
    /// Those of them that it wrote.
    pub output_tokens: Option<u64>,
    /// US dollars so far, where known.
    pub cost_usd: Option<f64>,
}

/// What an agent is at, as far as `agents.*.status` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AgentState {
    /// MassGen's `waiting`: working on a first answer.
    #[default]
    Working,
    /// MassGen's `streaming`: has answered, thinks again.
    Thinking,
    /// Has answered and waits for the others.
    Answered,
    /// Has voted.
    Voted,
    /// Starts over because of a new answer of another.
    Restarting,
    /// Out of the run by an error.
    Failed,
    /// Out of the run by MassGen's clock.
    TimedOut,
    /// A word this version does not know.
    Unknown,
}

/// MassGen's `finish_reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Still at work, it thinks.
    InProgress,
    /// The final round began.
    Completed,
    /// Its own clock ran out.
    Timeout,
    /// At least one agent failed.
    Error,
    /// A word this version does not know.
    Unknown,
}

impl Digest {
    /// Whether a waiter wants to hear of the step from `before` to this: a phase, an answer, a vote, a winner or an
    /// error, never a mere tick of tokens or time.
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
    fn tokens_are_no_news_and_an_answer_is() {
        let before = Digest { agents: vec![agent("agent1.1", 5)], ..Digest::default() };
        let tick = Digest { agents: vec![agent("agent1.1", 9)], tokens: Some(9), ..Digest::default() };
        let answer = Digest { agents: vec![agent("agent1.2", 9)], ..Digest::default() };
        assert!(before.is_notable_change(None));
        assert!(!tick.is_notable_change(Some(&before)));
        assert!(answer.is_notable_change(Some(&before)));
    }
}
