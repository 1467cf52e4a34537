//! The view of a run, from its record and its folder.

use super::next_steps::agent_words;
use crate::clock;
use crate::fleet::Fleet;
use crate::run::{RunRecord, RunState};
use crate::view::{self, Detail, RunView};

/// Builds the view of a run.
pub(super) fn build(fleet: &Fleet, record: &RunRecord, detail: Detail) -> RunView {
    let queue = (record.state == RunState::Queued).then(|| fleet.queue_position(&record.spec.id)).flatten();
    let folder = fleet.state().run_folder(&record.spec.id);
    let messages = fleet.pending_messages(&record.spec.id);
    // Only calls with full detail report these.
    let is_full = detail == Detail::Full;
    let (children, built_on_by) =
        if is_full { (folder.child_runs(), folder.dependents()) } else { (Vec::new(), Vec::new()) };
    let (children, built_on_by, models) = (&children, &built_on_by, &fleet.awaited_models(record));
    let extras = view::RunExtras {
        folder: folder.path(),
        children,
        dependents: built_on_by,
        queue_position: queue,
        pending_messages: messages,
        awaited_models: models,
        wording: agent_words,
    };
    view::run_view(record, &extras, detail, &clock::now())
}

/// Builds the view of a run, with its answer if that is short.
pub(super) fn build_with_answer(fleet: &Fleet, record: &RunRecord, detail: Detail) -> RunView {
    RunView { answer: fleet.short_answer(record), ..build(fleet, record, detail) }
}
