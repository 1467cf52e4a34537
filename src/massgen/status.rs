//! status.json (MassGen since 0.1.12) → `Digest`. Tolerant: a field of a wrong type, an unknown word or a missing branch only omits that
//! fact. If the text is not JSON, there is no digest and the last good one remains. The file alone never decides a run's outcome.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::text;
use crate::run::{AgentDigest, AgentState, Digest, Finish};
use crate::secrets::Secrets;

/// How many bytes of status.json are read. It grows with every answer without a limit; a larger file is ignored.
pub const MAX_BYTES: u64 = 64 << 20;
/// The longest error text that a digest keeps, in characters.
const MAX_ERROR_CHARS: usize = 300;
/// The longest word (agent, label, phase) that a digest keeps, in characters.
const MAX_NAME_CHARS: usize = 64;
/// The most agents that a digest keeps.
const MAX_AGENTS: usize = 64;

/// The text is not JSON: read during a write (two threads of MassGen share one temporary file), or not written yet.
#[derive(Debug, thiserror::Error)]
#[error("status.json is torn")]
pub struct InvalidStatus(#[source] serde_json::Error);

/// Reads one status.json.
pub fn digest(bytes: &[u8]) -> Result<Digest, InvalidStatus> {
    masked_digest(bytes, &Secrets::default())
}

/// Reads one status.json and masks secrets in its texts.
pub fn masked_digest(bytes: &[u8], secrets: &Secrets) -> Result<Digest, InvalidStatus> {
    // Python writes NaN and Infinity, which are not valid JSON.
    let status = object(bytes).or_else(|_| object(&without_nan(bytes)));
    status.map(|status| status.into_digest(secrets)).map_err(InvalidStatus)
}

/// serde also accepts a list for a struct, field by field; this type rejects it.
fn object(bytes: &[u8]) -> Result<StatusFile, serde_json::Error> {
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(serde::de::Error::custom("a list where an object belongs"));
    }
    serde_json::from_slice(bytes)
}

