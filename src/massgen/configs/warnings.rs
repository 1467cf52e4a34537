//! Faults of a config that are known before MassGen starts and later fail or silently have no effect: missing keys, settings that MassGen
//! refuses at its start, and questions to a person, who does not see them in a background run. It reads only the config and its arguments.

use serde_json::{Map, Value, json};

use super::needs::{Needs, RequiredKey};
use super::overrides::{ignored_keys, missing_folders};
use super::tree::{Node, Tree};
use crate::massgen::VERSION;
use crate::massgen::docker::DockerEngine;
use crate::run::{Context, Problem, Step};
use crate::secrets::is_secret_name;

/// The code for a project given to agents without file access.
pub const CONTEXT_UNUSED: &str = "context_unused";
/// The codes of [`Needs::problems`]: a start only warns of them, but such a run is not expected to succeed.
pub const FATAL_CODES: [&str; 3] = ["api_key_missing", "variable_missing", "config_fails"];

impl Needs {
    /// Faults that MassGen refuses or fails at and that its `--validate` does not check: missing keys, an `api_key` that is passed twice,
    /// working folders without the two folders that their agents also need.
    pub fn problems(&self, is_set: impl Fn(&str) -> bool) -> Vec<Problem> {
        let keys = self.missing(is_set).into_iter().map(missing_key_problem);
        let duplicates = self.api_key_twice.iter().map(|agent| {
            let message =
                format!("agent `{agent}` has `api_key`, with which MassGen cannot make this backend (a TypeError)");
            Problem::new(
                "config_fails",
                &message,
                "leave it out: MassGen reads the key from the backend's variable, such as OPENAI_API_KEY",
            )
        });
        let folders = self.cwd_without_folders.first().map(|agent| {
            let message = format!(
                "agent `{agent}` has `cwd`, and `orchestrator` lacks `snapshot_storage` or `agent_temporary_workspace`"
            );
            let hint = "add `snapshot_storage: snapshots` and `agent_temporary_workspace: temp_workspaces`";
            Problem::new("config_fails", &message, hint)
        });
        keys.chain(duplicates).chain(folders).collect()
    }
}

fn missing_key_problem(key: &RequiredKey) -> Problem {
    let is_key = key.any_of.iter().any(|name| is_secret_name(name));
    let code = if is_key { "api_key_missing" } else { "variable_missing" };
    let hint = Step::SetVariable;
    Problem::new(code, &format!("{} is not set", key.name()), hint)
}

/// All warnings about a config before a start. `engine` is called only if the config needs Docker.
pub fn warnings(
    config: &Tree,
    context: Context,
    is_set: impl Fn(&str) -> bool,
    engine: impl FnOnce() -> DockerEngine,
) -> Vec<Problem> {
    let needs = Needs::from_config(config);
    let mut problems = needs.problems(is_set);
    problems.extend(no_files_problem(config, context));
    problems.extend(broadcast_problem(&config.root));
    if wants_docker(config) {
        problems.extend(docker_problem(engine()));
    }
    problems
}

/// MassGen gives a folder only to agents with a working folder, and only the presenter of the answer can write there.
pub fn no_files_problem(config: &Tree, context: Context) -> Option<Problem> {
    let needs = Needs::from_config(config);
    let agents_without_cwd = needs.without_cwd.as_slice();
    if context == Context::None || agents_without_cwd.is_empty() {
        return None;
    }
    let verb = if context == Context::Write { "read or change" } else { "read" };
    let message = if agents_without_cwd.len() == needs.agents.len() {
        format!(
            "`context: {}`: no agent has a `cwd`, and without one none can {verb} files of the project",
            context.as_str()
        )
    } else {
        format!(
            "`context: {}`: without a `cwd` these agents cannot {verb} files of the project: {}",
            context.as_str(),
            agents_without_cwd.join(", ")
        )
    };
    Some(Problem::new(
        CONTEXT_UNUSED,
        &message,
        format!("give them one by overrides: {}", cwd_overrides(config, agents_without_cwd)),
    ))
}

/// Overrides with keys that MassGen does not read: the run is paid for without the setting.
pub fn ignored_keys_problem(overrides: &Value) -> Option<Problem> {
    let keys = ignored_keys(overrides);
    (!keys.is_empty()).then(|| {
        let message = format!("MassGen {VERSION} does not read these keys of `overrides`: {}", keys.join(", "));
        let hint = "they have no effect; leave them out, or write them where MassGen reads them";
        Problem::new("overrides_ignored", &message, hint)
    })
}

