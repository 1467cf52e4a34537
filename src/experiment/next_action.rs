//! Decides the next step of an experiment from its progress, and the order of its runs. Pure.

use super::plan::CloseReason;

/// The progress of an experiment, as counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressCounts {
    /// Runs that have not started.
    pub waiting: usize,
    /// Live runs.
    pub live: usize,
    /// Runs that succeeded.
    pub succeeded: usize,
    /// The number of successes after which the experiment stops.
    pub keep: Option<usize>,
    /// The most runs that may be live at once.
    pub max_live: usize,
    /// Whether a stop was requested.
    pub is_stop_requested: bool,
    /// Whether the last start was refused because of the budget, and no run has ended since.
    pub is_budget_short: bool,
}

/// The next step of an experiment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextAction {
    /// Start the next run.
    Start,
    /// Wait for a change.
    Wait,
    /// Stop the live runs and end the experiment for this reason.
    CancelRemaining(CloseReason),
    /// End the experiment.
    Close(CloseReason),
}

/// Decides the next step. A live run returns its unused budget when it ends, so a short budget ends an experiment only if no run is
/// live.
pub fn next_action(counts: ProgressCounts, reason: Option<String>) -> NextAction {
    let is_enough = counts.keep.is_some_and(|keep| counts.succeeded >= keep);
    match counts {
        ProgressCounts { is_stop_requested: true, .. } => NextAction::CancelRemaining(CloseReason::Stopped { reason }),
        _ if is_enough && (counts.live > 0 || counts.waiting > 0) => {
            NextAction::CancelRemaining(CloseReason::EnoughSucceeded)
        }
        ProgressCounts { waiting: 0, live: 0, .. } => NextAction::Close(CloseReason::AllRun),
        ProgressCounts { is_budget_short: true, live: 0, .. } => NextAction::Close(CloseReason::BudgetExhausted),
        ProgressCounts { waiting: 0, .. } | ProgressCounts { is_budget_short: true, .. } => NextAction::Wait,
        ProgressCounts { live, max_live: limit, .. } if live >= limit => NextAction::Wait,
        ProgressCounts { .. } => NextAction::Start,
    }
}

/// The runs of all arms, questions and repeats, as (arm, question, repeat). Each arm answers every question once before the first
/// repeat, so that an experiment which ends early still compares something.
#[derive(Debug, Clone, Copy)]
pub struct RunGrid {
    /// The number of arms.
    pub arms: usize,
    /// The number of questions.
    pub questions: usize,
    /// The number of repeats.
    pub repeat: u32,
}

impl RunGrid {
    /// All runs, in starting order.
    pub fn in_order(self) -> impl Iterator<Item = (usize, usize, u32)> {
        let one_repeat = move |repeat| {
            let of_question = move |question| (0..self.arms).map(move |arm| (arm, question, repeat));
            (0..self.questions).flat_map(of_question)
        };
        (1..=self.repeat).flat_map(one_repeat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_follows_from_the_counts() {
        let started = ProgressCounts { waiting: 3, live: 1, succeeded: 1, max_live: 2, ..ProgressCounts::default() };
        let stopped = || CloseReason::Stopped { reason: Some("r".to_owned()) };
        let table = [
            ("there is room", started, NextAction::Start),
            ("no room", ProgressCounts { live: 2, ..started }, NextAction::Wait),
            ("all started", ProgressCounts { waiting: 0, ..started }, NextAction::Wait),
            ("all over", ProgressCounts { waiting: 0, live: 0, ..started }, NextAction::Close(CloseReason::AllRun)),
            (
                "enough, some live",
                ProgressCounts { keep: Some(1), ..started },
                NextAction::CancelRemaining(CloseReason::EnoughSucceeded),
            ),
            (
                "enough, none lives",
                ProgressCounts { keep: Some(1), live: 0, ..started },
                NextAction::CancelRemaining(CloseReason::EnoughSucceeded),
            ),
            (
                "enough at the end",
                ProgressCounts { keep: Some(1), live: 0, waiting: 0, ..started },
                NextAction::Close(CloseReason::AllRun),
            ),
            ("not enough", ProgressCounts { keep: Some(2), ..started }, NextAction::Start),
            ("short, some live", ProgressCounts { is_budget_short: true, ..started }, NextAction::Wait),
            (
                "short, none lives",
                ProgressCounts { is_budget_short: true, live: 0, ..started },
                NextAction::Close(CloseReason::BudgetExhausted),
            ),
            ("stopped", ProgressCounts { is_stop_requested: true, ..started }, NextAction::CancelRemaining(stopped())),
        ];
        for (case, counts, step) in table {
            assert_eq!(next_action(counts, Some("r".to_owned())), step, "{case}");
        }
    }

    #[test]
    fn every_arm_has_every_question_before_any_is_repeated() {
        let all: Vec<_> = RunGrid { arms: 2, questions: 2, repeat: 2 }.in_order().collect();
        assert_eq!(all[..5], [(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 0, 2)]);
        assert_eq!(all.len(), 8);
    }
}
