//! Runs in a list of the latest or live runs: what each was asked, of which config and how long ago, and the runs of a day together. Pure, and
//! a line of a list is small: of a run that is over it has no agents and no votes.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::RunView;
use crate::massgen::text;
use crate::run::{DailySummary, Moment, RunRecord, Usd};

/// How much of a question is shown, in characters.
const MAX_QUESTION_CHARS: usize = 60;
/// The longest name of a config, in characters.
const MAX_CONFIG_CHARS: usize = 80;

/// The runs of a day together.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(inline)]
pub struct TodayView {
    /// With its time zone, UTC.
    pub day: String,
    /// Those that ended on it or go on, removed ones too.
    pub runs: u64,
    /// Those that go on or wait.
    pub live: u64,
    /// Input and output tokens of all.
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
    /// With its question, which has no secrets in it any more, and its config.
    #[must_use]
    pub fn with_request(self, record: &RunRecord, asked: &str) -> RunView {
        RunView {
            question: Some(short_question(asked)),
            config: Some(short_config(&record.spec.config_name())),
            ..self
        }
    }

    /// As it stands in the list of the latest runs.
    #[must_use]
    pub fn into_list_entry(self, record: &RunRecord, asked: &str, now: &Moment) -> RunView {
        let age = now.wall.duration_since(record.spec.created).as_secs();
        let mut view = self.with_group(record).with_request(record, asked);
        view.age_s = Some(u64::try_from(age).unwrap_or_default());
        if record.state.ending().is_some() {
            (view.agents, view.votes) = (BTreeMap::new(), BTreeMap::new());
        }
        view
    }
}

/// A question as a list shows it. Secrets are masked before it is cut, since half a secret is not known for one.
pub fn short_question(asked: &str) -> String {
    text::single_line(asked, MAX_QUESTION_CHARS)
}

/// The name of a config as a list shows it.
pub fn short_config(name: &str) -> String {
    text::single_line(name, MAX_CONFIG_CHARS)
}
