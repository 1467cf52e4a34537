//! The time axis of a run: a lane for each agent, with bars for its rounds and markers for events. If there are too many agents or
//! markers, it draws the first ones and says so.

use maud::{Markup, html};
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, Chart, DrawError, Margins, Marker, MarkerShape, Tooltip};
use super::format::{self, drawable};
use super::theme::ThemeColor;
use crate::massgen::timeline::{Round, Timeline};

/// The most lanes.
const MAX_LANES: usize = 40;
/// The most bars and markers.
const MAX_MARKERS: usize = 2_000;
/// The height of a lane and of a bar in it.
const LANE_HEIGHT: u32 = 46;
const BAR_HEIGHT: i32 = 22;
/// The least width of a labelled bar, per letter of the label.
const LETTER_WIDTH: i32 = 8;

const ANSWER_MARKER: Marker = Marker::solid(MarkerShape::Circle, ThemeColor::Answer);
const VOTE_MARKER: Marker = Marker::solid(MarkerShape::Triangle, ThemeColor::Vote);
const VOID_VOTE_MARKER: Marker = Marker::outline(MarkerShape::Triangle, ThemeColor::Vote);
const RESTART_MARKER: Marker = Marker::solid(MarkerShape::Diamond, ThemeColor::Restart);
const TOOL_MARKER: Marker = Marker::solid(MarkerShape::Tick, ThemeColor::Tool);
const FAILED_TOOL_MARKER: Marker = Marker::solid(MarkerShape::Cross, ThemeColor::Error);
const ERROR_MARKER: Marker = Marker::solid(MarkerShape::Square, ThemeColor::Error);

/// A round, or the presentation.
#[derive(Debug, Clone, PartialEq)]
struct RoundBar {
    lane: usize,
    start: f64,
    end: f64,
    color: ThemeColor,
    label: &'static str,
    tooltip: String,
}

/// An event at one moment.
#[derive(Debug, Clone, PartialEq)]
struct TimelineMarker {
    lane: usize,
    time_s: f64,
    marker: Marker,
    tooltip: String,
}

/// The contents of the drawing.
#[derive(Debug, Default, PartialEq)]
struct TimelineChart {
    names: Vec<String>,
    bars: Vec<RoundBar>,
    markers: Vec<TimelineMarker>,
    omitted_lanes: usize,
    omitted_markers: usize,
}

/// The time axis of a run's timeline.
pub(super) fn timeline_chart(timeline: &Timeline) -> Markup {
    let chart_data = TimelineChart::from_timeline(timeline);
    if chart_data.bars.is_empty() && chart_data.markers.is_empty() {
        return html! { p class="note" { "Nothing is known yet of what happened when." } };
    }
    let height = u32::try_from(chart_data.names.len()).unwrap_or_default() * LANE_HEIGHT + 60;
    chart::figure("What the agents did, on a time axis", height, &chart_data.legend_and_notes(), |area| {
        chart_data.draw(area)
    })
}

impl TimelineChart {
    fn from_timeline(timeline: &Timeline) -> TimelineChart {
        let ids = agent_ids(timeline);
        let mut lanes =
            TimelineChart { omitted_lanes: ids.len().saturating_sub(MAX_LANES), ..TimelineChart::default() };
        let shown = &ids[..ids.len().min(MAX_LANES)];
        lanes.names = shown.iter().map(|id| format::short_name(id, 18)).collect();
        lanes.bars = round_bars(timeline, shown);
        lanes.markers = timeline_markers(timeline, shown);
        if lanes.markers.iter().any(|event| event.lane == shown.len()) {
            lanes.names.push("the run".to_owned());
        }
        lanes.omitted_markers = (lanes.bars.len() + lanes.markers.len()).saturating_sub(MAX_MARKERS);
        lanes.bars.truncate(MAX_MARKERS);
        lanes.markers.truncate(MAX_MARKERS - lanes.bars.len());
        lanes
    }

    fn end(&self) -> f64 {
        let bars = self.bars.iter().map(|bar| bar.end);
        bars.chain(self.markers.iter().map(|event| event.time_s)).fold(0.0, f64::max)
    }

