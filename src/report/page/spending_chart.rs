//! The spend of the agents over time: a line for each agent, from its rounds. Only the agents with the highest spend are drawn.

use maud::{Markup, html};
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, DrawError, Margins, Marker, Point, Tooltip};
use super::format::{self, drawable};
use super::theme::{SERIES_COLORS, ThemeColor};
use crate::massgen::timeline::{Round, Timeline};

/// The height of the drawing.
const CHART_HEIGHT: u32 = 260;
/// The least distance between two labels.
const MIN_LABEL_DISTANCE: i32 = 16;

/// The measure of spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SpendingMetric {
    Cost,
    Tokens,
}

impl SpendingMetric {
    fn title(self) -> &'static str {
        match self {
            SpendingMetric::Cost => "Cost over time",
            SpendingMetric::Tokens => "Tokens over time",
        }
    }

    /// The spend of a round, if known.
    fn value(self, round: &Round) -> Option<f64> {
        match self {
            SpendingMetric::Cost => drawable(round.cost_usd?),
            SpendingMetric::Tokens => Some(round.input_tokens.saturating_add(round.output_tokens) as f64),
        }
    }

    /// The format of the axis numbers.
    fn tick_formatter(self) -> fn(f64) -> String {
        match self {
            SpendingMetric::Cost => format::axis_usd,
            SpendingMetric::Tokens => format::rounded_count,
        }
    }

    fn formatter(self) -> fn(f64) -> String {
        match self {
            SpendingMetric::Cost => format::usd,
            SpendingMetric::Tokens => format::rounded_count,
        }
    }
}

/// The cumulative spend of one agent over its rounds.
#[derive(Debug, Clone, PartialEq)]
struct SpendingLine {
    name: String,
    marker: Marker,
    points: Vec<(f64, f64)>,
}

impl SpendingLine {
    fn sum(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, sum)| *sum)
    }
}

/// The chart of the spend.
pub(super) fn spending_chart(timeline: &Timeline, metric: SpendingMetric) -> Markup {
    let mut lines = spending_lines(timeline, metric);
    lines.sort_by(|one, other| other.sum().total_cmp(&one.sum()));
    let left_out = lines.len().saturating_sub(SERIES_COLORS);
    lines.truncate(SERIES_COLORS);
    let note = html! {
        @if left_out > 0 { (format::count(left_out as u64)) " agents that spent less are not drawn." }
    };
    html! {
        h3 { (metric.title()) }
        @if lines.is_empty() {
            p class="note" { "What single rounds spent of it is not known." }
        } @else {
            (chart::figure(metric.title(), CHART_HEIGHT, &note, |area| draw(area, &lines, metric)))
        }
    }
}

fn spending_lines(timeline: &Timeline, metric: SpendingMetric) -> Vec<SpendingLine> {
    let line = |(number, agent): (usize, &crate::massgen::timeline::AgentTotals)| {
        let mut rounds: Vec<_> = timeline.rounds.iter().filter(|round| round.agent == agent.id).collect();
        rounds.sort_by(|one, other| one.start.total_cmp(&other.start));
        let points = cumulative_points(&rounds, metric);
        let name = format::short_name(&agent.id, 14);
        (points.last()?.1 > 0.0).then_some(SpendingLine { name, marker: Marker::for_series(number), points })
    };
    timeline.agents.iter().enumerate().filter_map(line).collect()
}

/// The cumulative spend: constant between rounds, rising during them.
fn cumulative_points(rounds: &[&Round], metric: SpendingMetric) -> Vec<(f64, f64)> {
    let (mut points, mut sum) = (Vec::new(), 0.0);
    for round in rounds {
        let (Some(from), Some(to), Some(spent)) = (drawable(round.start), drawable(round.end), metric.value(round))
        else {
            continue;
        };
        points.push((from, sum));
        sum += spent;
        points.push((to.max(from), sum));
    }
    points
}

