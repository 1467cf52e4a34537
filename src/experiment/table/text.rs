//! A table as text for a model: short keys for arms and questions, a line for each row, the differences, or that there are too few
//! values. Each line is bounded; the number of lines is not, so the caller pages the text.

use super::bootstrap::MIN_SAMPLE_SIZE;
use super::differences::{MAX_ARMS_ALL_PAIRS, compared_pairs};
use super::numbers::{arm_key, cell_text, number_text, percent, pluralize, question_key};
use super::{Agreement, ComparisonRow, ComparisonTable, Difference, Mean, Measure, Winner};

/// The most characters of an arm's name, of a question and of a winner's name.
pub(super) const MAX_NAME_CHARS: usize = 200;
const MAX_QUESTION_CHARS: usize = 300;
const MAX_WINNER_CHARS: usize = 40;
/// The most winners that a row names.
const MAX_WINNERS: usize = 4;

const TABLE_HEADER: &str = "arm | question | succeeded/ended/planned | time s | cost | tokens | answer characters | repeats agree | winners | \
    margin of votes";

impl ComparisonTable {
    /// The table as plain text for a model.
    pub fn to_text(&self) -> String {
        let mut lines = vec![self.heading()];
        lines.extend(
            self.comparison
                .arms
                .iter()
                .enumerate()
                .map(|(n, arm)| format!("{} = {}", arm_key(n), cell_text(arm, MAX_NAME_CHARS))),
        );
        lines.extend(self.comparison.questions.iter().enumerate().map(|(n, text)| question_line(n, text)));
        if !self.rows.is_empty() {
            lines.push(legend());
            lines.push(TABLE_HEADER.to_owned());
            lines.extend(self.rows.iter().map(row_line));
        }
        if self.comparison.questions.len() > 1 && !self.arms.is_empty() {
            lines.push("All questions, each counting once:".to_owned());
            lines.extend(self.arms.iter().map(row_line));
        }
        lines.extend(self.short_answer_lines());
        lines.extend(self.agreement_lines());
        lines.extend(self.difference_lines());
        lines.join("\n") + "\n"
    }

    fn heading(&self) -> String {
        let sum = |count: fn(&ComparisonRow) -> usize| self.rows.iter().map(count).sum::<usize>();
        format!(
            "Group {}: {}, {}, {} planned, {} ended, {} succeeded.",
            cell_text(&self.comparison.group, MAX_NAME_CHARS),
            pluralize(self.comparison.arms.len(), "arm"),
            pluralize(self.comparison.questions.len(), "question"),
            pluralize(sum(|row| row.planned), "run"),
            sum(|row| row.ended),
            sum(|row| row.succeeded),
        )
    }

    fn difference_lines(&self) -> Vec<String> {
        let pairs = compared_pairs(self.comparison.arms.len());
        if pairs.is_empty() {
            return Vec::new();
        }
        let note = if self.comparison.arms.len() > MAX_ARMS_ALL_PAIRS {
            " Of so many arms each is set beside the first alone."
        } else {
            ""
        };
        let heading = format!(
            "Differences, question by question; fewer than {MIN_SAMPLE_SIZE} questions that both have are too few to tell. By chance alone \
             about 1 in 20 seems to differ.{note}"
        );
        std::iter::once(heading).chain(pairs.into_iter().map(|(a, b)| self.pair_difference_line(a, b))).collect()
    }

    fn pair_difference_line(&self, a: usize, b: usize) -> String {
        let differences: Vec<_> =
            self.differences.iter().filter(|difference| (difference.a, difference.b) == (a, b)).collect();
        let max_pairs = differences.iter().map(|difference| difference.pairs).max().unwrap_or_default();
        let verdict = if differences.iter().all(|difference| difference.interval.is_none()) {
            format!("too few to tell ({})", pluralize(max_pairs, "question"))
        } else {
            let verdicts = Measure::ALL.map(|measure| measure_verdict(&differences, measure));
            verdicts.join("; ")
        };
        format!("{} beside {}: {verdict}", arm_key(b), arm_key(a))
    }
}

fn measure_verdict(differences: &[&Difference], measure: Measure) -> String {
    let known = differences.iter().find(|difference| difference.measure == measure);
    known.map_or_else(|| format!("nothing known in {}", measure.subject()), |difference| difference.verdict())
}

