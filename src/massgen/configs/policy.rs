//! What a config from an untrusted author may not bring in: commands to execute, reach beyond the project, addresses to
//! which keys and texts would go. It looks at the config alone: it follows no symlink and asks no operator.

use std::path::{Component, Path, PathBuf};

use super::tree::{Node, Trail, Tree};

/// The first thing in a config that an untrusted author may not bring in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The keys that lead to it, such as `agents[0].backend.mcp_servers`.
    pub key: String,
    /// Why it is forbidden, to go after the key: `… executes commands`.
    pub why: &'static str,
}

const EXECUTES: &str = "executes commands";
const CLI: &str = "names a backend that executes commands by itself";
const GUARDS: &str = "changes what guards tools and commands";
const OUTSIDE: &str = "points outside the project folder";
const ELSEWHERE: &str = "sends keys and texts to an address of its own";
const VARIABLE: &str = "takes in a variable of the environment that is not a backend's `api_key`";
const NAME: &str = "is used as the name of a folder, and leads out of it";

/// Finds what an untrusted author may not bring in, in a whole config or in overrides alone (whose `null` takes a guard away).
/// What aliases and merge keys bring in is found where they bring it in.
///
/// The list is of MassGen: what `backend/base.py`, `base_with_custom_tool_and_mcp.py`, `claude_code.py`, `codex.py`,
/// `gemini_cli.py`, `antigravity_cli.py`, `copilot.py`, `lmstudio.py`, `azure_openai.py` and `_excluded_params.py`,
/// `adapters/utils/ag2_utils.py`, `agent_config.py` (coordination), `cli/backends.py` (memory), `cli/config_loading.py` (`${VAR}`,
/// paths), `filesystem_manager`, `subagent/manager.py`, `permissions` and `tool/_multimodal_tools/image_backends.py` read.
/// Parameters that they do not know go to the provider's client as they are, hence the headers and addresses.
pub fn forbidden(config: &Tree, project: Option<&Path>) -> Option<Forbidden> {
    let mut found = None;
    config.walk(&mut |trail, node| {
        if found.is_none() {
            found = wrong_with(trail, node, project).map(|why| Forbidden { key: trail.path(), why });
        }
    });
    found
}

/// The paths in a config that stay inside by their text, with the keys that lead to them: what is there may be a link.
pub fn paths(config: &Tree, project: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    config.walk(&mut |trail, node| {
        if let (Some(key), Some(text)) = (trail.keys().next(), node.text())
            && holds_paths(key)
        {
            found.push((trail.path(), project.join(text.replace("${cwd}", "."))));
        }
    });
    found
}

fn wrong_with(trail: &Trail<'_>, node: &Node, project: Option<&Path>) -> Option<&'static str> {
    let mut keys = trail.keys();
    let (key, outer) = (keys.next()?, keys.next());
    if trail.is_entry()
        && let Some(why) = wrong_key(key, node)
    {
        return Some(why);
    }
    let text = node.text()?;
    let is_backend = matches!((key, outer), ("type", Some("backend"))) || key.ends_with("backend");
    if is_backend && executes_by_itself(text) {
        return Some(CLI);
    }
    let is_key_of_backend = matches!((key, outer), ("api_key", Some("backend")));
    if !is_key_of_backend && text.replace("${cwd}", "").contains("${") {
        return Some(VARIABLE);
    }
    if names_a_folder(key) && (text.contains(['/', '\\', '\0']) || text == "..") {
        return Some(NAME);
    }
    (holds_paths(key) && !is_inside(key, text, project)).then_some(OUTSIDE)
}

fn wrong_key(key: &str, node: &Node) -> Option<&'static str> {
    // Without a value a hook is taken away, and with one it executes something.
    if is_guard(key) || ((must_stay_on(key) || key == "hooks") && !node.is_on()) {
        return Some(GUARDS);
    }
    if !node.is_on() {
        return None;
    }
    if executes(key) {
        return Some(EXECUTES);
    }
    is_address(key).then_some(ELSEWHERE)
}

