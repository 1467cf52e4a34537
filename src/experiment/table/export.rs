//! A table as JSON for other programs. It has types of its own, converted by hand, so that the format changes only on purpose.
//! Field names contain the units, unknown values are left out, and answers are not included.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::numbers::{arm_key, question_key};
use super::{Agreement, ArmAgreement, ComparisonRow, ComparisonTable, Difference, Mean, Measure, Trial, Winner};

/// Increases when a field is removed or changes its meaning.
const FORMAT_VERSION: u32 = 1;

impl ComparisonTable {
    /// The complete table, with the runs; no value is null.
    pub fn to_json(&self) -> Value {
        // This cannot fail: JSON can represent all values of these types.
        serde_json::to_value(TableOut::from_table(self)).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct TableOut<'a> {
    format: u32,
    group: &'a str,
    arms: Vec<NameOut<'a>>,
    questions: Vec<NameOut<'a>>,
    rows: Vec<RowOut<'a>>,
    over_all_questions: Vec<RowOut<'a>>,
    agreements: Vec<ArmAgreementOut>,
    differences: Vec<DifferenceOut>,
    runs: Vec<RunOut<'a>>,
}

impl TableOut<'_> {
    fn from_table(table: &ComparisonTable) -> TableOut<'_> {
        TableOut {
            format: FORMAT_VERSION,
            group: &table.comparison.group,
            arms: NameOut::from_texts(&table.comparison.arms, arm_key),
            questions: NameOut::from_texts(&table.comparison.questions, question_key),
            rows: table.rows.iter().map(RowOut::from_row).collect(),
            over_all_questions: table.arms.iter().map(RowOut::from_row).collect(),
            agreements: table.arm_agreements.iter().map(ArmAgreementOut::from_arm_agreement).collect(),
            differences: table.differences.iter().map(DifferenceOut::from_difference).collect(),
            runs: table.comparison.trials.iter().map(RunOut::from_trial).collect(),
        }
    }
}

#[derive(Serialize)]
struct NameOut<'a> {
    key: String,
    text: &'a str,
}

impl NameOut<'_> {
    fn from_texts(texts: &[String], key: fn(usize) -> String) -> Vec<NameOut<'_>> {
        texts.iter().enumerate().map(|(index, text)| NameOut { key: key(index), text }).collect()
    }
}

#[derive(Serialize)]
struct RowOut<'a> {
    arm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    planned: usize,
    started: usize,
    ended: usize,
    succeeded: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_s: Option<MeanOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<MeanOut>,
    unpriced: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<MeanOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_chars: Option<MeanOut>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<AgreementOut>,
    winners: Vec<WinnerOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_share: Option<MeanOut>,
}

impl RowOut<'_> {
    fn from_row(row: &ComparisonRow) -> RowOut<'_> {
        RowOut {
            arm: arm_key(row.arm),
            question: row.question.map(question_key),
            planned: row.planned,
            started: row.started,
            ended: row.ended,
            succeeded: row.succeeded,
            took_s: row.took_s.map(MeanOut::from_mean),
            cost_usd: row.cost_usd.map(MeanOut::from_mean),
            unpriced: row.unpriced,
            tokens: row.tokens.map(MeanOut::from_mean),
            answer_chars: row.answer_chars.map(MeanOut::from_mean),
            agreement: row.agreement.map(AgreementOut::from_agreement),
            winners: row.winners.iter().map(WinnerOut::from_winner).collect(),
            margin_share: row.margin.map(MeanOut::from_mean),
        }
    }
}

#[derive(Serialize)]
struct MeanOut {
    n: usize,
    mean: f64,
    /// The low and the high end.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_95: Option<(f64, f64)>,
}

impl MeanOut {
    fn from_mean(mean: Mean) -> MeanOut {
        MeanOut { n: mean.n, mean: mean.mean, interval_95: mean.interval }
    }
}

#[derive(Serialize)]
struct AgreementOut {
    pairs: usize,
    same_share: f64,
    similarity_share: f64,
}

impl AgreementOut {
    fn from_agreement(agreement: Agreement) -> AgreementOut {
        let Agreement { pairs, same, similarity } = agreement;
        AgreementOut { pairs, same_share: same, similarity_share: similarity }
    }
}

#[derive(Serialize)]
struct WinnerOut<'a> {
    agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    share: f64,
}

impl WinnerOut<'_> {
    fn from_winner(winner: &Winner) -> WinnerOut<'_> {
        WinnerOut { agent: &winner.agent, model: winner.model.as_deref(), share: winner.share }
    }
}

/// The agreement of two arms on a question.
#[derive(Serialize)]
struct ArmAgreementOut {
    arm: String,
    beside: String,
    question: String,
    #[serde(flatten)]
    agreement: AgreementOut,
}

impl ArmAgreementOut {
    fn from_arm_agreement(agreement: &ArmAgreement) -> ArmAgreementOut {
        ArmAgreementOut {
            arm: arm_key(agreement.b),
            beside: arm_key(agreement.a),
            question: question_key(agreement.question),
            agreement: AgreementOut::from_agreement(agreement.agreement),
        }
    }
}

#[derive(Serialize)]
struct DifferenceOut {
    arm: String,
    beside: String,
    measure: &'static str,
    questions: usize,
    mean: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_95: Option<(f64, f64)>,
    verdict: String,
}

impl DifferenceOut {
    fn from_difference(difference: &Difference) -> DifferenceOut {
        DifferenceOut {
            arm: arm_key(difference.b),
            beside: arm_key(difference.a),
            measure: field_name(difference.measure),
            questions: difference.pairs,
            mean: difference.mean,
            interval_95: difference.interval,
            verdict: difference.verdict(),
        }
    }
}

fn field_name(measure: Measure) -> &'static str {
    match measure {
        Measure::Succeeded => "succeeded_share",
        Measure::Took => "took_s",
        Measure::Cost => "cost_usd",
        Measure::Tokens => "tokens",
        Measure::AnswerChars => "answer_chars",
    }
}

#[derive(Serialize)]
struct RunOut<'a> {
    run: &'a str,
    arm: String,
    question: String,
    repeat: u32,
    state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    took_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer_chars: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    winner: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    votes: &'a BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_share: Option<f64>,
}

impl RunOut<'_> {
    fn from_trial(trial: &Trial) -> RunOut<'_> {
        RunOut {
            run: trial.run.as_str(),
            arm: arm_key(trial.arm),
            question: question_key(trial.question),
            repeat: trial.repeat,
            state: &trial.state,
            took_s: Measure::Took.value(trial),
            cost_usd: Measure::Cost.value(trial),
            tokens: trial.tokens.filter(|_| trial.has_ended()),
            answer_chars: trial.final_answer().map(|answer| answer.chars().count()),
            winner: trial.winner.as_deref(),
            model: trial.model.as_deref(),
            votes: &trial.votes,
            margin_share: trial.margin(),
        }
    }
}
