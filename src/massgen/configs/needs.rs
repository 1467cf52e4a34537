//! What a config requires and contains: agents with their models, keys in the environment, what it may execute, literal secrets. It reads
//! no environment; the caller says which variables exist.

use std::collections::{BTreeMap, BTreeSet};

use super::policy::is_executing_backend;
use super::tree::{Node, Scalar, Tree};

/// The name prefix of the variables that replace literal keys of a config; a number follows.
pub const SECRET_VARIABLE_PREFIX: &str = "MASSGEN_MCP_SECRET_";

/// Backends that are agent programs with their own login.
pub(super) const CLIENTS: [&str; 5] = ["claude_code", "codex", "gemini_cli", "antigravity_cli", "copilot"];
/// Backends that are servers run by the user.
pub(super) const SERVERS: [&str; 4] = ["vllm", "sglang", "lmstudio", "inference"];

/// What a config requires.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// The agents, in config order.
    pub agents: Vec<ConfiguredAgent>,
    /// The environment variables, each once.
    pub keys: Vec<RequiredKey>,
    /// What it may execute: `mcp servers`, `commands`, `custom tools`, `docker`, `hooks`, `subagents`, `agent cli`.
    pub executes: Vec<&'static str>,
    /// What its agents can do with their backends' own tools: `web search`, `code execution`, `image generation`.
    pub abilities: Vec<&'static str>,
    /// The agents with a working folder (`cwd`) if `orchestrator` lacks `snapshot_storage` or `agent_temporary_workspace`: MassGen's
    /// `--validate` accepts that, but its start refuses it (`cli/entrypoint.py`).
    pub cwd_without_folders: Vec<String>,
    /// The agents without a working folder (`cwd`). MassGen gives them no files: neither context paths nor file tools.
    pub without_cwd: Vec<String>,
    /// The agents with an `api_key` in a backend that MassGen then cannot create: `create_backend` passes the key twice (a `TypeError`),
    /// and `--validate` accepts it. The key belongs in the environment.
    pub api_key_twice: Vec<String>,
}

/// An agent of a config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredAgent {
    /// Its id; MassGen's default (`agent1`, …) if it has none.
    pub id: String,
    /// The backend's type in lower case, if it is given or follows from the model's name.
    pub backend: Option<String>,
    /// The model, as written in the config.
    pub model: Option<String>,
    /// Host and port of its `base_url`, if it has a readable one.
    pub address: Option<String>,
}

impl ConfiguredAgent {
    /// The provider of its model: the address if one is given, else the backend's type.
    pub fn provider(&self) -> Option<&str> {
        self.address.as_deref().or(self.backend.as_deref())
    }
}

/// An environment variable that must be set; if several are listed, one of them is enough.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredKey {
    /// The names; the one in MassGen's messages comes first.
    pub any_of: Vec<String>,
}

impl RequiredKey {
    fn new(names: &[&str]) -> RequiredKey {
        RequiredKey { any_of: names.iter().map(|name| (*name).to_owned()).collect() }
    }

    /// `A` or `A or B`.
    pub fn name(&self) -> String {
        self.any_of.join(" or ")
    }
}

/// A literal secret in a config, and the variable that replaces it.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigSecret {
    /// `MASSGEN_MCP_SECRET_1`, …
    pub variable: String,
    /// The key that contains it.
    pub key: String,
    /// The secret itself.
    pub value: String,
}

impl Needs {
    /// Reads the requirements from a config.
    pub fn from_config(config: &Tree) -> Needs {
        let root = &config.root;
        let found = configured_agents(root);
        let mut keys = BTreeSet::new();
        for (agent, entry) in &found {
            if let Some(backend) = entry.get("backend") {
                keys.extend(backend_keys(agent.backend.as_deref(), backend));
            }
        }
        keys.extend(variable_references(config));
        Needs {
            keys: keys.into_iter().collect(),
            executes: executes(config, &found),
            abilities: abilities(config),
            cwd_without_folders: agents_lacking_folders(root, &found),
            without_cwd: found.iter().filter(|(_, entry)| !has_cwd(entry)).map(|(agent, _)| agent.id.clone()).collect(),
            api_key_twice: agents_with_api_key_twice(&found),
            agents: found.into_iter().map(|(agent, _)| agent).collect(),
        }
    }

