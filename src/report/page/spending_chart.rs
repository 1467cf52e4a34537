//! What the agents spent over time: a line for each, from its rounds. Of many agents those that spent most are drawn.

use maud::{Markup, html};
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, DrawError, Margins, Marker, Point, Tooltip};
use super::format::{self, drawable};
use super::theme::{SERIES_COLORS, ThemeColor};
use crate::massgen::timeline::{Round, Timeline};

/// The height of a drawing.
const CHART_HEIGHT: u32 = 260;
/// The least distance between the names of two lines.
const MIN_LABEL_DISTANCE: i32 = 16;

/// What is spent.
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

    /// What a round spent, where that is known.
    fn value(self, round: &Round) -> Option<f64> {
        match self {
            SpendingMetric::Cost => drawable(round.cost_usd?),
            SpendingMetric::Tokens => Some(round.input_tokens.saturating_add(round.output_tokens) as f64),
        }
    }

    /// The numbers of an axis.
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

/// The sum of what one agent spent, from round to round.
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

/// The drawing of what was spent.
pub(super) fn spending_chart(story: &Timeline, what: SpendingMetric) -> Markup {
    let mut lines = spending_lines(story, what);
    lines.sort_by(|one, other| other.sum().total_cmp(&one.sum()));
    let left_out = lines.len().saturating_sub(SERIES_COLORS);
    lines.truncate(SERIES_COLORS);
    let below = html! {
        @if left_out > 0 { (format::count(left_out as u64)) " agents that spent less are not drawn." }
    };
    html! {
        h3 { (what.title()) }
        @if lines.is_empty() {
            p class="note" { "What single rounds spent of it is not known." }
        } @else {
            (chart::figure(what.title(), CHART_HEIGHT, &below, |area| draw(area, &lines, what)))
        }
    }
}

fn spending_lines(story: &Timeline, what: SpendingMetric) -> Vec<SpendingLine> {
    let line = |(number, agent): (usize, &crate::massgen::timeline::AgentTotals)| {
        let mut rounds: Vec<_> = story.rounds.iter().filter(|round| round.agent == agent.id).collect();
        rounds.sort_by(|one, other| one.start.total_cmp(&other.start));
        let points = cumulative_points(&rounds, what);
        let name = format::short_name(&agent.id, 14);
        (points.last()?.1 > 0.0).then_some(SpendingLine { name, marker: Marker::for_series(number), points })
    };
    story.agents.iter().enumerate().filter_map(line).collect()
}

/// Level between two rounds, rising in them.
fn cumulative_points(rounds: &[&Round], what: SpendingMetric) -> Vec<(f64, f64)> {
    let (mut points, mut sum) = (Vec::new(), 0.0);
    for round in rounds {
        let (Some(from), Some(to), Some(spent)) = (drawable(round.start), drawable(round.end), what.value(round))
        else {
            continue;
        };
        points.push((from, sum));
        sum += spent;
        points.push((to.max(from), sum));
    }
    points
}

fn draw(area: &Area<'_>, lines: &[SpendingLine], what: SpendingMetric) -> Result<Vec<Tooltip>, DrawError> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let most = points().map(|(_, sum)| *sum).fold(0.0, f64::max);
    let (unit, per) = chart::time_unit(end);
    let x = Axis { end: end / per, name: unit, tick_label: Some(chart::tick_number) };
    let y = Axis { end: most * 1.05, name: "", tick_label: Some(what.tick_formatter()) };
    let chart = chart::draw_axes(area, &Margins { left: 76, right: 230 }, &x, &y)?;
    let mut tips = Vec::new();
    let mut ends = Vec::new();
    for line in lines {
        let places: Vec<Point> = line.points.iter().map(|(at, sum)| chart.backend_coord(&(at / per, *sum))).collect();
        chart::draw_line(area, places.clone(), line.marker.color, 2)?;
        for (place, (at, sum)) in places.iter().zip(&line.points).skip(1).step_by(2) {
            line.marker.draw(area, *place)?;
            let told = format!("{}: {} after {}", line.name, what.formatter()(*sum), format::seconds(*at));
            tips.push(Tooltip::for_marker(*place, told));
        }
        ends.extend(places.last().map(|(_, y)| *y));
    }
    let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 28;
    for (line, y) in lines.iter().zip(spread_labels(&ends)) {
        let told = format!("{}  {}", line.name, what.formatter()(line.sum()));
        line.marker.draw(area, (right, y))?;
        chart::draw_text(area, &told, (right + 14, y), HPos::Left, ThemeColor::Text)?;
    }
    Ok(tips)
}

/// Heights for names that are wanted at these, from the top down, far enough from each other to be read.
fn spread_labels(wanted: &[i32]) -> Vec<i32> {
    let mut heights: Vec<i32> = wanted.to_vec();
    for place in 1..heights.len() {
        heights[place] = heights[place].max(heights[place - 1] + MIN_LABEL_DISTANCE);
    }
    // What was pushed out below goes back up, with those above it.
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

    fn story(rounds: &[(&str, f64, f64, Option<f64>)]) -> Timeline {
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
    fn sums_rise_within_rounds_and_what_is_unknown_is_left_out() {
        let told = story(&[
            ("a", 5.0, 6.0, Some(2.0)),
            ("a", 0.0, 4.0, Some(1.0)),
            ("b", 0.0, 1.0, None),
            ("a", 7.0, f64::NAN, Some(9.0)),
        ]);
        let costs = spending_lines(&told, SpendingMetric::Cost);
        assert_eq!(costs.len(), 1);
        assert_eq!(costs[0].points, [(0.0, 0.0), (4.0, 1.0), (5.0, 1.0), (6.0, 3.0)]);
        assert_eq!(spending_lines(&told, SpendingMetric::Tokens).len(), 2);
    }

    #[test]
    fn nothing_and_a_single_moment_can_be_drawn() {
        assert!(spending_chart(&story(&[]), SpendingMetric::Cost).into_string().contains("not known"));
        let told = spending_chart(&story(&[("a", 0.0, 0.0, Some(1e-7))]), SpendingMetric::Cost).into_string();
        assert!(told.contains("<svg") && !told.contains("NaN"), "{told}");
    }

    #[test]
    fn names_of_lines_do_not_lie_on_each_other() {
        assert_eq!(spread_labels(&[50, 52, 51, 200]), [50, 66, 82, 200]);
        assert_eq!(spread_labels(&[208, 209, 210]), [178, 194, 210]);
        assert!(spread_labels(&[]).is_empty());
    }
}
