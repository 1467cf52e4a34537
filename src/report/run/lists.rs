//! The lists of a report: answers, votes, restarts, agents and their rounds, waits, tools, errors, changes, gaps.

use std::collections::BTreeMap;

use super::{Draft, dollars_text, pluralize, seconds_text};
use crate::massgen::timeline::{AgentTotals, AnswerEvent, ErrorEvent, Round, RoundWaits, ToolCall, VoteEvent};

/// The totals of the calls of one tool.
#[derive(Default)]
struct ToolUsage<'a> {
    calls: u64,
    failed: u64,
    open: u64,
    total_s: f64,
    calls_by_agent: BTreeMap<&'a str, u64>,
    first_failure: Option<&'a ToolCall>,
}

impl Draft<'_> {
    pub(super) fn answers(&self) -> Vec<String> {
        let line = |answer: &AnswerEvent| {
            let (at, chars) = (seconds_text(answer.time_s), pluralize(answer.chars, "character"));
            format!("{at} {} by {}, {chars} [{}]", answer.label, answer.agent, self.file_name_text(&answer.source))
        };
        self.newest_entries(
            format!("Answers ({}):", self.timeline.answers.len()),
            self.timeline.answers.iter().map(line),
        )
    }

    pub(super) fn votes(&self) -> Vec<String> {
        let counted = self.timeline.votes.iter().filter(|vote| vote.counted).count();
        let title = format!("Votes ({counted} stood, {} void):", self.timeline.votes.len() - counted);
        self.newest_entries(title, self.timeline.votes.iter().map(|vote| self.vote(vote)))
    }

    fn vote(&self, vote: &VoteEvent) -> String {
        let target = vote.label.as_ref().map_or(vote.agent.clone(), |label| format!("{label} of {}", vote.agent));
        let void = if vote.counted { "" } else { " (void)" };
        let (at, reason) = (seconds_text(vote.time_s), self.quote(&vote.reason));
        format!("{at} {} for {target}{void}: \"{reason}\" [{}]", vote.voter, self.file_name_text(&vote.source))
    }

    pub(super) fn restarts(&self) -> Vec<String> {
        let mut by_agent: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for restart in &self.timeline.restarts {
            by_agent.entry((&restart.agent, &restart.reason)).or_default().push(restart.time_s);
        }
        let Some(first) = self.timeline.restarts.first() else { return Vec::new() };
        let mut agents: Vec<_> = by_agent.into_iter().collect();
        agents.sort_by_key(|(_, times)| std::cmp::Reverse(times.len()));
        let line = |((agent, reason), times): ((&str, &str), Vec<f64>)| {
            let shown: Vec<String> = times.iter().take(self.max_entries.min(5)).map(|at| seconds_text(*at)).collect();
            let more = if shown.len() < times.len() { ", …" } else { "" };
            format!(
                "{agent} {} ({}{more}): {}",
                pluralize(times.len() as u64, "time"),
                shown.join(", "),
                self.quote(reason)
            )
        };
        let title =
            format!("New beginnings ({}) [{}]:", self.timeline.restarts.len(), self.file_name_text(&first.source));
        self.first_entries(title, agents.into_iter().map(line))
    }

    pub(super) fn agents(&self) -> Vec<String> {
        let Some(source) = self.timeline.agents.first().map(|agent| self.file_name_text(&agent.source)) else {
            return Vec::new();
        };
        let mut agents: Vec<(f64, &AgentTotals)> =
            self.timeline.agents.iter().map(|agent| (self.round_time_s(agent), agent)).collect();
        agents.sort_by(|a, b| b.0.total_cmp(&a.0));
        let title = format!("Agents, the longest at work first; time in rounds, tokens in+out [{source}]:");
        self.first_entries(title, agents.into_iter().map(|(took, agent)| self.agent(took, agent)))
    }

    fn round_time_s(&self, agent: &AgentTotals) -> f64 {
        self.timeline.rounds.iter().filter(|round| round.agent == agent.id).map(|round| round.end - round.start).sum()
    }

    fn agent(&self, took: f64, agent: &AgentTotals) -> String {
        let rounds = self.timeline.rounds.iter().filter(|round| round.agent == agent.id).count();
        let calls: Vec<&ToolCall> = self.timeline.tools.iter().filter(|call| call.agent == agent.id).collect();
        let in_tools: f64 = calls.iter().filter_map(|call| call.duration_s).sum();
        let tools = pluralize(calls.len() as u64, "tool call");
        let tools = if calls.is_empty() { String::new() } else { format!(", {tools} of {}", seconds_text(in_tools)) };
        let model = agent.model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
        let rounds = pluralize(rounds as u64, "round");
        let (input, output, cost) = (agent.input_tokens, agent.output_tokens, dollars_text(agent.cost_usd));
        format!("{}{model}: {} in {rounds}{tools}; {input}+{output} tokens{cost}", agent.id, seconds_text(took))
    }

    pub(super) fn rounds(&self) -> Vec<String> {
        let mut rounds: Vec<&Round> = self.timeline.rounds.iter().collect();
        let Some(source) = rounds.first().map(|round| self.file_name_text(&round.source)) else { return Vec::new() };
        rounds.sort_by(|a, b| (b.end - b.start).total_cmp(&(a.end - a.start)));
        let line = |round: &Round| {
            let Round { agent, number, kind, outcome, input_tokens, output_tokens, .. } = round;
            let (took, from, cost) =
                (seconds_text(round.end - round.start), seconds_text(round.start), dollars_text(round.cost_usd));
            if outcome.is_empty() {
                return format!("{took} {agent} round {number} from {from}, not over");
            }
            format!(
                "{took} {agent} round {number} from {from}, {kind} > {outcome}; {input_tokens}+{output_tokens} tokens{cost}"
            )
        };
        let title = format!("Rounds ({}), the longest first [{source}]:", rounds.len());
        self.first_entries(title, rounds.into_iter().map(line))
    }

    pub(super) fn waits(&self) -> Vec<String> {
        let Some(model) = &self.timeline.model_waits else { return Vec::new() };
        let mean_s = model.waited_s / model.calls.max(1) as f64;
        let (calls, waited, source) =
            (pluralize(model.calls, "call"), seconds_text(model.waited_s), self.file_name_text(&model.source));
        let mut rounds: Vec<_> = model.rounds.iter().collect();
        rounds.sort_by(|a, b| b.waited_s.total_cmp(&a.waited_s));
        let line = |round: &&RoundWaits| {
            format!("round {}: {}, {}", round.number, pluralize(round.calls, "call"), seconds_text(round.waited_s))
        };
        let title = format!("Waits on models, all agents: {calls}, {waited} together, {mean_s:.2} s each [{source}]:");
        self.first_entries(title, rounds.iter().map(line))
    }

    pub(super) fn tools(&self) -> Vec<String> {
        let Some(source) = self.timeline.tools.first().map(|call| self.file_name_text(&call.source)) else {
            return Vec::new();
        };
        let mut usages: BTreeMap<&str, ToolUsage<'_>> = BTreeMap::new();
        for call in &self.timeline.tools {
            usages.entry(&call.tool).or_default().add(call);
        }
        let mut usages: Vec<_> = usages.into_iter().collect();
        usages.sort_by(|a, b| b.1.total_s.total_cmp(&a.1.total_s));
        let title = format!("Tools, the longest first [{source}]:");
        self.first_entries(title, usages.into_iter().map(|(tool, usage)| self.tool(tool, &usage)))
    }

    fn tool(&self, tool: &str, usage: &ToolUsage<'_>) -> String {
        let open = if usage.open > 0 { format!(", {} not over", usage.open) } else { String::new() };
        let mut by_agent: Vec<_> = usage.calls_by_agent.iter().collect();
        by_agent.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
        let by_agent: Vec<String> =
            by_agent.iter().take(self.max_entries.min(5)).map(|(agent, calls)| format!("{agent} {calls}")).collect();
        let first = usage.first_failure.map(|call| {
            let error = self.quote(call.error.as_deref().unwrap_or("no word"));
            format!("; first failure at {} by {}: \"{error}\"", seconds_text(call.time_s), call.agent)
        });
        let (calls, failed, took) = (pluralize(usage.calls, "call"), usage.failed, seconds_text(usage.total_s));
        let first = first.unwrap_or_default();
        format!("{tool}: {calls} ({}), {failed} failed{open}, {took} together{first}", by_agent.join(", "))
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let mut distinct: Vec<(&ErrorEvent, u64)> = Vec::new();
        let mut indexes = BTreeMap::new();
        for error in &self.timeline.errors {
            let index = *indexes.entry((&error.agent, &error.message)).or_insert(distinct.len());
            match distinct.get_mut(index) {
                Some((_, times)) => *times += 1,
                None => distinct.push((error, 1)),
            }
        }
        let line = |(error, times): (&ErrorEvent, u64)| {
            let agent = error.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
            let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
            let (at, message) = (seconds_text(error.time_s), self.quote(&error.message));
            format!("{at}{agent}{times}: {message} [{}]", self.file_name_text(&error.source))
        };
        let title = format!("Errors ({}), each shown once:", self.timeline.errors.len());
        self.first_entries(title, distinct.into_iter().map(line))
    }

    pub(super) fn answer_changes(&self) -> Vec<String> {
        let Some(diff) = self.answer_diff else { return Vec::new() };
        let (first, last) = (self.file_name_text(&diff.first), self.file_name_text(&diff.last));
        let (added, removed) = (diff.words_added as u64, diff.words_removed as u64);
        let note = if diff.is_truncated { ", of their beginnings" } else { "" };
        let title = format!("Change of {} from its first answer [{first}] to the final one [{last}]:", diff.agent);
        let (added, removed) = (pluralize(added, "word"), pluralize(removed, "word"));
        let sum = format!("  {added} added, {removed} removed, similarity {:.2}{note}", diff.similarity);
        let line = |sign: char, line: &String| format!("  {sign} {}", self.quote(line));
        let removed = diff.lines_removed.iter().take(self.max_entries).map(|text| line('-', text));
        let added = diff.lines_added.iter().take(self.max_entries).map(|text| line('+', text));
        [title, sum].into_iter().chain(removed).chain(added).collect()
    }

    pub(super) fn gaps(&self) -> Vec<String> {
        self.first_entries("Not known:".to_owned(), self.timeline.gaps.iter().map(|gap| self.quote(gap)))
    }
}

impl<'a> ToolUsage<'a> {
    fn add(&mut self, call: &'a ToolCall) {
        self.calls += 1;
        self.failed += u64::from(call.failed);
        self.open += u64::from(call.duration_s.is_none());
        self.total_s += call.duration_s.unwrap_or_default();
        *self.calls_by_agent.entry(&call.agent).or_default() += 1;
        self.first_failure = self.first_failure.or(Some(call).filter(|call| call.failed));
    }
}
