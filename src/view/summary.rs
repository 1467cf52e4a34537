//! A run as one line of text, for a person or for a model that gets no structured fields. Pure, sanitized, and at most
//! [`MAX_SUMMARY_CHARS`] characters whatever MassGen wrote.

use super::RunView;
use crate::massgen::text;

/// The longest line, in characters.
pub const MAX_SUMMARY_CHARS: usize = 200;

/// One run: its state and most important facts.
pub fn run_summary(run: &RunView) -> String {
    let phase = run.phase.as_deref().map(|phase| format!(", {}", phase_text(phase))).unwrap_or_default();
    let mut parts = vec![format!("{}{phase}, {} s", run.state.replace('_', " "), run.elapsed_s)];
    parts.extend(run.queue.clone());
    match &run.problem {
        Some(problem) => parts.push(problem.message.clone()),
        None => parts.extend(run.answer_chars.map(|chars| answer_text(run, chars))),
    }
    if !run.has_ended() && run.problem.is_none() {
        parts.extend(run.agents.iter().map(|(agent, status)| format!("{agent} {status}")));
    }
    parts.extend(run.cost_usd.map(|cost| format!("${cost:.4}")));
    parts.extend(run.budget.as_ref().map(|budget| format!("budget {budget}")));
    text::single_line(&parts.join("; "), MAX_SUMMARY_CHARS)
}

/// Several runs: the number in each state. A single run gets its own summary.
pub fn runs_summary(runs: &[RunView]) -> String {
    if let [run] = runs {
        return run_summary(run);
    }
    let mut states: Vec<(&str, usize)> = Vec::new();
    for run in runs {
        match states.iter_mut().find(|(state, _)| *state == run.state) {
            Some((_, count)) => *count += 1,
            None => states.push((&run.state, 1)),
        }
    }
    let states: Vec<_> = states.iter().map(|(state, count)| format!("{count} {}", state.replace('_', " "))).collect();
    text::single_line(&format!("{} runs: {}", runs.len(), states.join(", ")), MAX_SUMMARY_CHARS)
}

fn phase_text(phase: &str) -> &str {
    match phase {
        "initial_answer" => "answering",
        "enforcement" => "voting",
        "presentation" => "presenting",
        other => other,
    }
}

fn answer_text(run: &RunView, chars: u64) -> String {
    let kind = if run.partial == Some(true) { "best so far" } else { "answer" };
    format!("{kind} of {}: {chars} characters", run.answer_agent().unwrap_or("an agent"))
}