    /// For each agent, the names of the variables from which its backend reads its key.
    pub fn agent_key_variables(config: &Tree) -> BTreeMap<String, String> {
        let named = configured_agents(&config.root).into_iter().filter_map(|(agent, entry)| {
            let keys = backend_keys(agent.backend.as_deref(), entry.get("backend")?);
            Some((agent.id, keys.first()?.name()))
        });
        named.collect()
    }

    /// The required keys without any existing variable.
    pub fn missing(&self, is_set: impl Fn(&str) -> bool) -> Vec<&RequiredKey> {
        self.keys.iter().filter(|key| !key.any_of.iter().any(|name| is_set(name))).collect()
    }

    /// The providers of the agents' models, each once: addresses or backend types.
    pub fn providers(&self) -> BTreeSet<&str> {
        self.agents.iter().filter_map(ConfiguredAgent::provider).collect()
    }

    /// Requirements of its backends that are not keys and are not checked here: a command line client with a login, or a local server.
    pub fn unchecked_requirements(&self) -> BTreeSet<String> {
        let requirement = |backend: &str| match backend {
            client if CLIENTS.contains(&client) => Some(format!("{client}, installed and logged in")),
            server if SERVERS.contains(&server) => Some(format!("a {server} server")),
            _ => None,
        };
        self.agents.iter().filter_map(|agent| requirement(agent.backend.as_deref()?)).collect()
    }

    /// The model of an agent.
    pub fn model(&self, id: &str) -> Option<&str> {
        self.agents.iter().find(|agent| agent.id == id)?.model.as_deref()
    }
}

/// The agents that `cli/backends.py` uses: only `agent` if it exists, else the list `agents`.
pub(super) fn configured_agents(root: &Node) -> Vec<(ConfiguredAgent, &Node)> {
    let entries = root.get("agent").map(std::slice::from_ref);
    let entries = entries.or_else(|| root.get("agents").map(Node::items)).unwrap_or_default();
    let text = |node: Option<&Node>| node.and_then(Node::text).map(str::to_owned).filter(|text| !text.is_empty());
    let read = |(index, entry): (usize, &Node)| {
        let backend = entry.get("backend");
        let model = text(backend.and_then(|backend| backend.get("model")));
        let named = text(backend.and_then(|backend| backend.get("type"))).map(|name| name.to_lowercase());
        let backend = named.or_else(|| model.as_deref().and_then(backend_of_model).map(str::to_owned));
        let address = entry.get("backend").and_then(|backend| backend.get("base_url")).and_then(Node::text);
        let address = address.and_then(host_and_port).map(str::to_owned);
        ConfiguredAgent {
            id: text(entry.get("id")).unwrap_or_else(|| format!("agent{}", index + 1)),
            backend,
            model,
            address,
        }
    };
    entries.iter().enumerate().map(|(index, entry)| (read((index, entry)), entry)).collect()
}

/// `https://user:key@host:port/v1` → `host:port`; `None` if it is not an address or contains a variable.
fn host_and_port(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://").filter(|_| !url.contains('$'))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    authority.rsplit('@').next().filter(|authority| !authority.is_empty())
}

/// The name prefixes of the models that `utils/__init__.py` lists.
fn backend_of_model(model: &str) -> Option<&'static str> {
    let model = model.to_lowercase();
    let known = [
        ("gpt-", "openai"),
        ("o3", "openai"),
        ("o4", "openai"),
        ("claude-", "claude"),
        ("gemini-", "gemini"),
        ("grok-", "grok"),
        ("glm-", "zai"),
    ];
    known.into_iter().find(|(start, _)| model.starts_with(start)).map(|(_, backend)| backend)
}

