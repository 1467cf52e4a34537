//! A table as a model reads it: what was compared under short keys, a line for each row, what differs, what is too few to tell.
//! Each line is bounded, whatever names and questions there are; how many there are is for the caller to page.

use super::differences::{HANDFUL, compared};
use super::sample::ENOUGH;
use super::{Agreement, Difference, Mean, Measure, Row, Table, Winner};

/// The most characters of an arm's name, of a question and of a winner's name.
pub(super) const NAME: usize = 200;
const QUESTION: usize = 300;
const WINNER: usize = 40;
/// The most winners of a row that are named.
const WINNERS: usize = 4;

const HEAD: &str = "arm | question | succeeded/ended/planned | time s | cost | tokens | answer characters | repeats agree | winners | \
    margin of votes";

impl Table {
    /// Plain text for a model, a line for each thing.
    pub fn text(&self) -> String {
        let mut lines = vec![self.heading()];
        lines.extend(self.of.arms.iter().enumerate().map(|(n, arm)| format!("{} = {}", arm_key(n), line(arm, NAME))));
        lines.extend(self.of.questions.iter().enumerate().map(|(n, text)| question(n, text)));
        if !self.rows.is_empty() {
            lines.push(legend());
            lines.push(HEAD.to_owned());
            lines.extend(self.rows.iter().map(told));
        }
        if self.of.questions.len() > 1 && !self.arms.is_empty() {
            lines.push("All questions, each counting once:".to_owned());
            lines.extend(self.arms.iter().map(told));
        }
        lines.extend(self.answers_told());
        lines.extend(self.agreements_told());
        lines.extend(self.differences_told());
        lines.join("\n") + "\n"
    }

    fn heading(&self) -> String {
        let sum = |count: fn(&Row) -> usize| self.rows.iter().map(count).sum::<usize>();
        format!(
            "Group {}: {}, {}, {} planned, {} ended, {} succeeded.",
            line(&self.of.group, NAME),
            counted(self.of.arms.len(), "arm"),
            counted(self.of.questions.len(), "question"),
            counted(sum(|row| row.of), "run"),
            sum(|row| row.ended),
            sum(|row| row.succeeded),
        )
    }

    fn differences_told(&self) -> Vec<String> {
        let pairs = compared(self.of.arms.len());
        if pairs.is_empty() {
            return Vec::new();
        }
        let few =
            if self.of.arms.len() > HANDFUL { " Of so many arms each is set beside the first alone." } else { "" };
        let head = format!(
            "Differences, question by question; fewer than {ENOUGH} questions that both have are too few to tell. By chance alone \
             about 1 in 20 seems to differ.{few}"
        );
        std::iter::once(head).chain(pairs.into_iter().map(|(a, b)| self.pair_told(a, b))).collect()
    }

    fn pair_told(&self, a: usize, b: usize) -> String {
        let own: Vec<_> = self.differences.iter().filter(|gap| (gap.a, gap.b) == (a, b)).collect();
        let most = own.iter().map(|gap| gap.pairs).max().unwrap_or_default();
        let verdict = if own.iter().all(|gap| gap.interval.is_none()) {
            format!("too few to tell ({})", counted(most, "question"))
        } else {
            let verdicts = Measure::ALL.map(|measure| verdict(&own, measure));
            verdicts.join("; ")
        };
        format!("{} beside {}: {verdict}", arm_key(b), arm_key(a))
    }
}

fn verdict(of_pair: &[&Difference], measure: Measure) -> String {
    let known = of_pair.iter().find(|gap| gap.measure == measure);
    known.map_or_else(|| format!("nothing known in {}", measure.matter()), |gap| gap.verdict())
}

fn legend() -> String {
    format!(
        "Means: time, cost and tokens of runs that ended, the rest of those that succeeded. [low, high] is a bootstrap interval \
         of 95 %, of {ENOUGH} values or more."
    )
}

pub(super) fn question(number: usize, text: &str) -> String {
    let (chars, shown) = (text.chars().count(), line(text, QUESTION));
    let whole = if chars > QUESTION { format!(" ({chars} characters)") } else { String::new() };
    format!("{} = {shown}{whole}", question_key(number))
}

fn told(row: &Row) -> String {
    let mean = |measure, mean: Option<Mean>| mean.map_or("-".to_owned(), |mean| self::mean(measure, mean));
    let unpriced = if row.unpriced > 0 { format!(" ({} unpriced)", row.unpriced) } else { String::new() };
    [
        arm_key(row.arm),
        row.question.map_or("all".to_owned(), question_key),
        format!("{}/{}/{}", row.succeeded, row.ended, row.of),
        mean(Measure::Took, row.took_s),
        mean(Measure::Cost, row.cost_usd) + &unpriced,
        mean(Measure::Tokens, row.tokens),
        mean(Measure::AnswerChars, row.answer_chars),
        row.agreement.map_or("-".to_owned(), agreement),
        winners(&row.winners),
        row.margin.map_or("-".to_owned(), |margin| spread(margin, percent)),
    ]
    .join(" | ")
}

