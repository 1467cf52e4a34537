//! What is measured of one run, and when a run counts at all. A value that no run can have, such as one below zero, is none.

use super::{Measure, Trial};

impl Trial {
    /// Whether it was given a slot: it is neither planned alone nor in the queue.
    pub fn has_started(&self) -> bool {
        !matches!(self.state.as_str(), "not_started" | "queued")
    }

    /// Whether it is over, well or not.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "timed_out" | "over_budget" | "killed" | "lost")
    }

    /// Whether it ended by itself with a final answer.
    pub fn has_succeeded(&self) -> bool {
        self.state == "succeeded"
    }

    /// The final answer, of one that succeeded; what a run leaves that did not is no answer to compare.
    pub fn final_answer(&self) -> Option<&str> {
        self.answer.as_deref().filter(|_| self.has_succeeded())
    }

    /// All votes.
    pub fn total_votes(&self) -> u64 {
        self.votes.values().copied().map(u64::from).sum()
    }

    /// Votes for the answer that has most.
    pub fn max_votes(&self) -> u32 {
        self.votes.values().copied().max().unwrap_or_default()
    }

    /// The most votes less the next most, as a share of all; none without votes.
    pub fn margin(&self) -> Option<f64> {
        let mut counts: Vec<u32> = self.votes.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let next = counts.get(1).copied().unwrap_or_default();
        let all = self.total_votes();
        (all > 0).then(|| f64::from(self.max_votes() - next) / all as f64)
    }
}

impl Measure {
    /// All of them, in the order in which they are told.
    pub const ALL: [Measure; 5] =
        [Measure::Succeeded, Measure::Took, Measure::Cost, Measure::Tokens, Measure::AnswerChars];

    /// The run's value: in the unit that the measure names, finite and not below zero; a success is 1.
    pub fn value(self, trial: &Trial) -> Option<f64> {
        let ended = trial.has_ended();
        let value = match self {
            Measure::Succeeded => ended.then(|| f64::from(u8::from(trial.has_succeeded()))),
            Measure::Took => trial.took_s.filter(|_| ended),
            Measure::Cost => trial.cost_usd.filter(|_| ended),
            Measure::Tokens => trial.tokens.filter(|_| ended).map(|tokens| tokens as f64),
            Measure::AnswerChars => trial.final_answer().map(|answer| answer.chars().count() as f64),
        };
        // Beyond this nothing was measured, and sums could become infinite. There is a zero below zero, which is shown as `-0`.
        value.filter(|value| (0.0..=1e20).contains(value)).map(f64::abs)
    }
}
