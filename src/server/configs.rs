//! list_configs: which configs run_massgen takes, those first that need nothing more. It starts nothing and asks MassGen nothing.

use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use super::calls::Desk;
use super::client::Client;
use super::params::ListConfigs;
use crate::massgen::configs::{self, Agent, CONDITIONS, Known, Listed, Near, Needs, Source};
use crate::massgen::{broken, program, setup, text};
use crate::refusal::Refusal;
use crate::rehearsal::NAME as REHEARSAL;
use crate::run::{ConfigChoice, Context, Problem};
use crate::view::{self, ConfigView, ProblemView};

/// The most configs of a page.
const MOST_CONFIGS: usize = 50;
/// A list of so many shows all that is known of each.
const FEW: usize = 3;

/// What list_configs gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Configs {
    /// How many match the query.
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
    /// Where nothing matches all of the query: how near the list comes to it, and what else to look for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    hint: Option<String>,
    configs: Vec<ConfigView>,
}

impl Desk {
    pub(super) async fn list_configs(&self, asked: ListConfigs, client: Client) -> Result<Configs, Refusal> {
        if !(1..=MOST_CONFIGS).contains(&asked.limit) {
            return Err(Refusal::out_of_range("limit", asked.limit as f64, 1.0, MOST_CONFIGS as f64));
        }
        let (desk, offset) = (self.clone(), asked.offset);
        let listed = tokio::task::spawn_blocking(move || desk.configs(&asked)).await;
        let mut listed = listed.map_err(|_| Refusal::panicked())?;
        client.fit(&mut listed, |listed| {
            let kept = listed.configs.len().saturating_sub(1);
            listed.configs.truncate(kept.max(1));
            listed.next_offset = Some(offset + listed.configs.len()).filter(|_| kept > 0).or(listed.next_offset);
            kept > 0
        });
        Ok(listed)
    }

    fn configs(&self, asked: &ListConfigs) -> Configs {
        let own_venv = setup::venv(&self.settings.home);
        let seen = self.seen();
        let program = program::find(self.places(&own_venv, &seen)).ok();
        let problem = program.as_deref().and_then(|program| broken::problem(program, &seen));
        let package = program.as_deref().and_then(program::package);
        let variables = self.origins(Context::None, package.as_deref()).names();
        let known = Known {
            is_there: &|name| variables.contains(name),
            refused: &|path| self.refused(path, package.as_deref()),
            others: vec![rehearsal()],
        };
        let page = (asked.offset, asked.limit);
        let found = configs::catalogue(self.sources(package.as_deref()), &asked.query, page, known);
        let end = asked.offset + found.configs.len();
        let is_few = found.configs.len() <= FEW;
        Configs {
            matching: found.matching,
            total: found.total,
            next_offset: (end < found.found).then_some(end),
            problem: problem.or_else(|| self.env_files_refused(package.as_deref())).map(view::problem),
            hint: (found.matching == 0).then(|| unmatched(found.near.as_ref())),
            configs: found.configs.iter().map(|config| view::config(config, is_few)).collect(),
        }
    }

    /// Why a start with this config would be refused by what the operator allows.
    fn refused(&self, path: &Path, package: Option<&Path>) -> Option<String> {
        self.original(path, None, package).err().map(|refusal| format!("refused: {}", refusal.message()))
    }

    /// Why every start would be refused.
    fn env_files_refused(&self, package: Option<&Path>) -> Option<Problem> {
        let refusal = self.check_env_files(Context::None, package).err()?;
        Some(Problem::new(refusal.code(), refusal.message(), refusal.hint()))
    }
}

/// What to say where no config matches all of a query.
fn unmatched(near: Option<&Near>) -> String {
    let nowhere = |near: &Near| {
        let words: Vec<String> =
            near.nowhere.iter().take(FEW).map(|words| format!("`{}`", text::line(words, 40))).collect();
        if words.is_empty() { String::new() } else { format!(", and none has {}", words.join(", ")) }
    };
    let told = near.map_or_else(
        || "no config matches the query; ask with fewer or other words".to_owned(),
        |near| {
            format!("no config matches all {} parts of the query{}; these match {}", near.of, nowhere(near), near.parts)
        },
    );
    format!("{told}. Words with a meaning: {CONDITIONS}")
}

/// The built-in rehearsal, as a config among others.
fn rehearsal() -> Listed {
    let agent = |id: &str| Agent {
        id: id.to_owned(),
        backend: Some("rehearsal".to_owned()),
        model: Some("scripted".to_owned()),
        address: None,
    };
    let needs = Needs { agents: vec![agent("agent_a"), agent("agent_b")], ..Needs::default() };
    Listed {
        name: REHEARSAL.to_owned(),
        source: Source::Rehearsal,
        choice: ConfigChoice::Rehearsal(REHEARSAL.to_owned()),
        needs,
        missing: Vec::new(),
        about: "For practice: offline, free, and its answers are scripted.".to_owned(),
        problem: None,
    }
}
