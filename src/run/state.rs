//! The states of a run and its ending. A state carries the facts that exist in it and no others.
//! The ending separates who ended a run, why, with what force and what MassGen meant; none is folded into a number.

use std::time::Duration;

use super::{Moment, NextStep};

/// The state of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Its supervisor is live and waits for a free slot.
    Queued,
    /// Its supervisor is live; MassGen has not announced its log folder yet.
    Starting {
        /// MassGen's process, once it exists.
        leader: Option<Leader>,
    },
    /// MassGen has announced its log folder.
    Running {
        /// MassGen's process.
        leader: Leader,
    },
    /// A stop was requested and is in progress.
    Stopping {
        /// MassGen's process.
        leader: Leader,
        /// The requester and the reason.
        cause: StopCause,
    },
    /// It has ended; none of its processes is left except those that the ending names.
    Ended(Ending),
    /// The record was written by a newer version, in a state that this one does not know.
    Unknown(String),
}

impl RunState {
    /// Its stable word, for agents, people, tables and manifests.
    pub fn as_str(&self) -> &str {
        match self {
            RunState::Queued => "queued",
            RunState::Starting { .. } => "starting",
            RunState::Running { .. } => "running",
            RunState::Stopping { .. } => "stopping",
            RunState::Unknown(word) => word,
            RunState::Ended(ending) => match &ending.outcome {
                Outcome::Succeeded => "succeeded",
                Outcome::Failed(_) => "failed",
                Outcome::TimedOut { .. } => "timed_out",
                Outcome::OverBudget => "over_budget",
                Outcome::Killed { .. } => "killed",
                Outcome::Lost => "lost",
            },
        }
    }

    /// Whether the run has ended.
    pub fn ending(&self) -> Option<&Ending> {
        match self {
            RunState::Ended(ending) => Some(ending),
            RunState::Queued
            | RunState::Starting { .. }
            | RunState::Running { .. }
            | RunState::Stopping { .. }
            | RunState::Unknown(_) => None,
        }
    }

    /// MassGen's process, while the run is live.
    pub fn leader(&self) -> Option<&Leader> {
        match self {
            RunState::Starting { leader } => leader.as_ref(),
            RunState::Running { leader } | RunState::Stopping { leader, .. } => Some(leader),
            RunState::Queued | RunState::Ended(_) | RunState::Unknown(_) => None,
        }
    }
}

/// The identity of a process, distinct from a later one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The process id, in its own pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
    /// The boot that the ticks belong to.
    pub boot_id: String,
}

/// MassGen's own process: leader of its session and process group.
pub type Leader = ProcessIdentity;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// The outcome of the run.
    pub outcome: Outcome,
    /// How MassGen's process ended.
    pub exit: Exit,
    /// When the ending was observed.
    pub ended_at: Moment,
    /// From the start of the supervisor to the end.
    pub duration: Duration,
    /// The best answer.
    pub answer: Option<AnswerSummary>,
    /// The result of the stop, if one was requested or leftover processes were ended.
    pub stop: Option<Box<StopReport>>,
    /// The warnings, the most important first.
    pub warnings: Vec<Warning>,
}

/// Something a run lacks, such as tools: known before its start or observed during it; independent of the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A stable word to branch on, such as `mcp_not_connected`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub next: NextStep,
}

impl From<Problem> for Warning {
    fn from(Problem { code, message, next, .. }: Problem) -> Warning {
        Warning { code, message, next }
    }
}

/// The outcome of a run, from evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Ended by itself with a final answer.
    Succeeded,
    /// Ended without a final answer, or could not be started.
    Failed(Problem),
    /// Our deadline (`ours`) or MassGen's own timeout.
    TimedOut {
        /// Whether it was our deadline.
        ours: bool,
        /// Set if the time was spent in calls to a model that failed or were not answered.
        problem: Option<Box<Problem>>,
    },
    /// Ended by the supervisor because of its cost.
    OverBudget,
    /// Ended by a request, or by an external signal; then the problem names the signal.
    Killed {
        /// The reason given with the request.
        reason: Option<String>,
        /// Set if the signal was external.
        problem: Option<Box<Problem>>,
    },
    /// Its supervisor died; the ending was not observed.
    Lost,
}

