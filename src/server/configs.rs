//! list_configs: the configs that run_massgen accepts; configs that are ready to run come first. It starts nothing and
//! does not call MassGen.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::client::Client;
use super::context::ServerContext;
use super::next_steps::agent_words;
use super::params::ListConfigs;
use super::{massgen_program, search_paths, trust};
use crate::massgen::configs::{
    self, CONDITIONS, ConfigFacts, ConfigOrigin, ConfiguredAgent, ListedConfig, Near, Needs,
};
use crate::massgen::{program, text};
use crate::refusal::Refusal;
use crate::rehearsal::NAME as REHEARSAL;
use crate::run::{ConfigChoice, Context, Problem};
use crate::settings::Settings;
use crate::view::{self, ConfigView, ProblemView};

/// The most configs on a page.
const MAX_CONFIGS: usize = 50;
/// A list of at most this many configs shows all details of each.
const MAX_DETAILED_CONFIGS: usize = 3;

/// The answer of list_configs.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ConfigListView {
    /// Number of configs that match the query.
    matching: usize,
    total: usize,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    next_offset: Option<usize>,
    /// Why no run can start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    problem: Option<ProblemView>,
    /// If no config matches the whole query: the closest match, and what else to search for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    hint: Option<String>,
    configs: Vec<ConfigView>,
}

pub(super) async fn list(
    context: &ServerContext,
    request: ListConfigs,
    client: Client,
) -> Result<ConfigListView, Refusal> {
    if !(1..=MAX_CONFIGS).contains(&request.limit) {
        return Err(Refusal::out_of_range("limit", request.limit as f64, 1.0, MAX_CONFIGS as f64));
    }
    let (context, offset) = (context.clone(), request.offset);
    let listed = tokio::task::spawn_blocking(move || build_list(&context, &request)).await;
    let mut listed = listed.map_err(|_| Refusal::panicked())?;
    client.fit(&mut listed, |listed| {
        let remaining = listed.configs.len().saturating_sub(1);
        listed.configs.truncate(remaining.max(1));
        listed.next_offset = Some(offset + listed.configs.len()).filter(|_| remaining > 0).or(listed.next_offset);
        remaining > 0
    });
    Ok(listed)
}

fn build_list(context: &ServerContext, request: &ListConfigs) -> ConfigListView {
    let (settings, state) = (&context.settings, context.fleet.state());
    let program = massgen_program::find(settings, state).ok();
    let problem = program.as_deref().and_then(|program| massgen_program::known_problem(program, state));
    let package = program.as_deref().and_then(program::package);
    let variables = search_paths::for_variables(settings, Context::None, package.as_deref()).names();
    let facts = ConfigFacts {
        has_variable: &|name| variables.contains(name),
        refusal_reason: &|path| policy_violation(settings, path, package.as_deref()),
        extra_configs: vec![rehearsal_entry()],
    };
    let page = (request.offset, request.limit);
    let listed =
        configs::list_configs(search_paths::for_configs(settings, package.as_deref()), &request.query, page, facts);
    let end = request.offset + listed.configs.len();
    let is_detailed = listed.configs.len() <= MAX_DETAILED_CONFIGS;
    ConfigListView {
        matching: listed.matching,
        total: listed.total,
        next_offset: (end < listed.found).then_some(end),
        problem: problem
            .or_else(|| env_file_problem(settings, package.as_deref()))
            .map(|problem| view::problem_view(problem, agent_words)),
        hint: (listed.matching == 0).then(|| no_match_hint(listed.near.as_ref())),
        configs: listed.configs.iter().map(|config| view::config_view(config, is_detailed)).collect(),
    }
}

/// Why the operator's policy would refuse a start with this config.
fn policy_violation(settings: &Settings, path: &Path, package: Option<&Path>) -> Option<String> {
    trust::read_config(settings, path, None, package).err().map(|refusal| format!("refused: {}", refusal.message()))
}

/// Why every start would be refused because of an `.env` file.
fn env_file_problem(settings: &Settings, package: Option<&Path>) -> Option<Problem> {
    let refusal = trust::check_env_files(settings, Context::None, package).err()?;
    Some(Problem::new(refusal.code(), refusal.message(), refusal.next().clone()))
}

/// The hint if no config matches the whole query.
fn no_match_hint(near: Option<&Near>) -> String {
    let unmatched_words = |near: &Near| {
        let words: Vec<String> = near
            .nowhere
            .iter()
            .take(MAX_DETAILED_CONFIGS)
            .map(|words| format!("`{}`", text::single_line(words, 40)))
            .collect();
        if words.is_empty() { String::new() } else { format!(", and none has {}", words.join(", ")) }
    };
    let text = near.map_or_else(
        || "no config matches the query; ask with fewer or other words".to_owned(),
        |near| {
            format!(
                "no config matches all {} parts of the query{}; these match {}",
                near.of,
                unmatched_words(near),
                near.parts
            )
        },
    );
    format!("{text}. Words with a meaning: {CONDITIONS}")
}

/// The list entry of the built-in rehearsal config.
fn rehearsal_entry() -> ListedConfig {
    let agent = |id: &str| ConfiguredAgent {
        id: id.to_owned(),
        backend: Some("rehearsal".to_owned()),
        model: Some("scripted".to_owned()),
        address: None,
    };
    let needs = Needs { agents: vec![agent("agent_a"), agent("agent_b")], ..Needs::default() };
    ListedConfig {
        name: REHEARSAL.to_owned(),
        origin: ConfigOrigin::Rehearsal,
        choice: ConfigChoice::Rehearsal(REHEARSAL.to_owned()),
        needs,
        missing: Vec::new(),
        description: "For practice: offline, free, and its answers are scripted.".to_owned(),
        problem: None,
    }
}
