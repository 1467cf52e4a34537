//! Which agents of a config have tools, by the settings for which MassGen provides tools. Only these agents receive a message from the
//! runtime inbox: MassGen reads it around calls of such tools (`mcp_tools/hooks.py`). `new_answer`, `vote` and a provider's own tools do
//! not count. An uncertain case counts as an agent with tools.

use super::needs::configured_agents;
use super::policy::is_executing_backend;
use super::tree::{Node, Tree};

/// Features that run at the provider, and settings that are not tools.
const NON_TOOL_KEYS: [&str; 8] = [
    "enable_web_search",
    "enable_code_interpreter",
    "enable_code_execution",
    "enable_rate_limit",
    "enable_thinking",
    "enable_strict_tool_use",
    "enable_message_tracking",
    "enable_programmatic_flow",
];

impl Tree {
    /// Every agent by its id, and whether it has tools.
    pub fn agents_tool_use(&self) -> Vec<(String, bool)> {
        let all_have_tools = self.root.get("orchestrator").is_some_and(gives_tools_to_all);
        let is_cli = |kind: Option<&str>| kind.is_some_and(is_executing_backend);
        let has_own_tools = |entry: &Node| entry.get("backend").is_some_and(has_tools) || has_tools(entry);
        let agents = configured_agents(&self.root).into_iter();
        agents
            .map(|(agent, entry)| {
                (agent.id, all_have_tools || is_cli(agent.backend.as_deref()) || has_own_tools(entry))
            })
            .collect()
    }
}

/// A working folder, servers, custom tools in the config, or any enabled tool.
fn has_tools(backend: &Node) -> bool {
    backend.entries().iter().any(|entry| {
        let key = entry.key.text.as_str();
        let gives_tools =
            key == "cwd" || key.contains("mcp") || key.contains("custom_tools") || key.contains("tools_path");
        (gives_tools || is_enabled(key)) && entry.value.is_truthy()
    })
}

/// Planning, memory, subagents, questions between agents, skills and checklists give every agent tools.
fn gives_tools_to_all(orchestrator: &Node) -> bool {
    let coordination = orchestrator.get("coordination").map(Node::entries).unwrap_or_default();
    let in_coordination = coordination.iter().any(|entry| {
        let key = entry.key.text.as_str();
        (is_enabled(key) || matches!(key, "broadcast" | "use_skills")) && entry.value.is_truthy()
    });
    let sensitivity = orchestrator.get("voting_sensitivity").and_then(Node::text).unwrap_or_default();
    in_coordination || sensitivity.starts_with("checklist")
}

fn is_enabled(key: &str) -> bool {
    (key.starts_with("enable_") && !NON_TOOL_KEYS.contains(&key)) || key.starts_with("auto_discover")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_with_tools_are_distinguished_from_agents_without() {
        for (config, expected) in [
            ("agents: [{id: a, backend: {type: openai, model: m}}]", "a false"),
            ("agents: [{id: a, backend: {enable_web_search: true, enable_code_interpreter: true}}]", "a false"),
            ("agents: [{id: a, backend: {cwd: w}}, {id: b, backend: {mcp_servers: [], cwd: ''}}]", "a true, b false"),
            ("agents: [{id: a, backend: {mcp_servers: [{name: x}]}}]", "a true"),
            (
                "agents: [{id: a, backend: {enable_mcp_command_line: true}}, {id: b, backend: {enable_mcp_command_line: false}}]",
                "a true, b false",
            ),
            ("agents: [{id: a, backend: {type: claude_code}}, {id: b, backend: {type: codex}}]", "a true, b true"),
            ("agents: [{id: a, backend: {custom_tools: [{name: x}]}}]", "a true"),
            ("agent: {id: a, backend: {}}\norchestrator: {coordination: {enable_agent_task_planning: true}}", "a true"),
            (
                "agents: [{id: a, backend: {}}]\norchestrator: {coordination: {broadcast: false, max_orchestration_restarts: 0}}",
                "a false",
            ),
            ("agents: []", ""),
        ] {
            let found = Tree::parse(config).expect("YAML").agents_tool_use();
            let found: Vec<String> = found.into_iter().map(|(id, has)| format!("{id} {has}")).collect();
            assert_eq!(found.join(", "), expected, "{config}");
        }
    }
}
