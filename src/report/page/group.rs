//! The page of a group: the comparison of its arms, in tables and drawings. It says if there are too few values for a result.

use std::time::Duration;

use maud::{Markup, html};

use super::format::{self, name_markup, or_dash, short_name};
use super::plots::{COST_METRIC, TIME_METRIC, TOKENS_METRIC, scatter_plot, strip_plot};
use super::{fact, html_page, preformatted, section, table};
use crate::experiment::table::{Agreement, ComparisonRow, ComparisonTable, Difference, Mean, Measure, Winner, arm_key};

/// The longest name of an arm, in characters: variants of one config differ at the end of their names.
const MAX_ARM_CHARS: usize = 200;
/// The longest question, in characters, and the most questions.
const MAX_QUESTION_CHARS: usize = 2_000;
const MAX_QUESTIONS: usize = 100;
/// The most winners that a row names.
const MAX_WINNERS: usize = 5;
/// The text in place of an interval with too few values.
const TOO_FEW: &str = "too few to tell";

/// The page of a group. With `refresh`, the browser reloads it at that interval.
pub fn group_page(table: &ComparisonTable, refresh: Option<Duration>) -> String {
    let comparison = &table.comparison;
    let body = html! {
        (head(table, refresh))
        (section("arms", "Arms, over all questions", rows(table, &table.arms)))
        (section("plane", "Cost against time", scatter_plot(comparison)))
        (section("spread", "Each run", html! {
            p class="note" { "Every mark is a run; one that is not filled did not succeed. Where an arm has four or more, a box reaches from quartile to quartile, with the median in it." }
            (strip_plot(comparison, &TIME_METRIC)) (strip_plot(comparison, &COST_METRIC)) (strip_plot(comparison, &TOKENS_METRIC))
        }))
        (section("agreement", "Agreement between arms", agreements(table)))
        (section("differences", "Differences between arms", differences(table)))
        (section("rows", "Arms, question by question", rows(table, &table.rows)))
        (section("questions", "Questions", questions(&comparison.questions)))
    };
    html_page(&format!("group {}", short_name(&comparison.group, 60)), refresh, &body)
}

fn head(table: &ComparisonTable, refresh: Option<Duration>) -> Markup {
    let trials = &table.comparison.trials;
    let in_state = |word: &str| trials.iter().filter(|trial| trial.state == word).count();
    let sum: f64 = trials.iter().filter_map(|trial| trial.cost_usd).filter_map(format::drawable).sum();
    let unpriced = trials.iter().filter(|trial| trial.cost_usd.is_none() && trial.took_s.is_some()).count();
    html! {
        header {
            h1 { "Group " (name_markup(&table.comparison.group)) }
            @if let Some(interval) = refresh {
                p class="note" { "Some runs go on. This page is written and read again every " (interval.as_secs().max(1)) " seconds." }
            }
            dl {
                (fact("Runs", Some(html! { (trials.len()) })))
                (fact("Succeeded", Some(html! { (in_state("succeeded")) " of " (trials.len()) })))
                (fact("Not started", (in_state("not_started") > 0).then(|| html! { (in_state("not_started")) })))
                (fact("Arms", Some(html! { (table.comparison.arms.len()) })))
                (fact("Questions", Some(html! { (table.comparison.questions.len()) })))
                (fact("Cost", Some(html! { @if sum == 0.0 && unpriced > 0 { "unknown " } @else { (format::usd(sum)) } @if unpriced > 0 { small { "and " (unpriced) " runs of unknown cost" } } })))
            }
        }
    }
}