impl Outcome {
    /// The problem, if any.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Outcome::Failed(problem) => Some(problem),
            Outcome::Killed { problem, .. } | Outcome::TimedOut { problem, .. } => problem.as_deref(),
            Outcome::Succeeded | Outcome::OverBudget | Outcome::Lost => None,
        }
    }
}

/// A problem, for an agent: a stable word, one sentence, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word to branch on, such as `api_key_missing`.
    pub code: String,
    /// One sentence, with MassGen's own message if it had one.
    pub message: String,
    /// What to do next.
    pub next: NextStep,
    /// Whether a retry can succeed, if known.
    pub retry: Option<Retry>,
    /// The provider of the model: an address, or the name of a backend.
    pub provider: Option<String>,
}

impl Problem {
    /// A problem without further details.
    pub fn new(code: &str, message: &str, next: impl Into<NextStep>) -> Problem {
        Problem { code: code.to_owned(), message: message.to_owned(), next: next.into(), retry: None, provider: None }
    }
}

/// Whether a retry of the same run can succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Immediately.
    Now,
    /// After some time.
    Later,
    /// Only after a change.
    No,
}

/// How MassGen's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this exit code, which says little (0 with no answer, 1 and 2 after successes).
    Code(i32),
    /// By this signal number.
    Signal(i32),
    /// It never ran.
    NeverStarted,
    /// No process observed its end.
    Unknown,
}

/// The best answer that an ended run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerSummary {
    /// The agent that wrote it.
    pub agent: String,
    /// Its length in characters.
    pub chars: u64,
    /// Why it was selected.
    pub source: AnswerSource,
}

impl RunState {
    /// Whether an answer of this run with this source is partial. While MassGen is being stopped, it writes the leading answer as
    /// final, although no agent presented it; so a final answer is complete only if the run succeeded.
    pub fn is_partial_answer(&self, source: AnswerSource) -> bool {
        let is_successful = self.ending().is_none_or(|ending| ending.outcome == Outcome::Succeeded);
        source == AnswerSource::Partial || !is_successful
    }
}

/// Why an answer was selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSource {
    /// MassGen wrote it as final.
    Final,
    /// The run ended before a presentation; this one led by votes, or was the newest.
    Partial,
}

/// The grace period of a stop if its request names none.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// A request to stop a run (`stop.json` in its folder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// How long MassGen has after the first signal.
    pub grace: Duration,
    /// The caller's reason.
    pub reason: Option<String>,
    /// Whether runs that this run started are stopped with it.
    pub tree: bool,
}

/// The cause of a stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A caller requested it.
    Requested {
        /// The caller's reason.
        reason: Option<String>,
    },
    /// The deadline passed.
    Deadline,
    /// The budget is spent.
    Budget,
}

/// The result of a stop.
#[must_use = "a stop may leave survivors, which the caller has to report"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// The time from the request (or the leader's own end) to the last check.
    pub duration: Duration,
    /// The strongest means that was needed.
    pub force: Force,
    /// How many processes of the run were observed since the request.
    pub processes: u32,
    /// The processes that survived, normally none.
    pub survivors: Vec<Survivor>,
}

/// The means of a stop, in order of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Force {
    /// No signal was needed.
    None,
    /// One SIGINT to the leader.
    Interrupt,
    /// SIGTERM to the leader, its group and its leftover processes.
    Terminate,
    /// SIGKILL to every process of the run.
    Kill,
}

/// A process that outlived SIGKILL: it hangs in the kernel, or belongs to another user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its process id; 0 if /proc does not show the process.
    pub pid: u32,
    /// Its name from the kernel; `unseen` if /proc does not show the process.
    pub name: String,
}
