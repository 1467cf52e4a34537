//! Tokens, cost, rounds and waits, from metrics_summary.json, which MassGen writes if it ends by itself, else from status.json, which
//! exists during a run and after a kill. Models come from execution_metadata.yaml. No log is read.

use serde_json::Value;

use super::clock::TimelineClock;
use super::read_context::{ReadContext, amount, count, known_cost};
use super::{AgentTotals, ErrorEvent, ModelWaits, Round, RoundWaits, Timeline};
use crate::massgen::configs::{Needs, Tree};

/// The most agents to report.
const MAX_AGENTS: usize = 200;
/// How many bytes of execution_metadata.yaml are read; it contains the question.
const MAX_METADATA_BYTES: u64 = 2 << 20;
/// The metrics file, after MassGen has ended by itself.
const SUMMARY_FILE: &str = "metrics_summary.json";
/// The metrics file during the run.
const STATUS_FILE: &str = "status.json";

/// The metrics files that exist.
pub(super) struct Metrics {
    summary: Value,
    status: Value,
    needs: Option<Needs>,
}

impl Metrics {
    pub(super) fn read(context: &ReadContext<'_>, gaps: &mut Vec<String>) -> Metrics {
        let summary = context.read_json(SUMMARY_FILE, gaps).unwrap_or_default();
        let status = context.read_json(STATUS_FILE, gaps).unwrap_or_default();
        Metrics { summary, status, needs: read_needs(context, gaps) }
    }

    /// When MassGen began to coordinate: its recorded time, else the start of the first round.
    pub(super) fn start(&self) -> Option<f64> {
        let rounds =
            object_entries(&self.summary["agents"]).flat_map(|(_, agent)| array_items(&agent["round_history"]));
        let first = rounds.filter_map(|round| amount(&round["start_time"])).min_by(f64::total_cmp);
        amount(&self.status["meta"]["start_time"]).or(first)
    }

    /// When status.json was last written; MassGen was alive at that time.
    pub(super) fn last_updated(&self, clock: &TimelineClock) -> Option<f64> {
        amount(&self.status["meta"]["last_updated"]).map(|time| clock.since_unix(time))
    }

    pub(super) fn add_to_timeline(&self, context: &ReadContext<'_>, clock: &TimelineClock, timeline: &mut Timeline) {
        let source = if self.summary["agents"].is_object() { &self.summary } else { &self.status };
        let name = if std::ptr::eq(source, &self.summary) { SUMMARY_FILE } else { STATUS_FILE };
        for (id, agent) in object_entries(&source["agents"]).take(MAX_AGENTS) {
            timeline.agents.push(self.agent_totals(context, id, agent, name));
            timeline.rounds.extend(
                array_items(&agent["round_history"]).filter_map(|round| parse_round(context, clock, id, round, name)),
            );
            timeline.rounds.extend(open_round(context, clock, id, agent));
        }
        for (id, agent) in object_entries(&self.status["agents"]).take(MAX_AGENTS) {
            timeline.errors.extend(parse_errors(context, clock, id, agent));
        }
        timeline.model_waits = self.model_waits(context);
        if let ([only_agent], Some(model)) = (&mut timeline.agents[..], &timeline.model_waits) {
            (only_agent.model_calls, only_agent.model_wait_s) = (Some(model.calls), Some(model.waited_s));
        }
    }

    fn agent_totals(&self, context: &ReadContext<'_>, id: &str, agent: &Value, name: &str) -> AgentTotals {
        let usage = &agent["token_usage"];
        let sum =
            |field: &str| array_items(&agent["round_history"]).filter_map(|round| amount(&round[field])).sum::<f64>();
        let (calls, waited) = (sum("api_calls_count") as u64, sum("api_time_ms") / 1e3);
        AgentTotals {
            id: context.clean_name(id),
            model: self.needs.as_ref().and_then(|needs| needs.model(id)).map(|model| context.clean_name(model)),
            input_tokens: count(&usage["input_tokens"]),
            output_tokens: count(&usage["output_tokens"]),
            cost_usd: known_cost(&usage["estimated_cost"]),
            model_wait_s: (calls > 0).then_some(waited),
            model_calls: (calls > 0).then_some(calls),
            source: context.attempt_path(name),
        }
    }

