//! A run that gives no sign of life: what the newest look at it found, and what that comes to. Pure.
//! It says what a run seems to do, with the evidence, and never that it should be ended: the reader decides that.

use std::time::Duration;

use super::{Moment, Problem, Retry};

/// Without any sign of work for so long it is taken for wedged; a client that tries again pauses for less.
const WEDGED_AFTER: Duration = Duration::from_secs(60);
/// A model that thinks may be silent for minutes; from here on it is worth a word.
const SLOW_MODEL_AFTER: Duration = Duration::from_secs(120);
/// The same of a tool, of which MassGen's own end most calls after 400 s.
const SLOW_TOOL_AFTER: Duration = Duration::from_secs(300);
/// The same of a program that computes: MassGen was seen to need minutes for one long word.
const SLOW_COMPUTE_AFTER: Duration = Duration::from_secs(300);
/// So much of one processor is work; a MassGen that only waits takes less than a hundredth.
const BUSY_PERCENT: u32 = 20;

/// What was found out about a quiet run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietPeriod {
    /// Its last sign of life: output, an event, or a change in status.json that is more than the time.
    pub since: Moment,
    /// When it was looked at.
    pub sampled_at: Moment,
    /// What was seen then.
    pub evidence: ActivityEvidence,
}

/// What a look at a quiet run saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActivityEvidence {
    /// How many processes it has, those of its nested runs not counted.
    pub processes: u32,
    /// What its processes used of one processor since the look before, in hundredths; what they waited for one counts as well.
    pub cpu_percent: u32,
    /// The state of MassGen's own process as the kernel has it: `R`, `S`, `D`, `T`, …
    pub leader_state: Option<char>,
    /// The open outgoing connections of its processes, as `ADDRESS:PORT`.
    pub connections: Vec<String>,
    /// The calls of tools that have begun and not ended, as `AGENT: TOOL`.
    pub tools: Vec<String>,
    /// How many of the runs that it started are under way.
    pub runs: u32,
    /// The last event that MassGen noted.
    pub last_event: Option<String>,
    /// The last line of trouble among its latest events.
    pub last_error: Option<String>,
}

/// What a quiet run seems to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferredActivity {
    /// MassGen's process was stopped by a signal.
    Stopped,
    /// It computes.
    Working,
    /// It waits for runs that it started.
    WaitingForRuns,
    /// It waits for a tool to end.
    WaitingInTool,
    /// It waits for an answer over a connection.
    WaitingForModel,
    /// Nothing that could end the quiet was found.
    Idle,
    /// The same for so long that it will hardly go on.
    Wedged,
}

impl ActivityEvidence {
    /// What explains most comes first.
    fn inferred_activity(&self, quiet: Duration) -> InferredActivity {
        match self {
            ActivityEvidence { leader_state: Some('T' | 't'), .. } => InferredActivity::Stopped,
            ActivityEvidence { cpu_percent: BUSY_PERCENT.., .. } => InferredActivity::Working,
            ActivityEvidence { runs: 1.., .. } => InferredActivity::WaitingForRuns,
            ActivityEvidence { tools, .. } if !tools.is_empty() => InferredActivity::WaitingInTool,
            ActivityEvidence { connections, .. } if !connections.is_empty() => InferredActivity::WaitingForModel,
            ActivityEvidence { .. } if quiet >= WEDGED_AFTER => InferredActivity::Wedged,
            ActivityEvidence { .. } => InferredActivity::Idle,
        }
    }
}

impl QuietPeriod {
    /// How long it has been quiet at a moment.
    pub fn duration(&self, now: &Moment) -> Duration {
        self.since.duration_until(now)
    }

    /// What it seems to do at a moment.
    pub fn inferred_activity(&self, now: &Moment) -> InferredActivity {
        self.evidence.inferred_activity(self.duration(now))
    }

    /// What waiters are notified of; nothing while nothing is unusual.
    pub fn problem(&self, now: &Moment) -> Option<Problem> {
        self.problem_with_agents(None, now)
    }

