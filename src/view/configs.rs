//! Converts a listed config to the view that an agent gets, with enough to choose a config. Pure, and bounded whatever
//! the config contains.

use schemars::JsonSchema;
use serde::Serialize;

use crate::massgen::configs::{ConfiguredAgent, ListedConfig};
use crate::massgen::text;

/// The most agents, and the most keys, that a listed config names.
const MAX_NAMED: usize = 6;
/// The longest name, such as an agent with its model or a key, in characters.
const MAX_NAME_CHARS: usize = 80;
/// The longest description, in characters: in a long list and in a short one.
const MAX_DESCRIPTION_CHARS: [usize; 2] = [80, 160];

/// A config as list_configs shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ConfigView {
    /// What run_massgen takes for it.
    pub config: String,
    /// No key is missing, and no problem is known that makes runs fail.
    pub ready: bool,
    /// Each as id: provider/model.
    pub agents: Vec<String>,
    /// Number of different providers.
    pub providers: usize,
    /// API keys that are not set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_keys: Vec<String>,
    /// Requirements that the server does not check.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// In a list of up to three: all keys that the config needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub keys: Vec<String>,
    /// In a list of up to three: what the config may execute.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub executes: Vec<String>,
    /// The first comment of the config.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Why a run of this config cannot succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub problem: Option<String>,
}

/// Shows a config in a list; with all known details if the list is short.
pub fn config_view(listed: &ListedConfig, is_detailed: bool) -> ConfigView {
    let needs = &listed.needs;
    let omitted = needs.agents.len().saturating_sub(MAX_NAMED);
    let agents = needs.agents.iter().take(MAX_NAMED).map(agent_text);
    let max_chars = MAX_DESCRIPTION_CHARS[usize::from(is_detailed)];
    let first_names = |names: &mut dyn Iterator<Item = String>| {
        if is_detailed { truncated_names(names) } else { Vec::new() }
    };
    ConfigView {
        config: text::single_line(&listed.name, 200),
        ready: listed.is_ready(),
        agents: agents.chain((omitted > 0).then(|| format!("{omitted} more"))).collect(),
        providers: needs.providers().len(),
        missing_keys: truncated_names(&mut listed.missing.iter().cloned()),
        needs: truncated_names(&mut needs.unchecked_requirements().into_iter()),
        keys: first_names(&mut needs.keys.iter().map(|key| key.name())),
        executes: first_names(&mut needs.executes.iter().map(ToString::to_string)),
        about: text::single_line(&listed.description, max_chars),
        problem: listed.problem.as_deref().map(|problem| text::single_line(problem, MAX_DESCRIPTION_CHARS[1])),
    }
}

fn truncated_names(names: &mut dyn Iterator<Item = String>) -> Vec<String> {
    names.take(MAX_NAMED).map(|name| text::single_line(&name, MAX_NAME_CHARS)).collect()
}

/// `a: openai/gpt-5`.
fn agent_text(agent: &ConfiguredAgent) -> String {
    let parts = [agent.provider(), agent.model.as_deref()];
    let parts: Vec<&str> = parts.into_iter().flatten().collect();
    let model = if parts.is_empty() { "?".to_owned() } else { parts.join("/") };
    text::single_line(&format!("{}: {model}", agent.id), MAX_NAME_CHARS)
}
