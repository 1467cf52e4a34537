//! The lists of a report: answers, votes, restarts, agents and their rounds, waits, tools, errors, changes, gaps.

use std::collections::BTreeMap;

use super::{Draft, counted, money, seconds};
use crate::massgen::story::{AgentStory, Cast, Given, Round, RoundWaits, ToolCall, Trouble};

/// What the calls of one tool came to.
#[derive(Default)]
struct Use<'a> {
    calls: u64,
    failed: u64,
    open: u64,
    took: f64,
    by: BTreeMap<&'a str, u64>,
    first_failure: Option<&'a ToolCall>,
}

impl Draft<'_> {
    pub(super) fn answers(&self) -> Vec<String> {
        let line = |given: &Given| {
            let (at, chars) = (seconds(given.at), counted(given.chars, "character"));
            format!("{at} {} by {}, {chars} [{}]", given.label, given.agent, self.file(&given.source))
        };
        self.newest(format!("Answers ({}):", self.story.answers.len()), self.story.answers.iter().map(line))
    }

    pub(super) fn votes(&self) -> Vec<String> {
        let stood = self.story.votes.iter().filter(|vote| vote.counted).count();
        let title = format!("Votes ({stood} stood, {} void):", self.story.votes.len() - stood);
        self.newest(title, self.story.votes.iter().map(|vote| self.vote(vote)))
    }

    fn vote(&self, vote: &Cast) -> String {
        let whose = vote.label.as_ref().map_or(vote.agent.clone(), |label| format!("{label} of {}", vote.agent));
        let void = if vote.counted { "" } else { " (void)" };
        let (at, reason) = (seconds(vote.at), self.said(&vote.reason));
        format!("{at} {} for {whose}{void}: \"{reason}\" [{}]", vote.voter, self.file(&vote.source))
    }

    pub(super) fn restarts(&self) -> Vec<String> {
        let mut by_agent: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
        for restart in &self.story.restarts {
            by_agent.entry((&restart.agent, &restart.reason)).or_default().push(restart.at);
        }
        let Some(first) = self.story.restarts.first() else { return Vec::new() };
        let mut all: Vec<_> = by_agent.into_iter().collect();
        all.sort_by_key(|(_, times)| std::cmp::Reverse(times.len()));
        let line = |((agent, reason), times): ((&str, &str), Vec<f64>)| {
            let shown: Vec<String> = times.iter().take(self.most.min(5)).map(|at| seconds(*at)).collect();
            let more = if shown.len() < times.len() { ", …" } else { "" };
            format!(
                "{agent} {} ({}{more}): {}",
                counted(times.len() as u64, "time"),
                shown.join(", "),
                self.said(reason)
            )
        };
        let title = format!("New beginnings ({}) [{}]:", self.story.restarts.len(), self.file(&first.source));
        self.first(title, all.into_iter().map(line))
    }

    pub(super) fn agents(&self) -> Vec<String> {
        let Some(source) = self.story.agents.first().map(|agent| self.file(&agent.source)) else { return Vec::new() };
        let mut all: Vec<(f64, &AgentStory)> =
            self.story.agents.iter().map(|agent| (self.in_rounds(agent), agent)).collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let title = format!("Agents, the longest at work first; time in rounds, tokens in+out [{source}]:");
        self.first(title, all.into_iter().map(|(took, agent)| self.agent(took, agent)))
    }

    fn in_rounds(&self, agent: &AgentStory) -> f64 {
        self.story.rounds.iter().filter(|round| round.agent == agent.id).map(|round| round.to - round.from).sum()
    }

    fn agent(&self, took: f64, agent: &AgentStory) -> String {
        let rounds = self.story.rounds.iter().filter(|round| round.agent == agent.id).count();
        let calls: Vec<&ToolCall> = self.story.tools.iter().filter(|call| call.agent == agent.id).collect();
        let in_tools: f64 = calls.iter().filter_map(|call| call.took).sum();
        let tools = counted(calls.len() as u64, "tool call");
        let tools = if calls.is_empty() { String::new() } else { format!(", {tools} of {}", seconds(in_tools)) };
        let model = agent.model.as_ref().map(|model| format!(" ({model})")).unwrap_or_default();
        let rounds = counted(rounds as u64, "round");
        let (input, output, cost) = (agent.input_tokens, agent.output_tokens, money(agent.cost_usd));
        format!("{}{model}: {} in {rounds}{tools}; {input}+{output} tokens{cost}", agent.id, seconds(took))
    }

    pub(super) fn rounds(&self) -> Vec<String> {
        let mut all: Vec<&Round> = self.story.rounds.iter().collect();
        let Some(source) = all.first().map(|round| self.file(&round.source)) else { return Vec::new() };
        all.sort_by(|a, b| (b.to - b.from).total_cmp(&(a.to - a.from)));
        let line = |round: &Round| {
            let Round { agent, number, kind, outcome, input_tokens, output_tokens, .. } = round;
            let (took, from, cost) = (seconds(round.to - round.from), seconds(round.from), money(round.cost_usd));
            if outcome.is_empty() {
                return format!("{took} {agent} round {number} from {from}, not over");
            }
            format!(
                "{took} {agent} round {number} from {from}, {kind} > {outcome}; {input_tokens}+{output_tokens} tokens{cost}"
            )
        };
        let title = format!("Rounds ({}), the longest first [{source}]:", all.len());
        self.first(title, all.into_iter().map(line))
    }

    pub(super) fn waits(&self) -> Vec<String> {
        let Some(model) = &self.story.model else { return Vec::new() };
        let each = model.waited_s / model.calls.max(1) as f64;
        let (calls, waited, source) = (counted(model.calls, "call"), seconds(model.waited_s), self.file(&model.source));
        let mut rounds: Vec<_> = model.rounds.iter().collect();
        rounds.sort_by(|a, b| b.waited_s.total_cmp(&a.waited_s));
        let line = |round: &&RoundWaits| {
            format!("round {}: {}, {}", round.number, counted(round.calls, "call"), seconds(round.waited_s))
        };
        let title = format!("Waits on models, all agents: {calls}, {waited} together, {each:.2} s each [{source}]:");
        self.first(title, rounds.iter().map(line))
    }

    pub(super) fn tools(&self) -> Vec<String> {
        let Some(source) = self.story.tools.first().map(|call| self.file(&call.source)) else { return Vec::new() };
        let mut uses: BTreeMap<&str, Use<'_>> = BTreeMap::new();
        for call in &self.story.tools {
            uses.entry(&call.tool).or_default().add(call);
        }
        let mut uses: Vec<_> = uses.into_iter().collect();
        uses.sort_by(|a, b| b.1.took.total_cmp(&a.1.took));
        let title = format!("Tools, the longest first [{source}]:");
        self.first(title, uses.into_iter().map(|(tool, used)| self.tool(tool, &used)))
    }

    fn tool(&self, tool: &str, used: &Use<'_>) -> String {
        let open = if used.open > 0 { format!(", {} not over", used.open) } else { String::new() };
        let mut by: Vec<_> = used.by.iter().collect();
        by.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
        let by: Vec<String> =
            by.iter().take(self.most.min(5)).map(|(agent, calls)| format!("{agent} {calls}")).collect();
        let first = used.first_failure.map(|call| {
            let error = self.said(call.error.as_deref().unwrap_or("no word"));
            format!("; first failure at {} by {}: \"{error}\"", seconds(call.at), call.agent)
        });
        let (calls, failed, took) = (counted(used.calls, "call"), used.failed, seconds(used.took));
        let first = first.unwrap_or_default();
        format!("{tool}: {calls} ({}), {failed} failed{open}, {took} together{first}", by.join(", "))
    }

    pub(super) fn troubles(&self) -> Vec<String> {
        let mut known: Vec<(&Trouble, u64)> = Vec::new();
        let mut places = BTreeMap::new();
        for trouble in &self.story.troubles {
            let place = *places.entry((&trouble.agent, &trouble.message)).or_insert(known.len());
            match known.get_mut(place) {
                Some((_, times)) => *times += 1,
                None => known.push((trouble, 1)),
            }
        }
        let line = |(trouble, times): (&Trouble, u64)| {
            let whose = trouble.agent.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
            let times = if times > 1 { format!(" ({times} times)") } else { String::new() };
            let (at, message) = (seconds(trouble.at), self.said(&trouble.message));
            format!("{at}{whose}{times}: {message} [{}]", self.file(&trouble.source))
        };
        let title = format!("Errors ({}), each told once:", self.story.troubles.len());
        self.first(title, known.into_iter().map(line))
    }

    pub(super) fn change(&self) -> Vec<String> {
        let Some(changed) = self.changed else { return Vec::new() };
        let (first, last) = (self.file(&changed.first), self.file(&changed.last));
        let (added, removed) = (changed.words_added as u64, changed.words_removed as u64);
        let cut = if changed.is_cut { ", of their beginnings" } else { "" };
        let title = format!("Change of {} from its first answer [{first}] to the final one [{last}]:", changed.agent);
        let (added, removed) = (counted(added, "word"), counted(removed, "word"));
        let sum = format!("  {added} added, {removed} removed, similarity {:.2}{cut}", changed.similarity);
        let line = |sign: char, line: &String| format!("  {sign} {}", self.said(line));
        let removed = changed.lines_removed.iter().take(self.most).map(|text| line('-', text));
        let added = changed.lines_added.iter().take(self.most).map(|text| line('+', text));
        [title, sum].into_iter().chain(removed).chain(added).collect()
    }

    pub(super) fn gaps(&self) -> Vec<String> {
        self.first("Not known:".to_owned(), self.story.gaps.iter().map(|gap| self.said(gap)))
    }
}

impl<'a> Use<'a> {
    fn add(&mut self, call: &'a ToolCall) {
        self.calls += 1;
        self.failed += u64::from(call.failed);
        self.open += u64::from(call.took.is_none());
        self.took += call.took.unwrap_or_default();
        *self.by.entry(&call.agent).or_default() += 1;
        self.first_failure = self.first_failure.or(Some(call).filter(|call| call.failed));
    }
}
