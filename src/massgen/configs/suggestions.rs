//! Suggests configs for a name that does not exist. It is called only in that case, so it may search folders.

use super::catalogue::config_names;
use super::{ConfigPlaces, Examples};
use crate::massgen::names::similarity;

/// The prefixes of a name with an `@`.
const RESERVED_NAMES: [&str; 2] = ["@rehearsal", "@examples"];
/// The most suggestions.
const MAX_SUGGESTIONS: usize = 3;

/// The most similar config names, best first.
pub(super) fn similar_names(name: &str, sources: ConfigPlaces<'_>) -> Vec<String> {
    let wanted = name.trim().trim_start_matches("file://").replace('\\', "/");
    let wanted = wanted.trim_start_matches("./");
    let examples = sources.package.map(|package| Examples::in_package(package).shortest_names()).unwrap_or_default();
    let examples = examples.into_iter().map(|(name, _)| name);
    let mut scored: Vec<(f64, String)> = config_names(sources)
        .into_iter()
        .chain(examples)
        .chain(similar_reserved_name(wanted))
        .map(|known| (similarity(wanted, &known).max(similarity(file_stem(wanted), file_stem(&known))), known))
        .filter(|(similarity, known)| *similarity > 0.0 && known != name.trim())
        .collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    scored.dedup_by(|one, other| one.1 == other.1);
    scored.into_iter().map(|(_, name)| name).take(MAX_SUGGESTIONS).collect()
}

/// `@rehersal/hang` means `@rehearsal/hang`.
fn similar_reserved_name(wanted: &str) -> Option<String> {
    let (first, rest) = wanted.split_at(wanted.find('/').unwrap_or(wanted.len()));
    let first = if first.starts_with('@') { first.to_owned() } else { format!("@{first}") };
    let nearest = crate::massgen::names::nearest(&first, RESERVED_NAMES)?;
    (nearest == RESERVED_NAMES[0] || rest.len() > 1).then(|| format!("{nearest}{rest}"))
}

/// A file name without folders and extension.
fn file_stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}
