//! A run in words: one line for a person, or for a model that is shown no fields. Pure, harmless, and at most
//! [`MOST_WORDS`] characters whatever MassGen wrote.

use super::RunView;
use crate::massgen::text;

/// The longest line, in characters.
pub const MOST_WORDS: usize = 200;

/// One run: its state and what matters in it.
pub fn of_run(run: &RunView) -> String {
    let phase = run.phase.as_deref().map(|phase| format!(", {}", phase_words(phase))).unwrap_or_default();
    let mut parts = vec![format!("{}{phase}, {} s", run.state.replace('_', " "), run.elapsed_s)];
    parts.extend(run.queue.clone());
    match &run.problem {
        Some(problem) => parts.push(problem.message.clone()),
        None => parts.extend(run.answer_chars.map(|chars| answer(run, chars))),
    }
    if !run.is_over() && run.problem.is_none() {
        parts.extend(run.agents.iter().map(|(agent, doing)| format!("{agent} {doing}")));
    }
    parts.extend(run.cost_usd.map(|cost| format!("${cost:.4}")));
    parts.extend(run.budget.as_ref().map(|budget| format!("budget {budget}")));
    text::line(&parts.join("; "), MOST_WORDS)
}

/// Several runs: how many are in each state; one alone as it is.
pub fn of_runs(runs: &[RunView]) -> String {
    if let [run] = runs {
        return of_run(run);
    }
    let mut states: Vec<(&str, usize)> = Vec::new();
    for run in runs {
        match states.iter_mut().find(|(state, _)| *state == run.state) {
            Some((_, count)) => *count += 1,
            None => states.push((&run.state, 1)),
        }
    }
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {}", state.replace('_', " "))).collect();
    text::line(&format!("{} runs: {}", runs.len(), states.join(", ")), MOST_WORDS)
}

fn phase_words(phase: &str) -> &str {
    match phase {
        "initial_answer" => "answering",
        "enforcement" => "voting",
        "presentation" => "presenting",
        other => other,
    }
}

fn answer(run: &RunView, chars: u64) -> String {
    let kind = if run.partial == Some(true) { "best so far" } else { "answer" };
    format!("{kind} of {}: {chars} characters, see read_result", run.answered_by().unwrap_or("an agent"))
}
