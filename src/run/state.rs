//! The states of a run and its ending. A state carries the facts that exist in it and no others.
//! Who ended a run, why, with what force and what MassGen meant are kept apart; none is folded into a number.

use std::time::Duration;

use super::Moment;

/// Where a run is.
#[derive(Debug, Clone, PartialEq)]
pub enum RunState {
    /// Its supervisor lives and waits for a free slot.
    Queued,
    /// Its supervisor lives; MassGen has not announced its log folder yet.
    Starting {
        /// MassGen's process, once there is one.
        leader: Option<Leader>,
    },
    /// MassGen has announced itself.
    Running {
        /// MassGen's process.
        leader: Leader,
    },
    /// A stop was asked for and is under way.
    Stopping {
        /// MassGen's process.
        leader: Leader,
        /// Who asked, and why.
        cause: StopCause,
    },
    /// It is over; no process of it is left but those that the ending names.
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

    /// Whether the run is over.
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

    /// MassGen's process, while the run goes on.
    pub fn leader(&self) -> Option<&Leader> {
        match self {
            RunState::Starting { leader } => leader.as_ref(),
            RunState::Running { leader } | RunState::Stopping { leader, .. } => Some(leader),
            RunState::Queued | RunState::Ended(_) | RunState::Unknown(_) => None,
        }
    }
}

/// A process that can be told from a later one with the same pid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// The process id, in its own pid namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub start_ticks: u64,
    /// Which boot the ticks belong to.
    pub boot_id: String,
}

/// MassGen's own process: leader of its session and process group.
pub type Leader = ProcessIdentity;

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// What it comes to.
    pub outcome: Outcome,
    /// How MassGen's process ended.
    pub exit: Exit,
    /// When the ending was seen.
    pub ended_at: Moment,
    /// From the start of the supervisor to the end.
    pub duration: Duration,
    /// What there is to read.
    pub answer: Option<AnswerSummary>,
    /// How the stop went, where one was asked for or something was left to sweep.
    pub stop: Option<Box<StopReport>>,
    /// What it lacked, what matters most first.
    pub warnings: Vec<Warning>,
}

/// What a run lacks, such as tools: known before its start, or seen in its course, whatever it comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// A stable word to branch on, such as `mcp_not_connected`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

impl From<Problem> for Warning {
    fn from(Problem { code, message, hint, .. }: Problem) -> Warning {
        Warning { code, message, hint }
    }
}

/// What a run comes to, from evidence.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Ended by itself with a final answer.
    Succeeded,
    /// Ended without one, or could not be started.
    Failed(Problem),
    /// Our deadline (`ours`) or MassGen's own timeout.
    TimedOut {
        /// Whether it was our deadline.
        ours: bool,
        /// Set when the time was spent in calls to a model that failed or were not answered.
        problem: Option<Box<Problem>>,
    },
    /// Ended by us for its cost.
    OverBudget,
    /// Ended by a request, or by a signal that was not ours; then the problem says which.
    Killed {
        /// The reason that was given with the request.
        reason: Option<String>,
        /// Set when the signal was not ours.
        problem: Option<Box<Problem>>,
    },
    /// Its supervisor died; the ending was not seen.
    Lost,
}

impl Outcome {
    /// What went wrong, where something did.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Outcome::Failed(problem) => Some(problem),
            Outcome::Killed { problem, .. } | Outcome::TimedOut { problem, .. } => problem.as_deref(),
            Outcome::Succeeded | Outcome::OverBudget | Outcome::Lost => None,
        }
    }
}

/// What went wrong, for an agent: a stable word, one sentence, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word to branch on, such as `api_key_missing`.
    pub code: String,
    /// One sentence, with MassGen's own words where it had some.
    pub message: String,
    /// What to do next.
    pub hint: String,
    /// Whether the same once more can go well, where that is known.
    pub retry: Option<Retry>,
    /// Whose model it was about: an address, or the name of a backend.
    pub provider: Option<String>,
}

impl Problem {
    /// A problem of which no more is known.
    pub fn new(code: &str, message: &str, hint: &str) -> Problem {
        let (code, message, hint) = (code.to_owned(), message.to_owned(), hint.to_owned());
        Problem { code, message, hint, retry: None, provider: None }
    }
}

/// Whether the same run once more can go well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// At once.
    Now,
    /// After a while.
    Later,
    /// Not before something is changed.
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
    /// No process saw it end.
    Unknown,
}

/// The best answer that an ended run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerSummary {
    /// Which agent's it is.
    pub agent: String,
    /// Its length in characters.
    pub chars: u64,
    /// How it came to be the one.
    pub source: AnswerSource,
}

impl RunState {
    /// Whether such an answer of this run is less than a run that went well gives. What MassGen writes as final while it is
    /// being stopped is the leading answer, which no agent presented; so a final answer is whole only of a run that succeeded.
    pub fn is_partial_answer(&self, source: AnswerSource) -> bool {
        let went_well = self.ending().is_none_or(|ending| ending.outcome == Outcome::Succeeded);
        source == AnswerSource::Partial || !went_well
    }
}

/// Why an answer is the one that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSource {
    /// MassGen wrote it as final.
    Final,
    /// The run ended before a presentation; this one led by votes, or was the newest.
    Partial,
}

/// A wish to stop a run (`stop.json` in its folder).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    /// How long MassGen has after the polite signal.
    pub grace: Duration,
    /// Why, in the words of the caller.
    pub reason: Option<String>,
    /// Whether runs that this run started are stopped with it.
    pub tree: bool,
}

/// Who wants a run stopped, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// A caller requested it.
    Requested {
        /// Their reason.
        reason: Option<String>,
    },
    /// The deadline passed.
    Deadline,
    /// The budget is spent.
    Budget,
}

/// How a stop went.
#[must_use = "a stop may leave survivors, which the caller must be told of"]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// From the request (or the leader's own end) to the last look.
    pub duration: Duration,
    /// The strongest means that was needed.
    pub force: Force,
    /// How many processes of the run were seen from the request on.
    pub processes: u32,
    /// Those that would not die, normally none.
    pub survivors: Vec<Survivor>,
}

/// The means of a stop, in the order in which they are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Force {
    /// Nothing had to be signalled.
    None,
    /// One SIGINT to the leader.
    Interrupt,
    /// SIGTERM to the leader, its group and what it left behind.
    Terminate,
    /// SIGKILL to every process of the run.
    Kill,
}

/// A process that outlived SIGKILL: it hangs in the kernel, or belongs to another user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survivor {
    /// Its process id; 0 of one that the kernel knows of and /proc does not show.
    pub pid: u32,
    /// Its name, as the kernel has it; `unseen` of such a one.
    pub name: String,
}
