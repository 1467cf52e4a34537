//! What a status shows in addition to the record: a short answer, and the models that a quiet run waits for.
//! Each is read only if it is shown.

use std::collections::BTreeMap;

use super::Fleet;
use super::results::{ResultPart, RunReader, config_key_values};
use super::steer::configured_agents;
use crate::run::{InferredActivity, RunRecord};

/// The longest answer that a status contains, in characters.
const MAX_SHORT_ANSWER_CHARS: u64 = 500;

impl Fleet {
    /// The best answer of a run that has ended or has its complete answer, if it has at most `MAX_SHORT_ANSWER_CHARS` characters;
    /// the text is the same as in a page of read_result.
    pub fn short_answer(&self, record: &RunRecord) -> Option<String> {
        let ended = record.state.ending().and_then(|ending| ending.answer.as_ref());
        ended.or(record.ready_answer.as_ref()).filter(|answer| answer.chars <= MAX_SHORT_ANSWER_CHARS)?;
        let secrets = self.secrets.with_values(config_key_values(record));
        let reader =
            RunReader::open(self.run_folder(&record.spec.id).path(), record.clone(), secrets, self.wording).ok()?;
        let read = reader.read_page(&ResultPart::Answer, 0, MAX_SHORT_ANSWER_CHARS.into()).ok()?;
        read.page.next_offset.is_none().then_some(read.page.text)
    }

    /// The model of each agent, if the run is quiet and appears to wait for a model; otherwise empty.
    pub fn awaited_models(&self, record: &RunRecord) -> BTreeMap<String, String> {
        let quiet = record.quiet.as_ref().filter(|_| record.state.ending().is_none());
        let is_waiting =
            quiet.is_some_and(|quiet| quiet.inferred_activity(&quiet.sampled_at) == InferredActivity::WaitingForModel);
        let agents = if is_waiting { configured_agents(&self.run_folder(&record.spec.id)) } else { Vec::new() };
        agents.into_iter().filter_map(|agent| Some((agent.id, agent.model?))).collect()
    }
}
