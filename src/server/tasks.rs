//! Runs as tasks (extension `io.modelcontextprotocol/tasks`): a start is answered with a task by a client that can take one.
//! The task is the run: its id is the run's, it is read from the run's folder, so that any server answers for it at any time.
//! Nothing about tasks is kept anywhere, and none is made of a run that is not on disk.

use std::future::pending;
use std::time::Duration;

use rmcp::RoleServer;
use rmcp::model::{CallToolResult, CreateTaskResult, DetailedTask, JsonObject, Task, TaskPayload, TaskStatus};
use rmcp::service::RequestContext;

use super::border;
use super::calls::{Desk, json, parsed};
use super::{client, eras};
use crate::refusal::Refusal;
use crate::run::{Outcome, RunRecord, RunState, StopAsk};
use crate::view::{Detail, words};

/// How often a client is asked to look, in milliseconds.
const LOOK_MS: u64 = 5_000;
/// What a cancelled run has to end politely.
const GRACE: Duration = Duration::from_secs(5);

/// Whether the sender of a request can take a task: it speaks the second era, and this very request says so.
pub(super) fn can_be_taken(context: &RequestContext<RoleServer>) -> bool {
    eras::is_second(context) && context.client_capabilities().is_some_and(|client| client.supports_tasks())
}

impl Desk {
    /// The task in place of the answer to a start; `None` where nothing was started.
    pub(super) async fn task_of(&self, answer: &CallToolResult) -> Option<CreateTaskResult> {
        let started = answer.structured_content.as_ref()?;
        let record = self.fleet.look(&parsed(started.get("run_id")?.as_str()?).ok()?).await.ok()?;
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
        let record = self.fleet.look(&parsed(id)?).await?;
        Ok(DetailedTask::new(self.task(&record), self.payload(&record)?))
    }

    /// That there is such a task.
    pub(super) async fn know_task(&self, id: &str) -> Result<(), Refusal> {
        self.fleet.look(&parsed(id)?).await?;
        Ok(())
    }

    /// Asks for the stop of the run. That it has ended is seen at a later look.
    pub(super) async fn cancel_task(&self, id: &str) -> Result<(), Refusal> {
        let ask = StopAsk { grace: GRACE, reason: Some("its task was cancelled".to_owned()), tree: true };
        self.fleet.stop(&parsed(id)?, ask, Duration::ZERO, pending()).await?;
        Ok(())
    }

    fn task(&self, record: &RunRecord) -> Task {
        let words = words::of_run(&self.view(record, Detail::Brief));
        let words = border::line(&words, self.fleet.secrets());
        let created = record.spec.created;
        let updated = match record.state.ended() {
            Some(ending) => ending.at.wall,
            None => self.fleet.state().folder(&record.spec.id).written().unwrap_or(created),
        };
        Task::new(record.spec.id.to_string(), TaskStatus::Working, created.to_string(), updated.to_string())
            .with_status_message(words)
            .with_poll_interval_ms(LOOK_MS)
    }

    fn payload(&self, record: &RunRecord) -> Result<TaskPayload, Refusal> {
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
                | Outcome::Lost => Ok(TaskPayload::Completed { result: self.result(record)? }),
            },
        }
    }

    /// What run_massgen would have answered, had it waited for the end: for a run that failed too it is no error, since the call was done.
    fn result(&self, record: &RunRecord) -> Result<JsonObject, Refusal> {
        let view = border::show(json(self.view(record, Detail::Brief))?, self.fleet.secrets());
        json(client::structured(view))?.as_object().cloned().ok_or_else(Refusal::panicked)
    }
}
