//! The first lines of a report: the outcome of the run, the request, its lineage, the winner and the totals.

use super::{Draft, dollars_text, pluralize, seconds_text};
use crate::massgen::text;
use crate::run::{ConfigChoice, Ending, Exit, Mode, Moment, Outcome, Problem, RunId, RunState, Warning};

/// The longest problem, in characters: its message may be MassGen's.
const MAX_PROBLEM_CHARS: usize = 400;
/// The longest name of a config, in characters.
const MAX_CONFIG_CHARS: usize = 120;

impl Draft<'_> {
    pub(super) fn heading(&self) -> Vec<String> {
        let state = state_text(&self.record.state);
        let first = format!("Run {}: {state} [./run.json]", self.record.spec.id);
        let lineage = [self.lineage_line(), self.dependents_line()];
        let optional = self.warnings().chain([self.problem(), Some(self.request_line())]).chain(lineage);
        let facts = [self.reading_note(), self.winner_line(), self.totals_line(), self.unattributed_line()];
        std::iter::once(first).chain(optional.chain(facts).flatten()).collect()
    }

    fn problem(&self) -> Option<String> {
        let problem = self.record.state.ending()?.outcome.problem()?;
        let Problem { code, message, next, .. } = problem;
        let hint = (self.wording)(next);
        Some(format!("Problem: {}", text::single_line(&format!("{code}: {message} ({hint})"), MAX_PROBLEM_CHARS)))
    }

    fn warnings(&self) -> impl Iterator<Item = Option<String>> {
        let warnings = self.record.state.ending().into_iter().flat_map(|ending| &ending.warnings);
        warnings.map(|Warning { code, message, next }| {
            let hint = (self.wording)(next);
            Some(format!("Warning: {}", text::single_line(&format!("{code}: {message} ({hint})"), MAX_PROBLEM_CHARS)))
        })
    }

    fn request_line(&self) -> String {
        let spec = &self.record.spec;
        let config = match &spec.config {
            ConfigChoice::File(path) => path.display().to_string(),
            ConfigChoice::Rehearsal(name) => name.clone(),
        };
        let config = text::single_line(&config, MAX_CONFIG_CHARS);
        let mode = match spec.mode {
            Mode::Full => "full",
            Mode::Quick => "quick",
        };
        let question = self.quote(&text::single_line(&spec.question, 400));
        format!("Asked: \"{question}\" of config {config}, mode {mode} [./spec.json]")
    }

    fn lineage_line(&self) -> Option<String> {
        let spec = &self.record.spec;
        let parent = spec.lineage.parent.as_ref();
        let parent = parent.map(|parent| format!("started by an agent of {parent}, depth {}", spec.lineage.depth));
        let continuation = spec
            .continuation
            .as_ref()
            .map(|continuation| format!("goes on with {}, turn {}", continuation.run, continuation.turn));
        let basis = spec.basis.as_ref().map(|from| {
            let answer = from.answer.as_deref().unwrap_or("the answer");
            format!("builds on {} of {} in {}", text::safe_name(answer), text::safe_name(&from.agent), from.run)
        });
        let parts: Vec<String> = parent.into_iter().chain(continuation).chain(basis).collect();
        (!parts.is_empty()).then(|| format!("Lineage: {} [./spec.json]", parts.join("; ")))
    }

    fn dependents_line(&self) -> Option<String> {
        let shown: Vec<&str> = self.dependents.iter().take(self.max_entries).map(RunId::as_str).collect();
        let rest = self.dependents.len() - shown.len();
        let rest = if rest > 0 { format!(" and {rest} more") } else { String::new() };
        (!shown.is_empty()).then(|| format!("Built on by: {}{rest} [./built_on]", shown.join(", ")))
    }

    fn reading_note(&self) -> Option<String> {
        let attempt = &self.timeline.attempt;
        let start = self.timeline.start.and_then(|start| jiff::Timestamp::from_second(start as i64).ok());
        let start = start.map(|start| format!(" ({start})")).unwrap_or_default();
        let attempt_folder = text::safe_name(&attempt.display().to_string());
        let files = format!("Files [in brackets] are in {attempt_folder}, those with ./ in the run's folder.");
        let times = format!("Times are from the start of coordination{start}.");
        (!attempt.as_os_str().is_empty()).then(|| format!("{files} {times}"))
    }

    fn winner_line(&self) -> Option<String> {
        let presentation = self.timeline.presentation.as_ref()?;
        let counted = self.timeline.votes.iter().filter(|vote| vote.counted);
        let (own, all) =
            counted.fold((0, 0), |(own, all), vote| (own + usize::from(vote.agent == presentation.agent), all + 1));
        let tie = if presentation.is_tie { ", after a tie" } else { "" };
        let (from, to) = (seconds_text(presentation.start), seconds_text(presentation.end));
        let source = self.file_name_text(&presentation.source);
        Some(format!(
            "Winner: {} with {own} of {all} votes{tie}; presented from {from} to {to} [{source}]",
            presentation.agent
        ))
    }

    /// The totals of all agents. Time that is neither a model's nor a tool's is MassGen's own.
    fn totals_line(&self) -> Option<String> {
        let agents = &self.timeline.agents;
        let source = self.file_name_text(&agents.first()?.source);
        let input: u64 = agents.iter().map(|agent| agent.input_tokens).sum();
        let output: u64 = agents.iter().map(|agent| agent.output_tokens).sum();
        let cost = agents.iter().filter_map(|agent| agent.cost_usd).reduce(|a, b| a + b);
        let cost = cost.map_or(", cost unknown".to_owned(), |cost| dollars_text(Some(cost)));
        let descendants = self.record.spent_by_descendants.known_usd().filter(|usd| usd.0 > 0);
        let descendants = descendants.map(|usd| format!(" (runs below it: {usd})")).unwrap_or_default();
        let rounds: f64 = self.timeline.rounds.iter().map(|round| round.end - round.start).sum();
        let tools: f64 = self.timeline.tools.iter().filter_map(|call| call.duration_s).sum();
        let parts = self.timeline.model_waits.as_ref().map(|model| {
            let other = (rounds - model.waited_s - tools).max(0.0);
            format!(
                ": models {}, tools {}, neither {}",
                seconds_text(model.waited_s),
                seconds_text(tools),
                seconds_text(other)
            )
        });
        let parts = parts.unwrap_or_default();
        let took = format!("rounds of all agents {}{parts}", seconds_text(rounds));
        Some(format!("Totals: {input}+{output} tokens (in+out){cost}{descendants}; {took} [{source}]"))
    }

    /// The time outside of coordination: MassGen's start, and the time after its last recorded event.
    fn unattributed_line(&self) -> Option<String> {
        let seconds_of = |at: &Moment| at.wall.as_microsecond() as f64 / 1e6;
        let start = self.timeline.start?;
        let before = start - self.record.started.as_ref().map(seconds_of)?;
        let after = self.record.state.ending().map(|ending| seconds_of(&ending.ended_at) - start - self.timeline.end);
        let after = after.filter(|after| *after >= 0.0);
        let after = after.map(|after| format!(", {} from the last event to its end", seconds_text(after)));
        let start_text = format!("Around it: {} from the run's start to coordination", seconds_text(before));
        (before >= 0.0).then(|| format!("{start_text}{} [./run.json]", after.unwrap_or_default()))
    }
}