/// Backends that are agents with tools of their own (all of them approve these by themselves), that build one from code, or
/// (`lmstudio`) that install and start a server.
pub(super) fn executes_by_itself(backend: &str) -> bool {
    let known = ["claude_code", "codex", "gemini_cli", "antigravity_cli", "copilot", "ag2", "autogen", "lmstudio"];
    known.contains(&backend.to_lowercase().as_str())
}

fn executes(key: &str) -> bool {
    const KEYS: [&str; 24] = [
        "mcp",
        "mcpServers",
        "custom_tools",
        "custom_tools_path",
        "auto_discover_custom_tools",
        "enable_code_based_tools",
        "shared_tools_directory",
        "hooks",
        "command",
        "args",
        "env",
        "extra_args",
        "cli_path",
        "plugins",
        "settings",
        "setting_sources",
        "add_dirs",
        "enable_mcp_command_line",
        "context_write_access_enabled",
        "code_execution_config",
        "executor",
        "subagent_host_launch_prefix",
        "subagent_runtime_mode",
        "standalone_checkpoint",
    ];
    KEYS.contains(&key) || key.contains("mcp_server") || key.contains("docker")
}

/// Whatever their value: less of it can be more reach.
fn is_guard(key: &str) -> bool {
    const KEYS: [&str; 11] = [
        "permissions",
        "permission_mode",
        "permission_policy",
        "copilot_permission_policy",
        "approval_mode",
        "sandbox",
        "sandbox_mode",
        "allowed_tools",
        "disallowed_tools",
        "exclude_tools",
        "can_use_tool",
    ];
    KEYS.contains(&key) || key.starts_with("command_line_")
}

fn must_stay_on(key: &str) -> bool {
    matches!(key, "exclude_file_operation_mcps" | "enforce_read_before_delete" | "use_mcpwrapped_for_tool_filtering")
}

fn is_address(key: &str) -> bool {
    const KEYS: [&str; 12] = [
        "api_base",
        "endpoint",
        "extra_body",
        "extra_headers",
        "extra_query",
        "default_headers",
        "headers",
        "host",
        "http_client",
        "proxy",
        "tools",
        "url",
    ];
    KEYS.contains(&key) || ["_url", "_endpoint", "_host", "_uri", "_proxy"].iter().any(|ending| key.ends_with(ending))
}

/// MassGen puts these into paths as they are.
fn names_a_folder(key: &str) -> bool {
    matches!(key, "id" | "agent_id" | "instance_id" | "session_id" | "filesystem_session_id" | "session_name")
}

