//! The types of a run: its id, its request, its states, its ending, its digest.
//! Pure: nothing here reads a clock, a file or a process, and nothing here knows a wire or disk format.

mod convergence;
mod digest;
mod id;
mod limits;
mod next_step;
mod quiet;
mod state;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

pub use digest::{AgentDigest, AgentState, Digest, Finish};
pub use id::{InvalidRunId, RunId};
pub use limits::{
    Allowance, AnswerBasis, Cap, Continuation, DailySummary, GlobalLimits, Lineage, ModelPrice, Origin, Spend,
    Unpriced, Usd,
};
pub use next_step::{NextStep, Step, Wording};
pub use quiet::{ActivityEvidence, InferredActivity, QuietPeriod};
pub use state::{
    AnswerSource, AnswerSummary, DEFAULT_GRACE, Ending, Exit, Force, Leader, Outcome, Problem, ProcessIdentity, Retry,
    RunState, StopCause, StopReport, StopRequest, Survivor, Warning,
};

/// The request of a run: resolved, checked and never changed afterwards (`spec.json`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSpec {
    /// The id of the run, which is also its folder's name.
    pub id: RunId,
    /// When the run was requested, by the wall clock.
    pub created: Timestamp,
    /// The whole question, never empty.
    pub question: String,
    /// The configuration of MassGen.
    pub config: ConfigChoice,
    /// Its name in list_configs; `None` for another file, a rehearsal or an old run.
    pub listed_as: Option<String>,
    /// A label that groups runs.
    pub group: Option<String>,
    /// How long the run may take from the start of its process to its end.
    pub timeout: Duration,
    /// Whether agents vote.
    pub mode: Mode,
    /// The agents' access to the project folder.
    pub context: Context,
    /// The project folder, absolute: the base of relative paths in a config. Empty if the server has none.
    pub project: PathBuf,
    /// The MassGen program: an absolute path to an executable file.
    pub program: PathBuf,
    /// A JSON merge patch on the config.
    pub overrides: Option<serde_json::Value>,
    /// The budgets of the run and of its descendants.
    pub allowance: Allowance,
    /// The run that started it.
    pub lineage: Lineage,
    /// The conversation it continues.
    pub continuation: Option<Continuation>,
    /// The answer of an earlier run that it builds on.
    pub basis: Option<AnswerBasis>,
    /// SHA-256 of MassGen's configuration without the question: equal for comparable runs.
    pub config_hash: String,
    /// Names and patterns (`CORP_*`) of extra environment variables that are passed to MassGen.
    pub pass_env: Vec<String>,
    /// Whether MassGen may be forked from a process that has imported it already.
    pub warm: bool,
    /// The operator's env file, with variables for MassGen; an absolute path.
    pub env_file: Option<PathBuf>,
    /// The requester, and the data to recognize a repeated request.
    pub origin: Origin,
}

impl RunSpec {
    /// A spec with default values.
    pub fn new(id: RunId, question: &str, config: ConfigChoice, project: PathBuf, program: PathBuf) -> RunSpec {
        RunSpec {
            created: Timestamp::now(),
            question: question.to_owned(),
            config,
            listed_as: None,
            group: None,
            timeout: Duration::from_secs(1800),
            mode: Mode::Full,
            context: Context::None,
            project,
            program,
            pass_env: Vec::new(),
            env_file: None,
            warm: false,
            overrides: None,
            allowance: Allowance::default(),
            lineage: Lineage::new_root(&id),
            continuation: None,
            basis: None,
            config_hash: String::new(),
            origin: Origin::default(),
            id,
        }
    }
}

impl RunSpec {
    /// The config as a request names it: its name in list_configs, or its path, relative to the project if inside it.
    pub fn config_name(&self) -> String {
        match (&self.listed_as, &self.config) {
            (Some(name), _) => name.clone(),
            (None, ConfigChoice::File(path)) => path.strip_prefix(&self.project).unwrap_or(path).display().to_string(),
            (None, ConfigChoice::Rehearsal(name)) => name.clone(),
        }
    }
}

/// Which configuration a run uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChoice {
    /// A config file, by its absolute path.
    File(PathBuf),
    /// The built-in rehearsal, by the requested name (`@rehearsal…`).
    Rehearsal(String),
}

impl ConfigChoice {
    /// Its path or its name, usable in a new request.
    pub fn name(&self) -> String {
        match self {
            ConfigChoice::File(path) => path.to_string_lossy().into_owned(),
            ConfigChoice::Rehearsal(name) => name.clone(),
        }
    }
}

/// How the agents work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Answers, votes, a presented answer.
    #[default]
    Full,
    /// One answer per agent, no votes.
    Quick,
}

impl Mode {
    /// Its stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Full => "full",
            Mode::Quick => "quick",
        }
    }
}

/// The agents' access to the project folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Context {
    /// None: the run works in its own folder.
    #[default]
    None,
    /// They may read it.
    Read,
    /// They may read and change it.
    Write,
}

impl Context {
    /// Its stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Context::None => "none",
            Context::Read => "read",
            Context::Write => "write",
        }
    }
}