fn state_text(state: &RunState) -> String {
    match state {
        RunState::Queued => "queued, it waits for a free slot".to_owned(),
        RunState::Starting { .. } => "starting".to_owned(),
        RunState::Running { .. } => "running; this is what there is by now".to_owned(),
        RunState::Stopping { .. } => "stopping".to_owned(),
        RunState::Ended(ending) => ending_text(ending),
        RunState::Unknown(word) => text::single_line(word, 40),
    }
}

fn ending_text(ending: &Ending) -> String {
    let outcome = match &ending.outcome {
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Failed(_) => "failed".to_owned(),
        Outcome::TimedOut { ours: true, .. } => "timed_out by its deadline".to_owned(),
        Outcome::TimedOut { ours: false, .. } => "timed_out by MassGen's own clock".to_owned(),
        Outcome::OverBudget => "over_budget".to_owned(),
        Outcome::Killed { reason: Some(reason), .. } => format!("killed ({})", text::single_line(reason, 100)),
        Outcome::Killed { reason: None, .. } => "killed".to_owned(),
        Outcome::Lost => "lost, its supervisor died".to_owned(),
    };
    let exit = match ending.exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NeverStarted => "MassGen never ran".to_owned(),
        Exit::Unknown => "its end was not observed".to_owned(),
    };
    let answer = ending.answer.as_ref().map(|answer| {
        let chars = pluralize(answer.chars, "character");
        format!(", answer of {} with {chars}", answer.agent)
    });
    let partial = if ending.outcome == Outcome::Succeeded { "" } else { " (partial)" };
    let answer = answer.map(|answer| answer + partial).unwrap_or_default();
    format!("{outcome} after {}, {exit}{answer}", seconds_text(ending.duration.as_secs_f64()))
}