    fn draw(&self, area: &Area<'_>) -> Result<Vec<Tooltip>, DrawError> {
        let end = self.end();
        let (unit, unit_size) = chart::time_unit(end);
        let margins = Margins { left: 150, right: 24 };
        let x = Axis { end: end / unit_size * 1.01, name: unit, tick_label: Some(chart::tick_number) };
        let chart =
            chart::draw_axes(area, &margins, &x, &Axis { end: self.names.len() as f64, name: "", tick_label: None })?;
        let position =
            |lane: usize, at: f64| chart.backend_coord(&(at / unit_size, (self.names.len() - lane) as f64 - 0.5));
        self.draw_lanes(area, &chart)?;
        let mut tips = Vec::new();
        for bar in &self.bars {
            tips.push(bar.draw(area, position(bar.lane, bar.start), position(bar.lane, bar.end))?);
        }
        for event in &self.markers {
            tips.push(event.draw(area, position(event.lane, event.time_s))?);
        }
        Ok(tips)
    }

    /// Draws the names of the lanes and the lines between them.
    fn draw_lanes(&self, area: &Area<'_>, chart: &Chart<'_, '_>) -> Result<(), DrawError> {
        let width = chart.x_range().end;
        for (lane, name) in self.names.iter().enumerate() {
            let top = (self.names.len() - lane) as f64;
            let (left, middle) = chart.backend_coord(&(0.0, top - 0.5));
            chart::draw_text(area, name, (left - 12, middle), HPos::Right, ThemeColor::Text)?;
            let ends = [0.0, width].map(|x| chart.backend_coord(&(x, top)));
            chart::draw_line(area, ends.to_vec(), ThemeColor::Grid, 1)?;
        }
        Ok(())
    }

    fn legend_and_notes(&self) -> Markup {
        let bar = |color, word: &str| {
            let symbol = chart::symbol(|area| chart::draw_bar(area, (0, 2), (24, 14), color));
            html! { li { (symbol) (word) } }
        };
        let marks = [
            (ANSWER_MARKER, "answer"),
            (VOTE_MARKER, "vote"),
            (VOID_VOTE_MARKER, "vote that a newer answer made void"),
            (RESTART_MARKER, "restart"),
            (TOOL_MARKER, "tool"),
            (FAILED_TOOL_MARKER, "tool that failed"),
            (ERROR_MARKER, "trouble"),
        ];
        let used: Vec<_> =
            marks.into_iter().filter(|(marker, _)| self.markers.iter().any(|event| event.marker == *marker)).collect();
        html! {
            ul class="legend" {
                @for (color, word) in ROUND_KINDS { @if self.bars.iter().any(|bar| bar.color == *color) { (bar(*color, word)) } }
            }
            (chart::legend(&used))
            @if self.omitted_lanes > 0 { p class="note" { (format::count(self.omitted_lanes as u64)) " more agents are not drawn." } }
            @if self.omitted_markers > 0 { p class="note" { (format::count(self.omitted_markers as u64)) " later rounds and marks are not drawn." } }
        }
    }
}

/// The kinds of rounds that have their own color.
const ROUND_KINDS: &[(ThemeColor, &str)] = &[
    (ThemeColor::Answering, "answering"),
    (ThemeColor::Voting, "voting"),
    (ThemeColor::Presenting, "presenting"),
    (ThemeColor::Other, "other rounds"),
];

fn round_kind(kind: &str) -> (ThemeColor, &'static str) {
    match kind {
        "initial_answer" => (ThemeColor::Answering, "answering"),
        "voting" => (ThemeColor::Voting, "voting"),
        "presentation" | "final" => (ThemeColor::Presenting, "presenting"),
        _ => (ThemeColor::Other, "other"),
    }
}

/// The listed agents, and agents that only events mention.
fn agent_ids(timeline: &Timeline) -> Vec<&str> {
    let mut seen = std::collections::HashSet::new();
    let listed = timeline.agents.iter().map(|agent| agent.id.as_str());
    let in_rounds = timeline.rounds.iter().map(|round| round.agent.as_str());
    let answered = timeline.answers.iter().map(|answer| answer.agent.as_str());
    let voted = timeline.votes.iter().map(|vote| vote.voter.as_str());
    listed.chain(in_rounds).chain(answered).chain(voted).filter(|id| seen.insert(*id)).collect()
}

