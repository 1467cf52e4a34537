//! What a config from an untrusted author may not use: commands to execute, access outside the project, addresses to which keys and texts
//! would be sent. It checks only the config: it follows no symlink and asks no operator.

use std::path::{Component, Path, PathBuf};

use super::tree::{Node, NodePath, Tree};

/// The first setting in a config that an untrusted author may not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyViolation {
    /// The keys that lead to it, such as `agents[0].backend.mcp_servers`.
    pub key: String,
    /// Why it is forbidden, as the continuation of the key: `… executes commands`.
    pub reason: &'static str,
}

const EXECUTES_COMMANDS: &str = "executes commands";
const EXECUTING_BACKEND: &str = "names a backend that executes commands by itself";
const CHANGES_GUARDS: &str = "changes what guards tools and commands";
const OUTSIDE_PROJECT: &str = "points outside the project folder";
const CUSTOM_ADDRESS: &str = "sends keys and texts to an address of its own";
const READS_VARIABLE: &str = "takes in a variable of the environment that is not a backend's `api_key`";
const FOLDER_NAME: &str = "is used as the name of a folder, and leads out of it";

/// Finds a setting that an untrusted author may not use, in a whole config or in overrides alone (where `null` removes a guard). Values
/// from aliases and merge keys are reported at the place where they are used.
///
/// The list covers what these parts of MassGen read: `backend/base.py`, `base_with_custom_tool_and_mcp.py`, `claude_code.py`, `codex.py`,
/// `gemini_cli.py`, `antigravity_cli.py`, `copilot.py`, `lmstudio.py`, `azure_openai.py` and `_excluded_params.py`,
/// `adapters/utils/ag2_utils.py`, `agent_config.py` (coordination), `cli/backends.py` (memory), `cli/config_loading.py` (`${VAR}`,
/// paths), `filesystem_manager`, `subagent/manager.py`, `permissions` and `tool/_multimodal_tools/image_backends.py`. Parameters unknown to
/// them go unchanged to the provider's client, so the list also has headers and addresses.
pub fn find_violation(config: &Tree, project: Option<&Path>) -> Option<PolicyViolation> {
    let mut violation = None;
    config.walk(&mut |path, node| {
        if violation.is_none() {
            violation =
                violation_of_value(path, node, project).map(|reason| PolicyViolation { key: path.to_text(), reason });
        }
    });
    violation
}

/// The paths in a config whose text stays inside the project, with the keys that lead to them; a link may still lead outside.
pub fn paths_in_project(config: &Tree, project: &Path) -> Vec<(String, PathBuf)> {
    let mut paths = Vec::new();
    config.walk(&mut |path, node| {
        if let (Some(key), Some(text)) = (path.keys().next(), node.text())
            && is_path_key(key)
        {
            paths.push((path.to_text(), project.join(text.replace("${cwd}", "."))));
        }
    });
    paths
}

fn violation_of_value(path: &NodePath<'_>, node: &Node, project: Option<&Path>) -> Option<&'static str> {
    let mut keys = path.keys();
    let (key, parent_key) = (keys.next()?, keys.next());
    if path.is_map_value()
        && let Some(reason) = violation_of_key(key, node)
    {
        return Some(reason);
    }
    let text = node.text()?;
    let is_backend = matches!((key, parent_key), ("type", Some("backend"))) || key.ends_with("backend");
    if is_backend && is_executing_backend(text) {
        return Some(EXECUTING_BACKEND);
    }
    let is_key_of_backend = matches!((key, parent_key), ("api_key", Some("backend")));
    if !is_key_of_backend && text.replace("${cwd}", "").contains("${") {
        return Some(READS_VARIABLE);
    }
    if is_folder_name_key(key) && (text.contains(['/', '\\', '\0']) || text == "..") {
        return Some(FOLDER_NAME);
    }
    (is_path_key(key) && !is_inside_project(key, text, project)).then_some(OUTSIDE_PROJECT)
}

fn violation_of_key(key: &str, node: &Node) -> Option<&'static str> {
    // Without a value, a hook is removed; with one, it executes something.
    if is_guard_key(key) || ((is_enabling_guard(key) || key == "hooks") && !node.is_truthy()) {
        return Some(CHANGES_GUARDS);
    }
    if !node.is_truthy() {
        return None;
    }
    if is_executing_key(key) {
        return Some(EXECUTES_COMMANDS);
    }
    is_address_key(key).then_some(CUSTOM_ADDRESS)
}

/// Backends that are agents with their own tools (all of them approve tool use by themselves), that build an agent from code, or
/// (`lmstudio`) that install and start a server.
pub(super) fn is_executing_backend(backend: &str) -> bool {
    let known = ["claude_code", "codex", "gemini_cli", "antigravity_cli", "copilot", "ag2", "autogen", "lmstudio"];
    known.contains(&backend.to_lowercase().as_str())
}