/// A run with write access to the project and a config without agents that can write: it would cost money and change nothing.
pub fn without_writers(config: &Tree, context: Context) -> Option<Problem> {
    let needs = Needs::from_config(config);
    let is_certain = context == Context::Write && needs.without_cwd.len() == needs.agents.len();
    let problem = no_files_problem(config, context).filter(|_| is_certain)?;
    let next = problem.next.map_detail(|advice| format!("nothing was started; {advice}; or use another `context`"));
    Some(Problem { next, ..problem })
}

/// The longest overrides in a hint, in bytes; truncated overrides would be useless.
const MAX_OVERRIDES_BYTES: usize = 240;

/// Overrides that give each agent a working folder, and the folders that MassGen then requires; as many agents as fit.
fn cwd_overrides(config: &Tree, agents: &[String]) -> String {
    let backend = json!({"backend": {"cwd": "workspace"}});
    let folders = missing_folders(config);
    let overrides = |named: usize| {
        let agent_patches: Map<String, Value> =
            agents.iter().take(named).map(|agent| (agent.clone(), backend.clone())).collect();
        let mut patch = Map::new();
        match config.root.get("agent") {
            Some(_) => patch.insert("agent".to_owned(), backend.clone()),
            None => patch.insert("agents".to_owned(), agent_patches.into()),
        };
        if !folders.is_empty() {
            patch.insert("orchestrator".to_owned(), folders.clone().into());
        }
        Value::from(patch).to_string()
    };
    let candidates = (1..=agents.len()).rev().map(|named| (named, overrides(named)));
    let (named, text) =
        candidates.into_iter().find(|(_, text)| text.len() <= MAX_OVERRIDES_BYTES).unwrap_or((1, overrides(1)));
    if named < agents.len() { format!("{text}, and so for each agent") } else { text }
}

/// MassGen skips every question to a person in automation mode (`frontend/coordination_ui.py`).
fn broadcast_problem(root: &Node) -> Option<Problem> {
    let coordination = root.get("orchestrator")?.get("coordination")?;
    let is_human = coordination.get("broadcast").and_then(Node::text) == Some("human");
    let message = "`broadcast: human`: agents may ask a person, and in a background run there is none to answer";
    let hint = Step::DisableBroadcast;
    is_human.then(|| Problem::new("broadcast_unanswered", message, hint))
}

/// Whether an agent runs commands in containers.
fn wants_docker(config: &Tree) -> bool {
    let backends = config.backends();
    let is_on = |backend: &Node, key: &str| backend.get(key).is_some_and(Node::is_truthy);
    backends.into_iter().any(|backend| {
        let mode = backend.get("command_line_execution_mode").and_then(Node::text);
        mode == Some("docker") && is_on(backend, "enable_mcp_command_line")
    })
}

