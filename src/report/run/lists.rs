//! The lists of a report: answers, votes, restarts, agents and their rounds, waits, tools, errors, changes, gaps.

use std::collections::BTreeMap;

use super::{Draft, dollars_text, pluralize, seconds_text};
use crate::massgen::timeline::{AgentTotals, AnswerEvent, ErrorEvent, Round, RoundWaits, ToolCall, VoteEvent};

/// What the calls of one tool came to.
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
        let line = |given: &AnswerEvent| {
            let (at, chars) = (seconds_text(given.time_s), pluralize(given.chars, "character"));
            format!("{at} {} by {}, {chars} [{}]", given.label, given.agent, self.file_name_text(&given.source))
        };
        self.newest_entries(
            format!("Answers ({}):", self.timeline.answers.len()),
            self.timeline.answers.iter().map(line),
        )
    }

    pub(super) fn votes(&self) -> Vec<String> {
        let stood = self.timeline.votes.iter().filter(|vote| vote.counted).count();
        let title = format!("Votes ({stood} stood, {} void):", self.timeline.votes.len() - stood);
        self.newest_entries(title, self.timeline.votes.iter().map(|vote| self.vote(vote)))
    }

    fn vote(&self, vote: &VoteEvent) -> String {
        let whose = vote.label.as_ref().map_or(vote.agent.clone(), |label| format!("{label} of {}", vote.agent));
        let void = if vote.counted { "" } else { " (void)" };
        let (at, reason) = (seconds_text(vote.time_s), self.quote(&vote.reason));
        format!("{at} {} for {whose}{void}: \"{reason}\" [{}]", vote.voter, self.file_name_text(&vote.source))
    }

    pub(super) fn restarts(&self) -> Vec<String> {
        let mut by_agent: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for restart in &self.timeline.restarts {
            by_agent.entry((&restart.agent, &restart.reason)).or_default().push(restart.time_s);
        }
        let Some(first) = self.timeline.restarts.first() else { return Vec::new() };
        let mut all: Vec<_> = by_agent.into_iter().collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(times.len()));
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
        self.first_entries(title, all.into_iter().map(line))
    }

    pub(super) fn agents(&self) -> Vec<String> {
        let Some(source) = self.timeline.agents.first().map(|agent| self.file_name_text(&agent.source)) else {
            return Vec::new();
        };
        let mut all: Vec<(f64, &AgentTotals)> =
            self.timeline.agents.iter().map(|agent| (self.round_time_s(agent), agent)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let title = format!("Agents, the longest at work first; time in rounds, tokens in+out [{source}]:");
        self.first_entries(title, all.into_iter().map(|(took, agent)| self.agent(took, agent)))
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
        let mut all: Vec<&Round> = self.timeline.rounds.iter().collect();
        let Some(source) = all.first().map(|round| self.file_name_text(&round.source)) else { return Vec::new() };
        all.sort_by(|a, b| (b.end - b.start).total_cmp(&(a.end - a.start)));
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
        let title = format!("Rounds ({}), the longest first [{source}]:", all.len());
        self.first_entries(title, all.into_iter().map(line))
    }

    pub(super) fn waits(&self) -> Vec<String> {
        let Some(model) = &self.timeline.model_waits else { return Vec::new() };
        let each = model.waited_s / model.calls.max(1) as f64;
        let (calls, waited, source) =
            (pluralize(model.calls, "call"), seconds_text(model.waited_s), self.file_name_text(&model.source));
        let mut rounds: Vec<_> = model.rounds.iter().collect();
        rounds.sort_by(|a, b| b.waited_s.total_cmp(&a.waited_s));
        let line = |round: &&RoundWaits| {
            format!("round {}: {}, {}", round.number, pluralize(round.calls, "call"), seconds_text(round.waited_s))
        };
        let title = format!("Waits on models, all agents: {calls}, {waited} together, {each:.2} s each [{source}]:");
        self.first_entries(title, rounds.iter().map(line))
    }

    pub(super) fn tools(&self) -> Vec<String> {
        let Some(source) = self.timeline.tools.first().map(|call| self.file_name_text(&call.source)) else {
            return Vec::new();
        };
        let mut uses: BTreeMap<&str, ToolUsage<'_>> = BTreeMap::new();
        for call in &self.timeline.tools {
            uses.entry(&call.tool).or_default().add(call);
        }
        let mut uses: Vec<_> = uses.into_iter().collect();
        uses.sort_by(|a, b| b.1.total_s.total_cmp(&a.1.total_s));
        let title = format!("Tools, the longest first [{source}]:");
        self.first_entries(title, uses.into_iter().map(|(tool, used)| self.tool(tool, &used)))
    }

    fn tool(&self, tool: &str, used: &ToolUsage<'_>) -> String {
        let open = if used.open > 0 { format!(", {} not over", used.open) } else { String::new() };
        let mut by: Vec<_> = used.calls_by_agent.iter().collect();
        by.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
        let by: Vec<String> =
            by.iter().take(self.max_entries.min(5)).map(|(agent, calls)| format!("{agent} {calls}")).collect();
        let first = used.first_failure.map(|call| {
            let error = self.quote(call.error.as_deref().unwrap_or("no word"));
            format!("; first failure at {} by {}: \"{error}\"", seconds_text(call.time_s), call.agent)
        });
        let (calls, failed, took) = (pluralize(used.calls, "call"), used.failed, seconds_text(used.total_s));
        let first = first.unwrap_or_default();
        format!("{tool}: {calls} ({}), {failed} failed{open}, {took} together{first}", by.join(", "))
    }

    pub(super) fn errors(&self) -> Vec<String> {
        let mut known: Vec<(&ErrorEvent, u64)> = Vec::new();
        let mut places = BTreeMap::new();
        for trouble in &self.timeline.errors {
            let place = *places.entry((&trouble.agent, &trouble.message)).or_insert(known.len());
            match known.get_mut(place) {
                Some((_, times)) => *times += 1,
                None => known.push((trouble, 1)),
            }
        }
        let line = |(trouble, times): (&ErrorEvent, u64)| {
            let whose = trouble.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
            let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
            let (at, message) = (seconds_text(trouble.time_s), self.quote(&trouble.message));
            format!("{at}{whose}{times}: {message} [{}]", self.file_name_text(&trouble.source))
        };
        let title = format!("Errors ({}), each told once:", self.timeline.errors.len());
        self.first_entries(title, known.into_iter().map(line))
    }

    pub(super) fn answer_changes(&self) -> Vec<String> {
        let Some(changed) = self.answer_diff else { return Vec::new() };
        let (first, last) = (self.file_name_text(&changed.first), self.file_name_text(&changed.last));
        let (added, removed) = (changed.words_added as u64, changed.words_removed as u64);
        let cut = if changed.is_truncated { ", of their beginnings" } else { "" };
        let title = format!("Change of {} from its first answer [{first}] to the final one [{last}]:", changed.agent);
        let (added, removed) = (pluralize(added, "word"), pluralize(removed, "word"));
        let sum = format!("  {added} added, {removed} removed, similarity {:.2}{cut}", changed.similarity);
        let line = |sign: char, line: &String| format!("  {sign} {}", self.quote(line));
        let removed = changed.lines_removed.iter().take(self.max_entries).map(|text| line('-', text));
        let added = changed.lines_added.iter().take(self.max_entries).map(|text| line('+', text));
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