fn rows(comparison_table: &ComparisonTable, rows: &[ComparisonRow]) -> Markup {
    if rows.is_empty() {
        return html! { p class="note" { "There is no run yet." } };
    }
    let by_question = rows.iter().any(|row| row.question.is_some());
    let mut columns = vec!["Arm"];
    columns.extend(by_question.then_some("Question"));
    columns.extend(["#Succeeded", "#Time", "#Cost", "#Tokens", "#Characters", "Agreement", "Winners", "#Margin"]);
    table(&columns, rows, |row| {
        html! {
            th scope="row" class="who" { (arm_name(comparison_table, row.arm)) }
            @if by_question { td class="who" { (question_cell(comparison_table, row)) } }
            td class="number" { (row.succeeded) " of " (row.planned) @if row.started < row.planned { small { (row.started) " started" } } }
            td class="number" { (mean_cell(row.took_s, format::seconds)) }
            td class="number" { (mean_cell(row.cost_usd, format::usd)) }
            td class="number" { (mean_cell(row.tokens, format::rounded_count)) }
            td class="number" { (mean_cell(row.answer_chars, format::rounded_count)) }
            td { (agreement_cell(row.agreement)) }
            td class="who" { (winners_cell(&row.winners)) }
            td class="number" { (mean_cell(row.margin, format::percent)) }
        }
    })
}

fn arm_name(comparison_table: &ComparisonTable, arm: usize) -> Markup {
    html! { (arm_key(arm)) @if let Some(label) = comparison_table.comparison.arms.get(arm) { small { bdi { (short_name(label, MAX_ARM_CHARS)) } } } }
}

fn question_cell(comparison_table: &ComparisonTable, row: &ComparisonRow) -> Markup {
    match row.question {
        Some(number) => {
            let text = comparison_table
                .comparison
                .questions
                .get(number)
                .map(|text| short_name(text.trim(), 50))
                .unwrap_or_default();
            html! { (number + 1) small { bdi { (text) } } }
        }
        None => html! { "all" },
    }
}

/// A mean with its interval, or with the reason why it has none.
fn mean_cell(mean: Option<Mean>, format: fn(f64) -> String) -> Markup {
    match mean {
        None => or_dash(None),
        Some(Mean { n, mean, interval }) => html! {
            (format(mean))
            small {
                @match interval {
                    Some((low, high)) => { span class="count" { (format(low)) } " to " span class="count" { (format(high)) } },
                    None => (TOO_FEW),
                }
                " " span class="count" { "(n = " (n) ")" }
            }
        },
    }
}

fn agreement_cell(agreement: Option<Agreement>) -> Markup {
    match agreement {
        None => or_dash(None),
        Some(Agreement { pairs, same, similarity }) => html! {
            (format::percent(same)) " the same"
            small { (format::percent(similarity)) " of words " span class="count" { "(" (pairs) @if pairs == 1 { " pair)" } @else { " pairs)" } } }
        },
    }
}

fn winners_cell(winners: &[Winner]) -> Markup {
    html! {
        @if winners.is_empty() { (or_dash(None)) }
        @for winner in winners.iter().take(MAX_WINNERS) {
            div { (name_markup(&winner.agent)) " " (format::percent(winner.share))
                @if let Some(model) = &winner.model { small { (name_markup(model)) } }
            }
        }
        @if winners.len() > MAX_WINNERS { small { "and " (winners.len() - MAX_WINNERS) " more" } }
    }
}

fn agreements(comparison_table: &ComparisonTable) -> Markup {
    if comparison_table.arm_agreements.is_empty() {
        return html! { p class="note" { "There are no two arms with answers to the same question." } };
    }
    html! {
        p class="note" { "How far the answers to a question are the same text, but for case, blanks and punctuation at the ends, and how many pairs of words they share." }
        (table(&["First", "Second", "#Question", "Agreement"], &comparison_table.arm_agreements, |pair| html! {
            td class="who" { (arm_name(comparison_table, pair.a)) }
            td class="who" { (arm_name(comparison_table, pair.b)) }
            td class="number" { (pair.question + 1) }
            td { (agreement_cell(Some(pair.agreement))) }
        }))
    }
}

fn differences(comparison_table: &ComparisonTable) -> Markup {
    if comparison_table.differences.is_empty() {
        return html! { p class="note" { "There are no two arms with runs on the same question." } };
    }
    html! {
        p class="note" { "On the questions that both have answered: the second arm's mean less the first's, with an interval of 95 %." }
        (table(&["First", "Second", "In", "#Difference", "#Interval", "#Questions", "What that says"], &comparison_table.differences, |difference| html! {
            td class="who" { (arm_name(comparison_table, difference.a)) }
            td class="who" { (arm_name(comparison_table, difference.b)) }
            td { (measure_format(difference.measure).0) }
            td class="number" { (signed_value(difference.mean, difference.measure)) }
            td class="number" {
                @match difference.interval {
                    Some((low, high)) => { (signed_value(low, difference.measure)) " to " (signed_value(high, difference.measure)) },
                    None => (or_dash(None)),
                }
            }
            td class="number" { (difference.pairs) }
            td { (verdict(difference)) }
        }))
    }
}