/// The variables that a backend reads unless it has an `api_key` (`create_backend` in `cli/backends.py`). Agent CLIs may be logged in and
/// local servers accept any key, so neither requires one.
fn backend_keys(kind: Option<&str>, backend: &Node) -> Vec<RequiredKey> {
    let base_url = backend.get("base_url").and_then(Node::text).unwrap_or_default();
    let has_key = backend.get("api_key").is_some_and(Node::is_truthy);
    let mut keys = Vec::new();
    let names: &[&str] = match kind.unwrap_or_default() {
        "openai" => &["OPENAI_API_KEY"],
        "grok" => &["XAI_API_KEY"],
        "claude" => &["ANTHROPIC_API_KEY"],
        "gemini" => &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        "chatcompletion" => keys_for_address(base_url),
        "zai" => &["ZAI_API_KEY"],
        "cerebras" => &["CEREBRAS_API_KEY"],
        "together" => &["TOGETHER_API_KEY"],
        "fireworks" => &["FIREWORKS_API_KEY"],
        "groq" => &["GROQ_API_KEY"],
        "openrouter" => &["OPENROUTER_API_KEY"],
        "moonshot" => &["MOONSHOT_API_KEY", "KIMI_API_KEY"],
        "nvidia_nim" => &["NGC_API_KEY"],
        "nebius" => &["NEBIUS_API_KEY"],
        "poe" => &["POE_API_KEY"],
        "qwen" => &["QWEN_API_KEY"],
        "azure_openai" => {
            if base_url.is_empty() {
                keys.push(RequiredKey::new(&["AZURE_OPENAI_ENDPOINT"]));
            }
            &["AZURE_OPENAI_API_KEY"]
        }
        "ag2" | "autogen" => return framework_keys(backend),
        _ => &[],
    };
    if !has_key && !names.is_empty() {
        keys.push(RequiredKey::new(names));
    }
    keys
}

/// Variables by address, in MassGen's order; for any other address, OpenAI's own client uses the OpenAI key.
fn keys_for_address(base_url: &str) -> &'static [&'static str] {
    let known: [(&str, &[&str]); 13] = [
        ("cerebras.ai", &["CEREBRAS_API_KEY"]),
        ("together.xyz", &["TOGETHER_API_KEY"]),
        ("fireworks.ai", &["FIREWORKS_API_KEY"]),
        ("groq.com", &["GROQ_API_KEY"]),
        ("nebius.com", &["NEBIUS_API_KEY"]),
        ("openrouter.ai", &["OPENROUTER_API_KEY"]),
        ("z.ai", &["ZAI_API_KEY"]),
        ("bigmodel.cn", &["ZAI_API_KEY"]),
        ("moonshot.ai", &["MOONSHOT_API_KEY", "KIMI_API_KEY"]),
        ("moonshot.cn", &["MOONSHOT_API_KEY", "KIMI_API_KEY"]),
        ("nvidia.com", &["NGC_API_KEY"]),
        ("poe.com", &["POE_API_KEY"]),
        ("aliyuncs.com", &["QWEN_API_KEY"]),
    ];
    known.into_iter().find(|(part, _)| base_url.contains(part)).map_or(&["OPENAI_API_KEY"], |(_, key)| key)
}

/// AG2 has a list of model settings anywhere in the backend; each entry names its provider (`api_type`).
fn framework_keys(backend: &Node) -> Vec<RequiredKey> {
    fn look(node: &Node, keys: &mut Vec<RequiredKey>) {
        if node.get("model").is_some() && !node.get("api_key").is_some_and(Node::is_truthy) {
            keys.push(match node.get("api_type").and_then(Node::text) {
                Some("anthropic") => RequiredKey::new(&["ANTHROPIC_API_KEY"]),
                Some("google") => RequiredKey::new(&["GOOGLE_GEMINI_API_KEY", "GEMINI_API_KEY"]),
                Some(_) | None => RequiredKey::new(&["OPENAI_API_KEY"]),
            });
        }
        node.items().iter().for_each(|item| look(item, keys));
        node.entries().iter().for_each(|entry| look(&entry.value, keys));
    }
    let mut keys = Vec::new();
    look(backend, &mut keys);
    keys
}

