//! What `query` of list_configs finds: words in a config's description of itself, and words for a caller's requirement (`ready`,
//! `multi-provider`, `3 agents`, `web search`, `free`, `project` …), in their usual spellings. Pure.

mod words;

use self::words::parts;
use super::listed::{ConfigOrigin, ListedConfig};
use super::needs::{CLIENTS, SERVERS};

/// Words of a query that are conditions and not text.
pub const CONDITIONS: &str = "ready, multi-provider, 3 agents, web search, code execution, files, free, no key, cheap, local, project, \
                              user, example, rehearsal";

/// Words that occur in the names of small models.
const SMALL: [&str; 6] = ["nano", "mini", "flash", "haiku", "lite", "free"];
/// Words for the maker of a model. A description may compare a config with another provider's, so it does not count for them.
const PROVIDER_NAMES: [&str; 13] = [
    "anthropic",
    "azure",
    "cerebras",
    "claude",
    "deepseek",
    "gemini",
    "google",
    "grok",
    "groq",
    "mistral",
    "openai",
    "openrouter",
    "xai",
];
/// A text shorter than this matches only a whole word; a longer one may match a part of a word.
const LEAST_PART: usize = 3;

/// A query: parts that should all hold.
pub(super) struct ConfigQuery(Vec<QueryTerm>);

/// A part of a query: the caller's words and their meaning.
#[derive(Debug, PartialEq, Eq)]
struct QueryTerm {
    words: String,
    condition: Condition,
}

/// A condition for a config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ready,
    /// Its number of agents is in this range.
    Agents(usize, usize),
    /// The number of providers of its models is in this range.
    Providers(usize, usize),
    From(ConfigOrigin),
    /// One of the abilities in [`super::Needs`].
    Able(&'static str),
    /// It requires no variable with a key.
    NoKey,
    /// None of its models costs money.
    Free,
    /// All its models are small.
    Cheap,
    /// All its models run on this computer or in this network.
    Local,
    /// An agent has a working folder.
    Files,
    /// Its description of itself contains the words.
    Text,
}

/// Which parts of a query hold for a list of configs.
pub(super) struct Found {
    /// The number of parts that hold for each config.
    counts: Vec<usize>,
    of: usize,
    nowhere: Vec<String>,
}

/// How near the listed configs come to a query that none of them matches.
#[derive(Debug, PartialEq, Eq)]
pub struct Near {
    /// The number of parts that hold for each of them.
    pub parts: usize,
    /// How many parts the query has.
    pub of: usize,
    /// The parts that hold for no config.
    pub nowhere: Vec<String>,
}

impl ConfigQuery {
    pub(super) fn parse(query: &str) -> ConfigQuery {
        ConfigQuery(parts(&query.to_lowercase()))
    }

    /// Checks each config.
    pub(super) fn found(&self, configs: &[ListedConfig]) -> Found {
        let texts: Vec<Text> = configs.iter().map(Text::of).collect();
        let matches: Vec<Vec<bool>> = self.0.iter().map(|part| part.holds_for(configs, &texts)).collect();
        let unmatched = self.0.iter().zip(&matches).filter(|(_, matches)| !matches.contains(&true));
        Found {
            counts: (0..configs.len()).map(|at| matches.iter().filter(|matches| matches[at]).count()).collect(),
            of: self.0.len(),
            nowhere: unmatched.map(|(part, _)| part.words.clone()).collect(),
        }
    }
}

impl Found {
    /// The number of configs that match the whole query.
    pub(super) fn matching(&self) -> usize {
        self.counts.iter().filter(|count| **count == self.of).count()
    }

    /// The configs that match it; if none do, those for which most of it holds, at least half.
    pub(super) fn best(&self, configs: Vec<ListedConfig>) -> (Vec<ListedConfig>, Option<Near>) {
        let max_matches = self.counts.iter().copied().max().unwrap_or_default();
        if 2 * max_matches < self.of {
            return (Vec::new(), None);
        }
        let counted = configs.into_iter().zip(&self.counts);
        let best = counted.filter(|(_, count)| **count == max_matches).map(|(config, _)| config).collect();
        (best, (max_matches < self.of).then(|| Near { parts: max_matches, of: self.of, nowhere: self.nowhere.clone() }))
    }
}

