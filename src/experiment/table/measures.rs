//! The measures of one run, and which runs count. An impossible value, such as a negative one, counts as missing.

use super::{Measure, Trial};

impl Trial {
    /// Whether it got a slot: it is neither `not_started` nor `queued`.
    pub fn has_started(&self) -> bool {
        !matches!(self.state.as_str(), "not_started" | "queued")
    }

    /// Whether it has ended, with any outcome.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "succeeded" | "failed" | "timed_out" | "over_budget" | "killed" | "lost")
    }

    /// Whether it ended by itself with a final answer.
    pub fn has_succeeded(&self) -> bool {
        self.state == "succeeded"
    }

    /// The final answer of a successful run; partial answers of other runs are not compared.
    pub fn final_answer(&self) -> Option<&str> {
        self.answer.as_deref().filter(|_| self.has_succeeded())
    }

    /// All votes.
    pub fn total_votes(&self) -> u64 {
        self.votes.values().copied().map(u64::from).sum()
    }

    /// The votes for the answer with the most votes.
    pub fn max_votes(&self) -> u32 {
        self.votes.values().copied().max().unwrap_or_default()
    }

    /// The most votes minus the second most, as a share of all votes; `None` without votes.
    pub fn margin(&self) -> Option<f64> {
        let mut counts: Vec<u32> = self.votes.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        let second = counts.get(1).copied().unwrap_or_default();
        let total = self.total_votes();
        (total > 0).then(|| f64::from(self.max_votes() - second) / total as f64)
    }
}

impl Measure {
    /// All measures, in the order of their output.
    pub const ALL: [Measure; 5] =
        [Measure::Succeeded, Measure::Took, Measure::Cost, Measure::Tokens, Measure::AnswerChars];

    /// The run's value in the unit of the measure, finite and not negative; a success is 1.
    pub fn value(self, trial: &Trial) -> Option<f64> {
        let has_ended = trial.has_ended();
        let value = match self {
            Measure::Succeeded => has_ended.then(|| f64::from(u8::from(trial.has_succeeded()))),
            Measure::Took => trial.took_s.filter(|_| has_ended),
            Measure::Cost => trial.cost_usd.filter(|_| has_ended),
            Measure::Tokens => trial.tokens.filter(|_| has_ended).map(|tokens| tokens as f64),
            Measure::AnswerChars => trial.final_answer().map(|answer| answer.chars().count() as f64),
        };
        // Larger values are errors, and their sums could become infinite. `abs` turns -0.0 into 0.0, so that no `-0` is shown.
        value.filter(|value| (0.0..=1e20).contains(value)).map(f64::abs)
    }
}