/// The names in `${NAME}` anywhere except in prose; `${cwd}` is MassGen's own.
fn variable_references(config: &Tree) -> Vec<RequiredKey> {
    let mut references = Vec::new();
    config.walk(&mut |trail, node| {
        let is_prose =
            trail.keys().next().is_some_and(|key| matches!(key, "system_message" | "description" | "prompt"));
        let text = node.text().filter(|_| !is_prose).unwrap_or_default();
        let names = text.split("${").skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        references.extend(names.filter(|name| is_variable(name)).map(|name| RequiredKey::new(&[name])));
    });
    references
}

fn is_variable(name: &str) -> bool {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name != "cwd"
        && !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(is_name_char)
}

fn executes(config: &Tree, agents: &[(ConfiguredAgent, &Node)]) -> Vec<&'static str> {
    let mut found = BTreeSet::new();
    config.walk(&mut |trail, node| {
        let Some(key) = trail.keys().next().filter(|_| trail.is_map_value() && node.is_truthy()) else { return };
        let is_docker = key.starts_with("command_line_docker_")
            || (key == "command_line_execution_mode" && node.text() == Some("docker"));
        let word = match key {
            "mcp_servers" | "mcp_server" => "mcp servers",
            "enable_mcp_command_line" | "code_execution_config" => "commands",
            "custom_tools" | "custom_tools_path" | "auto_discover_custom_tools" | "enable_code_based_tools" => {
                "custom tools"
            }
            "hooks" => "hooks",
            "enable_subagents" => "subagents",
            _ if is_docker => "docker",
            _ => return,
        };
        found.insert(word);
    });
    if agents.iter().any(|(agent, _)| agent.backend.as_deref().is_some_and(is_executing_backend)) {
        found.insert("agent cli");
    }
    found.into_iter().collect()
}

fn abilities(config: &Tree) -> Vec<&'static str> {
    let mut found = BTreeSet::new();
    config.walk(&mut |trail, node| {
        let Some(key) = trail.keys().next().filter(|_| trail.is_map_value() && node.is_truthy()) else { return };
        let ability = match key {
            "enable_web_search" => "web search",
            "enable_code_interpreter"
            | "enable_code_execution"
            | "enable_mcp_command_line"
            | "code_execution_config" => "code execution",
            "enable_image_generation" => "image generation",
            _ => return,
        };
        found.insert(ability);
    });
    found.into_iter().collect()
}

fn has_cwd(entry: &Node) -> bool {
    entry.get("backend").is_some_and(|backend| backend.get("cwd").is_some_and(Node::is_truthy))
}

fn agents_lacking_folders(root: &Node, agents: &[(ConfiguredAgent, &Node)]) -> Vec<String> {
    let orchestrator = root.get("orchestrator");
    let has_key = |key: &str| orchestrator.is_some_and(|orchestrator| orchestrator.get(key).is_some());
    if has_key("snapshot_storage") && has_key("agent_temporary_workspace") {
        return Vec::new();
    }
    agents.iter().filter(|(_, entry)| has_cwd(entry)).map(|(agent, _)| agent.id.clone()).collect()
}

fn agents_with_api_key_twice(agents: &[(ConfiguredAgent, &Node)]) -> Vec<String> {
    let accepting =
        ["azure_openai", "vllm", "sglang", "lmstudio", "claude_code", "codex", "gemini_cli", "antigravity_cli"];
    let frameworks = ["ag2", "autogen"];
    let has_key = |entry: &Node| entry.get("backend").is_some_and(|backend| backend.get("api_key").is_some());
    let is_affected = |kind: &str| !accepting.contains(&kind) && !frameworks.contains(&kind);
    let found =
        agents.iter().filter(|(agent, entry)| has_key(entry) && agent.backend.as_deref().is_some_and(is_affected));
    found.map(|(agent, _)| agent.id.clone()).collect()
}

