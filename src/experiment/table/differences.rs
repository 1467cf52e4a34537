//! How arms differ on the same questions, and the words for it. Runs of one question are alike in what the question asks for, so
//! that arms are compared question by question; two arms that share few of them are not told apart.

use std::collections::BTreeMap;

use super::numbers::{amount, number_text, pluralize};
use super::{Difference, Measure, Trial, bootstrap};

/// Up to so many arms each is compared with each other one. With more there would be too many pairs to read, and
/// that some would differ by chance; each is then compared with the first one alone.
pub(super) const MAX_ARMS_ALL_PAIRS: usize = 6;

/// Which arms are compared, of so many.
pub(super) fn compared_pairs(arms: usize) -> Vec<(usize, usize)> {
    let with_later = |a: usize| (a + 1..arms).map(move |b| (a, b));
    let firsts = if arms > MAX_ARMS_ALL_PAIRS { 1 } else { arms };
    (0..firsts).flat_map(with_later).collect()
}

/// By pair of arms, then by measure.
pub(super) fn all_differences(arms: usize, trials: &[Trial]) -> Vec<Difference> {
    let means = Measure::ALL.map(|measure| (measure, by_question(trials, measure)));
    let of_pair = |(a, b)| means.iter().filter_map(move |(measure, means)| difference(a, b, *measure, means));
    compared_pairs(arms).into_iter().flat_map(of_pair).collect()
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
    let (of_a, of_b) = (means.get(&a)?, means.get(&b)?);
    let gaps = of_a.iter().filter_map(|(question, a)| Some(of_b.get(question)? - a)).collect();
    let gap = bootstrap::mean_with_interval(gaps)?;
    Some(Difference { a, b, measure, pairs: gap.n, mean: gap.mean, interval: gap.interval })
}

impl Difference {
    /// What is to be said of `b` beside `a`: "takes 12.0 s more [8.0, 16.0]". That none was seen does not say that there is none.
    pub fn verdict(&self) -> String {
        let matter = self.measure.subject();
        let Some((low, high)) = self.interval else {
            return format!("too few to tell in {matter} ({})", pluralize(self.pairs, "question"));
        };
        let ends = |low, high| format!("[{}, {}]", number_text(self.measure, low), number_text(self.measure, high));
        let gap = amount(self.measure, self.mean.abs());
        if low > 0.0 {
            format!("{} {gap} more {}", self.measure.verb(), ends(low, high))
        } else if high < 0.0 {
            format!("{} {gap} less {}", self.measure.verb(), ends(-high, -low))
        } else {
            format!("no difference seen in {matter} {}", ends(low, high))
        }
    }
}

impl Measure {
    /// What it is about.
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
    fn a_verdict_says_which_way_or_that_nobody_knows() {
        let gap = |measure, mean, interval| Difference { a: 0, b: 1, measure, pairs: 5, mean, interval }.verdict();
        for (measure, mean, interval, wanted) in [
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
            assert_eq!(gap(measure, mean, interval), wanted);
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
