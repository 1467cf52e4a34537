//! The active agents of a quiet run and the models that they wait for, as a short text. Pure and bounded.

use std::collections::BTreeMap;

use super::short_word;
use crate::run::{AgentState, Digest};

/// The most agents that are named.
const MAX_NAMED: usize = 2;

/// For example `agent_a (gpt-5), agent_b (gpt-5), 3 more`; `None` if no agent is known. Before the first digest, all
/// agents of the config are in their first call.
pub(super) fn awaited_agents(digest: Option<&Digest>, models: &BTreeMap<String, String>) -> Option<String> {
    let presenting_agent = digest.filter(|digest| digest.phase.as_deref() == Some("presentation"));
    let presenting_agent = presenting_agent.and_then(|digest| digest.winner.clone());
    let active: Vec<String> = match (presenting_agent, digest) {
        (Some(winner), _) => vec![winner],
        (None, Some(digest)) if !digest.agents.is_empty() => {
            let active = digest.agents.iter().filter(|agent| is_active(agent.state));
            active.map(|agent| agent.id.clone()).collect()
        }
        (None, Some(_) | None) => models.keys().cloned().collect(),
    };
    let named = active.iter().take(MAX_NAMED).map(|id| match models.get(id) {
        Some(model) => format!("{} ({})", short_word(id), short_word(model)),
        None => short_word(id),
    });
    let omitted = active.len().saturating_sub(MAX_NAMED);
    let parts: Vec<String> = named.chain((omitted > 0).then(|| format!("{omitted} more"))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// MassGen reports an agent as `answered` also while the agent's model is asked for a vote.
fn is_active(state: AgentState) -> bool {
    match state {
        AgentState::Working
        | AgentState::Thinking
        | AgentState::Answered
        | AgentState::Restarting
        | AgentState::Unknown => true,
        AgentState::Voted | AgentState::Failed | AgentState::TimedOut => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    #[test]
    fn working_agents_are_named_with_their_models() {
        let models: BTreeMap<String, String> =
            [("a", "gpt-5"), ("b", "m")].map(|(id, model)| (id.into(), model.into())).into();
        let agent = |id: &str, state| AgentDigest { id: id.to_owned(), state, ..AgentDigest::default() };
        let agents_text = |agents: Vec<AgentDigest>| agents_of(Digest { agents, ..Digest::default() }, &models);
        fn agents_of(digest: Digest, models: &BTreeMap<String, String>) -> Option<String> {
            awaited_agents(Some(&digest), models)
        }
        let working = agent("a", AgentState::Working);
        assert_eq!(agents_text(vec![working.clone(), agent("b", AgentState::Voted)]).as_deref(), Some("a (gpt-5)"));
        let many = vec![working, agent("c", AgentState::Answered), agent("d", AgentState::Thinking)];
        assert_eq!(agents_text(many).as_deref(), Some("a (gpt-5), c, 1 more"));
        assert_eq!(awaited_agents(None, &models).as_deref(), Some("a (gpt-5), b (m)"), "all are at their first call");
        assert_eq!(awaited_agents(None, &BTreeMap::new()), None);
        let presenting = Digest { phase: Some("presentation".into()), winner: Some("b".into()), ..Digest::default() };
        assert_eq!(agents_of(presenting, &models).as_deref(), Some("b (m)"));
    }
}
