//! The words of a query and their meanings: phrases in their usual spellings, with or without hyphens, and numbers of agents and providers.
//! Pure; anything that is not a phrase is text.

use super::{Condition, QueryTerm};
use crate::massgen::configs::listed::ConfigOrigin;

/// Words without information about a config.
const EMPTY: [&str; 34] = [
    "a",
    "an",
    "and",
    "any",
    "are",
    "at",
    "by",
    "can",
    "config",
    "configs",
    "configuration",
    "for",
    "from",
    "has",
    "have",
    "i",
    "in",
    "is",
    "it",
    "me",
    "need",
    "needs",
    "of",
    "on",
    "or",
    "some",
    "that",
    "the",
    "to",
    "use",
    "using",
    "want",
    "which",
    "with",
];
/// Words that every config would match unless they are part of a phrase.
const COMMON: [&str; 7] = ["agent", "agents", "massgen", "model", "models", "provider", "providers"];
/// Words that are conditions.
const PHRASES: &[(&str, Condition)] = &[
    ("ready", Condition::Ready),
    ("heterogeneous", Condition::Providers(2, usize::MAX)),
    ("multiprovider", Condition::Providers(2, usize::MAX)),
    ("multiagent", Condition::Agents(2, usize::MAX)),
    ("web search", Condition::Able("web search")),
    ("search web", Condition::Able("web search")),
    ("websearch", Condition::Able("web search")),
    ("internet", Condition::Able("web search")),
    ("code execution", Condition::Able("code execution")),
    ("code interpreter", Condition::Able("code execution")),
    ("execute code", Condition::Able("code execution")),
    ("run code", Condition::Able("code execution")),
    ("image generation", Condition::Able("image generation")),
    ("generate image", Condition::Able("image generation")),
    ("no key", Condition::NoKey),
    ("no api key", Condition::NoKey),
    ("without key", Condition::NoKey),
    ("without api key", Condition::NoKey),
    ("keyless", Condition::NoKey),
    ("free", Condition::Free),
    ("no cost", Condition::Free),
    ("cheap", Condition::Cheap),
    ("inexpensive", Condition::Cheap),
    ("low cost", Condition::Cheap),
    ("local", Condition::Local),
    ("offline", Condition::Local),
    ("self hosted", Condition::Local),
    ("file", Condition::Files),
    ("filesystem", Condition::Files),
    ("file system", Condition::Files),
    ("project", Condition::From(ConfigOrigin::Project)),
    ("user", Condition::From(ConfigOrigin::User)),
    ("example", Condition::From(ConfigOrigin::Example)),
    ("rehearsal", Condition::From(ConfigOrigin::Rehearsal)),
    ("@rehearsal", Condition::From(ConfigOrigin::Rehearsal)),
];
/// Words that mean more than one.
const SEVERAL: [&str; 12] = [
    "multi",
    "multiple",
    "several",
    "different",
    "mixed",
    "mix",
    "various",
    "diverse",
    "many",
    "cross",
    "2+",
    "distinct",
];
/// Words for properties that may differ between agents.
const PROVIDERS: [&str; 5] = ["provider", "vendor", "model", "llm", "company"];
const NUMBERS: [&str; 11] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The parts of a query in lower case.
pub(super) fn parts(query: &str) -> Vec<QueryTerm> {
    let words = query.split_whitespace().map(|word| word.trim_matches([',', ';', '.', '?', '!', '"', '\'', '(', ')']));
    let words: Vec<&str> = words.filter(|word| !word.is_empty() && !EMPTY.contains(word)).collect();
    let (mut parts, mut rest) = (Vec::new(), words.as_slice());
    while let Some(first) = rest.first() {
        let (word_count, condition) = phrase(rest).unwrap_or((1, Condition::Text));
        let words = if word_count == 1 { (*first).to_owned() } else { rest[..word_count].join(" ") };
        let part = QueryTerm { words, condition };
        if !parts.contains(&part) && !COMMON.contains(&part.words.as_str()) {
            parts.push(part);
        }
        rest = &rest[word_count..];
    }
    parts
}

/// Finds the longest condition at the beginning: its number of words and its meaning.
fn phrase(words: &[&str]) -> Option<(usize, Condition)> {
    // No phrase is longer.
    (1..=words.len().min(4)).rev().find_map(|word_count| {
        let singulars: Vec<String> =
            words[..word_count].iter().flat_map(|word| word.split(['-', '_'])).map(singular).collect();
        Some((word_count, meaning(&singulars.iter().map(String::as_str).collect::<Vec<_>>())?))
    })
}

fn singular(word: &str) -> String {
    match word {
        "companies" => "company".to_owned(),
        word => word.strip_suffix('s').filter(|one| one.len() > 2).unwrap_or(word).to_owned(),
    }
}

fn meaning(words: &[&str]) -> Option<Condition> {
    let is = |phrase: &str| phrase.split(' ').map(singular).eq(words.iter().map(|word| (*word).to_owned()));
    let known = || PHRASES.iter().find(|(phrase, _)| is(phrase)).map(|(_, condition)| *condition);
    let counted = || match words {
        ["single" | "solo", "agent"] => Some(Condition::Agents(1, 1)),
        ["least", count, noun] => of_what(noun, number(count)?, usize::MAX),
        [count, "different", noun] => of_what(noun, number(count)?, number(count)?),
        [count, noun] if number(count).is_some() => of_what(noun, number(count)?, number(count)?),
        [several, noun] if SEVERAL.iter().any(|word| singular(word) == *several) => of_what(noun, 2, usize::MAX),
        _ => None,
    };
    known().or_else(counted)
}

fn of_what(noun: &str, min: usize, max: usize) -> Option<Condition> {
    match noun {
        "agent" => Some(Condition::Agents(min, max)),
        noun if PROVIDERS.contains(&noun) => Some(Condition::Providers(min, max)),
        _ => None,
    }
}

fn number(word: &str) -> Option<usize> {
    word.parse().ok().or_else(|| NUMBERS.iter().position(|number| *number == word))
}
