//! What an experiment does next, decided from how far it is; and the order of its runs. Pure.

use super::plan::CloseReason;

/// How far an experiment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgressCounts {
    /// Runs that have not had their turn.
    pub waiting: usize,
    /// Runs that live.
    pub live: usize,
    /// Runs that succeeded.
    pub succeeded: usize,
    /// How many successes are enough.
    pub keep: Option<usize>,
    /// How many may live at once.
    pub max_live: usize,
    /// A stop was requested.
    pub is_stop_requested: bool,
    /// The budget had too little left for another run when it was last asked, and no run has ended since.
    pub is_budget_short: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// Start the next run.
    Start,
    /// Wait until something happens.
    Wait,
    /// Stop what lives; it is over for this reason.
    CancelRemaining(CloseReason),
    /// It is over.
    Close(CloseReason),
}

/// What to do next. What lives gives its money back when it ends, so that a short budget is no end while something lives.
pub fn next_step(tally: ProgressCounts, reason: Option<String>) -> NextStep {
    let is_enough = tally.keep.is_some_and(|keep| tally.succeeded >= keep);
    match tally {
        ProgressCounts { is_stop_requested: true, .. } => NextStep::CancelRemaining(CloseReason::Stopped { reason }),
        _ if is_enough && (tally.live > 0 || tally.waiting > 0) => {
            NextStep::CancelRemaining(CloseReason::EnoughSucceeded)
        }
        ProgressCounts { waiting: 0, live: 0, .. } => NextStep::Close(CloseReason::AllRun),
        ProgressCounts { is_budget_short: true, live: 0, .. } => NextStep::Close(CloseReason::BudgetExhausted),
        ProgressCounts { waiting: 0, .. } | ProgressCounts { is_budget_short: true, .. } => NextStep::Wait,
        ProgressCounts { live, max_live: at_once, .. } if live >= at_once => NextStep::Wait,
        ProgressCounts { .. } => NextStep::Start,
    }
}

/// The runs of arms by questions by repeats, as (arm, question, repeat). Each arm has had every question once before any has it
/// again, so that an experiment which ends early has compared something.
#[derive(Debug, Clone, Copy)]
pub struct RunGrid {
    /// How many arms.
    pub arms: usize,
    /// How many questions.
    pub questions: usize,
    /// How many times each.
    pub repeat: u32,
}

impl RunGrid {
    /// All of them, in the order in which they start.
    pub fn in_order(self) -> impl Iterator<Item = (usize, usize, u32)> {
        let each = move |repeat| {
            let of_question = move |question| (0..self.arms).map(move |arm| (arm, question, repeat));
            (0..self.questions).flat_map(of_question)
        };
        (1..=self.repeat).flat_map(each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_follows_from_how_far_it_is() {
        let begun = ProgressCounts { waiting: 3, live: 1, succeeded: 1, max_live: 2, ..ProgressCounts::default() };
        let stopped = || CloseReason::Stopped { reason: Some("r".to_owned()) };
        let table = [
            ("there is room", begun, NextStep::Start),
            ("no room", ProgressCounts { live: 2, ..begun }, NextStep::Wait),
            ("all started", ProgressCounts { waiting: 0, ..begun }, NextStep::Wait),
            ("all over", ProgressCounts { waiting: 0, live: 0, ..begun }, NextStep::Close(CloseReason::AllRun)),
            (
                "enough, some live",
                ProgressCounts { keep: Some(1), ..begun },
                NextStep::CancelRemaining(CloseReason::EnoughSucceeded),
            ),
            (
                "enough, none lives",
                ProgressCounts { keep: Some(1), live: 0, ..begun },
                NextStep::CancelRemaining(CloseReason::EnoughSucceeded),
            ),
            (
                "enough at the end",
                ProgressCounts { keep: Some(1), live: 0, waiting: 0, ..begun },
                NextStep::Close(CloseReason::AllRun),
            ),
            ("not enough", ProgressCounts { keep: Some(2), ..begun }, NextStep::Start),
            ("short, some live", ProgressCounts { is_budget_short: true, ..begun }, NextStep::Wait),
            (
                "short, none lives",
                ProgressCounts { is_budget_short: true, live: 0, ..begun },
                NextStep::Close(CloseReason::BudgetExhausted),
            ),
            ("stopped", ProgressCounts { is_stop_requested: true, ..begun }, NextStep::CancelRemaining(stopped())),
        ];
        for (what, tally, step) in table {
            assert_eq!(next_step(tally, Some("r".to_owned())), step, "{what}");
        }
    }

    #[test]
    fn every_arm_has_every_question_before_any_is_repeated() {
        let all: Vec<_> = RunGrid { arms: 2, questions: 2, repeat: 2 }.in_order().collect();
        assert_eq!(all[..5], [(0, 0, 1), (1, 0, 1), (0, 1, 1), (1, 1, 1), (0, 0, 2)]);
        assert_eq!(all.len(), 8);
    }
}