fn legend() -> String {
    format!(
        "Means: time, cost and tokens of runs that ended, the rest of those that succeeded. [low, high] is a bootstrap interval \
         of 95 %, of {MIN_SAMPLE_SIZE} values or more."
    )
}

pub(super) fn question_line(number: usize, text: &str) -> String {
    let (chars, shown) = (text.chars().count(), cell_text(text, MAX_QUESTION_CHARS));
    let whole = if chars > MAX_QUESTION_CHARS { format!(" ({chars} characters)") } else { String::new() };
    format!("{} = {shown}{whole}", question_key(number))
}

fn row_line(row: &ComparisonRow) -> String {
    let mean = |measure, mean: Option<Mean>| mean.map_or("-".to_owned(), |mean| self::mean_text(measure, mean));
    let unpriced = if row.unpriced > 0 { format!(" ({} unpriced)", row.unpriced) } else { String::new() };
    [
        arm_key(row.arm),
        row.question.map_or("all".to_owned(), question_key),
        format!("{}/{}/{}", row.succeeded, row.ended, row.planned),
        mean(Measure::Took, row.took_s),
        mean(Measure::Cost, row.cost_usd) + &unpriced,
        mean(Measure::Tokens, row.tokens),
        mean(Measure::AnswerChars, row.answer_chars),
        row.agreement.map_or("-".to_owned(), agreement_text),
        winners_text(&row.winners),
        row.margin.map_or("-".to_owned(), |margin| interval_text(margin, percent)),
    ]
    .join(" | ")
}

fn mean_text(measure: Measure, mean: Mean) -> String {
    interval_text(mean, |value| number_text(measure, value))
}

fn interval_text(mean: Mean, show: impl Fn(f64) -> String) -> String {
    let interval = mean.interval.map(|(low, high)| format!(" [{}, {}]", show(low), show(high)));
    show(mean.mean) + &interval.unwrap_or_default()
}

fn agreement_text(agreement: Agreement) -> String {
    let (same, alike) = (percent(agreement.same), percent(agreement.similarity));
    format!("{same} the same, {alike} alike, of {}", pluralize(agreement.pairs, "pair"))
}

fn winners_text(winners: &[Winner]) -> String {
    let name = |winner: &Winner| {
        let model = winner.model.as_ref().map(|model| format!(" ({})", cell_text(model, MAX_WINNER_CHARS)));
        format!("{}{} {}", cell_text(&winner.agent, MAX_WINNER_CHARS), model.unwrap_or_default(), percent(winner.share))
    };
    let mut names: Vec<String> = winners.iter().take(MAX_WINNERS).map(name).collect();
    if winners.len() > MAX_WINNERS {
        names.push(format!("{} more", winners.len() - MAX_WINNERS));
    }
    if names.is_empty() { "-".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::table::numbers::{dollars, fixed_decimals};

    #[test]
    fn numbers_have_significant_digits() {
        for (value, expected) in [
            (0.0, "$0.00"),
            (-0.0, "$0.00"),
            (0.0123, "$0.01230"),
            (0.000_012_345, "$0.00001234"),
            (9.999_96, "$10.00"),
            (123_456.7, "$123457"),
            (-1.5, "-$1.500"),
            (1e-12, "$0.000000000"),
        ] {
            assert_eq!(dollars(value), expected, "{value}");
        }
        let shown = [fixed_decimals(-0.04, 1), fixed_decimals(-0.06, 1), fixed_decimals(12.34, 1), percent(1.0 / 3.0)];
        assert_eq!(shown, ["0.0", "-0.1", "12.3", "33 %"]);
    }

    #[test]
    fn a_name_stays_in_its_line_and_cell() {
        assert_eq!(cell_text(" a\n\tb\u{1b}|c ", 9), "a b /c");
        assert_eq!(cell_text("żółwie", 4), "żół…");
    }

    #[test]
    fn a_row_names_at_most_four_winners() {
        let winner = |n: usize| Winner { agent: format!("agent{n}"), model: Some("m".to_owned()), share: 0.2 };
        let all: Vec<_> = (1..=5).map(winner).collect();
        assert_eq!(winners_text(&all[..1]), "agent1 (m) 20 %");
        assert!(winners_text(&all).ends_with("agent4 (m) 20 %, 1 more"));
        assert_eq!(winners_text(&[]), "-");
    }
}
