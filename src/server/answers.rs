//! The answers of check_status, read_result and steer_run.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::client::Client;
use super::hints;
use crate::fleet::{Cursor, Selection};
use crate::run::RunRecord;
use crate::view::RunView;
use crate::view::group::GroupView;
use crate::view::list::TodayView;

/// What check_status gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StatusView {
    /// The runs asked about; the latest first where none were named. Of a group without those that are only planned and those whose
    /// end was told before `since`, and of a large one only those at work.
    pub(super) runs: Vec<RunView>,
    /// Of a group: all its runs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub(super) group: Option<GroupView>,
    /// Of the latest and of live runs: all of today (UTC) together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Map<String, Value>")]
    pub(super) today: Option<TodayView>,
    /// Pass it as since in the next call.
    pub(super) cursor: String,
    /// Runs whose record is damaged; the operator has to look.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) unreadable: Vec<String>,
    /// How many more runs there are than this client would show its model: ask for fewer at a time.
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) left_out: usize,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) hint: Option<String>,
}

impl StatusView {
    /// Leaves out runs until the client shows the rest. A group counts its runs and tells each end once, so that those that go on are left
    /// out first, and an end that is left out is told in the next answer.
    pub(super) fn fit(&mut self, client: &Client, selection: &Selection, seen: &[RunRecord]) {
        let is_group = matches!(selection, Selection::Group(_));
        let ended = seen.iter().filter(|run| is_group && run.state.ending().is_some());
        let ended: BTreeSet<String> = ended.map(|run| run.spec.id.to_string()).collect();
        let mut untold = BTreeSet::new();
        client.fit(self, |checked| {
            let Some(last) = checked.runs.len().checked_sub(1).filter(|last| *last > 0) else { return false };
            let goes_on = checked.runs.iter().rposition(|run| !ended.contains(&run.run_id));
            let gone = checked.runs.remove(goes_on.unwrap_or(last)).run_id;
            checked.left_out += 1;
            untold.extend(Some(gone).filter(|gone| ended.contains(gone)));
            true
        });
        if self.left_out > 0 {
            self.hint = hints::join_hints([self.hint.take(), Some(hints::LEFT_OUT_HINT.to_owned())]);
        }
        if !untold.is_empty() {
            self.cursor = Cursor::naming(seen, |id| !untold.contains(id.as_str())).to_string();
        }
    }
}

/// What steer_run gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SteerOutcomeView {
    pub(super) run_id: String,
    /// Of the run, afterwards.
    pub(super) state: String,
    pub(super) delivered: bool,
    /// Messages that wait, this one among them unless it is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) messages_waiting: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) hint: Option<String>,
}

/// What read_result gives.
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
    /// Characters of the whole.
    pub(super) total_chars: u64,
    /// Where the next page begins; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "u64")]
    pub(super) next_offset: Option<u64>,
    /// Of the whole, as bytes on disk.
    pub(super) sha256: String,
    /// The file of the whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) path: Option<String>,
    /// Whose answer won.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) winner: Option<String>,
    /// Whose answer it is where none has won.
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
    /// The answer's label, where it was not presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub(super) label: Option<String>,
    /// Whether the answer is only the best so far.
    pub(super) partial: bool,
    /// What the text is.
    pub(super) source: &'static str,
    /// Last, so that a client that cuts an answer cuts this.
    pub(super) text: String,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}
