//! The time axis of a run: a lane for each agent, its rounds as bars, and marks for what happened. Of very many agents or marks
//! it draws the first and says so.

use maud::{Markup, html};
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, Chart, Error, Mark, Room, Shape, Tip};
use super::theme::Ink;
use super::words::{self, sane};
use crate::massgen::story::{Round, Story};

/// The most lanes.
const MOST_LANES: usize = 40;
/// The most bars and marks.
const MOST_MARKS: usize = 2_000;
/// The height of a lane, and of a bar in it.
const LANE: u32 = 46;
const BAR: i32 = 22;
/// The least width of a bar that has a word in it, for each letter of the word.
const LETTER: i32 = 8;

const ANSWER: Mark = Mark::solid(Shape::Circle, Ink::Answer);
const VOTE: Mark = Mark::solid(Shape::Triangle, Ink::Vote);
const VOID: Mark = Mark::outline(Shape::Triangle, Ink::Vote);
const RESTART: Mark = Mark::solid(Shape::Diamond, Ink::Restart);
const TOOL: Mark = Mark::solid(Shape::Tick, Ink::Tool);
const FAILED_TOOL: Mark = Mark::solid(Shape::Cross, Ink::Trouble);
const TROUBLE: Mark = Mark::solid(Shape::Square, Ink::Trouble);

/// A round, or the presentation.
#[derive(Debug, Clone, PartialEq)]
struct Bar {
    lane: usize,
    from: f64,
    to: f64,
    ink: Ink,
    word: &'static str,
    tip: String,
}

/// Something that happened at one moment.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    lane: usize,
    at: f64,
    mark: Mark,
    tip: String,
}

/// All that is drawn.
#[derive(Debug, Default, PartialEq)]
struct Lanes {
    names: Vec<String>,
    bars: Vec<Bar>,
    events: Vec<Event>,
    left_out_lanes: usize,
    left_out_marks: usize,
}

/// The time axis of a story.
pub(super) fn lanes(story: &Story) -> Markup {
    let lanes = Lanes::of(story);
    if lanes.bars.is_empty() && lanes.events.is_empty() {
        return html! { p class="note" { "Nothing is known yet of what happened when." } };
    }
    let height = u32::try_from(lanes.names.len()).unwrap_or_default() * LANE + 60;
    chart::figure("What the agents did, on a time axis", height, &lanes.below(), |area| lanes.draw(area))
}

impl Lanes {
    fn of(story: &Story) -> Lanes {
        let ids = ids(story);
        let mut lanes = Lanes { left_out_lanes: ids.len().saturating_sub(MOST_LANES), ..Lanes::default() };
        let shown = &ids[..ids.len().min(MOST_LANES)];
        lanes.names = shown.iter().map(|id| words::plain_name(id, 18)).collect();
        lanes.bars = bars(story, shown);
        lanes.events = events(story, shown);
        if lanes.events.iter().any(|event| event.lane == shown.len()) {
            lanes.names.push("the run".to_owned());
        }
        lanes.left_out_marks = (lanes.bars.len() + lanes.events.len()).saturating_sub(MOST_MARKS);
        lanes.bars.truncate(MOST_MARKS);
        lanes.events.truncate(MOST_MARKS - lanes.bars.len());
        lanes
    }

    fn end(&self) -> f64 {
        let bars = self.bars.iter().map(|bar| bar.to);
        bars.chain(self.events.iter().map(|event| event.at)).fold(0.0, f64::max)
    }

    fn draw(&self, area: &Area<'_>) -> Result<Vec<Tip>, Error> {
        let end = self.end();
        let (unit, per) = chart::unit(end);
        let room = Room { left: 150, right: 24 };
        let x = Axis { end: end / per * 1.01, name: unit, told: Some(chart::plain) };
        let chart = chart::axes(area, &room, &x, &Axis { end: self.names.len() as f64, name: "", told: None })?;
        let place = |lane: usize, at: f64| chart.backend_coord(&(at / per, (self.names.len() - lane) as f64 - 0.5));
        self.frame(area, &chart)?;
        let mut tips = Vec::new();
        for bar in &self.bars {
            tips.push(bar.draw(area, place(bar.lane, bar.from), place(bar.lane, bar.to))?);
        }
        for event in &self.events {
            tips.push(event.draw(area, place(event.lane, event.at))?);
        }
        Ok(tips)
    }

    /// The names of the lanes, and lines between them.
    fn frame(&self, area: &Area<'_>, chart: &Chart<'_, '_>) -> Result<(), Error> {
        let width = chart.x_range().end;
        for (lane, name) in self.names.iter().enumerate() {
            let top = (self.names.len() - lane) as f64;
            let (left, middle) = chart.backend_coord(&(0.0, top - 0.5));
            chart::word(area, name, (left - 12, middle), HPos::Right, Ink::Text)?;
            let ends = [0.0, width].map(|x| chart.backend_coord(&(x, top)));
            chart::line(area, ends.to_vec(), Ink::Grid, 1)?;
        }
        Ok(())
    }