fn mean(measure: Measure, mean: Mean) -> String {
    spread(mean, |value| plainly(measure, value))
}

fn spread(mean: Mean, show: impl Fn(f64) -> String) -> String {
    let interval = mean.interval.map(|(low, high)| format!(" [{}, {}]", show(low), show(high)));
    show(mean.mean) + &interval.unwrap_or_default()
}

fn agreement(agreement: Agreement) -> String {
    let (same, alike) = (percent(agreement.same), percent(agreement.similarity));
    format!("{same} the same, {alike} alike, of {}", counted(agreement.pairs, "pair"))
}

fn winners(winners: &[Winner]) -> String {
    let name = |winner: &Winner| {
        let model = winner.model.as_ref().map(|model| format!(" ({})", line(model, WINNER)));
        format!("{}{} {}", line(&winner.agent, WINNER), model.unwrap_or_default(), percent(winner.share))
    };
    let mut told: Vec<String> = winners.iter().take(WINNERS).map(name).collect();
    if winners.len() > WINNERS {
        told.push(format!("{} more", winners.len() - WINNERS));
    }
    if told.is_empty() { "-".to_owned() } else { told.join(", ") }
}

/// The short name of an arm, by its place.
pub fn arm_key(arm: usize) -> String {
    format!("a{}", arm.saturating_add(1))
}

/// The short name of a question, by its place.
pub(super) fn question_key(question: usize) -> String {
    format!("q{}", question.saturating_add(1))
}

/// One line of at most `most` characters that ends no cell of a table: blanks and control characters are one blank.
pub(super) fn line(text: &str, most: usize) -> String {
    let parts = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|part| !part.is_empty());
    let folded = parts.collect::<Vec<_>>().join(" ").replace('|', "/");
    match folded.char_indices().nth(most) {
        None => folded,
        Some(_) => folded.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// "1 question", "2 questions".
pub(super) fn counted(count: usize, of: &str) -> String {
    format!("{count} {of}{}", if count == 1 { "" } else { "s" })
}

/// With its unit.
pub(super) fn amount(measure: Measure, value: f64) -> String {
    let unit = match measure {
        Measure::Succeeded => " points",
        Measure::Took => " s",
        Measure::Cost => "",
        Measure::Tokens => " tokens",
        Measure::AnswerChars => " characters",
    };
    plainly(measure, value) + unit
}

/// Without a unit but for the sign of dollars; a share in hundredths.
pub(super) fn plainly(measure: Measure, value: f64) -> String {
    match measure {
        Measure::Succeeded => fixed(value * 100.0, 0),
        Measure::Took => fixed(value, 1),
        Measure::Cost => dollars(value),
        Measure::Tokens | Measure::AnswerChars => fixed(value, 0),
    }
}

pub(super) fn percent(share: f64) -> String {
    fixed(share * 100.0, 0) + " %"
}

/// Nothing is shown as less than nothing.
fn fixed(value: f64, places: usize) -> String {
    let shown = format!("{value:.places$}");
    let is_zero = shown.chars().all(|c| matches!(c, '-' | '0' | '.'));
    if is_zero { shown.trim_start_matches('-').to_owned() } else { shown }
}

/// Four digits that count, and no more than a millionth of a dollar's thousandth.
fn dollars(value: f64) -> String {
    let exponent = format!("{:.3e}", value.abs());
    let exponent: i32 = exponent.split_once('e').and_then(|(_, digits)| digits.parse().ok()).unwrap_or_default();
    let places = usize::try_from(3 - exponent).unwrap_or_default().min(9);
    let shown = fixed(value.abs(), if value == 0.0 { 2 } else { places });
    format!("{}${shown}", if value < 0.0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_count() {
        for (value, wanted) in [
            (0.0, "$0.00"),
            (-0.0, "$0.00"),
            (0.0123, "$0.01230"),
            (0.000_012_345, "$0.00001234"),
            (9.999_96, "$10.00"),
            (123_456.7, "$123457"),
            (-1.5, "-$1.500"),
            (1e-12, "$0.000000000"),
        ] {
            assert_eq!(dollars(value), wanted, "{value}");
        }
        let shown = [fixed(-0.04, 1), fixed(-0.06, 1), fixed(12.34, 1), percent(1.0 / 3.0)];
        assert_eq!(shown, ["0.0", "-0.1", "12.3", "33 %"]);
    }

    #[test]
    fn a_name_stays_in_its_line_and_cell() {
        assert_eq!(line(" a\n\tb\u{1b}|c ", 9), "a b /c");
        assert_eq!(line("żółwie", 4), "żół…");
    }

    #[test]
    fn few_of_many_winners_are_named() {
        let winner = |n: usize| Winner { agent: format!("agent{n}"), model: Some("m".to_owned()), share: 0.2 };
        let all: Vec<_> = (1..=5).map(winner).collect();
        assert_eq!(winners(&all[..1]), "agent1 (m) 20 %");
        assert!(winners(&all).ends_with("agent4 (m) 20 %, 1 more"));
        assert_eq!(winners(&[]), "-");
    }
}
