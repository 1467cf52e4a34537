//! A run without activity: the latest evidence, and the activity inferred from it. Pure.
//! It says what a run appears to do, with the evidence, and never that it should be ended: the reader decides that.

use std::time::Duration;

use super::{Moment, Problem, Retry, Step};

/// A run without any sign of work counts as wedged after this time; pauses between retries are shorter.
const WEDGED_AFTER: Duration = Duration::from_secs(60);
/// A wait for a model is reported after this time; a reasoning model may be silent for minutes.
const SLOW_MODEL_AFTER: Duration = Duration::from_secs(120);
/// A wait for a tool is reported after this time; MassGen ends most tool calls after 400 s.
const SLOW_TOOL_AFTER: Duration = Duration::from_secs(300);
/// Computing is reported after this time; MassGen may need minutes of CPU time for one very long word.
const SLOW_COMPUTE_AFTER: Duration = Duration::from_secs(300);
/// The run counts as computing from this percentage of one processor; a MassGen that only waits uses less than 1 %.
const BUSY_PERCENT: u32 = 20;

/// The findings about a run without activity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuietPeriod {
    /// Its last activity: output, an event, or a change in status.json other than of the time.
    pub since: Moment,
    /// When the evidence was collected.
    pub sampled_at: Moment,
    /// The evidence.
    pub evidence: ActivityEvidence,
}

/// The evidence about a run without activity.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActivityEvidence {
    /// The number of its processes, without those of its nested runs.
    pub processes: u32,
    /// The CPU demand of its processes since the previous sample, in percent of one processor: time used and time waited for a CPU.
    pub cpu_percent: u32,
    /// The state of MassGen's own process in the kernel: `R`, `S`, `D`, `T`, …
    pub leader_state: Option<char>,
    /// The open outgoing connections of its processes, as `ADDRESS:PORT`.
    pub connections: Vec<String>,
    /// The unfinished tool calls, as `AGENT: TOOL`.
    pub tools: Vec<String>,
    /// The number of live runs that it started.
    pub runs: u32,
    /// The last event that MassGen recorded.
    pub last_event: Option<String>,
    /// The last error line among its latest events.
    pub last_error: Option<String>,
}

/// What a run without activity appears to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferredActivity {
    /// MassGen's process was stopped by a signal.
    Stopped,
    /// It computes.
    Working,
    /// It waits for runs that it started.
    WaitingForRuns,
    /// It waits for a tool call to finish.
    WaitingInTool,
    /// It waits for an answer over a connection.
    WaitingForModel,
    /// It does not compute, and no tool, connection or nested run is open.
    Idle,
    /// As `Idle`, for so long that it will probably not continue.
    Wedged,
}

impl ActivityEvidence {
    /// The first matching explanation, the strongest first.
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
    /// How long it has been without activity at `now`.
    pub fn duration(&self, now: &Moment) -> Duration {
        self.since.duration_until(now)
    }

    /// What it appears to do at `now`.
    pub fn inferred_activity(&self, now: &Moment) -> InferredActivity {
        self.evidence.inferred_activity(self.duration(now))
    }

    /// The problem that waiters are notified of; `None` while the silence is usual for the activity.
    pub fn problem(&self, now: &Moment) -> Option<Problem> {
        self.problem_with_agents(None, now)
    }

    /// The same problem, with the names of the agents that wait for a model.
    pub fn problem_with_agents(&self, agents: Option<&str>, now: &Moment) -> Option<Problem> {
        let quiet = self.duration(now);
        let problem_of = |code, what: &str, hint, retry| {
            let message = format!("no sign of life for {} s; {what}", quiet.as_secs());
            Some(Problem { retry: Some(retry), ..Problem::new(code, &message, hint) })
        };
        let connections = self.evidence.connections.join(", ");
        match self.inferred_activity(now) {
            InferredActivity::Stopped => problem_of(
                "stopped",
                "MassGen's process is stopped by a signal (SIGSTOP, or a debugger)",
                Step::ContinueOrRestart,
                Retry::Now,
            ),
            InferredActivity::Wedged => problem_of(
                "wedged",
                &format!("it computes nothing, and no connection or tool is open{}", self.blocked_in_kernel_note()),
                Step::ReadLogAndRestart,
                Retry::Now,
            ),
            InferredActivity::WaitingForModel if quiet >= SLOW_MODEL_AFTER => problem_of(
                "model_silent",
                &format!(
                    "no answer from {connections}{}",
                    agents.map(|agents| format!(" to {agents}")).unwrap_or_default()
                ),
                Step::WaitForModel,
                Retry::Later,
            ),
            InferredActivity::WaitingInTool if quiet >= SLOW_TOOL_AFTER => problem_of(
                "tool_silent",
                &format!("it waits in {}", self.evidence.tools.join(", ")),
                Step::WaitForTool,
                Retry::No,
            ),
            InferredActivity::Working if quiet >= SLOW_COMPUTE_AFTER => problem_of(
                "busy_silent",
                &format!("it uses {} % of a processor", self.evidence.cpu_percent),
                Step::WaitForText,
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
        let is_blocked = self.evidence.leader_state == Some('D');
        if is_blocked { "; its process hangs in the kernel, over a disk or a network file system perhaps" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms: seconds * 1000, boot_id: "b".to_owned() }
    }

    fn inferred(evidence: ActivityEvidence, seconds: u64) -> (InferredActivity, Option<String>) {
        let quiet = QuietPeriod { since: at(0), sampled_at: at(20), evidence };
        (quiet.inferred_activity(&at(seconds)), quiet.problem(&at(seconds)).map(|problem| problem.code))
    }

    #[test]
    fn the_strongest_explanation_wins_and_only_unusual_silence_is_a_problem() {
        let inactive = ActivityEvidence { leader_state: Some('S'), cpu_percent: 1, ..ActivityEvidence::default() };
        let connected = ActivityEvidence { connections: vec!["192.0.2.1:443".to_owned()], ..inactive.clone() };
        let in_tool = ActivityEvidence { tools: vec!["a: execute_command".to_owned()], ..connected.clone() };
        let nested = ActivityEvidence { runs: 1, ..in_tool.clone() };
        let busy = ActivityEvidence { cpu_percent: 20, ..nested.clone() };
        let stopped = ActivityEvidence { leader_state: Some('T'), ..busy.clone() };
        let table = [
            (inactive, 59, InferredActivity::Idle, 60, InferredActivity::Wedged, "wedged"),
            (connected, 119, InferredActivity::WaitingForModel, 120, InferredActivity::WaitingForModel, "model_silent"),
            (in_tool, 299, InferredActivity::WaitingInTool, 300, InferredActivity::WaitingInTool, "tool_silent"),
            (busy, 299, InferredActivity::Working, 300, InferredActivity::Working, "busy_silent"),
        ];
        for (evidence, before, then, after, later, code) in table {
            assert_eq!(inferred(evidence.clone(), before), (then, None), "{code}");
            assert_eq!(inferred(evidence, after), (later, Some(code.to_owned())));
        }
        assert_eq!(
            inferred(nested, 100_000),
            (InferredActivity::WaitingForRuns, None),
            "they have deadlines of their own"
        );
        assert_eq!(
            inferred(stopped, 20),
            (InferredActivity::Stopped, Some("stopped".to_owned())),
            "that is no wait at all"
        );
    }
}
