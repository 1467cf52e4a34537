//! A table as JSON for other programs: types of its own, made by hand, so that what is in a file changes only on purpose. Units are
//! in the names of fields, what is unknown is left out, and answers stay in their runs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::text::{arm_key, question_key};
use super::{Agreement, Between, Difference, Mean, Measure, Row, Table, Trial, Winner};

/// Grows when a field goes, or means something else.
const FORMAT: u32 = 1;

impl Table {
    /// All of it, with the runs; nothing in it is null.
    pub fn json(&self) -> Value {
        // These types have nothing in them that JSON has no word for.
        serde_json::to_value(TableOut::of(self)).unwrap_or_default()
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
    agreements: Vec<BetweenOut>,
    differences: Vec<DifferenceOut>,
    runs: Vec<RunOut<'a>>,
}

impl TableOut<'_> {
    fn of(table: &Table) -> TableOut<'_> {
        TableOut {
            format: FORMAT,
            group: &table.of.group,
            arms: NameOut::all(&table.of.arms, arm_key),
            questions: NameOut::all(&table.of.questions, question_key),
            rows: table.rows.iter().map(RowOut::of).collect(),
            over_all_questions: table.arms.iter().map(RowOut::of).collect(),
            agreements: table.between.iter().map(BetweenOut::of).collect(),
            differences: table.differences.iter().map(DifferenceOut::of).collect(),
            runs: table.of.trials.iter().map(RunOut::of).collect(),
        }
    }
}

#[derive(Serialize)]
struct NameOut<'a> {
    key: String,
    text: &'a str,
}

impl NameOut<'_> {
    fn all(texts: &[String], key: fn(usize) -> String) -> Vec<NameOut<'_>> {
        texts.iter().enumerate().map(|(place, text)| NameOut { key: key(place), text }).collect()
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
    fn of(row: &Row) -> RowOut<'_> {
        RowOut {
            arm: arm_key(row.arm),
            question: row.question.map(question_key),
            planned: row.of,
            started: row.started,
            ended: row.ended,
            succeeded: row.succeeded,
            took_s: row.took_s.map(MeanOut::of),
            cost_usd: row.cost_usd.map(MeanOut::of),
            unpriced: row.unpriced,
            tokens: row.tokens.map(MeanOut::of),
            answer_chars: row.answer_chars.map(MeanOut::of),
            agreement: row.agreement.map(AgreementOut::of),
            winners: row.winners.iter().map(WinnerOut::of).collect(),
            margin_share: row.margin.map(MeanOut::of),
        }
    }
}

#[derive(Serialize)]
struct MeanOut {
    n: usize,
    mean: f64,
    /// Low and high end.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_95: Option<(f64, f64)>,
}

impl MeanOut {
    fn of(mean: Mean) -> MeanOut {
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
    fn of(agreement: Agreement) -> AgreementOut {
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
    fn of(winner: &Winner) -> WinnerOut<'_> {
        WinnerOut { agent: &winner.agent, model: winner.model.as_deref(), share: winner.share }
    }
}

/// How far the answers of two arms to a question agree.
#[derive(Serialize)]
struct BetweenOut {
    arm: String,
    beside: String,
    question: String,
    #[serde(flatten)]
    agreement: AgreementOut,
}

impl BetweenOut {
    fn of(between: &Between) -> BetweenOut {
        BetweenOut {
            arm: arm_key(between.b),
            beside: arm_key(between.a),
            question: question_key(between.question),
            agreement: AgreementOut::of(between.agreement),
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
    fn of(difference: &Difference) -> DifferenceOut {
        DifferenceOut {
            arm: arm_key(difference.b),
            beside: arm_key(difference.a),
            measure: field(difference.measure),
            questions: difference.pairs,
            mean: difference.mean,
            interval_95: difference.interval,
            verdict: difference.verdict(),
        }
    }
}

fn field(measure: Measure) -> &'static str {
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
    fn of(trial: &Trial) -> RunOut<'_> {
        RunOut {
            run: trial.run.as_str(),
            arm: arm_key(trial.arm),
            question: question_key(trial.question),
            repeat: trial.repeat,
            state: &trial.state,
            took_s: Measure::Took.of(trial),
            cost_usd: Measure::Cost.of(trial),
            tokens: trial.tokens.filter(|_| trial.has_ended()),
            answer_chars: trial.final_answer().map(|answer| answer.chars().count()),
            winner: trial.winner.as_deref(),
            model: trial.model.as_deref(),
            votes: &trial.votes,
            margin_share: trial.margin(),
        }
    }
}
