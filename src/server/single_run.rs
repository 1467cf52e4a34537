//! run_massgen for one run: checks it, starts it, waits if the call asks for that, and builds the answer.

use std::time::Duration;

use serde_json::Value;

use super::answers::to_json;
use super::caller::Caller;
use super::context::ServerContext;
use super::params::RunMassgen;
use super::{answer_hints, dry_run, progress, run_views, starts, warnings};
use crate::fleet::{Selection, WaitUntil};
use crate::massgen::configs;
use crate::refusal::Refusal;
use crate::view::{self, Detail, RunView};

/// How long the server watches a new run for an early exit, so that the answer can include the reason.
const EARLY_EXIT_WAIT: Duration = Duration::from_millis(15);

/// Starts a run, or only checks it in a dry run.
pub(super) async fn start(context: &ServerContext, request: RunMassgen, caller: Caller) -> Result<Value, Refusal> {
    let (wait, is_dry_run) = (context.allowed_wait(request.wait_s)?, request.dry_run);
    let start = starts::prepare(context, request).await?;
    if is_dry_run {
        return to_json(dry_run::check(context, start).await?);
    }
    let warnings = warnings::find(&context.settings, vec![start.clone()], vec![start.spec.question.clone()]).await?;
    let started = context.fleet.start(start).await?;
    let selection = Selection::Runs(vec![started.record.spec.id.clone()]);
    let max_wait = if caller.accepts_task { Duration::ZERO } else { wait.max };
    let cancelled = context.wait_until_cancelled(caller.cancelled);
    let waiting =
        context.fleet.wait(&selection, WaitUntil::AllAnswered, None, max_wait.max(EARLY_EXIT_WAIT), cancelled);
    let waited = progress::report_while(context, caller.progress, &selection, max_wait, waiting).await?;
    let run = waited.snapshot.runs.into_iter().next().unwrap_or(started.record);
    let hint = answer_hints::join_hints([answer_hints::ready_hint([&run]), wait.note.filter(|_| !max_wait.is_zero())]);
    let (cursor, is_reused) = (Some(waited.cursor.to_string()), started.is_reused.then_some(true));
    let config = Some(run.spec.config_name());
    let applied = run.spec.overrides.as_ref().map(configs::changed_keys).unwrap_or_default();
    let continues = run.spec.continuation.as_ref().map(view::continuation_text);
    let basis = run.spec.basis.as_ref().map(view::basis_text);
    let view = run_views::build_with_answer(&context.fleet, &run, Detail::Brief);
    to_json(RunView { cursor, reused: is_reused, config, applied, continues, from: basis, warnings, hint, ..view })
}