/// The shortest text that counts as a secret, in bytes; local servers often have `EMPTY` or similar as a key.
const MIN_SECRET_BYTES: usize = 6;

impl Tree {
    /// The backends of the agents.
    pub(super) fn backends(&self) -> Vec<&Node> {
        configured_agents(&self.root).into_iter().filter_map(|(_, entry)| entry.get("backend")).collect()
    }

    /// The literal secrets: values of `api_key`, `…_token`, `password` and the like that are not `${VAR}`.
    pub fn secrets(&self) -> Vec<ConfigSecret> {
        self.clone().replace_secrets()
    }

    /// Replaces every literal secret with a reference to the variable that will hold its value (`${MASSGEN_MCP_SECRET_1}`, …).
    pub fn replace_secrets(&mut self) -> Vec<ConfigSecret> {
        let mut found: Vec<ConfigSecret> = Vec::new();
        self.rewrite_scalars(&mut |key, scalar| {
            if !is_literal_secret(key, scalar) {
                return None;
            }
            let known = found.iter().position(|secret| secret.value == scalar.text);
            let number = known.unwrap_or(found.len()) + 1;
            let variable = format!("{SECRET_VARIABLE_PREFIX}{number}");
            let reference = Scalar::quoted(&format!("${{{variable}}}"));
            if known.is_none() {
                found.push(ConfigSecret { variable, key: key.to_owned(), value: scalar.text.clone() });
            }
            Some(reference)
        });
        found
    }
}