fn round_bars(timeline: &Timeline, ids: &[&str]) -> Vec<RoundBar> {
    let round = |round: &Round| {
        let lane = ids.iter().position(|id| *id == round.agent)?;
        let (from, to) = (drawable(round.start)?, drawable(round.end)?);
        let (color, word) = round_kind(&round.kind);
        Some(RoundBar { lane, start: from, end: to.max(from), color, label: word, tooltip: round_text(round) })
    };
    let mut bars: Vec<_> = timeline.rounds.iter().filter_map(round).collect();
    if let Some(presentation) = &timeline.presentation
        && !bars.iter().any(|bar| bar.color == ThemeColor::Presenting)
        && let (Some(from), Some(to)) = (drawable(presentation.start), drawable(presentation.end))
        && let Some(lane) = ids.iter().position(|id| *id == presentation.agent)
    {
        let tip = format!(
            "{} presents: {} to {}",
            short_name(&presentation.agent),
            format::seconds(from),
            format::seconds(to)
        );
        bars.push(RoundBar {
            lane,
            start: from,
            end: to.max(from),
            color: ThemeColor::Presenting,
            label: "presenting",
            tooltip: tip,
        });
    }
    bars.sort_by(|one, other| one.start.total_cmp(&other.start));
    bars
}

fn round_text(round: &Round) -> String {
    let outcome = if round.outcome.is_empty() { "goes on" } else { &round.outcome };
    let (_, word) = round_kind(&round.kind);
    format!(
        "{}, round {} ({word}): {} to {}; {}; {} tokens",
        short_name(&round.agent),
        round.number,
        format::seconds(round.start),
        format::seconds(round.end),
        short_name(outcome),
        format::count(round.input_tokens.saturating_add(round.output_tokens)),
    )
}

/// The markers of all events; the most important ones come last, so that they are drawn on top.
fn timeline_markers(timeline: &Timeline, ids: &[&str]) -> Vec<TimelineMarker> {
    let event = |agent: &str, at: f64, marker: Marker, action: String| {
        let lane = ids.iter().position(|id| *id == agent)?;
        let at = drawable(at)?;
        Some(TimelineMarker {
            lane,
            time_s: at,
            marker,
            tooltip: format!("{} {action}, at {}", short_name(agent), format::seconds(at)),
        })
    };
    let tools = timeline.tools.iter().filter_map(|call| {
        let (marker, failed) = if call.failed { (FAILED_TOOL_MARKER, ", which failed") } else { (TOOL_MARKER, "") };
        event(&call.agent, call.time_s, marker, format!("called {}{failed}", short_name(&call.tool)))
    });
    let restarts = timeline.restarts.iter().filter_map(|restart| {
        event(
            &restart.agent,
            restart.time_s,
            RESTART_MARKER,
            format!("restarted: {}", format::short_name(&restart.reason, 200)),
        )
    });
    let answers = timeline.answers.iter().filter_map(|answer| {
        let action = format!("answered {}, {} characters", short_name(&answer.label), format::count(answer.chars));
        event(&answer.agent, answer.time_s, ANSWER_MARKER, action)
    });
    let votes = timeline.votes.iter().filter_map(|vote| {
        let (marker, void) = if vote.counted { (VOTE_MARKER, "") } else { (VOID_VOTE_MARKER, " (void)") };
        let action = format!("voted for {}{void}", short_name(vote.label.as_deref().unwrap_or(&vote.agent)));
        event(&vote.voter, vote.time_s, marker, action)
    });
    let errors = timeline.errors.iter().filter_map(|error| {
        let message = format::short_name(&error.message, 200);
        let at = drawable(error.time_s)?;
        // Errors without an agent have a lane of their own below the agents.
        let lane = error.agent.as_ref().map_or(Some(ids.len()), |agent| ids.iter().position(|id| id == agent))?;
        Some(TimelineMarker {
            lane,
            time_s: at,
            marker: ERROR_MARKER,
            tooltip: format!("{message}, at {}", format::seconds(at)),
        })
    });
    tools.chain(restarts).chain(answers).chain(votes).chain(errors).collect()
}

fn short_name(name: &str) -> String {
    format::short_name(name, 60)
}