    /// The same, with the names of those who wait for a model.
    pub fn problem_with_agents(&self, agents: Option<&str>, now: &Moment) -> Option<Problem> {
        let quiet = self.duration(now);
        let told = |code, what: &str, hint, retry| {
            let message = format!("no sign of life for {} s; {what}", quiet.as_secs());
            Some(Problem { retry: Some(retry), ..Problem::new(code, &message, hint) })
        };
        let connections = self.evidence.connections.join(", ");
        match self.inferred_activity(now) {
            InferredActivity::Stopped => told(
                "stopped",
                "MassGen's process is stopped by a signal (SIGSTOP, or a debugger)",
                "a person can let it go on with SIGCONT; or kill_run, then run_massgen again",
                Retry::Now,
            ),
            InferredActivity::Wedged => told(
                "wedged",
                &format!("it computes nothing, and no connection or tool is open{}", self.blocked_in_kernel_note()),
                "see read_result with part `log` for what it did last; kill_run, then run_massgen again",
                Retry::Now,
            ),
            InferredActivity::WaitingForModel if quiet >= SLOW_MODEL_AFTER => told(
                "model_silent",
                &format!(
                    "no answer from {connections}{}",
                    agents.map(|agents| format!(" to {agents}")).unwrap_or_default()
                ),
                "models that think are silent for minutes: wait on; after ten, kill_run, and start again later or with another model",
                Retry::Later,
            ),
            InferredActivity::WaitingInTool if quiet >= SLOW_TOOL_AFTER => told(
                "tool_silent",
                &format!("it waits in {}", self.evidence.tools.join(", ")),
                "wait on if such a call may take so long; else kill_run, and ask for less in the question",
                Retry::No,
            ),
            InferredActivity::Working if quiet >= SLOW_COMPUTE_AFTER => told(
                "busy_silent",
                &format!("it uses {} % of a processor", self.evidence.cpu_percent),
                "a very long answer can keep MassGen busy for minutes: wait on, or kill_run and ask for less text",
                Retry::No,
            ),
            InferredActivity::WaitingForModel
            | InferredActivity::WaitingInTool
            | InferredActivity::Working
            | InferredActivity::WaitingForRuns
            | InferredActivity::Idle => None,
        }
    }

    fn blocked_in_kernel_note(&self) -> &'static str {
        let hangs = self.evidence.leader_state == Some('D');
        if hangs { "; its process hangs in the kernel, over a disk or a network file system perhaps" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: seconds * 1000, boot_id: "b".to_owned() }
    }

    fn found(evidence: ActivityEvidence, seconds: u64) -> (InferredActivity, Option<String>) {
        let quiet = QuietPeriod { since: at(0), sampled_at: at(20), evidence };
        (quiet.inferred_activity(&at(seconds)), quiet.problem(&at(seconds)).map(|problem| problem.code))
    }

    #[test]
    fn what_explains_most_comes_first_and_only_what_is_unusual_is_trouble() {
        let nothing = ActivityEvidence { leader_state: Some('S'), cpu_percent: 1, ..ActivityEvidence::default() };
        let connected = ActivityEvidence { connections: vec!["192.0.2.1:443".to_owned()], ..nothing.clone() };
        let in_tool = ActivityEvidence { tools: vec!["a: execute_command".to_owned()], ..connected.clone() };
        let nested = ActivityEvidence { runs: 1, ..in_tool.clone() };
        let busy = ActivityEvidence { cpu_percent: 20, ..nested.clone() };
        let stopped = ActivityEvidence { leader_state: Some('T'), ..busy.clone() };
        let table = [
            (nothing, 59, InferredActivity::Idle, 60, InferredActivity::Wedged, "wedged"),
            (connected, 119, InferredActivity::WaitingForModel, 120, InferredActivity::WaitingForModel, "model_silent"),
            (in_tool, 299, InferredActivity::WaitingInTool, 300, InferredActivity::WaitingInTool, "tool_silent"),
            (busy, 299, InferredActivity::Working, 300, InferredActivity::Working, "busy_silent"),
        ];
        for (evidence, before, then, after, later, code) in table {
            assert_eq!(found(evidence.clone(), before), (then, None), "{code}");
            assert_eq!(found(evidence, after), (later, Some(code.to_owned())));
        }
        assert_eq!(
            found(nested, 100_000),
            (InferredActivity::WaitingForRuns, None),
            "they have deadlines of their own"
        );
        assert_eq!(
            found(stopped, 20),
            (InferredActivity::Stopped, Some("stopped".to_owned())),
            "that is no wait at all"
        );
    }
}
