//! Chooses the agents, votes and texts of a brief status, which has at most [`MAX_TOKENS`] tokens for a run of any
//! size. The group label, in a list of runs that the call did not name, and the text of a short answer are not counted.
//! Pure. Tokens are estimated by a rule of thumb, because a real vocabulary is larger than this whole program. Tests
//! compare the estimate and its results with a real vocabulary.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::{MAX_BRIEF_MESSAGE_BYTES, RunView, agent_status, short_word, truncate_words};
use crate::run::{AgentDigest, Digest};

/// The most tokens of a brief status.
pub(super) const MAX_TOKENS: usize = 120;
/// The budget for the estimate; the margin covers small errors of it.
const TOKEN_BUDGET: usize = MAX_TOKENS - 3;
/// The most agents that a brief status names.
const MAX_AGENTS: usize = 8;
/// The most answers whose votes a brief status names.
const MAX_VOTED_ANSWERS: usize = 3;
/// How many tokens of a problem's message take precedence over optional fields.
pub(super) const MIN_MESSAGE_TOKENS: usize = 32;

/// The same for the warning of a run that has changed files of the project: these matter more.
const MIN_WARNING_TOKENS: usize = 16;

/// Optional fields of a run with a problem, least important first. They are dropped if the budget is exceeded; a full
/// status has them.
const OPTIONAL_FIELDS: [fn(&mut RunView); 10] = [
    |view| view.warning = view.warning.take().filter(|_| view.problem.is_none()),
    |view| view.seems = None,
    |view| view.budget = None,
    |view| view.tokens = None,
    |view| view.problem.iter_mut().for_each(|problem| problem.provider = None),
    |view| view.phase = None,
    |view| view.changed = None,
    |view| (view.winner, view.best) = (None, None),
    |view| (view.messages_waiting, view.never_delivered) = (None, None),
    |view| view.quiet_s = None,
];

/// Fits message, agents and votes of the view into the budget. Omitted agents and votes are counted. The agent count is
/// omitted too if the run has a problem and has ended, where it matters least, or if the message would not fit.
pub(super) fn fit_to_budget(mut view: RunView, digest: Option<&Digest>) -> RunView {
    if is_within_budget(&view) {
        return view;
    }
    let all_agents = digest.map(|digest| digest.agents.as_slice()).unwrap_or_default();
    (view.agents, view.votes) = (BTreeMap::new(), BTreeMap::new());
    let message_text = main_message(&mut view).map(std::mem::take);
    let message = message_text.unwrap_or_default();
    let is_over = view.has_ended();
    let counted = if is_over { BTreeMap::new() } else { agent_counts(all_agents, 0, is_over) };
    let has_changes = view.problem.is_none() && view.changed.is_some();
    let least = if has_changes { MIN_WARNING_TOKENS } else { MIN_MESSAGE_TOKENS };
    let first = estimate_tokens(&message).min(least) + field_tokens(&counted);
    for remove_field in OPTIONAL_FIELDS {
        if json_tokens(&view) + first > TOKEN_BUDGET {
            remove_field(&mut view);
        }
    }
    // The message matters more than the activity of each agent.
    let counted = if json_tokens(&view) + first > TOKEN_BUDGET { BTreeMap::new() } else { counted };
    let remaining_tokens = TOKEN_BUDGET.saturating_sub(json_tokens(&view) + field_tokens(&counted));
    let message = truncate_tokens(&message, remaining_tokens);
    let remaining_tokens = remaining_tokens.saturating_sub(estimate_tokens(&message));
    view.votes = digest
        .map(|digest| top_votes(&digest.votes))
        .filter(|votes| field_tokens(votes) <= remaining_tokens)
        .unwrap_or_default();
    let votes_budget = (remaining_tokens + field_tokens(&counted)).saturating_sub(field_tokens(&view.votes));
    let mut candidates =
        (0..=all_agents.len().min(MAX_AGENTS)).rev().map(|named| agent_counts(all_agents, named, is_over));
    view.agents = candidates.find(|agents| field_tokens(agents) <= votes_budget).unwrap_or(counted);
    if let Some(target) = main_message(&mut view) {
        *target = message;
    }
    view
}

/// The main message: that of the problem, otherwise that of the warning.
fn main_message(view: &mut RunView) -> Option<&mut String> {
    match (&mut view.problem, &mut view.warning) {
        (Some(problem), _) => Some(&mut problem.message),
        (None, Some(warning)) => Some(&mut warning.message),
        (None, None) => None,
    }
}

/// A fast check for small views: most runs are small and are read often.
fn is_within_budget(view: &RunView) -> bool {
    let messages =
        [view.problem.as_ref().map(|problem| &problem.message), view.warning.as_ref().map(|warning| &warning.message)];
    let is_short = messages.into_iter().flatten().all(|message| message.len() <= MAX_BRIEF_MESSAGE_BYTES);
    let is_few = view.agents.len() <= MAX_AGENTS && view.votes.len() <= MAX_VOTED_ANSWERS;
    is_short && is_few && json_tokens(view) <= TOKEN_BUDGET
}

