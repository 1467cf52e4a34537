//! What `query` of list_configs finds: words in what a config says of itself, and a few words that name what a caller needs
//! (`ready`, `multi-provider`, `project`, `user`, `example`, `rehearsal`). Pure.

use super::catalogue::{Listed, Source};

/// Words of a query that are conditions and not text.
pub const CONDITIONS: &str = "ready, multi-provider, project, user, example, rehearsal";

/// A query: all of its parts must hold.
pub(super) struct Query(Vec<Part>);

enum Part {
    Ready,
    MultiProvider,
    From(Source),
    /// In lower case.
    Text(String),
}

impl Query {
    pub(super) fn read(query: &str) -> Query {
        Query(query.split_whitespace().map(|word| Part::read(&word.to_lowercase())).collect())
    }

    pub(super) fn matches(&self, config: &Listed) -> bool {
        let text = text_of(config);
        self.0.iter().all(|part| match part {
            Part::Ready => config.is_ready(),
            Part::MultiProvider => config.needs.providers().len() > 1,
            Part::From(source) => config.source == *source,
            Part::Text(word) => text.contains(word.as_str()),
        })
    }
}

impl Part {
    fn read(word: &str) -> Part {
        match word {
            "ready" => Part::Ready,
            "multi-provider" => Part::MultiProvider,
            "project" => Part::From(Source::Project),
            "user" => Part::From(Source::User),
            "example" | "examples" => Part::From(Source::Example),
            "rehearsal" | "@rehearsal" => Part::From(Source::Rehearsal),
            other => Part::Text(other.to_owned()),
        }
    }
}

/// All text that a query is looked for in, in lower case.
fn text_of(config: &Listed) -> String {
    let needs = &config.needs;
    let agents = needs.agents.iter().flat_map(|agent| {
        [Some(agent.id.as_str()), agent.backend.as_deref(), agent.address.as_deref(), agent.model.as_deref()]
    });
    let keys = needs.keys.iter().flat_map(|key| &key.any_of).map(String::as_str);
    let own = [config.name.as_str(), config.source.word(), config.about.as_str()];
    let words = own.into_iter().chain(agents.flatten()).chain(keys).chain(needs.executes.iter().copied());
    words.collect::<Vec<_>>().join("\n").to_lowercase()
}
