//! What a status tells beside the record: an answer that is short enough to stand in it, and the models that a quiet run waits for.
//! Each is read only where it is shown.

use std::collections::BTreeMap;

use super::Fleet;
use super::results::{Part, Shelf, keys_in_config};
use super::steer::configured;
use crate::run::{RunRecord, Seems};

/// The longest answer that a status has, in characters.
const SHORT_ANSWER: u64 = 500;

impl Fleet {
    /// The best answer of a run that has only to end or has ended, where it has at most `SHORT_ANSWER` characters; as a page
    /// of read_result shows it.
    pub fn short_answer(&self, record: &RunRecord) -> Option<String> {
        let ended = record.state.ended().and_then(|ending| ending.answer.as_ref());
        ended.or(record.ready.as_ref()).filter(|answer| answer.chars <= SHORT_ANSWER)?;
        let secrets = self.secrets.with(keys_in_config(record));
        let shelf = Shelf::open(self.folder(&record.spec.id).path(), record.clone(), secrets).ok()?;
        let reading = shelf.read(&Part::Answer, 0, SHORT_ANSWER.into()).ok()?;
        reading.page.next_offset.is_none().then_some(reading.page.text)
    }

    /// Each agent's model, of a quiet run that seems to wait for one; nothing of any other.
    pub fn models_awaited(&self, record: &RunRecord) -> BTreeMap<String, String> {
        let quiet = record.quiet.as_ref().filter(|_| record.state.ended().is_none());
        let is_waiting = quiet.is_some_and(|quiet| quiet.seems(&quiet.looked) == Seems::WaitingForModel);
        let agents = if is_waiting { configured(&self.folder(&record.spec.id)) } else { Vec::new() };
        agents.into_iter().filter_map(|agent| Some((agent.id, agent.model?))).collect()
    }
}