/// The tokens of a field that is absent if empty.
fn field_tokens<V: serde::Serialize>(fields: &BTreeMap<String, V>) -> usize {
    if fields.is_empty() { 0 } else { FIELD_OVERHEAD + json_tokens(fields) }
}

/// The tokens of a field name and the punctuation around it.
const FIELD_OVERHEAD: usize = 2;

/// The first `named` agents by id, and the others as counts by status.
pub(super) fn agent_counts(agents: &[AgentDigest], named: usize, is_over: bool) -> BTreeMap<String, String> {
    let (named, others) = agents.split_at(named.min(agents.len()));
    let mut shown = BTreeMap::new();
    for (index, agent) in named.iter().enumerate() {
        let id = short_word(&agent.id);
        // Truncated names may be equal.
        let id = if shown.contains_key(&id) { format!("{id}~{}", index + 1) } else { id };
        shown.insert(id, agent_status(agent, is_over));
    }
    if !others.is_empty() {
        let key = if named.is_empty() { "all" } else { "others" };
        shown.insert(key.to_owned(), status_counts(others, is_over));
    }
    shown
}

/// `3 voted, 1 working`.
fn status_counts(agents: &[AgentDigest], is_over: bool) -> String {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for agent in agents {
        let state = agent_status(&AgentDigest { state: agent.state, ..AgentDigest::default() }, is_over);
        match counts.iter_mut().find(|(known, _)| *known == state) {
            Some((_, count)) => *count += 1,
            None => counts.push((state, 1)),
        }
    }
    let counts: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    counts.join(", ")
}

/// The answers with the most votes, and the sum of the other votes.
fn top_votes(votes: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let mut sorted: Vec<_> = votes.iter().collect();
    sorted.sort_by_key(|(_, count)| Reverse(**count));
    let (named, others) = sorted.split_at(MAX_VOTED_ANSWERS.min(sorted.len()));
    let mut shown: BTreeMap<String, u32> = named.iter().map(|(label, count)| (short_word(label), **count)).collect();
    if !others.is_empty() {
        let sum = others.iter().fold(0_u32, |sum, (_, count)| sum.saturating_add(**count));
        shown.insert("others".to_owned(), sum);
    }
    shown
}

/// The beginning of a text, with about a given number of tokens. A truncated text ends with a mark.
fn truncate_tokens(text: &str, max_tokens: usize) -> String {
    let mut bytes = MAX_BRIEF_MESSAGE_BYTES.min(text.len());
    while bytes > 0 && estimate_tokens(&truncate_words(text, bytes)) > max_tokens {
        bytes -= 1;
    }
    truncate_words(text, bytes)
}

fn json_tokens(value: &impl serde::Serialize) -> usize {
    serde_json::to_string(value).map_or(MAX_TOKENS, |text| estimate_tokens(&text))
}

/// Estimates the tokens of a text. In the tests, the estimate is between 2 % too low and 16 % too high.
pub(super) fn estimate_tokens(text: &str) -> usize {
    let runs = text.as_bytes().chunk_by(|a, b| char_class(*a) == char_class(*b));
    let run_tokens: usize =
        runs.map(|run| run.first().map_or(0, |first| class_tokens(char_class(*first), run.len()))).sum();
    // Tokenizers join a space to the word after it, but not to a number.
    run_tokens + text.as_bytes().windows(2).filter(|pair| matches!(pair, [b' ', b'0'..=b'9'])).count()
}

#[derive(PartialEq, Eq)]
enum CharClass {
    Lower,
    Upper,
    Digit,
    Space,
    Punctuation,
    NonAscii,
}

fn char_class(byte: u8) -> CharClass {
    match byte {
        b'a'..=b'z' => CharClass::Lower,
        b'A'..=b'Z' => CharClass::Upper,
        b'0'..=b'9' => CharClass::Digit,
        b' ' => CharClass::Space,
        0..=127 => CharClass::Punctuation,
        128..=255 => CharClass::NonAscii,
    }
}

/// The tokens of a run of bytes of one class. Up to twelve lowercase letters count as one natural-language word.
fn class_tokens(kind: CharClass, bytes: usize) -> usize {
    match kind {
        CharClass::Lower if bytes <= 12 => bytes.div_ceil(8),
        CharClass::Lower | CharClass::Upper => bytes.div_ceil(2),
        CharClass::Digit => bytes.div_ceil(3),
        CharClass::Space => bytes / 2,
        CharClass::Punctuation if bytes <= 3 => 1,
        CharClass::Punctuation => bytes.div_ceil(2),
        CharClass::NonAscii => (2 * bytes).div_ceil(3),
    }
}