fn is_literal_secret(key: &str, scalar: &Scalar) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let endings =
        ["api_key", "apikey", "token", "secret", "password", "passwd", "secret_key", "access_key", "authorization"];
    let named = endings.iter().any(|ending| key.ends_with(ending));
    named && scalar.text.len() >= MIN_SECRET_BYTES && !scalar.text.contains("${")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(text: &str) -> Needs {
        Needs::from_config(&Tree::parse(text).expect("YAML"))
    }

    fn keys(text: &str) -> Vec<String> {
        needs(text).keys.iter().map(RequiredKey::name).collect()
    }

    #[test]
    fn agents_are_found_in_both_forms() {
        let found = needs("agents:\n- {id: a, backend: {type: OpenAI, model: gpt-5}}\n- backend: {model: claude-x}\n");
        let keys: Vec<_> =
            found.agents.iter().map(|a| (a.id.as_str(), a.backend.as_deref(), a.model.as_deref())).collect();
        assert_eq!(keys, [("a", Some("openai"), Some("gpt-5")), ("agent2", Some("claude"), Some("claude-x"))]);
        assert_eq!(found.model("agent2"), Some("claude-x"));
        assert_eq!(needs("agent: {id: x, backend: {type: vllm}}").agents.len(), 1);
    }

    #[test]
    fn each_backend_names_its_keys() {
        for (backend, expected) in [
            ("type: openai", "OPENAI_API_KEY"),
            ("type: gemini", "GOOGLE_API_KEY or GEMINI_API_KEY"),
            ("type: moonshot", "MOONSHOT_API_KEY or KIMI_API_KEY"),
            ("type: chatcompletion, base_url: https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
            ("type: chatcompletion, base_url: http://localhost:1", "OPENAI_API_KEY"),
            ("type: chatcompletion", "OPENAI_API_KEY"),
            ("type: openai, api_key: '${MINE}'", "MINE"),
            ("type: openai, api_key: ''", "OPENAI_API_KEY"),
            ("type: azure_openai", "AZURE_OPENAI_API_KEY, AZURE_OPENAI_ENDPOINT"),
            ("type: azure_openai, base_url: x", "AZURE_OPENAI_API_KEY"),
            ("type: ag2, agent_config: {llm_config: [{api_type: anthropic, model: m}]}", "ANTHROPIC_API_KEY"),
            ("type: vllm, cwd: x, args: ['${cwd}/a', '${A_B}', '${x y}']", "A_B"),
            ("type: claude_code", ""),
        ] {
            assert_eq!(keys(&format!("agents: [{{id: a, backend: {{{backend}}}}}]")).join(", "), expected, "{backend}");
        }
    }

    #[test]
    fn a_key_is_missing_only_if_none_of_its_variables_is_set() {
        let needs = needs("agents: [{backend: {type: gemini}}, {backend: {type: grok}}]");
        let missing =
            |set_name: &'static str| needs.missing(|name| name == set_name).iter().map(|key| key.name()).collect();
        let missing: Vec<Vec<String>> = vec![missing("GEMINI_API_KEY"), missing("XAI_API_KEY")];
        assert_eq!(missing, [vec!["XAI_API_KEY"], vec!["GOOGLE_API_KEY or GEMINI_API_KEY"]]);
    }

    #[test]
    fn execution_abilities_are_described_in_words() {
        let text = "agents:\n- backend: {type: claude_code, mcp_servers: {x: {command: y}}, custom_tools: []}\n\
                    - backend: {enable_mcp_command_line: true, command_line_execution_mode: docker}\n";
        assert_eq!(needs(text).executes, ["agent cli", "commands", "docker", "mcp servers"]);
        assert!(needs("agents: [{backend: {enable_mcp_command_line: false}}]").executes.is_empty());
    }

    #[test]
    fn providers_are_counted_once_and_unchecked_requirements_are_named() {
        let found = needs(
            "agents: [{id: a, backend: {type: openai}}, {id: b, backend: {type: openai}}, {id: c, backend: {type: codex}}, \
             {id: d, backend: {type: vllm, base_url: 'http://localhost:8000/v1'}}]",
        );
        assert_eq!(found.providers().into_iter().collect::<Vec<_>>(), ["codex", "localhost:8000", "openai"]);
        let unchecked: Vec<_> = found.unchecked_requirements().into_iter().collect();
        assert_eq!(unchecked, ["a vllm server", "codex, installed and logged in"]);
    }

    #[test]
    fn a_cwd_needs_both_orchestrator_folders() {
        let agents = "agents: [{id: a, backend: {cwd: w}}, {id: b, backend: {}}]\n";
        assert_eq!(needs(agents).cwd_without_folders, ["a"]);
        assert_eq!(needs(&format!("{agents}orchestrator: {{snapshot_storage: s}}")).cwd_without_folders, ["a"]);
        let complete = format!("{agents}orchestrator: {{snapshot_storage: s, agent_temporary_workspace: t}}");
        assert!(needs(&complete).cwd_without_folders.is_empty());
    }

    #[test]
    fn a_duplicate_api_key_is_reported() {
        let text = "agents: [{id: a, backend: {type: openai, api_key: x}}, {id: b, backend: {type: vllm, api_key: x}}, {id: c}]";
        assert_eq!(needs(text).api_key_twice, ["a"]);
    }

    #[test]
    fn literal_secrets_become_variables() {
        let text = "a: &k sk-123456\nb: {api_key: *k, X_API_KEY: sk-123456, GITHUB_TOKEN: 'ghp_1'}\n\
                    c: {api_key: '${X}', max_tokens: 1000000, password: 12345678, api_key2: sk-123456, token: EMPTY}\n";
        let mut tree = Tree::parse(text).expect("YAML");
        let secrets: Vec<_> =
            tree.replace_secrets().into_iter().map(|s| format!("{}={}", s.variable, s.value)).collect();
        assert_eq!(secrets, ["MASSGEN_MCP_SECRET_1=sk-123456", "MASSGEN_MCP_SECRET_2=12345678"]);
        let expected = "a: sk-123456\nb:\n  api_key: \"${MASSGEN_MCP_SECRET_1}\"\n  X_API_KEY: \"${MASSGEN_MCP_SECRET_1}\"\n  \
                        GITHUB_TOKEN: \"ghp_1\"\nc:\n  api_key: \"${X}\"\n  max_tokens: 1000000\n  \
                        password: \"${MASSGEN_MCP_SECRET_2}\"\n  api_key2: sk-123456\n  token: EMPTY\n";
        assert_eq!(tree.to_yaml().expect("text"), expected);
    }
}
