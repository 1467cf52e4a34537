//! The first lines of a report: what the run came to, what was asked, whose it is, who won, what it took in all.

use super::{Draft, counted, money, seconds};
use crate::massgen::text;
use crate::run::{ConfigChoice, Ending, Exit, Mode, Moment, Outcome, Problem, RunId, RunState, Warning};

/// The longest problem, in characters: its message is MassGen's at times.
const PROBLEM_CHARS: usize = 400;
/// The longest name of a config, in characters.
const CONFIG_CHARS: usize = 120;

impl Draft<'_> {
    pub(super) fn heading(&self) -> Vec<String> {
        let state = state(&self.record.state);
        let first = format!("Run {}: {state} [./run.json]", self.record.spec.id);
        let lineage = [self.lineage(), self.built_on_by()];
        let optional = self.warnings().chain([self.problem(), Some(self.asked())]).chain(lineage);
        let happened = [self.places(), self.winner(), self.totals(), self.around()];
        std::iter::once(first).chain(optional.chain(happened).flatten()).collect()
    }

    fn problem(&self) -> Option<String> {
        let problem = self.record.state.ended()?.outcome.problem()?;
        let Problem { code, message, hint, .. } = problem;
        Some(format!("Problem: {}", text::line(&format!("{code}: {message} ({hint})"), PROBLEM_CHARS)))
    }

    fn warnings(&self) -> impl Iterator<Item = Option<String>> {
        let all = self.record.state.ended().into_iter().flat_map(|ending| &ending.warnings);
        all.map(|Warning { code, message, hint }| {
            Some(format!("Warning: {}", text::line(&format!("{code}: {message} ({hint})"), PROBLEM_CHARS)))
        })
    }

    fn asked(&self) -> String {
        let spec = &self.record.spec;
        let config = match &spec.config {
            ConfigChoice::File(path) => path.display().to_string(),
            ConfigChoice::Rehearsal(name) => name.clone(),
        };
        let config = text::line(&config, CONFIG_CHARS);
        let mode = match spec.mode {
            Mode::Full => "full",
            Mode::Quick => "quick",
        };
        let question = self.said(&text::line(&spec.question, 400));
        format!("Asked: \"{question}\" of config {config}, mode {mode} [./spec.json]")
    }

    fn lineage(&self) -> Option<String> {
        let spec = &self.record.spec;
        let parent = spec.lineage.parent.as_ref();
        let parent = parent.map(|parent| format!("started by an agent of {parent}, depth {}", spec.lineage.depth));
        let before = spec.continues.as_ref().map(|before| format!("goes on with {}, turn {}", before.run, before.turn));
        let basis = spec.from.as_ref().map(|from| {
            let answer = from.answer.as_deref().unwrap_or("the answer");
            format!("builds on {} of {} in {}", text::name(answer), text::name(&from.agent), from.run)
        });
        let told: Vec<String> = parent.into_iter().chain(before).chain(basis).collect();
        (!told.is_empty()).then(|| format!("Lineage: {} [./spec.json]", told.join("; ")))
    }

    fn built_on_by(&self) -> Option<String> {
        let shown: Vec<&str> = self.built_on_by.iter().take(self.most).map(RunId::as_str).collect();
        let more = self.built_on_by.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!shown.is_empty()).then(|| format!("Built on by: {}{more} [./built_on]", shown.join(", ")))
    }

    fn places(&self) -> Option<String> {
        let attempt = &self.story.attempt;
        let start = self.story.start.and_then(|start| jiff::Timestamp::from_second(start as i64).ok());
        let start = start.map(|start| format!(" ({start})")).unwrap_or_default();
        let place = text::name(&attempt.display().to_string());
        let told = format!("Files [in brackets] are in {place}, those with ./ in the run's folder.");
        let times = format!("Times are from the start of coordination{start}.");
        (!attempt.as_os_str().is_empty()).then(|| format!("{told} {times}"))
    }

    fn winner(&self) -> Option<String> {
        let shown = self.story.presentation.as_ref()?;
        let stood = self.story.votes.iter().filter(|vote| vote.counted);
        let (own, all) = stood.fold((0, 0), |(own, all), vote| (own + usize::from(vote.agent == shown.agent), all + 1));
        let tie = if shown.is_tie { ", after a tie" } else { "" };
        let (from, to) = (seconds(shown.from), seconds(shown.to));
        let source = self.file(&shown.source);
        Some(format!(
            "Winner: {} with {own} of {all} votes{tie}; presented from {from} to {to} [{source}]",
            shown.agent
        ))
    }

    /// What all agents took together. What is neither a model's nor a tool's time is MassGen's own.
    fn totals(&self) -> Option<String> {
        let agents = &self.story.agents;
        let source = self.file(&agents.first()?.source);
        let input: u64 = agents.iter().map(|agent| agent.input_tokens).sum();
        let output: u64 = agents.iter().map(|agent| agent.output_tokens).sum();
        let cost = agents.iter().filter_map(|agent| agent.cost_usd).reduce(|a, b| a + b);
        let cost = cost.map_or(", cost unknown".to_owned(), |cost| money(Some(cost)));
        let below = self.record.spent_below.known_usd().filter(|usd| usd.0 > 0);
        let below = below.map(|usd| format!(" (runs below it: {usd})")).unwrap_or_default();
        let rounds: f64 = self.story.rounds.iter().map(|round| round.to - round.from).sum();
        let tools: f64 = self.story.tools.iter().filter_map(|call| call.took).sum();
        let parts = self.story.model.as_ref().map(|model| {
            let rest = (rounds - model.waited_s - tools).max(0.0);
            format!(": models {}, tools {}, neither {}", seconds(model.waited_s), seconds(tools), seconds(rest))
        });
        let parts = parts.unwrap_or_default();
        let took = format!("rounds of all agents {}{parts}", seconds(rounds));
        Some(format!("Totals: {input}+{output} tokens (in+out){cost}{below}; {took} [{source}]"))
    }

    /// The run's time that is no agent's: MassGen's start, and what it does after the last thing that it notes.
    fn around(&self) -> Option<String> {
        let seconds_of = |at: &Moment| at.wall.as_microsecond() as f64 / 1e6;
        let start = self.story.start?;
        let before = start - self.record.started.as_ref().map(seconds_of)?;
        let after = self.record.state.ended().map(|ending| seconds_of(&ending.at) - start - self.story.end);
        let after = after.filter(|after| *after >= 0.0);
        let after = after.map(|after| format!(", {} from the last event to its end", seconds(after)));
        let told = format!("Around it: {} from the run's start to coordination", seconds(before));
        (before >= 0.0).then(|| format!("{told}{} [./run.json]", after.unwrap_or_default()))
    }
}