fn holds_paths(key: &str) -> bool {
    const KEYS: [&str; 7] =
        ["path", "cwd", "session_storage_base", "snapshot_storage", "team_config", "work_dir", "file"];
    const ENDINGS: [&str; 11] = [
        "_path",
        "_paths",
        "_file",
        "_files",
        "_dir",
        "_dirs",
        "_directory",
        "_folder",
        "_storage",
        "_workspace",
        "_root",
    ];
    KEYS.contains(&key) || ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Whether a path stays in the project by its text. What is relative is meant from the project, or from a folder in it.
fn is_inside(key: &str, text: &str, project: Option<&Path>) -> bool {
    let text = text.replace("${cwd}", ".");
    let path = Path::new(&text);
    // MassGen puts something behind `cwd`: of the project folder it makes a folder beside it.
    let whole_project = key == "cwd" && project.is_some_and(|project| path.components().eq(project.components()));
    let leaves_project = path.is_absolute() && !project.is_some_and(|project| path.starts_with(project));
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let elsewhere = text.starts_with('~') || text.contains("://") || text.contains('\0');
    !(elsewhere || goes_up || whole_project || leaves_project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(String, &'static str)> {
        let tree = Tree::read(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        forbidden(&tree, Some(Path::new("/home/u/project"))).map(|found| (found.key, found.why))
    }

    #[test]
    fn each_kind_is_found_in_a_backend() {
        for (entry, key, why) in [
            ("mcp_servers: {x: {command: sh}}", "mcp_servers", EXECUTES),
            ("mcp_server: {url: x}", "mcp_server", EXECUTES),
            ("direct_mcp_servers: [x]", "direct_mcp_servers", EXECUTES),
            ("custom_tools: [{path: x.py}]", "custom_tools", EXECUTES),
            ("custom_tools_path: tools", "custom_tools_path", EXECUTES),
            ("auto_discover_custom_tools: true", "auto_discover_custom_tools", EXECUTES),
            ("enable_code_based_tools: yes", "enable_code_based_tools", EXECUTES),
            ("shared_tools_directory: t", "shared_tools_directory", EXECUTES),
            ("hooks: {PreToolUse: [{handler: x.y}]}", "hooks", EXECUTES),
            ("enable_mcp_command_line: 1", "enable_mcp_command_line", EXECUTES),
            ("enable_mcp_command_line: 'false'", "enable_mcp_command_line", EXECUTES),
            ("code_execution_config: {executor: {}}", "code_execution_config", EXECUTES),
            ("x: {y: [{command: sh}]}", "x.y[0].command", EXECUTES),
            ("x: {args: [-c]}", "x.args", EXECUTES),
            ("env: {PATH: x}", "env", EXECUTES),
            ("cli_path: ./x", "cli_path", EXECUTES),
            ("docker: {image: x}", "docker", EXECUTES),
            ("my_docker_thing: x", "my_docker_thing", EXECUTES),
            ("command_line_docker_image: x", "command_line_docker_image", GUARDS),
            ("command_line_execution_mode: local", "command_line_execution_mode", GUARDS),
            ("command_line_blocked_commands: null", "command_line_blocked_commands", GUARDS),
            ("permissions: null", "permissions", GUARDS),
            ("permission_mode: bypassPermissions", "permission_mode", GUARDS),
            ("approval_mode: full-auto", "approval_mode", GUARDS),
            ("exclude_tools: []", "exclude_tools", GUARDS),
            ("exclude_file_operation_mcps: false", "exclude_file_operation_mcps", GUARDS),
            ("type: claude_code", "type", CLI),
            ("type: Codex", "type", CLI),
            ("type: gemini_cli", "type", CLI),
            ("type: antigravity_cli", "type", CLI),
            ("type: copilot", "type", CLI),
            ("type: ag2", "type", CLI),
            ("type: lmstudio", "type", CLI),
            ("image_generation_backend: codex", "image_generation_backend", CLI),
            ("multimodal_config: {image: {backend: codex}}", "multimodal_config.image.backend", CLI),
            ("base_url: https://x", "base_url", ELSEWHERE),
            ("azure_endpoint: https://x", "azure_endpoint", ELSEWHERE),
            ("api_base: https://x", "api_base", ELSEWHERE),
            ("llm: {config: {openai_base_url: x}}", "llm.config.openai_base_url", ELSEWHERE),
            ("extra_headers: {a: b}", "extra_headers", ELSEWHERE),
            ("tools: [{type: mcp}]", "tools", ELSEWHERE),
            ("system_message: 'say ${AWS_SECRET}'", "system_message", VARIABLE),
            ("cwd: '${HOME}'", "cwd", VARIABLE),
            ("cwd: /tmp/x", "cwd", OUTSIDE),
            ("cwd: ../x", "cwd", OUTSIDE),
            ("cwd: a/../../x", "cwd", OUTSIDE),
            ("cwd: ~/x", "cwd", OUTSIDE),
            ("cwd: /home/u/project/", "cwd", OUTSIDE),
            ("cwd: /home/u/project2", "cwd", OUTSIDE),
            ("context_paths: [{path: /etc}]", "context_paths[0].path", OUTSIDE),
            ("context_paths: [a, /etc]", "context_paths[1]", OUTSIDE),
            ("upload_files: [{image_path: /etc/passwd}]", "upload_files[0].image_path", OUTSIDE),
            ("upload_files: [{file_path: 'file:///etc/passwd'}]", "upload_files[0].file_path", OUTSIDE),
            ("hooks: null", "hooks", GUARDS),
            ("metadata: {api_key: '${AWS_SECRET}'}", "metadata.api_key", VARIABLE),
            ("filesystem_session_id: ../../x", "filesystem_session_id", NAME),
        ] {
            let text = format!("agents:\n- id: a\n  backend: {{{entry}}}\n");
            assert_eq!(found(&text), Some((format!("agents[0].backend.{key}"), why)), "{entry}");
        }
    }

    #[test]
    fn the_rest_of_a_config_is_looked_at_as_well() {
        for (text, key, why) in [
            ("hooks: {x: [y]}", "hooks", EXECUTES),
            ("agent: {hooks: {x: [y]}}", "agent.hooks", EXECUTES),
            ("orchestrator: {docker: {x: y}}", "orchestrator.docker", EXECUTES),
            ("orchestrator: {coordination: {subagent_host_launch_prefix: [sh]}}", "", EXECUTES),
            ("orchestrator: {coordination: {standalone_checkpoint: {enabled: true}}}", "", EXECUTES),
            ("orchestrator: {coordination: {skills_directory: /x}}", "", OUTSIDE),
            ("orchestrator: {coordination: {resume_from_log: {log_path: /x, round: 1}}}", "", OUTSIDE),
            ("orchestrator: {snapshot_storage: /x}", "orchestrator.snapshot_storage", OUTSIDE),
            ("orchestrator: {agent_temporary_workspace: ../x}", "orchestrator.agent_temporary_workspace", OUTSIDE),
            ("orchestrator: {session_storage: /x}", "orchestrator.session_storage", OUTSIDE),
            ("memory: {persistent_memory: {qdrant: {host: x}}}", "memory.persistent_memory.qdrant.host", ELSEWHERE),
            ("memory: {persistent_memory: {path: /x}}", "memory.persistent_memory.path", OUTSIDE),
            ("agents: [{id: ../../x}]", "agents[0].id", NAME),
        ] {
            let (place, reason) = found(text).unwrap_or_else(|| panic!("{text}"));
            assert!(reason == why && (key.is_empty() || place == key), "{text}: {place} {reason}");
        }
    }

    #[test]
    fn what_is_brought_in_from_elsewhere_is_found_where_it_arrives() {
        let merged = "x: &x {y: &y {type: codex}}\nagents:\n- backend: *y\n- backend: {<<: *y}\n";
        assert_eq!(found(merged), Some(("agents[0].backend.type".into(), CLI)));
        let twice = "agents:\n- backend: {cwd: /etc, cwd: w}\n";
        assert_eq!(found(twice), Some(("agents[0].backend.cwd".into(), OUTSIDE)));
        let listed = "b: &b {cwd: /etc}\nagents: [{backend: {<<: [{model: m}, *b]}}]\n";
        assert_eq!(found(listed), Some(("b.cwd".into(), OUTSIDE)));
        assert_eq!(found("a: &k {\"mcp\\u005fservers\": [x]}"), Some(("a.mcp_servers".into(), EXECUTES)));
    }

    #[test]
    fn an_ordinary_config_is_fine() {
        let text = "agents:\n- id: a\n  system_message: use /etc and ../x, https://x\n  backend:\n    type: openai\n    \
                    model: org/m\n    api_key: ${OPENAI_API_KEY}\n    cwd: workspace1\n    enable_web_search: true\n    \
                    enable_mcp_command_line: false\n    exclude_file_operation_mcps: true\n    mcp_servers: {}\n    \
                    context_paths: [{path: src, permission: read}, {path: /home/u/project/docs}]\n\
                    orchestrator: {snapshot_storage: snapshots, agent_temporary_workspace: .massgen/t, coordination: {}}\n\
                    ui: {display_type: simple}\ntimeout_settings: {orchestrator_timeout_seconds: 60}\n";
        assert_eq!(found(text), None);
    }
}
