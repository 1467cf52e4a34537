//! check_status: waits if the call asks for that, and reports the selected runs.

use super::answers::StatusView;
use super::caller::Caller;
use super::context::ServerContext;
use super::params::CheckStatus;
use super::wait_limits::AllowedWait;
use super::{answer_hints, overview, progress, selections};
use crate::fleet::{Cursor, Selection, WaitUntil};
use crate::refusal::Refusal;
use crate::run::RunRecord;
use crate::view::Detail;

/// Checks the runs of a call.
pub(super) async fn check(
    context: &ServerContext,
    request: CheckStatus,
    caller: Caller,
) -> Result<StatusView, Refusal> {
    let wait = context.allowed_wait(request.wait_s)?;
    let (until, detail) = (WaitUntil::from(request.until), Detail::from(request.detail));
    let selection = selections::parse(&context.fleet, request.run_id, request.run_ids, request.group, request.live)?;
    let since = request.since.as_deref().map(Cursor::parse);
    let is_first = since.is_none() && until == WaitUntil::AnyAnswered;
    let AllowedWait { max: max_wait, note } = wait;
    let cancelled = context.wait_until_cancelled(caller.cancelled);
    let waiting = context.fleet.wait(&selection, until, since.clone(), max_wait, cancelled);
    let waited = progress::report_while(context, caller.progress, &selection, max_wait, waiting).await?;
    let snapshot = selections::check_found(&selection, waited.snapshot)?;
    let has_timed_out = !waited.is_met && !max_wait.is_zero() && !context.closing.is_cancelled();
    let has_changed = since.as_ref().map(|since| *since != waited.cursor);
    let no_event_note = has_timed_out.then(|| overview::no_event_hint(until, &snapshot.runs, has_changed, max_wait));
    let ready = answer_hints::ready_hint(&snapshot.runs);
    let before = if is_first && !max_wait.is_zero() { answer_hints::already_ended_hint(&snapshot.runs) } else { None };
    let hint = answer_hints::join_hints([ready, before, no_event_note, note]);
    let runs = overview::list_runs(&context.fleet, &selection, &snapshot.runs, since.as_ref(), detail);
    let (group, today) = overview::compute_totals(&context.fleet, &selection, &snapshot).await;
    let unreadable = snapshot.unreadable.iter().map(|(id, _)| id.to_string()).collect();
    let cursor = next_cursor(&selection, &snapshot.runs, &waited.cursor);
    let mut checked = StatusView { runs, group, today, cursor, unreadable, left_out: 0, hint };
    checked.fit(&caller.client, &selection, &snapshot.runs);
    Ok(checked)
}

/// The cursor for the next call. It leaves out ended runs if that call no longer selects them.
fn next_cursor(selection: &Selection, runs: &[RunRecord], seen: &Cursor) -> String {
    match selection {
        Selection::Live { .. } => {
            let live: Vec<RunRecord> = runs.iter().filter(|run| run.state.ending().is_none()).cloned().collect();
            Cursor::from_runs(&live).to_string()
        }
        Selection::Runs(_) | Selection::Group(_) | Selection::Latest => seen.to_string(),
    }
}