#[derive(serde::Deserialize)]
struct StatusFile {
    #[serde(default)]
    finish_reason: Lenient<String>,
    #[serde(default)]
    costs: Lenient<StatusCosts>,
    #[serde(default)]
    coordination: Lenient<Coordination>,
    #[serde(default)]
    agents: Lenient<Agents>,
    #[serde(default)]
    results: Lenient<Results>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct StatusCosts {
    total_estimated_cost: Lenient<f64>,
    total_input_tokens: Lenient<f64>,
    total_output_tokens: Lenient<f64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Coordination {
    phase: Lenient<String>,
}

/// Counts by label.
type VoteCounts = BTreeMap<String, Lenient<u32>>;

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Results {
    votes: Lenient<VoteCounts>,
    winner: Lenient<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct StatusAgent {
    status: Lenient<String>,
    answer_count: Lenient<u32>,
    latest_answer_label: Lenient<String>,
    vote_cast: Lenient<Vote>,
    error: Lenient<AgentError>,
    token_usage: Lenient<TokenUsage>,
    reliability: Lenient<Reliability>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Vote {
    voted_for_label: Lenient<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct AgentError {
    message: Lenient<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct TokenUsage {
    input_tokens: Lenient<f64>,
    output_tokens: Lenient<f64>,
    estimated_cost: Lenient<f64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Reliability {
    enforcement_attempts: LenientList<Attempt>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Attempt {
    reason: Lenient<String>,
    error_message: Lenient<String>,
}

impl StatusFile {
    fn into_digest(self, secrets: &Secrets) -> Digest {
        let agents = self.agents.0.unwrap_or_default().0;
        let first_error = agents.iter().find_map(|(id, agent)| Some((agent.first_error(secrets)?, id)));
        let (first_error, first_error_agent) =
            first_error.map(|(error, id)| (error, clean_message(id, MAX_NAME_CHARS, secrets))).unzip();
        let agents: Vec<AgentDigest> = agents.into_iter().map(|(id, agent)| agent.into_digest(&id, secrets)).collect();
        let costs = self.costs.0.unwrap_or_default();
        let results = self.results.0.unwrap_or_default();
        let votes: VoteCounts = results.votes.0.unwrap_or_default();
        let tokens = token_total(&costs.total_input_tokens, &costs.total_output_tokens);
        Digest {
            phase: self.coordination.0.and_then(|c| c.phase.into_name(secrets)),
            votes_counted: votes.values().filter_map(|count| count.0).fold(0, u32::saturating_add),
            votes: standing_votes(votes, &agents, secrets),
            winner: results.winner.into_name(secrets),
            cost_usd: known_cost(&costs.total_estimated_cost),
            tokens: tokens.or_else(|| agents.iter().map(|agent| agent.tokens).sum()),
            finish_reason: self.finish_reason.0.as_deref().map(finish_from_word),
            first_error,
            first_error_agent,
            agents,
        }
    }
}

impl StatusAgent {
    fn first_error(&self, secrets: &Secrets) -> Option<String> {
        let attempts = &self.reliability.0.as_ref()?.enforcement_attempts.0;
        let is_api_error = |attempt: &&Attempt| attempt.reason.0.as_deref() == Some("api_error");
        let attempt = attempts.iter().filter_map(|attempt| attempt.0.as_ref()).find(is_api_error)?;
        attempt.error_message.0.as_deref().map(|message| clean_message(message, MAX_ERROR_CHARS, secrets))
    }

    fn into_digest(self, id: &str, secrets: &Secrets) -> AgentDigest {
        let usage = self.token_usage.0.unwrap_or_default();
        let answers = self.answer_count.0.unwrap_or_default();
        let state = self.status.0.as_deref().map(agent_state_from_word).unwrap_or_default();
        AgentDigest {
            id: clean_message(id, MAX_NAME_CHARS, secrets),
            // MassGen reports `restarting` for an agent in its first call as soon as another agent has answered.
            state: if state == AgentState::Restarting && answers == 0 { AgentState::Working } else { state },
            answers,
            label: self.latest_answer_label.into_name(secrets),
            vote: self.vote_cast.0.and_then(|vote| vote.voted_for_label.into_name(secrets)),
            error: self
                .error
                .0
                .and_then(|error| error.message.0)
                .map(|message| clean_message(&message, MAX_ERROR_CHARS, secrets)),
            tokens: token_total(&usage.input_tokens, &usage.output_tokens),
            output_tokens: token_count(&usage.output_tokens),
            cost_usd: known_cost(&usage.estimated_cost),
        }
    }
}

/// `results.votes` includes votes for answers that newer ones have replaced; they are omitted here.
fn standing_votes(votes: VoteCounts, agents: &[AgentDigest], secrets: &Secrets) -> BTreeMap<String, u32> {
    let is_current = |label: &str| agents.iter().any(|agent| agent.label.as_deref() == Some(label));
    let counted =
        votes.into_iter().filter_map(|(label, count)| Some((clean_message(&label, MAX_NAME_CHARS, secrets), count.0?)));
    counted.filter(|(label, count)| *count > 0 && is_current(label)).collect()
}

/// A text of MassGen as one sanitized line. Secrets are masked before the cut, because the cut could leave part of a secret.
fn clean_message(text: &str, max_chars: usize, secrets: &Secrets) -> String {
    text::single_line(&secrets.mask(text), max_chars)
}

fn token_total(input: &Lenient<f64>, output: &Lenient<f64>) -> Option<u64> {
    Some(token_count(input)?.saturating_add(token_count(output)?))
}

fn token_count(value: &Lenient<f64>) -> Option<u64> {
    value.0.filter(|value| value.is_finite() && *value >= 0.0).map(|value| value as u64)
}

/// MassGen writes 0.0 for a model without a price, so 0 means unknown.
fn known_cost(cost: &Lenient<f64>) -> Option<f64> {
    cost.0.filter(|cost| cost.is_finite() && *cost > 0.0)
}

fn finish_from_word(text: &str) -> Finish {
    match text {
        "in_progress" => Finish::InProgress,
        "completed" => Finish::Completed,
        "timeout" => Finish::Timeout,
        "error" => Finish::Error,
        _ => Finish::Unknown,
    }
}

fn agent_state_from_word(word: &str) -> AgentState {
    match word {
        "waiting" => AgentState::Working,
        "streaming" => AgentState::Thinking,
        "answered" => AgentState::Answered,
        "voted" | "completed" => AgentState::Voted,
        "restarting" => AgentState::Restarting,
        "error" => AgentState::Failed,
        "timeout" => AgentState::TimedOut,
        _ => AgentState::Unknown,
    }
}

/// A field that is absent if it does not have the expected type. A list is never the expected type.
struct Lenient<T>(Option<T>);

/// A list; entries without the expected type are omitted.
struct LenientList<T>(Vec<Lenient<T>>);

impl<T> Default for LenientList<T> {
    fn default() -> LenientList<T> {
        LenientList(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for LenientList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LenientList<T>, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(LenientList(serde_json::from_str(raw.get()).unwrap_or_default()))
    }
}

impl<T> Default for Lenient<T> {
    fn default() -> Lenient<T> {
        Lenient(None)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lenient<T>, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        let text = Some(raw.get()).filter(|text| !text.starts_with('['));
        Ok(Lenient(text.and_then(|text| serde_json::from_str(text).ok())))
    }
}

impl Lenient<String> {
    fn into_name(self, secrets: &Secrets) -> Option<String> {
        self.0.filter(|word| !word.is_empty()).map(|word| clean_message(&word, MAX_NAME_CHARS, secrets))
    }
}

/// The agents in file order, which is the config's order and numbers the labels.
#[derive(Default)]
struct Agents(Vec<(String, StatusAgent)>);

impl<'de> Deserialize<'de> for Agents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Agents, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Agents;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("agents by id")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Agents, M::Error> {
                let mut agents = Vec::new();
                while let Some((id, agent)) = map.next_entry::<String, Lenient<StatusAgent>>()? {
                    if agents.len() < MAX_AGENTS {
                        agents.push((id, agent.0.unwrap_or_default()));
                    }
                }
                Ok(Agents(agents))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Replaces `NaN`, `Infinity` and `-Infinity` outside of strings with `null`.
pub(super) fn without_nan(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut rest, mut quoted) = (bytes, false);
    while let Some(&byte) = rest.first() {
        let word = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        let step = match (byte, word) {
            (_, Some(word)) => word.len(),
            (b'\\', None) if quoted => rest.len().min(2),
            (_, None) => 1,
        };
        out.extend_from_slice(if word.is_some() { b"null" } else { &rest[..step] });
        quoted ^= byte == b'"';
        rest = &rest[step..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_types_are_skipped_and_never_fail() {
        let text = br#"{"finish_reason": 7, "costs": {"total_estimated_cost": "much", "total_input_tokens": 3, "total_output_tokens": 4},
            "coordination": [], "agents": {"b": {"status": "answered", "answer_count": -1}, "a": 5, "c": {"status": "dreaming"}},
            "results": {"votes": {"x": "y"}, "winner": "b"}}"#;
        let digest = digest(text).expect("is JSON");
        let names: Vec<_> = digest.agents.iter().map(|agent| agent.id.as_str()).collect();
        assert_eq!(names, ["b", "a", "c"], "in the order of the file");
        assert_eq!((digest.tokens, digest.cost_usd), (Some(7), None));
        assert_eq!(digest.agents[0].state, AgentState::Answered);
        assert_eq!(digest.agents[2].state, AgentState::Unknown);
        assert_eq!(digest.winner.as_deref(), Some("b"));
    }

    #[test]
    fn an_agent_in_its_first_call_is_working_although_massgen_says_restarting() {
        let text = br#"{"agents": {"a": {"status": "restarting", "answer_count": 0}, "b": {"status": "restarting", "answer_count": 1}}}"#;
        let states: Vec<_> = digest(text).expect("JSON").agents.iter().map(|agent| agent.state).collect();
        assert_eq!(states, [AgentState::Working, AgentState::Restarting]);
    }

    #[test]
    fn a_list_is_never_parsed_as_an_object() {
        let text = br#"{"costs": [0.5, 1, 2], "agents": {"a": ["answered", 3], "b": {"vote_cast": ["agent1.1"]}}}"#;
        let digest = digest(text).expect("is JSON");
        assert_eq!((digest.cost_usd, digest.tokens.unwrap_or_default()), (None, 0));
        assert_eq!((digest.agents[0].answers, digest.agents[1].vote.as_deref()), (0, None));
    }

    #[test]
    fn nan_is_read_as_unknown() {
        let text = br#"{"costs": {"total_estimated_cost": NaN, "total_input_tokens": 1, "total_output_tokens": 2},
            "results": {"winner": "NaN \" -Infinity", "votes": {"a": Infinity}}, "x": -Infinity}"#;
        let digest = digest(text).expect("read");
        assert_eq!((digest.cost_usd, digest.tokens), (None, Some(3)));
        assert_eq!(digest.winner.as_deref(), Some("NaN \" -Infinity"));
    }

    #[test]
    fn text_that_is_not_json_is_damaged() {
        for text in ["", "{", "{\"a\": 1}}", "7", "null", " []", "[\"completed\", {}, {}, {}, {}]"] {
            assert!(digest(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
