//! The answers of check_status, read_result and steer_run, and how an answer becomes JSON.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::answer_hints;
use super::client::Client;
use crate::fleet::{Cursor, Selection};
use crate::refusal::Refusal;
use crate::run::RunRecord;
use crate::view::RunView;
use crate::view::group::GroupView;
use crate::view::list::TodayView;

/// Converts an answer to JSON.
pub(super) fn to_json(answer: impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|_| Refusal::panicked())
}

/// The answer of check_status.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatusView {
    /// The requested runs; without named runs, the latest first. A group omits runs that are only planned and runs
    /// whose end was reported before `since`. A large group lists only its active runs.
    pub(super) runs: Vec<RunView>,
    /// For a group: the totals of all its runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub(super) group: Option<GroupView>,
    /// For the latest or live runs: the totals of today (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub(super) today: Option<TodayView>,
    /// Pass it as since in the next call.
    pub(super) cursor: String,
    /// Runs with a damaged record; the operator has to inspect them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unreadable: Vec<String>,
    /// Number of runs left out because this client would cut the answer: ask for fewer at a time.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) left_out: usize,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) hint: Option<String>,
}

impl StatusView {
    /// Leaves out runs until the answer fits the client. A group counts its runs and reports each end once. So live
    /// runs are left out first, and an end that is left out is reported in the next answer.
    pub(super) fn fit(&mut self, client: &Client, selection: &Selection, records: &[RunRecord]) {
        let is_group = matches!(selection, Selection::Group(_));
        let ended = records.iter().filter(|run| is_group && run.state.ending().is_some());
        let ended: BTreeSet<String> = ended.map(|run| run.spec.id.to_string()).collect();
        let mut left_out = BTreeSet::new();
        client.fit(self, |checked| {
            let Some(last) = checked.runs.len().checked_sub(1).filter(|last| *last > 0) else { return false };
            let live_index = checked.runs.iter().rposition(|run| !ended.contains(&run.run_id));
            let removed = checked.runs.remove(live_index.unwrap_or(last)).run_id;
            // The hint counts as well, so it comes before the answer is measured again.
            if checked.left_out == 0 {
                checked.hint =
                    answer_hints::join_hints([checked.hint.take(), Some(answer_hints::LEFT_OUT_HINT.to_owned())]);
            }
            checked.left_out += 1;
            left_out.extend(Some(removed).filter(|removed| ended.contains(removed)));
            true
        });
        if !left_out.is_empty() {
            self.cursor = Cursor::naming(records, |id| !left_out.contains(id.as_str())).to_string();
        }
    }
}

/// The answer of steer_run.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SteerOutcomeView {
    pub(super) run_id: String,
    /// Of the run, afterwards.
    pub(super) state: String,
    pub(super) delivered: bool,
    /// Pending messages, including this one unless it is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) messages_waiting: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) hint: Option<String>,
}

/// The answer of read_result.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct PageView {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) group: Option<String>,
    /// Of the run, at the time of reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) state: Option<String>,
    pub(super) part: String,
    /// Terminal and hidden characters of this page that have stand-ins, such as U+FFFD and ␛; absent without any. path has the original.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) replaced: Option<u64>,
    /// Length of the whole text in characters.
    pub(super) total_chars: u64,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) next_offset: Option<u64>,
    /// Of the whole, as bytes on disk.
    pub(super) sha256: String,
    /// The file with the whole text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) path: Option<String>,
    /// The agent that gave the winning answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) winner: Option<String>,
    /// The agent that gave this answer, if no answer has won.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) best: Option<String>,
    /// Votes by answer label.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) votes: BTreeMap<String, u32>,
    /// Of the run, to now or to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) elapsed_s: Option<u64>,
    /// The answer's label, unless the answer was presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) label: Option<String>,
    /// Whether the answer is only the best so far.
    pub(super) partial: bool,
    /// What kind of text this is.
    pub(super) source: &'static str,
    /// The last field, so that a client that cuts the answer cuts this text.
    pub(super) text: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}
