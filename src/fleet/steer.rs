//! Sends a message to the agents of a live run through MassGen's inbox in the run's folder. Like a stop request, a message is a
//! separate file that any process may write; MassGen removes the file when it reads it. No record is written here.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::{Fleet, FleetError, blocking};
use crate::massgen::configs::{ConfiguredAgent, Needs, Tree};
use crate::massgen::names::nearest;
use crate::massgen::{inbox, text};
use crate::registry::RunFolder;
use crate::run::{RunId, RunRecord, RunState};

/// The longest message, in characters: every agent reads it, and reads it again after each restart.
pub const MAX_MESSAGE_CHARS: usize = 8_000;
/// The most messages of a run that wait at the same time.
pub const MAX_PENDING_MESSAGES: usize = 50;

/// A message for agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentMessage {
    /// Its text.
    pub content: String,
    /// The ids of the recipients; an empty list means all agents.
    pub agents: Vec<String>,
}

/// A message that was accepted.
#[derive(Debug)]
pub struct SteerOutcome {
    /// The run's record after the message was sent.
    pub record: RunRecord,
    /// Whether MassGen has read it.
    pub is_delivered: bool,
    /// How many messages wait, including this one if it was not read.
    pub pending: usize,
}

/// A message that was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// The run has ended or is being stopped, so no agent would read it.
    #[error("{0} has ended, or is being stopped: nothing was sent")]
    RunEnded(RunId),
    /// The run ended before MassGen read the message.
    #[error("{0} ended before MassGen took the message up: it was never delivered")]
    NeverDelivered(RunId),
    /// None of the recipients calls tools.
    #[error(
        "{agents} of {run} call no tools, and MassGen shows a message only after a tool call: it would never be delivered"
    )]
    NoTools {
        /// The run.
        run: RunId,
        /// The recipients.
        agents: String,
    },
    /// The text is not valid as a message.
    #[error("the message {0}")]
    InvalidMessage(String),
    /// The message contains a secret, the value of this variable.
    #[error("the message has a secret in it, the value of {0}")]
    ContainsSecret(String),
    /// A recipient is not an agent of the run.
    #[error("{run} has no agent `{agent}`; it has {known}")]
    UnknownAgent {
        /// The run.
        run: RunId,
        /// The unknown id.
        agent: String,
        /// The agents of the run.
        known: String,
        /// The agent with the most similar id.
        near: Option<String>,
    },
    /// Too many messages wait already.
    #[error("{MAX_PENDING_MESSAGES} messages to {0} wait already")]
    TooManyPending(RunId),
}

impl Fleet {
    /// Sends a message to a live run and waits until MassGen has read it, `timeout` expires or `cancelled` resolves.
    /// A run that is queued or has just started reads it later. A message that was not read before the run's end is withdrawn
    /// and reported as not delivered.
    pub async fn steer(
        &self,
        id: &RunId,
        message: AgentMessage,
        timeout: Duration,
        cancelled: impl Future<Output = ()>,
    ) -> Result<SteerOutcome, FleetError> {
        check_message(&message.content)?;
        if let Some(variable) = self.secrets().find_name(&message.content) {
            return Err(SteerError::ContainsSecret(variable.to_owned()).into());
        }
        let record = self.run_record(id).await?;
        if is_over(&record.state) {
            return Err(SteerError::RunEnded(id.clone()).into());
        }
        self.check_is_started(&record)?;
        let folder = self.run_folder(id);
        let path = blocking(move || {
            check_agents_known(&record, &folder, &message.agents)?;
            check_agents_call_tools(&record, &folder, &message.agents)?;
            if folder.pending_messages(inbox::STEER_KIND) >= MAX_PENDING_MESSAGES {
                return Err(SteerError::TooManyPending(record.spec.id).into());
            }
            Ok::<_, FleetError>(
                folder.put_message(inbox::STEER_KIND, &inbox::message(&message.content, &message.agents))?,
            )
        });
        let path = path.await??;
        let record = self.wait_until_taken(id, &path, timeout, cancelled).await?;
        let is_withdrawn = record.state.ending().is_some() && std::fs::remove_file(&path).is_ok();
        if is_withdrawn {
            return Err(SteerError::NeverDelivered(id.clone()).into());
        }
        let waiting = self.run_folder(id).pending_messages(inbox::STEER_KIND);
        Ok(SteerOutcome { record, is_delivered: !path.exists(), pending: waiting })
    }