    fn model_waits(&self, context: &ReadContext<'_>) -> Option<ModelWaits> {
        let timing = &self.summary["api_timing"];
        let calls = Some(count(&timing["total_calls"])).filter(|calls| *calls > 0)?;
        let waited_s = |timing: &Value, field: &str| amount(&timing[field]).unwrap_or_default() / 1e3;
        let round = |(key, round): (&String, &Value)| {
            let number = key.strip_prefix("round_")?.parse().ok()?;
            Some(RoundWaits { number, calls: count(&round["calls"]), waited_s: waited_s(round, "time_ms") })
        };
        let mut rounds: Vec<_> = object_entries(&timing["by_round"]).filter_map(round).collect();
        rounds.sort_by_key(|round| round.number);
        Some(ModelWaits {
            calls,
            waited_s: waited_s(timing, "total_time_ms"),
            rounds,
            source: context.attempt_path(SUMMARY_FILE),
        })
    }
}

/// The models by agent, from the config that MassGen recorded at its start.
fn read_needs(context: &ReadContext<'_>, gaps: &mut Vec<String>) -> Option<Needs> {
    let name = "execution_metadata.yaml";
    let read = context.files.head(&context.attempt_path(name), MAX_METADATA_BYTES).ok();
    let config = read.and_then(|bytes| Tree::parse(&String::from_utf8_lossy(&bytes)).ok()?.subtree("config"));
    if config.is_none() {
        gaps.push(format!("{name} is not there or has no config, so that the models are not known"));
    }
    config.map(|config| Needs::from_config(&config))
}

fn parse_round(context: &ReadContext<'_>, clock: &TimelineClock, id: &str, round: &Value, name: &str) -> Option<Round> {
    let start = clock.since_unix(amount(&round["start_time"])?);
    Some(Round {
        agent: context.clean_name(id),
        number: count(&round["round_number"]),
        kind: context.name_of(&round["round_type"]),
        outcome: context.name_of(&round["outcome"]),
        start,
        end: amount(&round["end_time"]).map_or(start, |time| clock.since_unix(time).max(start)),
        input_tokens: count(&round["input_tokens"]),
        output_tokens: count(&round["output_tokens"]),
        cost_usd: known_cost(&round["estimated_cost"]),
        source: context.attempt_path(name),
    })
}

/// An agent's current round, or its last one if MassGen was stopped: no round has ended since it began. Its number is not reliable: MassGen
/// may count two rounds of an agent under one number.
fn open_round(context: &ReadContext<'_>, clock: &TimelineClock, id: &str, agent: &Value) -> Option<Round> {
    let timing = &agent["round_timing"];
    let number = timing["round_number"].as_u64()?;
    let started_at = amount(&timing["round_start_time"])?;
    let mut end_times = array_items(&agent["round_history"]).filter_map(|round| amount(&round["end_time"]));
    let is_over = end_times.any(|end| end >= started_at);
    (!is_over).then(|| Round {
        agent: context.clean_name(id),
        number,
        start: clock.since_unix(started_at),
        source: context.attempt_path(STATUS_FILE),
        ..Round::default()
    })
}

fn parse_errors(context: &ReadContext<'_>, clock: &TimelineClock, id: &str, agent: &Value) -> Vec<ErrorEvent> {
    let error_event = |at: &Value, message: String| ErrorEvent {
        time_s: amount(at).map_or(0.0, |time| clock.since_unix(time)),
        agent: Some(context.clean_name(id)),
        message: context.clean_message(&message),
        source: context.attempt_path(STATUS_FILE),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let failed_attempts = array_items(&agent["reliability"]["enforcement_attempts"]).map(|attempt| {
        let (reason, message) = (text(&attempt["reason"]), text(&attempt["error_message"]));
        let is_of_api = reason == "api_error" || reason.is_empty();
        error_event(&attempt["timestamp"], if is_of_api { message } else { format!("{reason}: {message}") })
    });
    let agent_error = &agent["error"];
    let agent_error =
        agent_error["message"].as_str().map(|message| error_event(&agent_error["timestamp"], message.to_owned()));
    failed_attempts.take(super::MAX_EVENTS).chain(agent_error).collect()
}

fn object_entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn array_items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
