//! The rows of a table: the results of an arm on one question, and on all. The trials are sorted by arm and question; the
//! comment of `table` says which runs count for which measure.

use std::collections::BTreeMap;

use super::{ComparisonRow, Mean, Measure, Trial, Winner, agreement, bootstrap};

/// A row for each arm and question.
pub(super) fn by_question(trials: &[Trial]) -> Vec<ComparisonRow> {
    let groups = trials.chunk_by(|a, b| (a.arm, a.question) == (b.arm, b.question));
    groups
        .map(|trials| {
            let answers: Vec<&str> = trials.iter().filter_map(Trial::final_answer).collect();
            ComparisonRow {
                question: Some(trials[0].question),
                agreement: agreement::among_answers(&answers),
                ..row(trials)
            }
        })
        .collect()
}

/// A row for each arm, over all its questions. The agreement is expensive to compute, so it is taken from `rows`.
pub(super) fn by_arm(trials: &[Trial], rows: &[ComparisonRow]) -> Vec<ComparisonRow> {
    let groups = trials.chunk_by(|a, b| a.arm == b.arm);
    groups
        .map(|trials| {
            let arm_rows = rows.iter().filter(|row| row.arm == trials[0].arm);
            let agreements: Vec<_> = arm_rows.filter_map(|row| row.agreement).collect();
            ComparisonRow { agreement: agreement::mean_over_questions(&agreements), ..row(trials) }
        })
        .collect()
}

/// The row for trials of one arm, without the question and the agreement.
fn row(trials: &[Trial]) -> ComparisonRow {
    let count = |counts: fn(&Trial) -> bool| trials.iter().filter(|trial| counts(trial)).count();
    let mean_of = |measure: Measure| mean(trials, |trial| measure.value(trial));
    ComparisonRow {
        arm: trials[0].arm,
        question: None,
        planned: trials.len(),
        started: count(Trial::has_started),
        ended: count(Trial::has_ended),
        succeeded: count(Trial::has_succeeded),
        took_s: mean_of(Measure::Took),
        cost_usd: mean_of(Measure::Cost),
        unpriced: count(|trial| trial.has_ended() && trial.tokens.is_some() && Measure::Cost.value(trial).is_none()),
        tokens: mean_of(Measure::Tokens),
        answer_chars: mean_of(Measure::AnswerChars),
        agreement: None,
        winners: winners(trials),
        margin: mean(trials, |trial| trial.margin().filter(|_| trial.has_succeeded())),
    }
}

/// The mean of the trials of one question; for several questions, the mean of their means. So an arm does not appear slower
/// because its long runs were repeated more often, and the means of arms fit their differences.
fn mean(trials: &[Trial], value: impl Fn(&Trial) -> Option<f64>) -> Option<Mean> {
    let groups = trials.chunk_by(|a, b| a.question == b.question);
    let mut questions: Vec<Vec<f64>> = groups.map(|trials| trials.iter().filter_map(&value).collect()).collect();
    if let [only] = questions.as_mut_slice() {
        return bootstrap::mean_with_interval(std::mem::take(only));
    }
    bootstrap::mean_with_interval(questions.into_iter().filter_map(bootstrap::mean_value).collect())
}

/// The winners, the most frequent first.
fn winners(trials: &[Trial]) -> Vec<Winner> {
    let succeeded: Vec<&Trial> = trials.iter().filter(|trial| trial.has_succeeded()).collect();
    let mut wins: BTreeMap<(&str, Option<&str>), usize> = BTreeMap::new();
    for trial in &succeeded {
        if let Some(agent) = &trial.winner {
            *wins.entry((agent, trial.model.as_deref())).or_default() += 1;
        }
    }
    let mut wins: Vec<_> = wins.into_iter().collect();
    wins.sort_by(|(_, a), (_, b)| b.cmp(a));
    let share = |wins: usize| wins as f64 / succeeded.len() as f64;
    let winner = |((agent, model), wins): ((&str, Option<&str>), usize)| Winner {
        agent: agent.to_owned(),
        model: model.map(str::to_owned),
        share: share(wins),
    };
    wins.into_iter().map(winner).collect()
}