fn state(state: &RunState) -> String {
    match state {
        RunState::Queued => "queued, it waits for a free slot".to_owned(),
        RunState::Starting { .. } => "starting".to_owned(),
        RunState::Running { .. } => "running; this is what there is by now".to_owned(),
        RunState::Stopping { .. } => "stopping".to_owned(),
        RunState::Ended(ending) => ended(ending),
        RunState::Unknown(word) => text::line(word, 40),
    }
}

fn ended(ending: &Ending) -> String {
    let outcome = match &ending.outcome {
        Outcome::Succeeded => "succeeded".to_owned(),
        Outcome::Failed(_) => "failed".to_owned(),
        Outcome::TimedOut { ours: true, .. } => "timed_out by its deadline".to_owned(),
        Outcome::TimedOut { ours: false, .. } => "timed_out by MassGen's own clock".to_owned(),
        Outcome::OverBudget => "over_budget".to_owned(),
        Outcome::Killed { reason: Some(reason), .. } => format!("killed ({})", text::line(reason, 100)),
        Outcome::Killed { reason: None, .. } => "killed".to_owned(),
        Outcome::Lost => "lost, its supervisor died".to_owned(),
    };
    let exit = match ending.exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NeverStarted => "MassGen never ran".to_owned(),
        Exit::Unknown => "nobody saw it end".to_owned(),
    };
    let answer = ending.answer.as_ref().map(|answer| {
        let chars = counted(answer.chars, "character");
        format!(", answer of {} with {chars}", answer.agent)
    });
    let partial = if ending.outcome == Outcome::Succeeded { "" } else { " (partial)" };
    let answer = answer.map(|answer| answer + partial).unwrap_or_default();
    format!("{outcome} after {}, {exit}{answer}", seconds(ending.took.as_secs_f64()))
}
