//! The configs that a name was probably meant for which leads to none. It is asked only then, so that it may look around.

use super::catalogue::names;
use super::{Examples, Sources};
use crate::massgen::names::likeness;

/// What a name with an `@` may begin with.
const SPECIAL: [&str; 2] = ["@rehearsal", "@examples"];
/// How many are named.
const MOST: usize = 3;

/// The names of the configs most like this one, the best first.
pub(super) fn similar(name: &str, sources: Sources<'_>) -> Vec<String> {
    let wanted = name.trim().trim_start_matches("file://").replace('\\', "/");
    let wanted = wanted.trim_start_matches("./");
    let examples = sources.package.map(|package| Examples::of(package).named()).unwrap_or_default();
    let examples = examples.into_iter().map(|(name, _)| name);
    let mut rated: Vec<(f64, String)> = names(sources)
        .into_iter()
        .chain(examples)
        .chain(special(wanted))
        .map(|known| (likeness(wanted, &known).max(likeness(stem(wanted), stem(&known))), known))
        .filter(|(likeness, known)| *likeness > 0.0 && known != name.trim())
        .collect();
    rated.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    rated.dedup_by(|one, other| one.1 == other.1);
    rated.into_iter().map(|(_, name)| name).take(MOST).collect()
}

/// `@rehersal/hang` is `@rehearsal/hang`.
fn special(wanted: &str) -> Option<String> {
    let (first, rest) = wanted.split_at(wanted.find('/').unwrap_or(wanted.len()));
    let first = if first.starts_with('@') { first.to_owned() } else { format!("@{first}") };
    let near = crate::massgen::names::nearest(&first, SPECIAL)?;
    (near == SPECIAL[0] || rest.len() > 1).then(|| format!("{near}{rest}"))
}

/// The name of a file without its folders and its ending.
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}