/// A measure's name and the format of its numbers.
fn measure_format(measure: Measure) -> (&'static str, fn(f64) -> String) {
    match measure {
        Measure::Succeeded => ("runs that succeeded", format::percent),
        Measure::Took => ("time", format::seconds),
        Measure::Cost => ("cost", format::usd),
        Measure::Tokens => ("tokens", format::rounded_count),
        Measure::AnswerChars => ("length of the answer", format::rounded_count),
    }
}

fn signed_value(value: f64, measure: Measure) -> String {
    let sign = if value < 0.0 { "−" } else { "+" };
    let (_, format) = measure_format(measure);
    if value == 0.0 { format(0.0) } else { format!("{sign}{}", format(value.abs())) }
}

/// The verdict on a difference, in words.
fn verdict(difference: &Difference) -> &'static str {
    match difference.interval {
        None => TOO_FEW,
        Some((low, _)) if low > 0.0 => "the second has more",
        Some((_, high)) if high < 0.0 => "the second has less",
        Some(_) => "no difference that shows",
    }
}

fn questions(texts: &[String]) -> Markup {
    html! {
        ol { @for text in texts.iter().take(MAX_QUESTIONS) { li { (preformatted(text, MAX_QUESTION_CHARS, &html! { "the rest is not shown." })) } } }
        (super::truncation_note("questions", texts.len(), MAX_QUESTIONS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::table::{ArmAgreement, Comparison};

    fn difference(interval: Option<(f64, f64)>) -> Difference {
        Difference { a: 0, b: 1, measure: Measure::Cost, pairs: 3, mean: -0.01, interval }
    }

    #[test]
    fn too_few_values_are_reported_in_words() {
        let format = |interval| verdict(&difference(interval));
        assert_eq!(format(None), "too few to tell");
        assert_eq!(format(Some((0.1, 0.2))), "the second has more");
        assert_eq!(format(Some((-0.2, -0.1))), "the second has less");
        assert_eq!(format(Some((-0.1, 0.1))), "no difference that shows");
        let one = mean_cell(Some(Mean { n: 1, mean: 2.0, interval: None }), format::seconds).into_string();
        assert!(one.contains("2.0 s") && one.contains("too few to tell") && one.contains("(n = 1)"), "{one}");
        assert_eq!(
            [0.0, -0.01, 0.5].map(|value| signed_value(value, Measure::Cost)),
            ["$0.0000", "−$0.0100", "+$0.5000"]
        );
    }

    #[test]
    fn an_empty_group_has_a_page_and_no_text_becomes_an_element() {
        assert!(group_page(&ComparisonTable::default(), None).contains("There is no run yet."));
        let bad = "</title><script>x</script>".to_owned();
        let comparison =
            Comparison { group: bad.clone(), arms: vec![bad.clone()], questions: vec![bad.clone()], trials: vec![] };
        let winners = vec![Winner { agent: bad.clone(), model: Some(bad), share: f64::NAN }];
        let row = ComparisonRow { planned: 3, question: Some(9), winners, ..ComparisonRow::default() };
        let table = ComparisonTable {
            comparison,
            rows: vec![row.clone()],
            arms: vec![ComparisonRow { arm: 7, ..row }],
            arm_agreements: vec![ArmAgreement {
                a: 0,
                b: 7,
                question: 9,
                agreement: Agreement { pairs: 1, same: f64::NAN, similarity: 0.5 },
            }],
            differences: vec![difference(None)],
        };
        let page = group_page(&table, None);
        assert!(!page.contains("<script") && !page.contains("NaN") && page.contains("&lt;script&gt;"), "{page}");
        assert!(page.contains("0 of 3") && page.contains("0 started") && page.contains(">a8<"));
    }
}