    /// Waits until the message file is gone, the run has ended, or the wait times out or is cancelled; gives the run's record.
    async fn wait_until_taken(
        &self,
        id: &RunId,
        path: &Path,
        timeout: Duration,
        cancelled: impl Future<Output = ()>,
    ) -> Result<RunRecord, FleetError> {
        let deadline = Instant::now() + timeout;
        let mut cancelled = std::pin::pin!(cancelled);
        let mut subscription = self.watcher().subscribe();
        let folder = self.run_folder(id);
        subscription.watch_folder(folder.path());
        subscription.watch_folder(&folder.inbox());
        loop {
            let record = self.run_record(id).await?;
            if !path.exists() || record.state.ending().is_some() || Instant::now() >= deadline {
                return Ok(record);
            }
            tokio::select! {
                () = subscription.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = &mut cancelled => return Ok(record),
            }
        }
    }

    /// How many messages to a run MassGen has not read.
    pub fn pending_messages(&self, id: &RunId) -> usize {
        self.run_folder(id).pending_messages(inbox::STEER_KIND)
    }
}

fn check_message(content: &str) -> Result<(), SteerError> {
    let chars = content.chars().count();
    let problem = match () {
        () if content.trim().is_empty() => "is empty".to_owned(),
        () if content.contains('\0') => "has a NUL character in it".to_owned(),
        () if chars > MAX_MESSAGE_CHARS => format!("has {chars} characters, and {MAX_MESSAGE_CHARS} is the most"),
        () => return Ok(()),
    };
    Err(SteerError::InvalidMessage(problem))
}

fn is_over(state: &RunState) -> bool {
    match state {
        RunState::Queued | RunState::Starting { .. } | RunState::Running { .. } | RunState::Unknown(_) => false,
        RunState::Stopping { .. } | RunState::Ended(_) => true,
    }
}

/// Checks that each recipient is in MassGen's status or in the config.
fn check_agents_known(record: &RunRecord, folder: &RunFolder, recipients: &[String]) -> Result<(), SteerError> {
    if recipients.is_empty() {
        return Ok(());
    }
    let reported = record.digest.iter().flat_map(|digest| &digest.agents).map(|agent| agent.id.clone());
    let known: Vec<String> = reported.chain(configured_agents(folder).into_iter().map(|agent| agent.id)).collect();
    let Some(agent) = recipients.iter().find(|agent| !known.contains(agent)) else { return Ok(()) };
    let mut names = known.clone();
    names.sort();
    names.dedup();
    let near = nearest(agent, names.iter().map(String::as_str)).map(str::to_owned);
    let names = if names.is_empty() { "not said yet which it has".to_owned() } else { names.join(", ") };
    let (run, agent) = (record.spec.id.clone(), text::single_line(agent, 80));
    Err(SteerError::UnknownAgent { run, agent, known: text::single_line(&names, 400), near })
}

/// MassGen reads messages only at tool calls, so at least one recipient must call tools. If the config does not exist yet or
/// cannot be read, the message is allowed.
fn check_agents_call_tools(record: &RunRecord, folder: &RunFolder, recipients: &[String]) -> Result<(), SteerError> {
    let all = config(folder).map(|config| config.agents_tool_use()).unwrap_or_default();
    let is_recipient = |id: &String| recipients.is_empty() || recipients.contains(id);
    let known_recipients: Vec<_> = all.iter().filter(|(id, _)| is_recipient(id)).collect();
    if known_recipients.is_empty() || known_recipients.iter().any(|(_, calls_tools)| *calls_tools) {
        return Ok(());
    }
    let names: Vec<&str> = known_recipients.iter().map(|(id, _)| id.as_str()).collect();
    Err(SteerError::NoTools { run: record.spec.id.clone(), agents: text::single_line(&names.join(", "), 200) })
}

/// The agents in a run's config.
pub(super) fn configured_agents(folder: &RunFolder) -> Vec<ConfiguredAgent> {
    config(folder).map(|config| Needs::from_config(&config).agents).unwrap_or_default()
}

fn config(folder: &RunFolder) -> Option<Tree> {
    let yaml = folder.config();
    let json = yaml.with_extension("json");
    let (path, text) =
        [yaml, json].into_iter().find_map(|path| Some((path.clone(), std::fs::read_to_string(path).ok()?)))?;
    Tree::parse_file(&path, &text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_and_too_long_messages_are_refused() {
        for bad in ["", " \n\t", "a\0b", &"x".repeat(MAX_MESSAGE_CHARS + 1)] {
            assert!(check_message(bad).is_err(), "{bad:.20?}");
        }
        for good in ["stop searching\nand write", &"ż".repeat(MAX_MESSAGE_CHARS)] {
            assert!(check_message(good).is_ok(), "{good:.20?}");
        }
    }
}
