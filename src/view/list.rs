//! Runs in a list of the latest or live runs: question, config and age of each, and the totals of a day. Pure. List
//! entries are small: an ended run has no agents and no votes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::RunView;
use crate::massgen::text;
use crate::run::{DailySummary, Moment, RunRecord, Usd};

/// How many characters of a question are shown.
const MAX_QUESTION_CHARS: usize = 60;
/// The longest name of a config, in characters.
const MAX_CONFIG_CHARS: usize = 80;

/// The totals of a day.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct TodayView {
    /// The day with its time zone, UTC.
    pub day: String,
    /// Runs that ended on this day or are still live, including removed runs.
    pub runs: u64,
    /// Live and queued runs.
    pub live: u64,
    /// Input and output tokens of all runs.
    pub tokens: u64,
    /// US dollars of all; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "f64")]
    pub cost_usd: Option<f64>,
    /// Some tokens have no price: cost_usd is too low.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub cost_unknown: Option<bool>,
}

impl From<DailySummary> for TodayView {
    fn from(DailySummary { day, runs, live, spent }: DailySummary) -> TodayView {
        TodayView {
            day: format!("{day} (UTC)"),
            runs,
            live,
            tokens: spent.tokens,
            cost_usd: spent.known_usd().map(Usd::as_f64),
            cost_unknown: spent.is_unpriced.then_some(true),
        }
    }
}

impl RunView {
    /// Adds the question, in which secrets are masked already, and the config.
    #[must_use]
    pub fn with_request(self, record: &RunRecord, question: &str) -> RunView {
        RunView {
            question: Some(short_question(question)),
            config: Some(short_config(&record.spec.config_name())),
            ..self
        }
    }

    /// The entry in the list of the latest runs.
    #[must_use]
    pub fn into_list_entry(self, record: &RunRecord, question: &str, now: &Moment) -> RunView {
        let age = now.wall.duration_since(record.spec.created).as_secs();
        let mut view = self.with_group(record).with_request(record, question);
        view.age_s = Some(u64::try_from(age).unwrap_or_default());
        if record.state.ending().is_some() {
            (view.agents, view.votes) = (BTreeMap::new(), BTreeMap::new());
        }
        view
    }
}

/// A question as a list shows it. Mask secrets before truncating, because a truncated secret is not recognized.
pub fn short_question(question: &str) -> String {
    text::single_line(question, MAX_QUESTION_CHARS)
}

/// A config name as a list shows it.
pub fn short_config(name: &str) -> String {
    text::single_line(name, MAX_CONFIG_CHARS)
}