impl RoundBar {
    fn draw(&self, area: &Area<'_>, from: (i32, i32), to: (i32, i32)) -> Result<Tooltip, DrawError> {
        let top = (from.0, from.1 - BAR_HEIGHT / 2 - 3);
        let bottom = (to.0.max(from.0 + 2), top.1 + BAR_HEIGHT);
        // Leave a gap between two rounds.
        chart::draw_bar(area, top, (bottom.0 - 1, bottom.1), self.color)?;
        let length = i32::try_from(self.label.len()).unwrap_or_default();
        if bottom.0 - top.0 > (length + 2) * LETTER_WIDTH {
            chart::draw_text(area, self.label, (top.0 + 8, top.1 + BAR_HEIGHT / 2), HPos::Left, ThemeColor::Text)?;
        }
        Ok(Tooltip { from: top, to: bottom, text: self.tooltip.clone() })
    }
}

impl TimelineMarker {
    /// Draws the marker: tool calls below the bar, other events on it.
    fn draw(&self, area: &Area<'_>, at: (i32, i32)) -> Result<Tooltip, DrawError> {
        let below =
            if matches!(self.marker.color, ThemeColor::Tool) || self.marker == FAILED_TOOL_MARKER { 17 } else { 0 };
        let at = (at.0, at.1 - 3 + below);
        self.marker.draw(area, at)?;
        Ok(Tooltip::for_marker(at, self.tooltip.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::timeline::{AgentTotals, AnswerEvent, ErrorEvent, Presentation, ToolCall};

    fn agent(id: &str) -> AgentTotals {
        AgentTotals { id: id.to_owned(), ..AgentTotals::default() }
    }

    fn round(agent: &str, from: f64, to: f64) -> Round {
        Round { agent: agent.to_owned(), kind: "initial_answer".to_owned(), start: from, end: to, ..Round::default() }
    }

    #[test]
    fn entries_without_a_valid_time_are_not_drawn() {
        let rounds = vec![round("a", f64::NAN, 5.0), round("a", 0.0, f64::INFINITY), round("b", 3.0, 1.0)];
        let answers = vec![AnswerEvent { time_s: f64::NAN, agent: "a".into(), ..AnswerEvent::default() }];
        let drawn = TimelineChart::from_timeline(&Timeline { rounds, answers, ..Timeline::default() });
        assert_eq!((drawn.names.len(), drawn.bars.len(), drawn.markers.len()), (2, 1, 0));
        assert_eq!((drawn.bars[0].start, drawn.bars[0].end), (3.0, 3.0), "no bar ends before it begins");
    }

    #[test]
    fn an_empty_timeline_and_a_single_moment_can_be_drawn() {
        assert!(timeline_chart(&Timeline::default()).into_string().contains("Nothing is known yet"));
        let svg = timeline_chart(&Timeline { rounds: vec![round("a", 0.0, 0.0)], ..Timeline::default() }).into_string();
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn many_agents_and_events_are_cut_with_a_note() {
        let agents: Vec<_> = (0..200).map(|number| agent(&format!("agent_{number}"))).collect();
        let call = |number: usize| ToolCall {
            time_s: number as f64,
            agent: "agent_0".into(),
            tool: "t".into(),
            ..ToolCall::default()
        };
        let svg = timeline_chart(&Timeline { agents, tools: (0..10_000).map(call).collect(), ..Timeline::default() })
            .into_string();
        assert!(svg.contains("160 more agents") && svg.contains("8,000 later rounds"), "{}", svg.len());
        assert!(svg.len() < 1_500_000, "{}", svg.len());
    }

    #[test]
    fn the_presentation_and_errors_without_an_agent_are_drawn() {
        let presentation = Some(Presentation { agent: "a".into(), start: 1.0, end: 2.0, ..Presentation::default() });
        let errors = vec![ErrorEvent { time_s: 1.0, message: "m".into(), ..ErrorEvent::default() }];
        let drawn = TimelineChart::from_timeline(&Timeline {
            agents: vec![agent("a")],
            presentation,
            errors,
            ..Timeline::default()
        });
        assert_eq!((drawn.bars[0].color, drawn.markers[0].lane), (ThemeColor::Presenting, 1));
        assert_eq!(drawn.names, ["a", "the run"]);
    }
}
