//! Queries as agents type them, on a small catalogue with the kinds of configs in MassGen's examples.

use super::*;
use crate::massgen::configs::{Needs, Tree};
use crate::run::ConfigChoice;

const CONFIGS: [(&str, &str, &str); 9] = [
    (
        "basic/single/single_gpt5nano",
        "",
        "agent: {id: solo, backend: {type: openai, model: gpt-5-nano, enable_web_search: true}}",
    ),
    (
        "basic/multi/three_agents_default",
        "Three agents",
        "agents: [{id: a, backend: {type: gemini, model: gemini-2.5-flash, enable_web_search: true}}, \
         {id: b, backend: {type: openai, model: gpt-5-nano}}, {id: c, backend: {type: grok, model: grok-3-mini}}]",
    ),
    (
        "basic/multi/two_agents_gpt5",
        "",
        "agents: [{id: a, backend: {type: openai, model: gpt-5}}, {id: b, backend: {type: openai, model: gpt-5}}]",
    ),
    (
        "teams/research/research_team",
        "A research team",
        "agents: [{id: a, backend: {type: claude, model: claude-opus-4}}, {id: b, backend: {type: openai, model: gpt-5, enable_web_search: true}}]",
    ),
    (
        "tools/code-execution/docker_simple",
        "Commands in Docker",
        "agent: {id: a, backend: {type: openai, model: gpt-5, cwd: w, enable_mcp_command_line: true, command_line_execution_mode: docker}}",
    ),
    (
        "tools/mcp/multimcp_gemini",
        "",
        "agent: {id: a, backend: {type: gemini, model: gemini-2.5-pro, mcp_servers: {x: {command: y}}}}",
    ),
    (
        "providers/local/lmstudio",
        "An OpenAI-compatible server",
        "agent: {id: a, backend: {type: lmstudio, model: qwen}}",
    ),
    (
        "basic/multi/two_qwen_vllm_sglang",
        "",
        "agents: [{id: a, backend: {type: vllm, base_url: 'http://localhost:8000/v1'}}, {id: b, backend: {type: sglang}}]",
    ),
    ("tools/filesystem/claude_code_single", "Works on files", "agent: {id: a, backend: {type: claude_code, cwd: w}}"),
];

fn catalogue() -> Vec<ListedConfig> {
    let listed = |(name, description, text): &(&str, &str, &str)| ListedConfig {
        name: (*name).to_owned(),
        origin: ConfigOrigin::Example,
        choice: ConfigChoice::Rehearsal(String::new()),
        needs: Needs::from_config(&Tree::parse(text).expect("YAML")),
        missing: Vec::new(),
        description: (*description).to_owned(),
        problem: None,
    };
    CONFIGS.iter().map(listed).collect()
}

/// The last parts of the found names.
fn found(query: &str) -> (Vec<String>, Option<Near>) {
    let (best, near) = ConfigQuery::parse(query).found(&catalogue()).best(catalogue());
    let last = |config: &ListedConfig| config.name.rsplit('/').next().unwrap_or_default().to_owned();
    (best.iter().map(last).collect(), near)
}

#[test]
fn typical_queries_find_the_expected_configs() {
    const MIXED: &[&str] = &["three_agents_default", "research_team", "two_qwen_vllm_sglang"];
    for (query, expected) in [
        ("multi-provider", MIXED),
        ("multi provider", MIXED),
        ("multiple providers", MIXED),
        ("mixed models", MIXED),
        ("different models", MIXED),
        ("several vendors", MIXED),
        ("heterogeneous", MIXED),
        ("a team of agents from different companies", &["research_team"]),
        ("three agents", &["three_agents_default"]),
        ("3 agents", &["three_agents_default"]),
        ("3-agent", &["three_agents_default"]),
        ("at least 3 agents", &["three_agents_default"]),
        ("three different providers", &["three_agents_default"]),
        ("single agent web search", &["single_gpt5nano"]),
        ("multi-agent openai", &["three_agents_default", "two_agents_gpt5", "research_team"]),
        ("web search", &["single_gpt5nano", "three_agents_default", "research_team"]),
        ("search the web cheap", &["single_gpt5nano", "three_agents_default"]),
        ("code execution", &["docker_simple"]),
        ("run code in docker", &["docker_simple"]),
        ("mcp", &["multimcp_gemini"]),
        ("MCP servers with Gemini", &["multimcp_gemini"]),
        ("no key", &["lmstudio", "two_qwen_vllm_sglang", "claude_code_single"]),
        ("without an API key", &["lmstudio", "two_qwen_vllm_sglang", "claude_code_single"]),
        ("free", &["lmstudio", "two_qwen_vllm_sglang"]),
        ("local models", &["lmstudio", "two_qwen_vllm_sglang"]),
        ("research team, ready", &["research_team"]),
        ("gpt5 two agents", &["two_agents_gpt5", "research_team"]),
        ("openai", &["single_gpt5nano", "three_agents_default", "two_agents_gpt5", "research_team", "docker_simple"]),
        ("anthropic and openai", &["research_team"]),
        ("files", &["docker_simple", "claude_code_single"]),
        ("examples lmstudio", &["lmstudio"]),
    ] {
        let (names, near) = found(query);
        assert_eq!(near, None, "{query}");
        assert_eq!(names, expected, "{query}");
    }
}

#[test]
fn without_a_full_match_the_best_partial_matches_are_found() {
    let (names, near) = found("research team with web search and a submarine");
    assert_eq!(names, ["research_team"]);
    assert_eq!(near, Some(Near { parts: 3, of: 4, nowhere: vec!["submarine".to_owned()] }));
    let (names, near) = found("gemini docker");
    assert_eq!(names, ["three_agents_default", "docker_simple", "multimcp_gemini"]);
    assert_eq!(near, Some(Near { parts: 1, of: 2, nowhere: Vec::new() }), "each is somewhere, but not together");
    for query in ["submarine", "nothing that gpt does here"] {
        assert_eq!(found(query), (Vec::new(), None), "{query}");
    }
    assert_eq!(found("").0.len(), CONFIGS.len());
    assert_eq!(found("a config with some").0.len(), CONFIGS.len(), "no word says anything of a config");
}
