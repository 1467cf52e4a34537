//! The differences between arms on the same questions, and their wording. Arms are compared question by question, because
//! questions differ in difficulty; two arms that share few questions get no verdict.

use std::collections::BTreeMap;

use super::numbers::{amount, number_text, pluralize};
use super::{Difference, Measure, Trial, bootstrap};

/// Up to this number of arms, each is compared with each other arm. With more arms there would be too many pairs to read, and some
/// would differ by chance; each arm is then compared only with the first.
pub(super) const MAX_ARMS_ALL_PAIRS: usize = 6;

/// The pairs of arms that are compared.
pub(super) fn compared_pairs(arms: usize) -> Vec<(usize, usize)> {
    let with_later = |a: usize| (a + 1..arms).map(move |b| (a, b));
    let first_count = if arms > MAX_ARMS_ALL_PAIRS { 1 } else { arms };
    (0..first_count).flat_map(with_later).collect()
}

/// All differences, by pair of arms, then by measure.
pub(super) fn all_differences(arms: usize, trials: &[Trial]) -> Vec<Difference> {
    let means = Measure::ALL.map(|measure| (measure, by_question(trials, measure)));
    let pair_differences = |(a, b)| means.iter().filter_map(move |(measure, means)| difference(a, b, *measure, means));
    compared_pairs(arms).into_iter().flat_map(pair_differences).collect()
}

/// The mean on each question, by arm.
type QuestionMeans = BTreeMap<usize, BTreeMap<usize, f64>>;

fn by_question(trials: &[Trial], measure: Measure) -> QuestionMeans {
    let mut means = QuestionMeans::new();
    for trials in trials.chunk_by(|a, b| (a.arm, a.question) == (b.arm, b.question)) {
        let values = trials.iter().filter_map(|trial| measure.value(trial)).collect();
        if let Some(mean) = bootstrap::mean_value(values) {
            means.entry(trials[0].arm).or_default().insert(trials[0].question, mean);
        }
    }
    means
}

fn difference(a: usize, b: usize, measure: Measure, means: &QuestionMeans) -> Option<Difference> {
    let (means_a, means_b) = (means.get(&a)?, means.get(&b)?);
    let differences = means_a.iter().filter_map(|(question, a)| Some(means_b.get(question)? - a)).collect();
    let mean = bootstrap::mean_with_interval(differences)?;
    Some(Difference { a, b, measure, pairs: mean.n, mean: mean.mean, interval: mean.interval })
}

impl Difference {
    /// The verdict on `b` compared with `a`: "takes 12.0 s more [8.0, 16.0]". "No difference seen" does not mean that none exists.
    pub fn verdict(&self) -> String {
        let subject = self.measure.subject();
        let Some((low, high)) = self.interval else {
            return format!("too few to tell in {subject} ({})", pluralize(self.pairs, "question"));
        };
        let range = |low, high| format!("[{}, {}]", number_text(self.measure, low), number_text(self.measure, high));
        let size = amount(self.measure, self.mean.abs());
        if low > 0.0 {
            format!("{} {size} more {}", self.measure.verb(), range(low, high))
        } else if high < 0.0 {
            format!("{} {size} less {}", self.measure.verb(), range(-high, -low))
        } else {
            format!("no difference seen in {subject} {}", range(low, high))
        }
    }
}

impl Measure {
    /// The noun for the measure.
    pub(super) fn subject(self) -> &'static str {
        match self {
            Measure::Succeeded => "success",
            Measure::Took => "time",
            Measure::Cost => "cost",
            Measure::Tokens => "tokens",
            Measure::AnswerChars => "answer length",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Measure::Succeeded => "succeeds",
            Measure::Took => "takes",
            Measure::Cost => "costs",
            Measure::Tokens => "uses",
            Measure::AnswerChars => "answers in",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_names_the_direction_or_says_that_it_is_unknown() {
        let verdict = |measure, mean, interval| Difference { a: 0, b: 1, measure, pairs: 5, mean, interval }.verdict();
        for (measure, mean, interval, expected) in [
            (Measure::Took, 12.0, Some((8.0, 16.04)), "takes 12.0 s more [8.0, 16.0]"),
            (Measure::Took, -12.0, Some((-16.0, -8.0)), "takes 12.0 s less [8.0, 16.0]"),
            (Measure::Took, 0.4, Some((-3.0, 4.0)), "no difference seen in time [-3.0, 4.0]"),
            (Measure::Took, 0.0, Some((0.0, 0.0)), "no difference seen in time [0.0, 0.0]"),
            (Measure::Cost, -0.012_3, Some((-0.02, -0.01)), "costs $0.01230 less [$0.01000, $0.02000]"),
            (Measure::Cost, 0.0, Some((-0.02, 0.01)), "no difference seen in cost [-$0.02000, $0.01000]"),
            (Measure::Tokens, 1234.5, Some((1.0, 2000.0)), "uses 1234 tokens more [1, 2000]"),
            (Measure::AnswerChars, 7.0, Some((1.0, 9.0)), "answers in 7 characters more [1, 9]"),
            (Measure::Succeeded, 0.25, Some((0.1, 0.4)), "succeeds 25 points more [10, 40]"),
            (Measure::Succeeded, 0.25, None, "too few to tell in success (5 questions)"),
        ] {
            assert_eq!(verdict(measure, mean, interval), expected);
        }
    }

    #[test]
    fn many_arms_are_compared_with_the_first() {
        assert_eq!((compared_pairs(0), compared_pairs(1)), (vec![], vec![]));
        assert_eq!(compared_pairs(3), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!((compared_pairs(6).len(), compared_pairs(7).len()), (15, 6));
        assert!(compared_pairs(20).iter().all(|(a, _)| *a == 0));
    }
}