    fn below(&self) -> Markup {
        let bar = |ink, word: &str| {
            let symbol = chart::symbol(|area| chart::bar(area, (0, 2), (24, 14), ink));
            html! { li { (symbol) (word) } }
        };
        let marks = [
            (ANSWER, "answer"),
            (VOTE, "vote"),
            (VOID, "vote that a newer answer made void"),
            (RESTART, "restart"),
            (TOOL, "tool"),
            (FAILED_TOOL, "tool that failed"),
            (TROUBLE, "trouble"),
        ];
        let used: Vec<_> =
            marks.into_iter().filter(|(mark, _)| self.events.iter().any(|event| event.mark == *mark)).collect();
        html! {
            ul class="legend" {
                @for (ink, word) in KINDS { @if self.bars.iter().any(|bar| bar.ink == *ink) { (bar(*ink, word)) } }
            }
            (chart::legend(&used))
            @if self.left_out_lanes > 0 { p class="note" { (words::count(self.left_out_lanes as u64)) " more agents are not drawn." } }
            @if self.left_out_marks > 0 { p class="note" { (words::count(self.left_out_marks as u64)) " later rounds and marks are not drawn." } }
        }
    }
}

/// The kinds of rounds that have a colour of their own.
const KINDS: &[(Ink, &str)] = &[
    (Ink::Answering, "answering"),
    (Ink::Voting, "voting"),
    (Ink::Presenting, "presenting"),
    (Ink::Other, "other rounds"),
];

fn kind(kind: &str) -> (Ink, &'static str) {
    match kind {
        "initial_answer" => (Ink::Answering, "answering"),
        "voting" => (Ink::Voting, "voting"),
        "presentation" | "final" => (Ink::Presenting, "presenting"),
        _ => (Ink::Other, "other"),
    }
}

/// The agents that the story lists, and those that it tells of without.
fn ids(story: &Story) -> Vec<&str> {
    let mut seen = std::collections::HashSet::new();
    let listed = story.agents.iter().map(|agent| agent.id.as_str());
    let told = story.rounds.iter().map(|round| round.agent.as_str());
    let answered = story.answers.iter().map(|given| given.agent.as_str());
    let voted = story.votes.iter().map(|cast| cast.voter.as_str());
    listed.chain(told).chain(answered).chain(voted).filter(|id| seen.insert(*id)).collect()
}

fn bars(story: &Story, ids: &[&str]) -> Vec<Bar> {
    let round = |round: &Round| {
        let lane = ids.iter().position(|id| *id == round.agent)?;
        let (from, to) = (sane(round.from)?, sane(round.to)?);
        let (ink, word) = kind(&round.kind);
        Some(Bar { lane, from, to: to.max(from), ink, word, tip: told_round(round) })
    };
    let mut bars: Vec<_> = story.rounds.iter().filter_map(round).collect();
    if let Some(last) = &story.presentation
        && !bars.iter().any(|bar| bar.ink == Ink::Presenting)
        && let (Some(from), Some(to)) = (sane(last.from), sane(last.to))
        && let Some(lane) = ids.iter().position(|id| *id == last.agent)
    {
        let tip = format!("{} presents: {} to {}", short(&last.agent), words::seconds(from), words::seconds(to));
        bars.push(Bar { lane, from, to: to.max(from), ink: Ink::Presenting, word: "presenting", tip });
    }
    bars.sort_by(|one, other| one.from.total_cmp(&other.from));
    bars
}

fn told_round(round: &Round) -> String {
    let outcome = if round.outcome.is_empty() { "goes on" } else { &round.outcome };
    let (_, word) = kind(&round.kind);
    format!(
        "{}, round {} ({word}): {} to {}; {}; {} tokens",
        short(&round.agent),
        round.number,
        words::seconds(round.from),
        words::seconds(round.to),
        short(outcome),
        words::count(round.input_tokens.saturating_add(round.output_tokens)),
    )
}

/// Everything that happened at one moment, the most telling last, so that it lies above the rest.
fn events(story: &Story, ids: &[&str]) -> Vec<Event> {
    let event = |agent: &str, at: f64, mark: Mark, told: String| {
        let lane = ids.iter().position(|id| *id == agent)?;
        let at = sane(at)?;
        Some(Event { lane, at, mark, tip: format!("{} {told}, at {}", short(agent), words::seconds(at)) })
    };
    let tools = story.tools.iter().filter_map(|call| {
        let (mark, failed) = if call.failed { (FAILED_TOOL, ", which failed") } else { (TOOL, "") };
        event(&call.agent, call.at, mark, format!("called {}{failed}", short(&call.tool)))
    });
    let restarts = story.restarts.iter().filter_map(|restart| {
        event(&restart.agent, restart.at, RESTART, format!("began anew: {}", words::plain_name(&restart.reason, 200)))
    });
    let answers = story.answers.iter().filter_map(|given| {
        let told = format!("answered {}, {} characters", short(&given.label), words::count(given.chars));
        event(&given.agent, given.at, ANSWER, told)
    });
    let votes = story.votes.iter().filter_map(|cast| {
        let (mark, void) = if cast.counted { (VOTE, "") } else { (VOID, " (void)") };
        let told = format!("voted for {}{void}", short(cast.label.as_deref().unwrap_or(&cast.agent)));
        event(&cast.voter, cast.at, mark, told)
    });
    let troubles = story.troubles.iter().filter_map(|trouble| {
        let message = words::plain_name(&trouble.message, 200);
        let at = sane(trouble.at)?;
        // What was no agent's has a lane below them.
        let lane = trouble.agent.as_ref().map_or(Some(ids.len()), |agent| ids.iter().position(|id| id == agent))?;
        Some(Event { lane, at, mark: TROUBLE, tip: format!("{message}, at {}", words::seconds(at)) })
    });
    tools.chain(restarts).chain(answers).chain(votes).chain(troubles).collect()
}

