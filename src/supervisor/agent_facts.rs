//! What a config says about its agents, as far as a supervisor needs it: models for prices, providers and key variables for failures.
//! Pure.

use std::collections::BTreeMap;

use crate::massgen::configs::{Needs, Tree};

/// Each map is by agent. An agent is absent if the config does not set the value.
#[derive(Debug, Clone, Default)]
pub(super) struct AgentFacts {
    /// Its model.
    pub(super) models: BTreeMap<String, String>,
    /// The provider of its model.
    providers: BTreeMap<String, String>,
    /// The variable that holds its key.
    pub(super) key_variables: BTreeMap<String, String>,
}

impl AgentFacts {
    pub(super) fn from_config(config: &Tree) -> AgentFacts {
        let agents = Needs::from_config(config).agents;
        let providers = agents.iter().filter_map(|agent| Some((agent.id.clone(), agent.provider()?.to_owned())));
        AgentFacts {
            providers: providers.collect(),
            models: agents.into_iter().filter_map(|agent| Some((agent.id, agent.model?))).collect(),
            key_variables: Needs::agent_key_variables(config),
        }
    }

    /// The provider of the failing agent's model. If the agent is unknown: the provider of all agents, if they share one.
    pub(super) fn provider(&self, failing: Option<&str>) -> Option<&str> {
        let of_agent = failing.and_then(|agent| self.providers.get(agent));
        let mut all = self.providers.values();
        let first = all.next();
        let of_all = first.filter(|first| all.all(|other| other == *first));
        of_agent.or(of_all).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_provider_is_named_if_the_failing_agent_is_unknown() {
        let facts = |second: &str| {
            let agent = |id: &str, url: &str| {
                format!(
                    "  - id: {id}\n    backend: {{type: chatcompletion, model: m, base_url: \"http://{url}/v1\"}}\n"
                )
            };
            let config = format!("agents:\n{}{}", agent("a", "one.example"), agent("b", second));
            AgentFacts::from_config(&Tree::parse(&config).expect("YAML"))
        };
        let (same, different) = (facts("one.example"), facts("two.example"));
        assert_eq!(same.models.keys().collect::<Vec<_>>(), ["a", "b"]);
        assert!(same.provider(None).is_some_and(|provider| provider.contains("one.example")));
        assert_eq!(different.provider(None), None);
        assert_eq!(different.provider(Some("a")), same.provider(None));
        assert_eq!(same.provider(Some("unknown")), same.provider(None));
    }
}
