//! The comparison of a group's runs: a row for each arm and question, means with intervals, paired differences between arms.
//! Pure. It says if there are too few values for a result, and contains only finite numbers.
//! Seconds, dollars and tokens are means over the ended runs, because failures take time and money as well; length, agreement,
//! winners and margin are over the successful runs. Over several questions, each question counts once, by its mean.

mod agreement;
mod answers;
mod bootstrap;
mod csv_export;
mod differences;
mod export;
mod measures;
mod numbers;
#[cfg(test)]
mod properties;
mod rows;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

pub use numbers::arm_key;

use crate::run::RunId;

/// One run of a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// The run.
    pub run: RunId,
    /// The index of its arm.
    pub arm: usize,
    /// The index of its question.
    pub question: usize,
    /// The number of the repeat, from 1.
    pub repeat: u32,
    /// The name of its state, or `not_started`.
    pub state: String,
    /// Seconds from start to end, if it has ended.
    pub took_s: Option<f64>,
    /// US dollars, if all of its tokens have a price.
    pub cost_usd: Option<f64>,
    /// Input and output tokens.
    pub tokens: Option<u64>,
    /// The final answer, if it succeeded.
    pub answer: Option<String>,
    /// The agent that gave the final answer.
    pub winner: Option<String>,
    /// The agent that gave the best answer so far of a run that ended without a final one.
    pub partial_by: Option<String>,
    /// The winner's model.
    pub model: Option<String>,
    /// The votes that were valid at the end, by answer label.
    pub votes: BTreeMap<String, u32>,
}

/// The runs to compare.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The group's name.
    pub group: String,
    /// The labels of the arms: a config, with its variant if it has several.
    pub arms: Vec<String>,
    /// The full questions.
    pub questions: Vec<String>,
    /// All planned runs; in a table, sorted by arm, question and repeat.
    pub trials: Vec<Trial>,
}

/// The result of a comparison.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ComparisonTable {
    /// The compared runs.
    pub comparison: Comparison,
    /// A row for each arm and question that has a trial.
    pub rows: Vec<ComparisonRow>,
    /// Each arm over all questions.
    pub arms: Vec<ComparisonRow>,
    /// The agreement between arms, by pair of arms and question; with many arms, each with the first.
    pub arm_agreements: Vec<ArmAgreement>,
    /// The differences of each pair of arms that share a question, by measure; with many arms, each against the first.
    pub differences: Vec<Difference>,
}

impl ComparisonTable {
    /// Compares the trials; their order does not matter.
    pub fn new(mut comparison: Comparison) -> ComparisonTable {
        let key = |trial: &Trial| (trial.arm, trial.question, trial.repeat);
        comparison.trials.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| a.run.cmp(&b.run)));
        let rows = rows::by_question(&comparison.trials);
        let arms = rows::by_arm(&comparison.trials, &rows);
        let arm_agreements = agreement::arm_agreements(comparison.arms.len(), &comparison.trials);
        let differences = differences::all_differences(comparison.arms.len(), &comparison.trials);
        ComparisonTable { comparison, rows, arms, arm_agreements, differences }
    }
}

/// The results of an arm on one question, or on all questions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ComparisonRow {
    /// The index of the arm.
    pub arm: usize,
    /// The index of the question; `None` for all questions.
    pub question: Option<usize>,
    /// Planned runs.
    pub planned: usize,
    /// Started runs: neither `not_started` nor `queued`.
    pub started: usize,
    /// Ended runs, with any outcome.
    pub ended: usize,
    /// Successful runs.
    pub succeeded: usize,
    /// Seconds.
    pub took_s: Option<Mean>,
    /// US dollars, over the runs with a fully known cost.
    pub cost_usd: Option<Mean>,
    /// Ended runs that are missing in `cost_usd`, because some of their tokens have no price.
    pub unpriced: usize,
    /// Input and output tokens.
    pub tokens: Option<Mean>,
    /// Characters of the final answer.
    pub answer_chars: Option<Mean>,
    /// The agreement of the repeats; `None` with fewer than two answers to each question.
    pub agreement: Option<Agreement>,
    /// How often each agent and model won, as a share of the successful runs.
    pub winners: Vec<Winner>,
    /// The votes for the winner's answer minus those for the second, as a share of all votes. The winner's answer is the one with
    /// the most votes: MassGen presents that one, and in a tie the margin is 0 in any case.
    pub margin: Option<Mean>,
}

/// A mean of measured values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// The number of values: runs, or questions if it is over several questions.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// A bootstrap interval of 95 %; `None` if there are too few values.
    pub interval: Option<(f64, f64)>,
}

/// The agreement of answers to the same question, over pairs of answers. For repeats: all pairs of up to 14 answers; with more
/// answers, 100 pairs, neighbours first. For two arms: each of the first 10 answers of one arm with each of the other's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// The number of compared pairs.
    pub pairs: usize,
    /// The share of pairs with the same text, ignoring case, whitespace, and punctuation at the ends.
    pub same: f64,
    /// The mean word similarity, from 0 to 1.
    pub similarity: f64,
}

/// The agreement of two arms on a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmAgreement {
    /// The one arm.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The question.
    pub question: usize,
    /// Over pairs of an answer of `a` and an answer of `b`.
    pub agreement: Agreement,
}

/// How often an agent won.
#[derive(Debug, Clone, PartialEq)]
pub struct Winner {
    /// The agent.
    pub agent: String,
    /// Its model, if known.
    pub model: Option<String>,
    /// The share of the successful runs.
    pub share: f64,
}

/// A measure that is compared between arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The share of successful runs among the ended runs.
    Succeeded,
    /// Seconds.
    Took,
    /// US dollars.
    Cost,
    /// Tokens.
    Tokens,
    /// Characters of the final answer.
    AnswerChars,
}

/// The difference of two arms on the same questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The one arm.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The measure.
    pub measure: Measure,
    /// The number of questions on which both arms have a value.
    pub pairs: usize,
    /// The mean of `b` minus `a`.
    pub mean: f64,
    /// A bootstrap interval of 95 % over questions; `None` if there are too few questions.
    pub interval: Option<(f64, f64)>,
}