fn short(name: &str) -> String {
    words::plain_name(name, 60)
}

impl Bar {
    fn draw(&self, area: &Area<'_>, from: (i32, i32), to: (i32, i32)) -> Result<Tip, Error> {
        let top = (from.0, from.1 - BAR / 2 - 3);
        let bottom = (to.0.max(from.0 + 2), top.1 + BAR);
        // A line is left between two rounds.
        chart::bar(area, top, (bottom.0 - 1, bottom.1), self.ink)?;
        let length = i32::try_from(self.word.len()).unwrap_or_default();
        if bottom.0 - top.0 > (length + 2) * LETTER {
            chart::word(area, self.word, (top.0 + 8, top.1 + BAR / 2), HPos::Left, Ink::Text)?;
        }
        Ok(Tip { from: top, to: bottom, words: self.tip.clone() })
    }
}

impl Event {
    /// Tools are below the bar, what agents say to each other on it.
    fn draw(&self, area: &Area<'_>, at: (i32, i32)) -> Result<Tip, Error> {
        let below = if matches!(self.mark.ink, Ink::Tool) || self.mark == FAILED_TOOL { 17 } else { 0 };
        let at = (at.0, at.1 - 3 + below);
        self.mark.draw(area, at)?;
        Ok(Tip::of_mark(at, self.tip.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::story::{AgentStory, Given, Presentation, ToolCall, Trouble};

    fn agent(id: &str) -> AgentStory {
        AgentStory { id: id.to_owned(), ..AgentStory::default() }
    }

    fn round(agent: &str, from: f64, to: f64) -> Round {
        Round { agent: agent.to_owned(), kind: "initial_answer".to_owned(), from, to, ..Round::default() }
    }

    #[test]
    fn what_has_no_time_is_not_drawn() {
        let rounds = vec![round("a", f64::NAN, 5.0), round("a", 0.0, f64::INFINITY), round("b", 3.0, 1.0)];
        let answers = vec![Given { at: f64::NAN, agent: "a".into(), ..Given::default() }];
        let drawn = Lanes::of(&Story { rounds, answers, ..Story::default() });
        assert_eq!((drawn.names.len(), drawn.bars.len(), drawn.events.len()), (2, 1, 0));
        assert_eq!((drawn.bars[0].from, drawn.bars[0].to), (3.0, 3.0), "no bar ends before it begins");
    }

    #[test]
    fn nothing_one_moment_and_no_time_at_all_can_be_drawn() {
        assert!(lanes(&Story::default()).into_string().contains("Nothing is known yet"));
        let told = lanes(&Story { rounds: vec![round("a", 0.0, 0.0)], ..Story::default() }).into_string();
        assert!(told.contains("<svg") && !told.contains("NaN"), "{told}");
    }

    #[test]
    fn very_much_is_cut_and_said_to_be() {
        let agents: Vec<_> = (0..200).map(|number| agent(&format!("agent_{number}"))).collect();
        let call = |number: usize| ToolCall {
            at: number as f64,
            agent: "agent_0".into(),
            tool: "t".into(),
            ..ToolCall::default()
        };
        let told = lanes(&Story { agents, tools: (0..10_000).map(call).collect(), ..Story::default() }).into_string();
        assert!(told.contains("160 more agents") && told.contains("8,000 later rounds"), "{}", told.len());
        assert!(told.len() < 1_500_000, "{}", told.len());
    }

    #[test]
    fn the_presentation_and_troubles_of_nobody_have_their_place() {
        let presentation = Some(Presentation { agent: "a".into(), from: 1.0, to: 2.0, ..Presentation::default() });
        let troubles = vec![Trouble { at: 1.0, message: "m".into(), ..Trouble::default() }];
        let drawn = Lanes::of(&Story { agents: vec![agent("a")], presentation, troubles, ..Story::default() });
        assert_eq!((drawn.bars[0].ink, drawn.events[0].lane), (Ink::Presenting, 1));
        assert_eq!(drawn.names, ["a", "the run"]);
    }
}
