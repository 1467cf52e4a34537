//! Tokens, money, rounds and waits, from metrics_summary.json, which MassGen writes when it ends by itself, else from status.json,
//! which is there while it works and after a kill; models from execution_metadata.yaml. It reads no log.

use serde_json::Value;

use super::clock::Clock;
use super::desk::{Desk, amount, count, money};
use super::{AgentStory, ModelWaits, Round, RoundWaits, Story, Trouble};
use crate::massgen::configs::{Needs, Tree};

/// The most agents that are told.
const MOST_AGENTS: usize = 200;
/// How much of execution_metadata.yaml is read, in bytes; the question is in it.
const METADATA_BYTES: u64 = 2 << 20;
/// The numbers, once MassGen has ended by itself.
const SUMMARY: &str = "metrics_summary.json";
/// The numbers while it works.
const STATUS: &str = "status.json";

/// The files with numbers, as far as they are there.
pub(super) struct Numbers {
    summary: Value,
    status: Value,
    needs: Option<Needs>,
}

impl Numbers {
    pub(super) fn read(desk: &Desk<'_>, gaps: &mut Vec<String>) -> Numbers {
        let summary = desk.json(SUMMARY, gaps).unwrap_or_default();
        let status = desk.json(STATUS, gaps).unwrap_or_default();
        Numbers { summary, status, needs: needs(desk, gaps) }
    }

    /// When MassGen began to coordinate: its own word, else the start of the first round.
    pub(super) fn start(&self) -> Option<f64> {
        let rounds = entries(&self.summary["agents"]).flat_map(|(_, agent)| list(&agent["round_history"]));
        let first = rounds.filter_map(|round| amount(&round["start_time"])).min_by(f64::total_cmp);
        amount(&self.status["meta"]["start_time"]).or(first)
    }

    /// When status.json was last written: MassGen was alive then.
    pub(super) fn last_updated(&self, clock: &Clock) -> Option<f64> {
        amount(&self.status["meta"]["last_updated"]).map(|time| clock.unix(time))
    }

    pub(super) fn tell(&self, desk: &Desk<'_>, clock: &Clock, story: &mut Story) {
        let told = if self.summary["agents"].is_object() { &self.summary } else { &self.status };
        let name = if std::ptr::eq(told, &self.summary) { SUMMARY } else { STATUS };
        for (id, agent) in entries(&told["agents"]).take(MOST_AGENTS) {
            story.agents.push(self.agent(desk, id, agent, name));
            story
                .rounds
                .extend(list(&agent["round_history"]).filter_map(|round| round_of(desk, clock, id, round, name)));
            story.rounds.extend(open_round(desk, clock, id, agent));
        }
        for (id, agent) in entries(&self.status["agents"]).take(MOST_AGENTS) {
            story.troubles.extend(troubles(desk, clock, id, agent));
        }
        story.model = self.model_waits(desk);
        if let ([alone], Some(model)) = (&mut story.agents[..], &story.model) {
            (alone.model_calls, alone.model_wait_s) = (Some(model.calls), Some(model.waited_s));
        }
    }

    fn agent(&self, desk: &Desk<'_>, id: &str, agent: &Value, name: &str) -> AgentStory {
        let usage = &agent["token_usage"];
        let sum = |field: &str| list(&agent["round_history"]).filter_map(|round| amount(&round[field])).sum::<f64>();
        let (calls, waited) = (sum("api_calls_count") as u64, sum("api_time_ms") / 1e3);
        AgentStory {
            id: desk.name(id),
            model: self.needs.as_ref().and_then(|needs| needs.model(id)).map(|model| desk.name(model)),
            input_tokens: count(&usage["input_tokens"]),
            output_tokens: count(&usage["output_tokens"]),
            cost_usd: money(&usage["estimated_cost"]),
            model_wait_s: (calls > 0).then_some(waited),
            model_calls: (calls > 0).then_some(calls),
            source: desk.place(name),
        }
    }

