//! A run for a terminal: its view, its summary in one line, and the exit code of its outcome.

use super::next_steps::person_words;
use crate::clock;
use crate::fleet::Fleet;
use crate::run::{Outcome, RunRecord, RunState};
use crate::view::{self, Detail, RunView};

/// The same view of a run that agents get.
pub(super) fn view_of(fleet: &Fleet, record: &RunRecord, detail: Detail) -> RunView {
    let queue = (record.state == RunState::Queued).then(|| fleet.queue_position(&record.spec.id)).flatten();
    let folder = fleet.state().run_folder(&record.spec.id);
    let messages = fleet.pending_messages(&record.spec.id);
    let (children, built_on_by) = (&folder.child_runs(), &folder.dependents());
    let models = &fleet.awaited_models(record);
    let context = view::RunExtras {
        folder: folder.path(),
        children,
        dependents: built_on_by,
        queue_position: queue,
        pending_messages: messages,
        awaited_models: models,
        wording: person_words,
    };
    view::run_view(record, &context, detail, &clock::now()).with_group(record)
}

/// The exit code for an outcome, distinct from those that shells and `clap` use.
pub(super) fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed(_) => 3,
        Outcome::TimedOut { .. } => 4,
        Outcome::OverBudget => 5,
        Outcome::Killed { .. } => 6,
        Outcome::Lost => 7,
    }
}

/// The summary of a run in one line.
pub(super) fn summary_line(run: &RunView) -> String {
    let agents: Vec<_> = run.agents.iter().map(|(id, state)| format!("{id} {state}")).collect();
    let votes: Vec<_> = run.votes.iter().map(|(label, count)| format!("{label} {count}")).collect();
    let answer = run.answer_chars.map(|chars| {
        let suffix = if run.partial == Some(true) { " (partial)" } else { "" };
        format!("answer of {}{suffix}, {chars} characters", run.answer_agent().unwrap_or("?"))
    });
    let parts = [
        run.queue.clone(),
        run.phase.clone(),
        answer,
        (!agents.is_empty() && !run.has_ended()).then(|| agents.join(", ")),
        (!votes.is_empty() && !run.has_ended()).then(|| format!("votes: {}", votes.join(", "))),
        cost_text(run),
        run.budget.clone(),
        run.problem.as_ref().map(|problem| format!("{}: {}", problem.code, problem.message)),
        run.warning.as_ref().map(|warning| format!("{}: {}", warning.code, warning.message)),
    ];
    let present: Vec<_> = parts.into_iter().flatten().collect();
    format!("{}  {:<11}  {:>5} s  {}", run.run_id, run.state, run.elapsed_s, present.join("; ")).trim_end().to_owned()
}

/// The cost and tokens of a run, if either is known.
pub(super) fn cost_text(run: &RunView) -> Option<String> {
    let usd = match (run.cost_usd, run.cost_unknown) {
        (Some(usd), Some(true)) => Some(format!("more than ${usd:.4}")),
        (Some(usd), _) => Some(format!("${usd:.4}")),
        (None, Some(true)) => Some("cost unknown".to_owned()),
        (None, _) => None,
    };
    let tokens = run.tokens.map(|tokens| format!("{tokens} tokens"));
    let parts: Vec<_> = usd.into_iter().chain(tokens).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
