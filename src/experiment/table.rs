//! What the runs of a group come to beside each other: a row for each arm and question, means with their intervals, paired
//! differences between arms. Pure; what is too few to tell is said to be, and nothing here is a number that is not finite.
//! Seconds, dollars and tokens are means over the runs that ended, since a failure takes time and money as well; length,
//! agreement, winners and margin over those that succeeded. Over several questions each question counts once, by its mean.

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
    /// Which arm it is of.
    pub arm: usize,
    /// Which question it answers.
    pub question: usize,
    /// Which repeat it is, from 1.
    pub repeat: u32,
    /// Where it is: the word of its state, or `not_started`.
    pub state: String,
    /// Seconds from start to end, of one that has ended.
    pub took_s: Option<f64>,
    /// US dollars, where all of it has a price.
    pub cost_usd: Option<f64>,
    /// Input and output tokens.
    pub tokens: Option<u64>,
    /// The final answer of one that succeeded.
    pub answer: Option<String>,
    /// Who gave it.
    pub winner: Option<String>,
    /// The winner's model.
    pub model: Option<String>,
    /// Votes by answer label, of those that stood at the end.
    pub votes: BTreeMap<String, u32>,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Comparison {
    /// The group's name.
    pub group: String,
    /// The arms: a config, with its variant where there are some.
    pub arms: Vec<String>,
    /// The questions, whole.
    pub questions: Vec<String>,
    /// Every planned run. Of a table they are in order of arm, question and repeat.
    pub trials: Vec<Trial>,
}

/// What the runs come to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ComparisonTable {
    /// What was compared.
    pub comparison: Comparison,
    /// A row for each arm and question that has a trial.
    pub rows: Vec<ComparisonRow>,
    /// Each arm over all questions.
    pub arms: Vec<ComparisonRow>,
    /// How far arms agree, by pair of arms and question; with many arms, each with the first.
    pub arm_agreements: Vec<ArmAgreement>,
    /// Each pair of arms, by measure, where they have a question in common; with many arms, each beside the first.
    pub differences: Vec<Difference>,
}

impl ComparisonTable {
    /// The same whatever order the trials come in.
    pub fn new(mut comparison: Comparison) -> ComparisonTable {
        let place = |trial: &Trial| (trial.arm, trial.question, trial.repeat);
        comparison.trials.sort_by(|a, b| place(a).cmp(&place(b)).then_with(|| a.run.cmp(&b.run)));
        let rows = rows::by_question(&comparison.trials);
        let arms = rows::by_arm(&comparison.trials, &rows);
        let between = agreement::arm_agreements(comparison.arms.len(), &comparison.trials);
        let differences = differences::all_differences(comparison.arms.len(), &comparison.trials);
        ComparisonTable { comparison, rows, arms, arm_agreements: between, differences }
    }
}

/// An arm on one question, or on all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ComparisonRow {
    /// Which arm.
    pub arm: usize,
    /// Which question; none where it is all.
    pub question: Option<usize>,
    /// Planned runs.
    pub planned: usize,
    /// Those that were started: neither `not_started` nor `queued`.
    pub started: usize,
    /// Those that ended, well or not.
    pub ended: usize,
    /// Those that succeeded.
    pub succeeded: usize,
    /// Seconds.
    pub took_s: Option<Mean>,
    /// US dollars, of those runs whose cost is known whole.
    pub cost_usd: Option<Mean>,
    /// Runs that ended and are missing in `cost_usd`, since some of what they spent has no price.
    pub unpriced: usize,
    /// Input and output tokens.
    pub tokens: Option<Mean>,
    /// Characters of the final answer.
    pub answer_chars: Option<Mean>,
    /// How far repeats agree; none with fewer than two answers to one question.
    pub agreement: Option<Agreement>,
    /// Who won how often, as a share of those that succeeded, by agent and model.
    pub winners: Vec<Winner>,
    /// Votes for the winner's answer less those for the next, as a share of all votes. The winner's answer is the one with the
    /// most votes: MassGen presents that one, and in a tie the margin is 0 either way.
    pub margin: Option<Mean>,
}

/// A mean of measured values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mean {
    /// How many values: runs, or questions where it is over several.
    pub n: usize,
    /// Their mean.
    pub mean: f64,
    /// A bootstrap interval of 95 %; none where there are too few values to tell.
    pub interval: Option<(f64, f64)>,
}

/// How far answers to the same question agree, over pairs of them: of repeats all pairs up to 14 answers, then 100, of neighbours
/// first; of two arms each of the first 10 answers of one with each of the other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// Pairs looked at.
    pub pairs: usize,
    /// Share of pairs that are the same text but for case, blanks and punctuation at the ends.
    pub same: f64,
    /// Mean similarity of words, from 0 to 1.
    pub similarity: f64,
}

/// How far two arms agree on a question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ArmAgreement {
    /// The one arm.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// The question.
    pub question: usize,
    /// Over pairs of an answer of the one and an answer of the other.
    pub agreement: Agreement,
}

/// How often an agent won.
#[derive(Debug, Clone, PartialEq)]
pub struct Winner {
    /// The agent.
    pub agent: String,
    /// Its model, where known.
    pub model: Option<String>,
    /// Of the runs that succeeded.
    pub share: f64,
}

/// What is compared between arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Share of runs that succeeded, of those that ended.
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

/// How two arms differ on the same questions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Difference {
    /// The one arm.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// In what.
    pub measure: Measure,
    /// On how many questions both have a value.
    pub pairs: usize,
    /// The mean of `b` less `a`.
    pub mean: f64,
    /// A bootstrap interval of 95 % over questions; none where there are too few to tell.
    pub interval: Option<(f64, f64)>,
}
