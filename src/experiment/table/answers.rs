//! The final answers of a group: all arms by question, short ones in the table, and the agreement between arms. Each line of an
//! answer is indented, so that no answer looks like a heading; a cut answer says where the whole answer is.

use super::numbers::{arm_key, cell_text, percent, pluralize, question_key};
use super::text::{MAX_NAME_CHARS, question_line};
use super::{Agreement, ArmAgreement, ComparisonTable, Trial};

/// The most characters of an answer in the table.
const MAX_SHORT_ANSWER_CHARS: usize = 120;
/// The table contains the answers only up to this number of runs.
const MAX_RUNS_WITH_ANSWERS: usize = 20;
/// The most characters of an answer in the list of answers.
const MAX_ANSWER_CHARS: usize = 2_000;
/// The most questions for which the agreement of a pair of arms is shown one by one.
const MAX_QUESTIONS: usize = 20;

const AGREEMENT_HEADING: &str = "Agreement between arms, as texts: the same but for case, blanks and punctuation at the ends, or the share of word pairs \
     that both have. Whether other words mean the same is for the reader to say.";

impl ComparisonTable {
    /// The final answers: each question with the answers of all arms and their agreement.
    pub fn answers(&self) -> String {
        let comparison = &self.comparison;
        let mut lines =
            vec![format!("Group {}: the final answers, by question.", cell_text(&comparison.group, MAX_NAME_CHARS))];
        lines.extend(
            comparison
                .arms
                .iter()
                .enumerate()
                .map(|(n, arm)| format!("{} = {}", arm_key(n), cell_text(arm, MAX_NAME_CHARS))),
        );
        for (n, text) in comparison.questions.iter().enumerate() {
            lines.extend([String::new(), question_line(n, text)]);
            let agreements = self.arm_agreements.iter().filter(|pair| pair.question == n);
            lines.extend(
                agreements.map(|pair| format!("{}: {}", pair_key(pair.a, pair.b), agreement_text(pair.agreement))),
            );
            let mut trials: Vec<&Trial> = comparison.trials.iter().filter(|trial| trial.question == n).collect();
            trials.sort_by_key(|trial| (trial.repeat, trial.arm));
            lines.extend(trials.into_iter().flat_map(|trial| self.answer_lines(trial)));
        }
        lines.join("\n") + "\n"
    }

    /// A heading and the lines of an answer.
    fn answer_lines(&self, trial: &Trial) -> Vec<String> {
        let Some(answer) = trial.final_answer() else {
            let partial = trial.partial_by.as_ref();
            let partial = partial.map(|agent| format!("; its best so far is of {}", cell_text(agent, MAX_NAME_CHARS)));
            return vec![format!(
                "{} {}: {}, no final answer{}",
                self.trial_key(trial),
                trial.run,
                cell_text(&trial.state, MAX_NAME_CHARS),
                partial.unwrap_or_default()
            )];
        };
        let author = trial
            .winner
            .as_ref()
            .map(|winner| format!(" by {}", cell_text(winner, MAX_NAME_CHARS)))
            .unwrap_or_default();
        let mut lines = vec![format!("{} {}{author}:", self.trial_key(trial), trial.run)];
        let end = answer.char_indices().nth(MAX_ANSWER_CHARS).map_or(answer.len(), |(end, _)| end);
        lines.extend(answer[..end].lines().map(|line| format!("    {line}")));
        if end < answer.len() {
            let chars = answer.chars().count();
            lines.push(format!(
                "(cut at {MAX_ANSWER_CHARS} of {chars} characters: the answer of {} has all)",
                trial.run
            ));
        }
        lines
    }

    /// Each answer in one line; empty for a large group.
    pub(super) fn short_answer_lines(&self) -> Vec<String> {
        let answered = || self.comparison.trials.iter().filter_map(|trial| Some((trial, trial.final_answer()?)));
        if self.comparison.trials.len() > MAX_RUNS_WITH_ANSWERS || answered().next().is_none() {
            return Vec::new();
        }
        let mut answered: Vec<_> = answered().collect();
        answered.sort_by_key(|(trial, _)| (trial.question, trial.repeat, trial.arm));
        let short = |(trial, answer): (&Trial, &str)| {
            format!(
                "{} {}: {}",
                question_key(trial.question),
                self.trial_key(trial),
                cell_text(answer, MAX_SHORT_ANSWER_CHARS)
            )
        };
        let heading =
            format!("Answers, the first {MAX_SHORT_ANSWER_CHARS} characters of each (part answers has more):");
        std::iter::once(heading).chain(answered.into_iter().map(short)).collect()
    }

    /// One line for each pair of arms that answered the same question.
    pub(super) fn agreement_lines(&self) -> Vec<String> {
        if self.arm_agreements.is_empty() {
            return Vec::new();
        }
        let pairs = self.arm_agreements.chunk_by(|one, next| (one.a, one.b) == (next.a, next.b));
        std::iter::once(AGREEMENT_HEADING.to_owned()).chain(pairs.map(pair_agreement_line)).collect()
    }

    /// The key of the arm and, if there are repeats, the number of the repeat.
    fn trial_key(&self, trial: &Trial) -> String {
        let is_repeated = self.comparison.trials.iter().any(|other| other.repeat > 1);
        let repeat = if is_repeated { format!(" #{}", trial.repeat) } else { String::new() };
        arm_key(trial.arm) + &repeat
    }
}

fn pair_agreement_line(agreements: &[ArmAgreement]) -> String {
    let same = agreements.iter().filter(|pair| pair.agreement.same == 1.0).count();
    let mut questions: Vec<String> = agreements
        .iter()
        .take(MAX_QUESTIONS)
        .map(|pair| format!("{} {}", question_key(pair.question), agreement_text(pair.agreement)))
        .collect();
    if agreements.len() > MAX_QUESTIONS {
        questions.push(format!("{} more", agreements.len() - MAX_QUESTIONS));
    }
    let question_count = pluralize(agreements.len(), "question");
    format!(
        "{}: the same on {same} of {question_count} ({})",
        pair_key(agreements[0].a, agreements[0].b),
        questions.join(", ")
    )
}

fn pair_key(a: usize, b: usize) -> String {
    format!("{} and {}", arm_key(a), arm_key(b))
}

fn agreement_text(agreement: Agreement) -> String {
    let alike = || format!("{} alike", percent(agreement.similarity));
    if agreement.same == 1.0 {
        "the same".to_owned()
    } else if agreement.same == 0.0 {
        alike()
    } else {
        format!("{} the same, {}", percent(agreement.same), alike())
    }
}
