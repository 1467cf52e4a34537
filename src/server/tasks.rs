//! Runs as tasks (extension `io.modelcontextprotocol/tasks`): a client that supports tasks gets a task in answer to a
//! start. The task is the run: it has the run's id and is read from the run's folder, so any server can answer for it
//! at any time. No task data is stored, and a run gets a task only if it is on disk.

use std::future::pending;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{CallToolResult, CreateTaskResult, DetailedTask, JsonObject, Task, TaskPayload, TaskStatus};
use rmcp::service::RequestContext;

use super::answers::to_json;
use super::fields::parse_run_id;
use super::{client, protocol, run_views, sanitize};
use crate::fleet::Fleet;
use crate::refusal::Refusal;
use crate::run::{DEFAULT_GRACE, Outcome, RunRecord, RunState, StopRequest};
use crate::view::{Detail, summary};

/// The suggested poll interval, in milliseconds.
const POLL_INTERVAL_MS: u64 = 5_000;

/// Whether the sender of a request supports tasks: the request uses the stateless protocol and declares the extension itself.
pub(super) fn supports_tasks(context: &RequestContext<RoleServer>) -> bool {
    protocol::is_stateless(context) && context.client_capabilities().is_some_and(|client| client.supports_tasks())
}

/// The task in place of the answer to a start; `None` if no run was started.
pub(super) async fn create(fleet: &Fleet, answer: &CallToolResult) -> Option<CreateTaskResult> {
    let started = answer.structured_content.as_ref()?;
    let record = fleet.run_record(&parse_run_id(started.get("run_id")?.as_str()?).ok()?).await.ok()?;
    let (task, is_reused) = (build(fleet, &record), started.get("reused").is_some());
    let message = task.status_message.clone().unwrap_or_default();
    let message = if is_reused { format!("the same request had started this run before: {message}") } else { message };
    let warnings =
        started["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning["message"].as_str());
    let message = warnings.fold(message, |message, warning| format!("{message}; warning: {warning}"));
    // The task starts as working. If the run has already ended, the outcome comes with the task's result.
    Some(CreateTaskResult::new(task.with_status_message(message)))
}

/// The current state of a task, with the answer to the start if the run is over.
pub(super) async fn get(fleet: &Fleet, id: &str) -> Result<DetailedTask, Refusal> {
    let record = fleet.run_record(&parse_run_id(id)?).await?;
    Ok(DetailedTask::new(build(fleet, &record), build_payload(fleet, &record)?))
}

/// Checks that the task exists.
pub(super) async fn check_exists(fleet: &Fleet, id: &str) -> Result<(), Refusal> {
    fleet.run_record(&parse_run_id(id)?).await?;
    Ok(())
}

/// Requests a stop of the run. The caller sees the end in a later poll.
pub(super) async fn cancel(fleet: &Fleet, id: &str) -> Result<(), Refusal> {
    let stop_request =
        StopRequest { grace: DEFAULT_GRACE, reason: Some("its task was cancelled".to_owned()), tree: true };
    fleet.stop(&parse_run_id(id)?, stop_request, Duration::ZERO, pending()).await?;
    Ok(())
}

fn build(fleet: &Fleet, record: &RunRecord) -> Task {
    let message = summary::run_summary(&run_views::build(fleet, record, Detail::Brief));
    let message = sanitize::sanitize_line(&message, fleet.secrets());
    let created = record.spec.created;
    let updated = match record.state.ending() {
        Some(ending) => ending.ended_at.wall,
        None => fleet.state().run_folder(&record.spec.id).last_written().unwrap_or(created),
    };
    Task::new(record.spec.id.to_string(), TaskStatus::Working, created.to_string(), updated.to_string())
        .with_status_message(message)
        .with_poll_interval_ms(POLL_INTERVAL_MS)
}

fn build_payload(fleet: &Fleet, record: &RunRecord) -> Result<TaskPayload, Refusal> {
    match &record.state {
        RunState::Queued
        | RunState::Starting { .. }
        | RunState::Running { .. }
        | RunState::Stopping { .. }
        | RunState::Unknown(_) => Ok(TaskPayload::Working),
        RunState::Ended(ending) => match ending.outcome {
            Outcome::Killed { .. } => Ok(TaskPayload::Cancelled),
            Outcome::Succeeded
            | Outcome::Failed(_)
            | Outcome::TimedOut { .. }
            | Outcome::OverBudget
            | Outcome::Lost => Ok(TaskPayload::Completed { result: build_result(fleet, record)? }),
        },
    }
}

/// The answer that run_massgen would have given after a wait for the end. A failed run is no error here either,
/// because the call itself succeeded.
fn build_result(fleet: &Fleet, record: &RunRecord) -> Result<JsonObject, Refusal> {
    let view = sanitize::sanitize_output(to_json(run_views::build(fleet, record, Detail::Brief))?, fleet.secrets());
    to_json(client::structured_result(view))?.as_object().cloned().ok_or_else(Refusal::panicked)
}