impl QueryTerm {
    fn holds_for(&self, configs: &[ListedConfig], texts: &[Text]) -> Vec<bool> {
        let matches = |(config, text): (&ListedConfig, &Text)| self.condition.holds(config) || text.has(self);
        configs.iter().zip(texts).map(matches).collect()
    }
}

impl Condition {
    fn holds(self, config: &ListedConfig) -> bool {
        let needs = &config.needs;
        let of_all = |holds: &dyn Fn(&str) -> bool| {
            let names = needs.agents.iter().map(|agent| agent.backend.as_deref().unwrap_or_default());
            !needs.agents.is_empty() && names.into_iter().all(holds)
        };
        match self {
            Condition::Ready => config.is_ready(),
            Condition::Agents(least, most) => (least..=most).contains(&needs.agents.len()),
            Condition::Providers(least, most) => (least..=most).contains(&needs.providers().len()),
            Condition::From(source) => config.origin == source,
            Condition::Able(ability) => needs.abilities.contains(&ability),
            Condition::NoKey => !needs.agents.is_empty() && needs.keys.is_empty(),
            Condition::Free => needs.keys.is_empty() && of_all(&|backend| !CLIENTS.contains(&backend)),
            Condition::Cheap => is_cheap(config),
            Condition::Local => {
                of_all(&|backend| SERVERS.contains(&backend)) || config.origin == ConfigOrigin::Rehearsal
            }
            Condition::Files => {
                needs.without_cwd.len() < needs.agents.len() && config.origin != ConfigOrigin::Rehearsal
            }
            Condition::Text => false,
        }
    }

    /// Whether a config's description of itself may also contain this, so that a match of the words counts like the condition.
    fn is_text_too(self) -> bool {
        match self {
            Condition::Able(_) | Condition::Local | Condition::Files | Condition::Cheap | Condition::Text => true,
            Condition::Ready
            | Condition::Agents(..)
            | Condition::Providers(..)
            | Condition::From(_)
            | Condition::NoKey
            | Condition::Free => false,
        }
    }
}

fn is_cheap(config: &ListedConfig) -> bool {
    let models = config.needs.agents.iter().map(|agent| agent.model.as_deref().unwrap_or_default().to_lowercase());
    let is_small = |model: String| model.split(|c: char| !c.is_alphanumeric()).any(|word| SMALL.contains(&word));
    config.origin == ConfigOrigin::Rehearsal || !config.needs.agents.is_empty() && models.into_iter().all(is_small)
}

/// A config's description of itself in lower case, both unchanged and without hyphens, since `gpt-5` is also written `gpt5`.
struct Text {
    whole: String,
    joined: String,
    /// Only its name, agents and keys.
    providers: String,
}

impl Text {
    fn of(config: &ListedConfig) -> Text {
        let needs = &config.needs;
        let agents = needs.agents.iter().flat_map(|agent| {
            [Some(agent.id.as_str()), agent.backend.as_deref(), agent.address.as_deref(), agent.model.as_deref()]
        });
        let keys = needs.keys.iter().flat_map(|key| &key.any_of).map(String::as_str);
        let named = [config.name.as_str()].into_iter().chain(agents.flatten()).chain(keys);
        let providers = named.collect::<Vec<_>>().join("\n").to_lowercase();
        let rest =
            [config.origin.as_str(), config.description.as_str()].into_iter().chain(needs.executes.iter().copied());
        let whole = format!("{providers}\n{}", rest.collect::<Vec<_>>().join("\n").to_lowercase());
        Text { joined: joined(&whole), whole, providers }
    }

    fn has(&self, part: &QueryTerm) -> bool {
        let word = part.words.as_str();
        let is_whole = |word: &str| self.whole.split(|c: char| !c.is_alphanumeric()).any(|other| other == word);
        if PROVIDER_NAMES.contains(&word) {
            return self.providers.contains(word);
        }
        part.condition.is_text_too()
            && if word.chars().count() < LEAST_PART {
                is_whole(word)
            } else {
                let word = word.strip_suffix('s').filter(|word| word.len() >= LEAST_PART).unwrap_or(word);
                self.whole.contains(word) || self.joined.contains(&joined(word))
            }
    }
}

fn joined(text: &str) -> String {
    text.replace(['-', '_', ' '], "")
}

#[cfg(test)]
mod tests;