fn draw(area: &Area<'_>, lines: &[SpendingLine], metric: SpendingMetric) -> Result<Vec<Tooltip>, DrawError> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let max_sum = points().map(|(_, sum)| *sum).fold(0.0, f64::max);
    let (unit, unit_size) = chart::time_unit(end);
    let x = Axis { end: end / unit_size, name: unit, tick_label: Some(chart::tick_number) };
    let y = Axis { end: max_sum * 1.05, name: "", tick_label: Some(metric.tick_formatter()) };
    let chart = chart::draw_axes(area, &Margins { left: 76, right: 230 }, &x, &y)?;
    let mut tips = Vec::new();
    let mut label_heights = Vec::new();
    for line in lines {
        let positions: Vec<Point> =
            line.points.iter().map(|(at, sum)| chart.backend_coord(&(at / unit_size, *sum))).collect();
        chart::draw_line(area, positions.clone(), line.marker.color, 2)?;
        for (position, (at, sum)) in positions.iter().zip(&line.points).skip(1).step_by(2) {
            line.marker.draw(area, *position)?;
            let label = format!("{}: {} after {}", line.name, metric.formatter()(*sum), format::seconds(*at));
            tips.push(Tooltip::for_marker(*position, label));
        }
        label_heights.extend(positions.last().map(|(_, y)| *y));
    }
    let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 28;
    for (line, y) in lines.iter().zip(spread_labels(&label_heights)) {
        let label = format!("{}  {}", line.name, metric.formatter()(line.sum()));
        line.marker.draw(area, (right, y))?;
        chart::draw_text(area, &label, (right + 14, y), HPos::Left, ThemeColor::Text)?;
    }
    Ok(tips)
}

/// Moves labels from their wanted positions, from the top down, so that they do not overlap.
fn spread_labels(wanted: &[i32]) -> Vec<i32> {
    let mut heights: Vec<i32> = wanted.to_vec();
    for index in 1..heights.len() {
        heights[index] = heights[index].max(heights[index - 1] + MIN_LABEL_DISTANCE);
    }
    // Move labels back up that are below the drawing, together with the labels above them.
    let mut floor = i32::try_from(CHART_HEIGHT).unwrap_or_default() - 50;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(floor);
        floor = *height - MIN_LABEL_DISTANCE;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::timeline::AgentTotals;

    fn timeline_of(rounds: &[(&str, f64, f64, Option<f64>)]) -> Timeline {
        let round = |(agent, from, to, cost_usd): &(&str, f64, f64, Option<f64>)| Round {
            agent: (*agent).to_owned(),
            start: *from,
            end: *to,
            cost_usd: *cost_usd,
            input_tokens: 10,
            ..Round::default()
        };
        let agents = ["a", "b"].map(|id| AgentTotals { id: id.to_owned(), ..AgentTotals::default() });
        Timeline { agents: agents.to_vec(), rounds: rounds.iter().map(round).collect(), ..Timeline::default() }
    }

    #[test]
    fn sums_rise_within_rounds_and_unknown_costs_are_left_out() {
        let timeline = timeline_of(&[
            ("a", 5.0, 6.0, Some(2.0)),
            ("a", 0.0, 4.0, Some(1.0)),
            ("b", 0.0, 1.0, None),
            ("a", 7.0, f64::NAN, Some(9.0)),
        ]);
        let costs = spending_lines(&timeline, SpendingMetric::Cost);
        assert_eq!(costs.len(), 1);
        assert_eq!(costs[0].points, [(0.0, 0.0), (4.0, 1.0), (5.0, 1.0), (6.0, 3.0)]);
        assert_eq!(spending_lines(&timeline, SpendingMetric::Tokens).len(), 2);
    }

    #[test]
    fn an_empty_timeline_and_a_single_moment_can_be_drawn() {
        assert!(spending_chart(&timeline_of(&[]), SpendingMetric::Cost).into_string().contains("not known"));
        let svg = spending_chart(&timeline_of(&[("a", 0.0, 0.0, Some(1e-7))]), SpendingMetric::Cost).into_string();
        assert!(svg.contains("<svg") && !svg.contains("NaN"), "{svg}");
    }

    #[test]
    fn labels_do_not_overlap() {
        assert_eq!(spread_labels(&[50, 52, 51, 200]), [50, 66, 82, 200]);
        assert_eq!(spread_labels(&[208, 209, 210]), [178, 194, 210]);
        assert!(spread_labels(&[]).is_empty());
    }
}
