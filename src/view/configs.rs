//! A listed config → what an agent sees of it: enough to choose one by. Pure, and bounded whatever is in the config.

use schemars::JsonSchema;
use serde::Serialize;

use crate::massgen::configs::{ConfiguredAgent, ListedConfig};
use crate::massgen::text;

/// The most agents, and the most keys, that a listed config names.
const MAX_NAMED: usize = 6;
/// The longest name of an agent with its model, of a key and the like, in characters.
const MAX_NAME_CHARS: usize = 80;
/// The longest description in a list, in characters; a short list has longer ones.
const MAX_DESCRIPTION_CHARS: [usize; 2] = [80, 160];

/// A config, as list_configs shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ConfigView {
    /// What run_massgen takes for it.
    pub config: String,
    /// No key is missing, and nothing is known that keeps a run from succeeding.
    pub ready: bool,
    /// Each as id: provider/model.
    pub agents: Vec<String>,
    /// How many different ones.
    pub providers: usize,
    /// API keys that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing_keys: Vec<String>,
    /// What nothing here looks at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub needs: Vec<String>,
    /// In a list of up to three: all keys that it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub keys: Vec<String>,
    /// In a list of up to three: what it may execute.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub executes: Vec<String>,
    /// Its first comment.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Why no run of it can succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub problem: Option<String>,
}

/// A config in a list; with all that is known of it where only a few are shown.
pub fn config_view(listed: &ListedConfig, is_one_of_few: bool) -> ConfigView {
    let needs = &listed.needs;
    let more = needs.agents.len().saturating_sub(MAX_NAMED);
    let agents = needs.agents.iter().take(MAX_NAMED).map(agent_text);
    let about_chars = MAX_DESCRIPTION_CHARS[usize::from(is_one_of_few)];
    let few = |names: &mut dyn Iterator<Item = String>| {
        if is_one_of_few { truncated_names(names) } else { Vec::new() }
    };
    ConfigView {
        config: text::single_line(&listed.name, 200),
        ready: listed.is_ready(),
        agents: agents.chain((more > 0).then(|| format!("{more} more"))).collect(),
        providers: needs.providers().len(),
        missing_keys: truncated_names(&mut listed.missing.iter().cloned()),
        needs: truncated_names(&mut needs.unchecked_requirements().into_iter()),
        keys: few(&mut needs.keys.iter().map(|key| key.name())),
        executes: few(&mut needs.executes.iter().map(ToString::to_string)),
        about: text::single_line(&listed.description, about_chars),
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