/// A run as recorded on disk at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The request.
    pub spec: RunSpec,
    /// The format of the record; a record in a newer format is shown but never written back.
    pub version: u32,
    /// The number of notable changes; increases by one at each.
    pub seq: u64,
    /// The state of the run.
    pub state: RunState,
    /// The newest good digest of MassGen's status.json.
    pub digest: Option<Digest>,
    /// The parent process of MassGen in a warm-started run; it ends with the run.
    pub keeper: Option<ProcessIdentity>,
    /// Why the run was started cold; `None` for warm starts and in records of version 0.1.
    pub cold_start_reason: Option<String>,
    /// How long it waited for a warm process to import MassGen, if that took a second or more.
    pub import_wait: Option<Duration>,
    /// The changes in the project while the run could write there; `None` for other runs, and if the project has too many files.
    pub changed_files: Option<ChangedFiles>,
    /// The final answer of a live run, once MassGen has written it completely: the run only has to exit.
    pub ready_answer: Option<AnswerSummary>,
    /// When the supervisor started, if known.
    pub started: Option<Moment>,
    /// MassGen's log folder of this run, relative to the run's folder.
    pub log_dir: Option<PathBuf>,
    /// Its own spend, including every MassGen that its agents started without this program.
    pub spent: Spend,
    /// The spend of all its descendants.
    pub spent_by_descendants: Spend,
    /// The findings about a run that shows no activity.
    pub quiet: Option<QuietPeriod>,
}

/// Files that changed during a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangedFiles {
    /// Their names, relative to the project; the first 20.
    pub files: Vec<String>,
    /// The total number.
    pub count: u64,
}

impl RunRecord {
    /// The spend of the run and all its descendants.
    pub fn total_spent(&self) -> Spend {
        self.spent + self.spent_by_descendants
    }

    /// Whether its answer is readable and final: the run has ended, or only has to exit.
    pub fn is_answered(&self) -> bool {
        self.ready_answer.is_some() || self.state.ending().is_some()
    }

    /// Whether its answer is complete and its process still has to exit.
    pub fn is_ending(&self) -> bool {
        self.ready_answer.is_some() && self.state.ending().is_none()
    }

    /// Whether its answer won: presented by a successful run (so not partial), after a vote if MassGen reports
    /// votes at all.
    pub fn has_winner(&self, is_partial: bool) -> bool {
        !is_partial && self.digest.as_ref().is_none_or(|digest| !digest.votes.is_empty())
    }

    /// The time from its admission to `now`, or to its end; includes its time in the queue and its start.
    pub fn elapsed(&self, now: &Moment) -> Duration {
        let waited = |until: Timestamp| Duration::try_from(until.duration_since(self.spec.created)).unwrap_or_default();
        let ran = self.state.ending().map(|ending| ending.duration);
        match &self.started {
            Some(started) => waited(started.wall).saturating_add(ran.unwrap_or_else(|| started.duration_until(now))),
            None => waited(self.state.ending().map_or(now.wall, |ending| ending.ended_at.wall)),
        }
    }

    /// Whether its experiment ended before this run's turn, or could not start it: its record is made from the plan and never
    /// written. A run that was killed while it waited in the queue has a record of its own.
    pub fn is_never_started(&self) -> bool {
        let is_unstarted = |ending: &Ending| ending.exit == Exit::NeverStarted;
        self.seq == 0 && self.spec.origin.experiment.is_some() && self.state.ending().is_some_and(is_unstarted)
    }
}

/// One moment by two clocks: the wall clock may jump, and the boot clock is invalid after a reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock.
    pub wall: Timestamp,
    /// Milliseconds since boot, including the time the machine was suspended.
    pub boot_ms: u64,
    /// The boot that `boot_ms` belongs to.
    pub boot_id: String,
}

impl Moment {
    /// The time from this moment to `later`: by the boot clock if both belong to the same boot, otherwise by the wall clock;
    /// never negative.
    pub fn duration_until(&self, later: &Moment) -> Duration {
        if self.boot_id == later.boot_id {
            return Duration::from_millis(later.boot_ms.saturating_sub(self.boot_ms));
        }
        Duration::try_from(later.wall.duration_since(self.wall)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(wall_s: i64, boot_ms: u64, boot: &str) -> Moment {
        let wall = Timestamp::from_second(wall_s).expect("in range");
        Moment { wall, boot_ms, boot_id: boot.to_owned() }
    }

    #[test]
    fn within_one_boot_the_wall_clock_may_jump() {
        let start = moment(1_000, 5_000, "a");
        let a_day_back = moment(1_000 - 86_400, 8_500, "a");
        assert_eq!(start.duration_until(&a_day_back), Duration::from_millis(3_500));
    }

    #[test]
    fn across_boots_only_the_wall_clock_counts_and_never_backwards() {
        let start = moment(1_000, 5_000, "a");
        assert_eq!(start.duration_until(&moment(1_060, 10, "b")), Duration::from_secs(60));
        assert_eq!(start.duration_until(&moment(900, 10, "b")), Duration::ZERO);
    }
}