fn docker_problem(engine: DockerEngine) -> Option<Problem> {
    match engine {
        DockerEngine::Reachable => None,
        DockerEngine::InContainer => Some(Problem::new(
            "docker_runs_local",
            "`command_line_execution_mode: docker`: this is a container itself, in which MassGen runs the agents' commands directly",
            "take it as local execution, or run the server outside of the container",
        )),
        DockerEngine::Unreachable(address) => Some(Problem::new(
            "docker_unreachable",
            &format!("`command_line_execution_mode: docker`, and no Docker engine accepts connections at {address}"),
            "the person who configured this server has to start Docker or to set DOCKER_HOST; or set command_line_execution_mode to \"local\" by overrides",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem_messages(config: &str, keys: &[&str], engine: DockerEngine) -> Vec<(String, String)> {
        let tree = Tree::parse(config).expect("YAML");
        let problems = warnings(&tree, Context::None, |name| keys.contains(&name), || engine);
        problems.into_iter().map(|warning| (warning.code, warning.message)).collect()
    }

    fn codes(config: &str, keys: &[&str], engine: DockerEngine) -> Vec<String> {
        problem_messages(config, keys, engine).into_iter().map(|(code, _)| code).collect()
    }

    #[test]
    fn only_missing_required_keys_are_reported() {
        let three = "agents: [{id: a, backend: {type: openai}}, {id: b, backend: {type: gemini}}, {id: c, backend: {type: claude}}]";
        let missing = problem_messages(three, &["ANTHROPIC_API_KEY"], DockerEngine::Reachable);
        let messages: Vec<&str> = missing.iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(messages, ["GOOGLE_API_KEY or GEMINI_API_KEY is not set", "OPENAI_API_KEY is not set"]);
        assert!(missing.iter().all(|(code, _)| code == "api_key_missing"));
        assert!(
            problem_messages(
                three,
                &["ANTHROPIC_API_KEY", "GEMINI_API_KEY", "OPENAI_API_KEY"],
                DockerEngine::Reachable
            )
            .is_empty()
        );
        for optional in ["claude_code", "codex", "gemini_cli", "vllm", "lmstudio", "sglang", "inference"] {
            let config = format!("agents: [{{id: a, backend: {{type: {optional}}}}}]");
            assert!(problem_messages(&config, &[], DockerEngine::Reachable).is_empty(), "{optional}");
        }
        let named = "agents: [{id: a, backend: {type: azure_openai, api_key: '${MY_KEY}', base_url: '${MY_PLACE}'}}]";
        assert_eq!(codes(named, &[], DockerEngine::Reachable), ["api_key_missing", "variable_missing"]);
        assert!(problem_messages(named, &["MY_KEY", "MY_PLACE"], DockerEngine::Reachable).is_empty());
    }

    #[test]
    fn a_project_without_file_access_is_reported_with_suitable_overrides() {
        let problem_of = |config: &str, context| no_files_problem(&Tree::parse(config).expect("YAML"), context);
        let no_cwd = "agents: [{id: a, backend: {type: vllm}}, {id: b, backend: {type: vllm}}]";
        let found = problem_of(no_cwd, Context::Write).expect("told");
        assert!(found.code == "context_unused" && found.message.contains("no agent has a `cwd`"), "{found:?}");
        let (_, overrides) = found.next.detail().split_once(": ").expect("overrides");
        let overrides: Value = serde_json::from_str(overrides).expect("JSON");
        assert_eq!(overrides["agents"]["b"], json!({"backend": {"cwd": "workspace"}}));
        assert_eq!(overrides["orchestrator"]["snapshot_storage"], "snapshots");
        assert_eq!(problem_of(no_cwd, Context::None), None);
        let one_cwd = "agents: [{id: a, backend: {cwd: w}}, {id: b, backend: {}}]\n\
                   orchestrator: {snapshot_storage: s, agent_temporary_workspace: t}";
        let found = problem_of(one_cwd, Context::Read).expect("told");
        assert!(found.message.ends_with("cannot read files of the project: b"), "{found:?}");
        assert!(!found.next.detail().contains("orchestrator") && !found.next.detail().contains("\"a\""), "{found:?}");
        assert_eq!(problem_of(&one_cwd.replace("backend: {}", "backend: {cwd: w}"), Context::Write), None);
        assert!(
            problem_of("agent: {id: x, backend: {}}", Context::Read)
                .expect("told")
                .next
                .detail()
                .contains("{\"agent\":{\"backend\"")
        );
        let many: Vec<String> = (0..40).map(|n| format!("{{id: agent_{n}, backend: {{}}}}")).collect();
        let hint = problem_of(&format!("agents: [{}]", many.join(", ")), Context::Read).expect("told").next;
        let hint = hint.detail();
        assert!(hint.len() < 300 && hint.ends_with("}}, and so for each agent"), "{hint}");
    }

    #[test]
    fn a_human_broadcast_is_reported() {
        let config = |word: &str| format!("agents: []\norchestrator: {{coordination: {{broadcast: {word}}}}}\n");
        assert_eq!(codes(&config("human"), &[], DockerEngine::Reachable), ["broadcast_unanswered"]);
        assert_eq!(codes(&config("'human'"), &[], DockerEngine::Reachable), ["broadcast_unanswered"]);
        for other in ["agents", "false", "no", "~"] {
            assert!(problem_messages(&config(other), &[], DockerEngine::Reachable).is_empty(), "{other}");
        }
    }

    #[test]
    fn docker_is_probed_only_if_commands_run_in_it() {
        let config =
            |more: &str| format!("agents: [{{id: a, backend: {{type: vllm, command_line_execution_mode: {more}}}}}]");
        let on = config("docker, enable_mcp_command_line: true");
        let address = DockerEngine::Unreachable("unix:///x".to_owned());
        assert_eq!(codes(&on, &[], address.clone()), ["docker_unreachable"]);
        assert_eq!(codes(&on, &[], DockerEngine::InContainer), ["docker_runs_local"]);
        assert!(problem_messages(&on, &[], DockerEngine::Reachable).is_empty());
        for off in ["docker", "docker, enable_mcp_command_line: false", "local, enable_mcp_command_line: true"] {
            let never = || -> DockerEngine { panic!("Docker is not asked about") };
            let tree = Tree::parse(&config(off)).expect("YAML");
            assert!(warnings(&tree, Context::None, |_| true, never).is_empty(), "{off}");
        }
    }
}
