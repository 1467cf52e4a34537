//! Runs as tasks (extension `io.modelcontextprotocol/tasks`): a start is answered with a task by a client that can take one.
//! The task is the run: its id is the run's, it is read from the run's folder, so that any server answers for it at any time.
//! Nothing about tasks is kept anywhere, and none is made of a run that is not on disk.

use std::future::pending;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{CallToolResult, CreateTaskResult, DetailedTask, JsonObject, Task, TaskPayload, TaskStatus};
use rmcp::service::RequestContext;

use super::context::{ServerContext, parse_run_id, to_json};
use super::sanitize;
use super::{client, protocol};
use crate::refusal::Refusal;
use crate::run::{Outcome, RunRecord, RunState, StopRequest};
use crate::view::{Detail, summary};

/// How often a client is asked to look, in milliseconds.
const POLL_INTERVAL_MS: u64 = 5_000;
/// What a cancelled run has to end politely.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Whether the sender of a request can take a task: it speaks the second era, and this very request says so.
pub(super) fn supports_tasks(context: &RequestContext<RoleServer>) -> bool {
    protocol::is_stateless(context) && context.client_capabilities().is_some_and(|client| client.supports_tasks())
}

impl ServerContext {
    /// The task in place of the answer to a start; `None` where nothing was started.
    pub(super) async fn create_task(&self, answer: &CallToolResult) -> Option<CreateTaskResult> {
        let started = answer.structured_content.as_ref()?;
        let record = self.fleet.run_record(&parse_run_id(started.get("run_id")?.as_str()?).ok()?).await.ok()?;
        let (task, reused) = (self.task(&record), started.get("reused").is_some());
        let words = task.status_message.clone().unwrap_or_default();
        let words = if reused { format!("the same request had started this run before: {words}") } else { words };
        let warnings =
            started["warnings"].as_array().into_iter().flatten().filter_map(|warning| warning["message"].as_str());
        let words = warnings.fold(words, |words, warning| format!("{words}; warning: {warning}"));
        // It is begun as one at work: how it ended, if it has, is told with its result.
        Some(CreateTaskResult::new(task.with_status_message(words)))
    }

    /// A task as it is now, with the answer to the start where it is over.
    pub(super) async fn get_task(&self, id: &str) -> Result<DetailedTask, Refusal> {
        let record = self.fleet.run_record(&parse_run_id(id)?).await?;
        Ok(DetailedTask::new(self.task(&record), self.task_payload(&record)?))
    }

    /// That there is such a task.
    pub(super) async fn check_task(&self, id: &str) -> Result<(), Refusal> {
        self.fleet.run_record(&parse_run_id(id)?).await?;
        Ok(())
    }

    /// Asks for the stop of the run. That it has ended is seen at a later look.
    pub(super) async fn cancel_task(&self, id: &str) -> Result<(), Refusal> {
        let ask = StopRequest { grace: CANCEL_GRACE, reason: Some("its task was cancelled".to_owned()), tree: true };
        self.fleet.stop(&parse_run_id(id)?, ask, Duration::ZERO, pending()).await?;
        Ok(())
    }

    fn task(&self, record: &RunRecord) -> Task {
        let words = summary::run_summary(&self.view(record, Detail::Brief));
        let words = sanitize::sanitize_line(&words, self.fleet.secrets());
        let created = record.spec.created;
        let updated = match record.state.ending() {
            Some(ending) => ending.ended_at.wall,
            None => self.fleet.state().run_folder(&record.spec.id).last_written().unwrap_or(created),
        };
        Task::new(record.spec.id.to_string(), TaskStatus::Working, created.to_string(), updated.to_string())
            .with_status_message(words)
            .with_poll_interval_ms(POLL_INTERVAL_MS)
    }

    fn task_payload(&self, record: &RunRecord) -> Result<TaskPayload, Refusal> {
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
                | Outcome::Lost => Ok(TaskPayload::Completed { result: self.task_result(record)? }),
            },
        }
    }

    /// What run_massgen would have answered, had it waited for the end: for a run that failed too it is no error, since the call was done.
    fn task_result(&self, record: &RunRecord) -> Result<JsonObject, Refusal> {
        let view = sanitize::sanitize_output(to_json(self.view(record, Detail::Brief))?, self.fleet.secrets());
        to_json(client::structured_result(view))?.as_object().cloned().ok_or_else(Refusal::panicked)
    }
}