fn is_executing_key(key: &str) -> bool {
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

/// Forbidden with any value: a smaller value can mean more access.
fn is_guard_key(key: &str) -> bool {
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

fn is_enabling_guard(key: &str) -> bool {
    matches!(key, "exclude_file_operation_mcps" | "enforce_read_before_delete" | "use_mcpwrapped_for_tool_filtering")
}

fn is_address_key(key: &str) -> bool {
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

/// MassGen inserts these values into paths unchanged.
fn is_folder_name_key(key: &str) -> bool {
    matches!(key, "id" | "agent_id" | "instance_id" | "session_id" | "filesystem_session_id" | "session_name")
}

fn is_path_key(key: &str) -> bool {
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

/// Whether a path's text stays in the project. A relative path starts at the project, or at a folder in it.
fn is_inside_project(key: &str, text: &str, project: Option<&Path>) -> bool {
    let text = text.replace("${cwd}", ".");
    let path = Path::new(&text);
    // MassGen appends a suffix to `cwd`: from the project folder it makes a folder next to it.
    let whole_project = key == "cwd" && project.is_some_and(|project| path.components().eq(project.components()));
    let leaves_project = path.is_absolute() && !project.is_some_and(|project| path.starts_with(project));
    let has_parent_dir = path.components().any(|part| part == Component::ParentDir);
    let is_elsewhere = text.starts_with('~') || text.contains("://") || text.contains('\0');
    !(is_elsewhere || has_parent_dir || whole_project || leaves_project)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<(String, &'static str)> {
        let tree = Tree::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        find_violation(&tree, Some(Path::new("/home/u/project"))).map(|found| (found.key, found.reason))
    }

    #[test]
    fn each_kind_of_violation_is_found_in_a_backend() {
        for (entry, key, reason) in [
            ("mcp_servers: {x: {command: sh}}", "mcp_servers", EXECUTES_COMMANDS),
            ("mcp_server: {url: x}", "mcp_server", EXECUTES_COMMANDS),
            ("direct_mcp_servers: [x]", "direct_mcp_servers", EXECUTES_COMMANDS),
            ("custom_tools: [{path: x.py}]", "custom_tools", EXECUTES_COMMANDS),
            ("custom_tools_path: tools", "custom_tools_path", EXECUTES_COMMANDS),
            ("auto_discover_custom_tools: true", "auto_discover_custom_tools", EXECUTES_COMMANDS),
            ("enable_code_based_tools: yes", "enable_code_based_tools", EXECUTES_COMMANDS),
            ("shared_tools_directory: t", "shared_tools_directory", EXECUTES_COMMANDS),
            ("hooks: {PreToolUse: [{handler: x.y}]}", "hooks", EXECUTES_COMMANDS),
            ("enable_mcp_command_line: 1", "enable_mcp_command_line", EXECUTES_COMMANDS),
            ("enable_mcp_command_line: 'false'", "enable_mcp_command_line", EXECUTES_COMMANDS),
            ("code_execution_config: {executor: {}}", "code_execution_config", EXECUTES_COMMANDS),
            ("x: {y: [{command: sh}]}", "x.y[0].command", EXECUTES_COMMANDS),
            ("x: {args: [-c]}", "x.args", EXECUTES_COMMANDS),
            ("env: {PATH: x}", "env", EXECUTES_COMMANDS),
            ("cli_path: ./x", "cli_path", EXECUTES_COMMANDS),
            ("docker: {image: x}", "docker", EXECUTES_COMMANDS),
            ("my_docker_thing: x", "my_docker_thing", EXECUTES_COMMANDS),
            ("command_line_docker_image: x", "command_line_docker_image", CHANGES_GUARDS),
            ("command_line_execution_mode: local", "command_line_execution_mode", CHANGES_GUARDS),
            ("command_line_blocked_commands: null", "command_line_blocked_commands", CHANGES_GUARDS),
            ("permissions: null", "permissions", CHANGES_GUARDS),
            ("permission_mode: bypassPermissions", "permission_mode", CHANGES_GUARDS),
            ("approval_mode: full-auto", "approval_mode", CHANGES_GUARDS),
            ("exclude_tools: []", "exclude_tools", CHANGES_GUARDS),
            ("exclude_file_operation_mcps: false", "exclude_file_operation_mcps", CHANGES_GUARDS),
            ("type: claude_code", "type", EXECUTING_BACKEND),
            ("type: Codex", "type", EXECUTING_BACKEND),
            ("type: gemini_cli", "type", EXECUTING_BACKEND),
            ("type: antigravity_cli", "type", EXECUTING_BACKEND),
            ("type: copilot", "type", EXECUTING_BACKEND),
            ("type: ag2", "type", EXECUTING_BACKEND),
            ("type: lmstudio", "type", EXECUTING_BACKEND),
            ("image_generation_backend: codex", "image_generation_backend", EXECUTING_BACKEND),
            ("multimodal_config: {image: {backend: codex}}", "multimodal_config.image.backend", EXECUTING_BACKEND),
            ("base_url: https://x", "base_url", CUSTOM_ADDRESS),
            ("azure_endpoint: https://x", "azure_endpoint", CUSTOM_ADDRESS),
            ("api_base: https://x", "api_base", CUSTOM_ADDRESS),
            ("llm: {config: {openai_base_url: x}}", "llm.config.openai_base_url", CUSTOM_ADDRESS),
            ("extra_headers: {a: b}", "extra_headers", CUSTOM_ADDRESS),
            ("tools: [{type: mcp}]", "tools", CUSTOM_ADDRESS),
            ("system_message: 'say ${AWS_SECRET}'", "system_message", READS_VARIABLE),
            ("cwd: '${HOME}'", "cwd", READS_VARIABLE),
            ("cwd: /tmp/x", "cwd", OUTSIDE_PROJECT),
            ("cwd: ../x", "cwd", OUTSIDE_PROJECT),
            ("cwd: a/../../x", "cwd", OUTSIDE_PROJECT),
            ("cwd: ~/x", "cwd", OUTSIDE_PROJECT),
            ("cwd: /home/u/project/", "cwd", OUTSIDE_PROJECT),
            ("cwd: /home/u/project2", "cwd", OUTSIDE_PROJECT),
            ("context_paths: [{path: /etc}]", "context_paths[0].path", OUTSIDE_PROJECT),
            ("context_paths: [a, /etc]", "context_paths[1]", OUTSIDE_PROJECT),
            ("upload_files: [{image_path: /etc/passwd}]", "upload_files[0].image_path", OUTSIDE_PROJECT),
            ("upload_files: [{file_path: 'file:///etc/passwd'}]", "upload_files[0].file_path", OUTSIDE_PROJECT),
            ("hooks: null", "hooks", CHANGES_GUARDS),
            ("metadata: {api_key: '${AWS_SECRET}'}", "metadata.api_key", READS_VARIABLE),
            ("filesystem_session_id: ../../x", "filesystem_session_id", FOLDER_NAME),
        ] {
            let text = format!("agents:\n- id: a\n  backend: {{{entry}}}\n");
            assert_eq!(found(&text), Some((format!("agents[0].backend.{key}"), reason)), "{entry}");
        }
    }

    #[test]
    fn the_rest_of_a_config_is_checked_as_well() {
        for (text, key, expected) in [
            ("hooks: {x: [y]}", "hooks", EXECUTES_COMMANDS),
            ("agent: {hooks: {x: [y]}}", "agent.hooks", EXECUTES_COMMANDS),
            ("orchestrator: {docker: {x: y}}", "orchestrator.docker", EXECUTES_COMMANDS),
            ("orchestrator: {coordination: {subagent_host_launch_prefix: [sh]}}", "", EXECUTES_COMMANDS),
            ("orchestrator: {coordination: {standalone_checkpoint: {enabled: true}}}", "", EXECUTES_COMMANDS),
            ("orchestrator: {coordination: {skills_directory: /x}}", "", OUTSIDE_PROJECT),
            ("orchestrator: {coordination: {resume_from_log: {log_path: /x, round: 1}}}", "", OUTSIDE_PROJECT),
            ("orchestrator: {snapshot_storage: /x}", "orchestrator.snapshot_storage", OUTSIDE_PROJECT),
            (
                "orchestrator: {agent_temporary_workspace: ../x}",
                "orchestrator.agent_temporary_workspace",
                OUTSIDE_PROJECT,
            ),
            ("orchestrator: {session_storage: /x}", "orchestrator.session_storage", OUTSIDE_PROJECT),
            (
                "memory: {persistent_memory: {qdrant: {host: x}}}",
                "memory.persistent_memory.qdrant.host",
                CUSTOM_ADDRESS,
            ),
            ("memory: {persistent_memory: {path: /x}}", "memory.persistent_memory.path", OUTSIDE_PROJECT),
            ("agents: [{id: ../../x}]", "agents[0].id", FOLDER_NAME),
        ] {
            let (place, reason) = found(text).unwrap_or_else(|| panic!("{text}"));
            assert!(reason == expected && (key.is_empty() || place == key), "{text}: {place} {reason}");
        }
    }

    #[test]
    fn values_from_anchors_and_merge_keys_are_found_where_they_are_used() {
        let merged = "x: &x {y: &y {type: codex}}\nagents:\n- backend: *y\n- backend: {<<: *y}\n";
        assert_eq!(found(merged), Some(("agents[0].backend.type".into(), EXECUTING_BACKEND)));
        let twice = "agents:\n- backend: {cwd: /etc, cwd: w}\n";
        assert_eq!(found(twice), Some(("agents[0].backend.cwd".into(), OUTSIDE_PROJECT)));
        let listed = "b: &b {cwd: /etc}\nagents: [{backend: {<<: [{model: m}, *b]}}]\n";
        assert_eq!(found(listed), Some(("b.cwd".into(), OUTSIDE_PROJECT)));
        assert_eq!(found("a: &k {\"mcp\\u005fservers\": [x]}"), Some(("a.mcp_servers".into(), EXECUTES_COMMANDS)));
    }

    #[test]
    fn an_ordinary_config_has_no_violation() {
        let text = "agents:\n- id: a\n  system_message: use /etc and ../x, https://x\n  backend:\n    type: openai\n    \
                    model: org/m\n    api_key: ${OPENAI_API_KEY}\n    cwd: workspace1\n    enable_web_search: true\n    \
                    enable_mcp_command_line: false\n    exclude_file_operation_mcps: true\n    mcp_servers: {}\n    \
                    context_paths: [{path: src, permission: read}, {path: /home/u/project/docs}]\n\
                    orchestrator: {snapshot_storage: snapshots, agent_temporary_workspace: .massgen/t, coordination: {}}\n\
                    ui: {display_type: simple}\ntimeout_settings: {orchestrator_timeout_seconds: 60}\n";
        assert_eq!(found(text), None);
    }

    #[test]
    fn a_path_stays_inside_the_project_or_not() {
        let project = Some(Path::new("/home/u/project"));
        for (key, text, project, expected) in [
            ("path", "src/x", project, true),
            ("path", "..src/x..", project, true),
            ("path", "src/../x", project, false),
            ("path", "a~b", project, true),
            ("path", "~", project, false),
            ("path", "a:/b", project, true),
            ("path", "s3://b", project, false),
            ("path", "a\0b", project, false),
            ("path", "${cwd}/x", project, true),
            ("path", "${cwd}/../x", project, false),
            ("path", "/home/u/project", project, true),
            ("path", "/home/u/project/x", project, true),
            ("path", "/home/u/project2", project, false),
            ("path", "/home/u/project", None, false),
            ("path", "x", None, true),
            ("cwd", "/home/u/project", project, false),
            ("cwd", "/home/u/project/x", project, true),
            ("cwd", "x", None, true),
        ] {
            assert_eq!(is_inside_project(key, text, project), expected, "{key}: {text:?} in {project:?}");
        }
    }

    #[test]
    fn a_name_that_becomes_a_folder_has_no_path_in_it() {
        for (name, expected) in [
            ("a.b", None),
            ("..a", None),
            ("..", Some(FOLDER_NAME)),
            ("a/b", Some(FOLDER_NAME)),
            ("a\\b", Some(FOLDER_NAME)),
        ] {
            let reason = found(&format!("agents: [{{id: '{name}'}}]")).map(|(_, reason)| reason);
            assert_eq!(reason, expected, "{name}");
        }
    }

    /// An entry of a config → the reason why it is forbidden.
    #[test]
    fn a_guard_may_be_switched_on_and_not_off() {
        for (entry, expected) in [
            ("exclude_file_operation_mcps: true", None),
            ("exclude_file_operation_mcps: false", Some(CHANGES_GUARDS)),
            ("enforce_read_before_delete: false", Some(CHANGES_GUARDS)),
            ("use_mcpwrapped_for_tool_filtering: null", Some(CHANGES_GUARDS)),
            ("sandbox: true", Some(CHANGES_GUARDS)),
            ("hooks: null", Some(CHANGES_GUARDS)),
            ("hooks: {x: y}", Some(EXECUTES_COMMANDS)),
            ("other: false", None),
            ("url: null", None),
            ("url: x", Some(CUSTOM_ADDRESS)),
        ] {
            assert_eq!(found(entry).map(|(_, reason)| reason), expected, "{entry}");
        }
    }

    #[test]
    fn the_paths_of_a_config_have_their_keys() {
        let text = "agents:\n- id: a\n  backend: {cwd: '${cwd}/w', model: m, context_paths: [{path: src}]}\n\
                    orchestrator: {snapshot_storage: /p/s, timeout: 5}\n";
        let tree = Tree::parse(text).expect("a config");
        let paths = paths_in_project(&tree, Path::new("/p"));
        let expected = [
            ("agents[0].backend.cwd", "/p/w"),
            ("agents[0].backend.context_paths[0].path", "/p/src"),
            ("orchestrator.snapshot_storage", "/p/s"),
        ];
        assert_eq!(paths, expected.map(|(key, path)| (key.to_owned(), PathBuf::from(path))));
    }
}
