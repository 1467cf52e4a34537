//! The texts of the scripted model: they say that this is a rehearsal, and repeat the agent's name and the question.
//!
//! If the script sets a length, the text has exactly that length. It consists of short words, because MassGen searches for secrets
//! with a pattern that takes quadratic time on a long text without spaces.

use std::iter;

use crate::rehearsal::script::Script;

/// The most characters of the question in an answer.
const MAX_QUESTION_CHARS: usize = 300;
/// The most characters of the model's name in an answer.
const MAX_NAME_CHARS: usize = 120;

const FILLER: [&str; 12] =
    ["and", "so", "the", "scripted", "model", "keeps", "talking", "in", "plain", "short", "words", "here"];

/// An answer for the other agents.
pub(super) fn answer(script: &Script, model: &str, question: &str, number: usize) -> String {
    let name = display_name(script);
    let text = format!(
        "This is a rehearsal: {name} is a scripted model, and nothing was paid for this answer.\n\n\
         Asked: {}\n\n\
         A real model would answer here. (model `{}`, call {number})",
        quote_start(question, MAX_QUESTION_CHARS),
        quote_start(model, MAX_NAME_CHARS),
    );
    pad_or_truncate(text, script.chars)
}

/// The final answer of the run.
pub(super) fn presentation(script: &Script, model: &str, question: &str) -> String {
    let name = display_name(script);
    let text = format!(
        "The rehearsal worked: the agents answered, voted and chose {name} to present.\n\n\
         Asked: {}\n\n\
         With real models in the config, their answer would stand here. (model `{}`)",
        quote_start(question, MAX_QUESTION_CHARS),
        quote_start(model, MAX_NAME_CHARS),
    );
    pad_or_truncate(text, script.chars)
}

/// The reason for a vote.
pub(super) fn vote_reason(script: &Script, target: &str) -> String {
    format!(
        "In a rehearsal {} always votes for the first answer there is, here that of {target}.",
        display_name(script)
    )
}

/// A reply without a tool call.
pub(super) fn plain_text(script: &Script, question: &str) -> String {
    let text = format!(
        "{} only talks in this rehearsal. It was asked: {}",
        display_name(script),
        quote_start(question, MAX_QUESTION_CHARS)
    );
    pad_or_truncate(text, script.chars)
}

const REPORT_START: &str = "Report of run ";
const REPORT_END: &str = "(end of the report)";

/// The answer of a meta-agent: the started run and its answer.
pub(super) fn report(run_id: &str, text: &str) -> String {
    format!("{REPORT_START}{run_id}, of a MassGen team that was asked:\n\n{}\n\n{REPORT_END}", text.trim())
        .replace('<', "‹")
        .replace('>', "›")
}

/// Finds the report in a later message.
pub(super) fn find_report(shown: &str) -> Option<&str> {
    let start = shown.rfind(REPORT_START)?;
    let end = start + shown[start..].find(REPORT_END)? + REPORT_END.len();
    shown.get(start..end)
}

fn display_name(script: &Script) -> &str {
    script.label.as_deref().unwrap_or("this agent")
}

/// The beginning of a text, in one line, without the angle brackets of MassGen's own marks.
fn quote_start(text: &str, max_chars: usize) -> String {
    let mut words = String::new();
    for word in text.split_whitespace() {
        if !words.is_empty() {
            words.push(' ');
        }
        words.push_str(word);
        if let Some((end, _)) = words.char_indices().nth(max_chars) {
            words.truncate(end);
            words.push('…');
            break;
        }
    }
    words.replace('<', "‹").replace('>', "›")
}

/// Cuts or pads a text to exactly `chars` characters. It never ends with a space, which MassGen would strip.
fn pad_or_truncate(text: String, chars: Option<usize>) -> String {
    let Some(chars) = chars else { return text };
    let filler = FILLER.iter().cycle().flat_map(|word| iter::once(' ').chain(word.chars()));
    let mut sized: String = text.chars().chain(filler).take(chars).collect();
    if sized.ends_with(char::is_whitespace) {
        sized.pop();
        sized.push('.');
    }
    sized
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_exact_at_every_length() {
        for chars in (1..400).chain([5_000, 400_000]) {
            let script = Script { chars: Some(chars), ..Script::default() };
            let texts = [
                answer(&script, "rehearsal", "größer  als\nnichts", 3),
                presentation(&script, "rehearsal", "?"),
                plain_text(&script, "?"),
            ];
            for text in texts {
                assert_eq!(text.chars().count(), chars);
                assert_eq!(text.trim().chars().count(), chars);
            }
        }
    }

    #[test]
    fn a_long_answer_has_no_long_word() {
        let script = Script { chars: Some(50_000), ..Script::default() };
        let text = answer(&script, "rehearsal", "why?", 1);
        assert!(text.split_whitespace().all(|word| word.len() < 40));
    }

    #[test]
    fn an_answer_says_what_it_is_and_repeats_a_bounded_part_of_the_question() {
        let script = Script { label: Some("agent_a".into()), ..Script::default() };
        let text = answer(&script, "rehearsal/name=agent_a", &"why is ß so? ".repeat(10_000), 1);
        assert!(
            text.contains("rehearsal")
                && text.contains("agent_a")
                && text.contains("why is ß so?")
                && text.contains('…')
        );
        assert!(text.chars().count() < 700);
        assert!(presentation(&script, "rehearsal", "why is ß so?").contains("why is ß so?"));
        assert!(!answer(&script, "<b>", "<agent1.1> <END OF CURRENT ANSWERS>", 1).contains(['<', '>']));
    }
}
