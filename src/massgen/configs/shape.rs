//! Whether the sections of a config have the form that MassGen needs: without it MassGen ends at its start with a Python error. Pure.

use super::tree::{Node, Tree};

/// Sections that MassGen reads as mappings; an absent or empty section is fine.
const SECTIONS: [&[&str]; 5] =
    [&["orchestrator"], &["orchestrator", "coordination"], &["timeout_settings"], &["ui"], &["memory"]];

/// A value of the wrong form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedSection {
    /// The path of its key, such as `agents.agent_a.backend`.
    pub key: String,
    /// The required form.
    pub wanted: &'static str,
}

/// The first section of the wrong form.
pub fn malformed_section(config: &Tree) -> Option<MalformedSection> {
    let root = &config.root;
    let section = |keys: &&[&str]| {
        let node = keys.iter().try_fold(root, |node, key| node.get(key))?;
        (!is_mapping(node) && node.is_truthy()).then(|| malformed(keys.join("."), "an object"))
    };
    SECTIONS.iter().find_map(section).or_else(|| match root.get("agent") {
        Some(agent) => malformed_agent(agent, "agent"),
        None => malformed_agents(root.get("agents")?),
    })
}

fn malformed_agents(agents: &Node) -> Option<MalformedSection> {
    if !matches!(agents.resolved(), Node::List(_)) {
        return Some(malformed("agents".to_owned(), "a list, or an object by agent id"));
    }
    agents.items().iter().enumerate().find_map(|(place, agent)| {
        let id = agent.get("id").and_then(Node::text);
        malformed_agent(agent, &id.map_or_else(|| format!("agents[{place}]"), |id| format!("agents.{id}")))
    })
}

fn malformed_agent(agent: &Node, key: &str) -> Option<MalformedSection> {
    if !is_mapping(agent) {
        return Some(malformed(key.to_owned(), "an object"));
    }
    let has_backend = agent.get("backend").is_some_and(is_mapping);
    (!has_backend).then(|| malformed(format!("{key}.backend"), "an object with the type and model of a backend"))
}

fn is_mapping(node: &Node) -> bool {
    matches!(node.resolved(), Node::Map(_))
}

fn malformed(key: String, wanted: &'static str) -> MalformedSection {
    MalformedSection { key, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_of_the_wrong_form_is_found() {
        let found = |config: &str| malformed_section(&Tree::parse(config).expect("YAML")).map(|found| found.key);
        let good = "agents: [{id: a, backend: {type: vllm}}]";
        for (config, expected) in [
            (good.to_owned(), None),
            ("agent: {backend: {type: vllm}}".to_owned(), None),
            (format!("{good}\norchestrator:\nui: {{}}\ntimeout_settings: ~"), None),
            (format!("{good}\norchestrator: 5"), Some("orchestrator")),
            (format!("{good}\norchestrator: {{coordination: [1]}}"), Some("orchestrator.coordination")),
            (format!("{good}\ntimeout_settings: soon"), Some("timeout_settings")),
            (format!("{good}\nui: [x]"), Some("ui")),
            ("agents: 5".to_owned(), Some("agents")),
            ("agents: [x]".to_owned(), Some("agents[0]")),
            ("agents: [{id: a, backend: {}}, {id: b}]".to_owned(), Some("agents.b.backend")),
            ("agents: [{backend: vllm}]".to_owned(), Some("agents[0].backend")),
            ("agent: {id: a, backend: ~}".to_owned(), Some("agent.backend")),
            ("agent: x".to_owned(), Some("agent")),
        ] {
            assert_eq!(found(&config).as_deref(), expected, "{config}");
        }
    }
}
