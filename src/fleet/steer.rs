//! A message to the agents of a live run, by way of MassGen's inbox in the run's folder. Like a wish to stop, it is a file of
//! its own that any process may write; that MassGen has taken it up shows by its being gone. No record is written here.

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

/// The longest message, in characters: every agent reads it, with each restart again.
pub const MAX_MESSAGE_CHARS: usize = 8_000;
/// The most messages of a run that wait at once.
pub const MAX_PENDING_MESSAGES: usize = 50;

/// A message for agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentMessage {
    /// What it says.
    pub content: String,
    /// The agents that it is for, by id; an empty list means all.
    pub agents: Vec<String>,
}

/// A message that was accepted.
#[derive(Debug)]
pub struct SteerOutcome {
    /// The run, afterwards.
    pub record: RunRecord,
    /// Whether MassGen has taken it up.
    pub is_delivered: bool,
    /// How many messages wait, this one among them where it does.
    pub pending: usize,
}

/// A message that was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SteerError {
    /// No agent would read it.
    #[error("{0} has ended, or is being stopped: nothing was sent")]
    RunEnded(RunId),
    /// The run ended before MassGen took the message up.
    #[error("{0} ended before MassGen took the message up: it was never delivered")]
    NeverDelivered(RunId),
    /// No agent it is meant for calls tools.
    #[error(
        "{agents} of {run} call no tools, and MassGen shows a message only after a tool call: it would never be delivered"
    )]
    NoTools {
        /// The run.
        run: RunId,
        /// Those whom it is for.
        agents: String,
    },
    /// It is no message.
    #[error("the message {0}")]
    InvalidMessage(String),
    /// It has a secret in it, the value of this variable.
    #[error("the message has a secret in it, the value of {0}")]
    ContainsSecret(String),
    /// Some agent that it is for is not one of the run's.
    #[error("{run} has no agent `{agent}`; it has {known}")]
    UnknownAgent {
        /// The run.
        run: RunId,
        /// The name.
        agent: String,
        /// Those that it has.
        known: String,
        /// The one that was probably meant.
        near: Option<String>,
    },
    /// Too many wait already.
    #[error("{MAX_PENDING_MESSAGES} messages to {0} wait already")]
    TooManyPending(RunId),
}

impl Fleet {
    /// Sends a message to a live run and waits until MassGen has taken it up, at most `patience`, or until `given_up` resolves.
    /// A run that waits in the queue, or has only begun, takes it up later. A message that a run did not take up before its end
    /// is withdrawn, and was not sent.
    pub async fn steer(
        &self,
        id: &RunId,
        message: AgentMessage,
        patience: Duration,
        given_up: impl Future<Output = ()>,
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
        let record = self.wait_until_taken(id, &path, patience, given_up).await?;
        let is_withdrawn = record.state.ending().is_some() && std::fs::remove_file(&path).is_ok();
        if is_withdrawn {
            return Err(SteerError::NeverDelivered(id.clone()).into());
        }
        let waiting = self.run_folder(id).pending_messages(inbox::STEER_KIND);
        Ok(SteerOutcome { record, is_delivered: !path.exists(), pending: waiting })
    }

    /// Waits until a message is gone, the run has ended, or the caller gives up; gives the run as it is then.
    async fn wait_until_taken(
        &self,
        id: &RunId,
        path: &Path,
        patience: Duration,
        given_up: impl Future<Output = ()>,
    ) -> Result<RunRecord, FleetError> {
        let deadline = Instant::now() + patience;
        let mut given_up = std::pin::pin!(given_up);
        let mut seat = self.watcher().subscribe();
        let folder = self.run_folder(id);
        seat.watch_folder(folder.path());
        seat.watch_folder(&folder.inbox());
        loop {
            let record = self.run_record(id).await?;
            if !path.exists() || record.state.ending().is_some() || Instant::now() >= deadline {
                return Ok(record);
            }
            tokio::select! {
                () = seat.changed() => {}
                () = tokio::time::sleep_until(deadline) => {}
                () = &mut given_up => return Ok(record),
            }
        }
    }

    /// How many messages to a run MassGen has not taken up.
    pub fn pending_messages(&self, id: &RunId) -> usize {
        self.run_folder(id).pending_messages(inbox::STEER_KIND)
    }
}

fn check_message(content: &str) -> Result<(), SteerError> {
    let chars = content.chars().count();
    let why = match () {
        () if content.trim().is_empty() => "is empty".to_owned(),
        () if content.contains('\0') => "has a NUL character in it".to_owned(),
        () if chars > MAX_MESSAGE_CHARS => format!("has {chars} characters, and {MAX_MESSAGE_CHARS} is the most"),
        () => return Ok(()),
    };
    Err(SteerError::InvalidMessage(why))
}

fn is_over(state: &RunState) -> bool {
    match state {
        RunState::Queued | RunState::Starting { .. } | RunState::Running { .. } | RunState::Unknown(_) => false,
        RunState::Stopping { .. } | RunState::Ended(_) => true,
    }
}

/// Agents are known by what MassGen has said of them, and until then by the config.
fn check_agents_known(record: &RunRecord, folder: &RunFolder, wanted: &[String]) -> Result<(), SteerError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let told = record.digest.iter().flat_map(|digest| &digest.agents).map(|agent| agent.id.clone());
    let known: Vec<String> = told.chain(configured_agents(folder).into_iter().map(|agent| agent.id)).collect();
    let Some(agent) = wanted.iter().find(|agent| !known.contains(agent)) else { return Ok(()) };
    let mut names = known.clone();
    names.sort();
    names.dedup();
    let near = nearest(agent, names.iter().map(String::as_str)).map(str::to_owned);
    let names = if names.is_empty() { "not said yet which it has".to_owned() } else { names.join(", ") };
    let (run, agent) = (record.spec.id.clone(), text::single_line(agent, 80));
    Err(SteerError::UnknownAgent { run, agent, known: text::single_line(&names, 400), near })
}

/// MassGen takes a message up around a tool call, so that at least one agent it is meant for has to call tools. Of a config that is not there
/// yet, or cannot be read, nothing is known.
fn check_agents_call_tools(record: &RunRecord, folder: &RunFolder, wanted: &[String]) -> Result<(), SteerError> {
    let all = config(folder).map(|config| config.agents_tool_use()).unwrap_or_default();
    let is_meant = |id: &String| wanted.is_empty() || wanted.contains(id);
    let meant: Vec<_> = all.iter().filter(|(id, _)| is_meant(id)).collect();
    if meant.is_empty() || meant.iter().any(|(_, calls_tools)| *calls_tools) {
        return Ok(());
    }
    let names: Vec<&str> = meant.iter().map(|(id, _)| id.as_str()).collect();
    Err(SteerError::NoTools { run: record.spec.id.clone(), agents: text::single_line(&names.join(", "), 200) })
}

/// The agents of a run, by its config.
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
    fn a_message_has_something_to_say_and_an_end() {
        for bad in ["", " \n\t", "a\0b", &"x".repeat(MAX_MESSAGE_CHARS + 1)] {
            assert!(check_message(bad).is_err(), "{bad:.20?}");
        }
        for good in ["stop searching\nand write", &"ż".repeat(MAX_MESSAGE_CHARS)] {
            assert!(check_message(good).is_ok(), "{good:.20?}");
        }
    }
}
