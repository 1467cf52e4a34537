//! Names the source of a failure before a problem's sentence: the agents and, for failed credentials, the variables of their keys. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::MAX_MESSAGE_CHARS;
use crate::massgen::text;
use crate::run::{AgentState, Digest, Problem};

/// The most agents to name.
const MAX_NAMED_AGENTS: usize = 3;
/// The longest agent name, in characters.
const MAX_NAME_CHARS: usize = 64;

/// Adds the names of the failed agents to a run's problem, if known: from status.json or, if that names none, all agents for a missing or
/// rejected key. `keys` are the variable names by agent.
pub fn attribute_problem(problem: Problem, digest: Option<&Digest>, keys: &BTreeMap<String, String>) -> Problem {
    let is_of_key = matches!(problem.code.as_str(), "api_key_missing" | "api_key_rejected");
    if !is_of_key && problem.provider.is_none() {
        return problem;
    }
    let failed = failing_agents(digest);
    let agents = if failed.is_empty() && is_of_key { keys.keys().cloned().collect() } else { failed };
    let variables: BTreeSet<&str> =
        agents.iter().filter_map(|agent| keys.get(agent)).map(String::as_str).filter(|_| is_of_key).collect();
    let omitted = agents.len().saturating_sub(MAX_NAMED_AGENTS);
    let omitted = (omitted > 0).then(|| format!("{omitted} more"));
    let names =
        agents.iter().take(MAX_NAMED_AGENTS).map(|agent| text::single_line(agent, MAX_NAME_CHARS)).chain(omitted);
    let names = names.collect::<Vec<_>>().join(", ");
    let variables = text::single_line(&variables.into_iter().collect::<Vec<_>>().join(", "), MAX_NAME_CHARS);
    let message = match (names.is_empty(), variables.is_empty()) {
        (true, _) => return problem,
        (false, true) => format!("{names}: {}", problem.message),
        (false, false) => format!("{names} ({variables}): {}", problem.message),
    };
    Problem { message: text::truncate_sentence(&message, MAX_MESSAGE_CHARS), ..problem }
}

/// The agents that MassGen abandoned, else the agent whose call failed first.
fn failing_agents(digest: Option<&Digest>) -> Vec<String> {
    let Some(digest) = digest else { return Vec::new() };
    let failed = digest.agents.iter().filter(|agent| agent.state == AgentState::Failed);
    let failed: Vec<String> = failed.map(|agent| agent.id.clone()).collect();
    if failed.is_empty() { digest.first_error_agent.iter().cloned().collect() } else { failed }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    #[test]
    fn a_problem_names_its_agents_and_the_variable_of_their_key() {
        let keys: BTreeMap<String, String> = [("a", "OPENAI_API_KEY"), ("b", "OPENAI_API_KEY"), ("c", "XAI_API_KEY")]
            .map(|(id, key)| (id.into(), key.into()))
            .into();
        let attributed = |code: &str, provider: Option<&str>, digest: Option<&Digest>| {
            let problem = Problem { provider: provider.map(str::to_owned), ..Problem::new(code, "no", "h") };
            attribute_problem(problem, digest, &keys).message
        };
        let agent = |id: &str, state| AgentDigest { id: id.to_owned(), state, ..AgentDigest::default() };
        let failed = |ids: &[&str]| Digest {
            agents: ids.iter().map(|id| agent(id, AgentState::Failed)).chain([agent("z", AgentState::Voted)]).collect(),
            ..Digest::default()
        };
        assert_eq!(attributed("api_key_missing", None, None), "a, b, c (OPENAI_API_KEY, XAI_API_KEY): no");
        assert_eq!(attributed("api_key_rejected", Some("p"), Some(&failed(&["a", "b"]))), "a, b (OPENAI_API_KEY): no");
        assert_eq!(attributed("rate_limited", Some("p"), Some(&failed(&["a", "b", "c", "d"]))), "a, b, c, 1 more: no");
        let first = Digest { first_error_agent: Some("c".to_owned()), ..Digest::default() };
        assert_eq!(attributed("no_credit", Some("p"), Some(&first)), "c: no");
        assert_eq!(attributed("no_credit", Some("p"), None), "no", "it is not known whose call it was");
        assert_eq!(attributed("crashed", None, Some(&failed(&["a"]))), "no", "that is no agent's failure");
    }
}
