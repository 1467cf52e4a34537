//! The runs of a table as CSV for a spreadsheet: one line per run, including planned runs. Texts of others are never formulas.

use super::numbers::{arm_key, cell_text, question_key};
use super::{ComparisonTable, Measure, Trial};

/// The most characters of a text cell; the JSON has the whole question.
const MAX_CELL_CHARS: usize = 500;

const CSV_HEADER: [&str; 16] = [
    "run",
    "arm",
    "arm_name",
    "question",
    "question_text",
    "repeat",
    "state",
    "took_s",
    "cost_usd",
    "tokens",
    "answer_chars",
    "winner",
    "model",
    "votes_for",
    "votes",
    "margin_share",
];

impl ComparisonTable {
    /// The runs as comma-separated values, without means, which can be computed from them. An empty cell is an unknown value.
    pub fn to_csv(&self) -> String {
        let mut bytes = Vec::new();
        let mut writer = csv::Writer::from_writer(&mut bytes);
        let lines = self.comparison.trials.iter().map(|trial| self.cells(trial));
        // This cannot fail: writes to memory succeed, and each line has as many cells as the first.
        let written =
            std::iter::once(CSV_HEADER.map(str::to_owned)).chain(lines).try_for_each(|line| writer.write_record(line));
        debug_assert!(written.is_ok());
        drop(writer);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn cells(&self, trial: &Trial) -> [String; 16] {
        let name = |list: &[String], index: usize| list.get(index).map_or(String::new(), |name| escape_formula(name));
        let number = |measure: Measure| measure.value(trial).map_or(String::new(), |value| value.to_string());
        let text = |text: &Option<String>| text.as_deref().map_or(String::new(), escape_formula);
        [
            trial.run.to_string(),
            arm_key(trial.arm),
            name(&self.comparison.arms, trial.arm),
            question_key(trial.question),
            name(&self.comparison.questions, trial.question),
            trial.repeat.to_string(),
            escape_formula(&trial.state),
            number(Measure::Took),
            number(Measure::Cost),
            number(Measure::Tokens),
            number(Measure::AnswerChars),
            text(&trial.winner),
            text(&trial.model),
            trial.max_votes().to_string(),
            trial.total_votes().to_string(),
            trial.margin().map_or(String::new(), |margin| margin.to_string()),
        ]
    }
}

/// Puts an apostrophe, which marks text in a spreadsheet, before a text that would be a formula. Tabs and line breaks, after which
/// some spreadsheets also recognize a formula, have become blanks before.
fn escape_formula(text: &str) -> String {
    let cell = cell_text(text, MAX_CELL_CHARS);
    if cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_never_formulas() {
        for (text, expected) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'=1"),
            ("\r=1", "'=1"),
            ("\u{0}=1", "'=1"),
            ("＝1", "'＝1"),
            ("1=1", "1=1"),
            ("plain", "plain"),
        ] {
            assert_eq!(escape_formula(text), expected);
        }
    }
}