    fn model_waits(&self, desk: &Desk<'_>) -> Option<ModelWaits> {
        let timing = &self.summary["api_timing"];
        let calls = Some(count(&timing["total_calls"])).filter(|calls| *calls > 0)?;
        let waited_s = |timing: &Value, field: &str| amount(&timing[field]).unwrap_or_default() / 1e3;
        let round = |(key, round): (&String, &Value)| {
            let number = key.strip_prefix("round_")?.parse().ok()?;
            Some(RoundWaits { number, calls: count(&round["calls"]), waited_s: waited_s(round, "time_ms") })
        };
        let mut rounds: Vec<_> = entries(&timing["by_round"]).filter_map(round).collect();
        rounds.sort_by_key(|round| round.number);
        Some(ModelWaits { calls, waited_s: waited_s(timing, "total_time_ms"), rounds, source: desk.place(SUMMARY) })
    }
}

/// The models by agent, as MassGen noted its config when it started.
fn needs(desk: &Desk<'_>, gaps: &mut Vec<String>) -> Option<Needs> {
    let name = "execution_metadata.yaml";
    let read = desk.files.head(&desk.place(name), METADATA_BYTES).ok();
    let config = read.and_then(|bytes| Tree::read(&String::from_utf8_lossy(&bytes)).ok()?.under("config"));
    if config.is_none() {
        gaps.push(format!("{name} is not there or has no config, so that the models are not known"));
    }
    config.map(|config| Needs::of(&config))
}

fn round_of(desk: &Desk<'_>, clock: &Clock, id: &str, round: &Value, name: &str) -> Option<Round> {
    let from = clock.unix(amount(&round["start_time"])?);
    Some(Round {
        agent: desk.name(id),
        number: count(&round["round_number"]),
        kind: desk.word(&round["round_type"]),
        outcome: desk.word(&round["outcome"]),
        from,
        to: amount(&round["end_time"]).map_or(from, |time| clock.unix(time).max(from)),
        input_tokens: count(&round["input_tokens"]),
        output_tokens: count(&round["output_tokens"]),
        cost_usd: money(&round["estimated_cost"]),
        source: desk.place(name),
    })
}

/// The round that an agent is at, or was at when MassGen was stopped: none has ended since it began. Its number tells nothing:
/// MassGen may count two rounds of an agent under one.
fn open_round(desk: &Desk<'_>, clock: &Clock, id: &str, agent: &Value) -> Option<Round> {
    let timing = &agent["round_timing"];
    let number = timing["round_number"].as_u64()?;
    let begun = amount(&timing["round_start_time"])?;
    let mut ends = list(&agent["round_history"]).filter_map(|round| amount(&round["end_time"]));
    let is_over = ends.any(|end| end >= begun);
    (!is_over).then(|| Round {
        agent: desk.name(id),
        number,
        from: clock.unix(begun),
        source: desk.place(STATUS),
        ..Round::default()
    })
}

fn troubles(desk: &Desk<'_>, clock: &Clock, id: &str, agent: &Value) -> Vec<Trouble> {
    let told = |at: &Value, message: String| Trouble {
        at: amount(at).map_or(0.0, |time| clock.unix(time)),
        agent: Some(desk.name(id)),
        message: desk.said(&message),
        source: desk.place(STATUS),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tries = list(&agent["reliability"]["enforcement_attempts"]).map(|attempt| {
        let (reason, message) = (text(&attempt["reason"]), text(&attempt["error_message"]));
        let is_of_api = reason == "api_error" || reason.is_empty();
        told(&attempt["timestamp"], if is_of_api { message } else { format!("{reason}: {message}") })
    });
    let own = &agent["error"];
    let own = own["message"].as_str().map(|message| told(&own["timestamp"], message.to_owned()));
    tries.take(super::MOST_FACTS).chain(own).collect()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
