//! What the agents spent over time: a line for each, from its rounds. Of many agents those that spent most are drawn.

use maud::{Markup, html};
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, Error, Mark, Place, Room, Tip};
use super::theme::{Ink, SERIES};
use super::words::{self, sane};
use crate::massgen::story::{Round, Story};

/// The height of a drawing.
const HEIGHT: u32 = 260;
/// The least distance between the names of two lines.
const APART: i32 = 16;

/// What is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spending {
    Cost,
    Tokens,
}

impl Spending {
    fn title(self) -> &'static str {
        match self {
            Spending::Cost => "Cost over time",
            Spending::Tokens => "Tokens over time",
        }
    }

    /// What a round spent, where that is known.
    fn of(self, round: &Round) -> Option<f64> {
        match self {
            Spending::Cost => sane(round.cost_usd?),
            Spending::Tokens => Some(round.input_tokens.saturating_add(round.output_tokens) as f64),
        }
    }

    /// The numbers of an axis.
    fn axis(self) -> fn(f64) -> String {
        match self {
            Spending::Cost => words::round_usd,
            Spending::Tokens => words::about,
        }
    }

    fn told(self) -> fn(f64) -> String {
        match self {
            Spending::Cost => words::usd,
            Spending::Tokens => words::about,
        }
    }
}

/// The sum of what one agent spent, from round to round.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    mark: Mark,
    points: Vec<(f64, f64)>,
}

impl Line {
    fn sum(&self) -> f64 {
        self.points.last().map_or(0.0, |(_, sum)| *sum)
    }
}

/// The drawing of what was spent.
pub(super) fn spending(story: &Story, what: Spending) -> Markup {
    let mut lines = lines(story, what);
    lines.sort_by(|one, other| other.sum().total_cmp(&one.sum()));
    let left_out = lines.len().saturating_sub(SERIES);
    lines.truncate(SERIES);
    let below = html! {
        @if left_out > 0 { (words::count(left_out as u64)) " agents that spent less are not drawn." }
    };
    html! {
        h3 { (what.title()) }
        @if lines.is_empty() {
            p class="note" { "What single rounds spent of it is not known." }
        } @else {
            (chart::figure(what.title(), HEIGHT, &below, |area| draw(area, &lines, what)))
        }
    }
}

fn lines(story: &Story, what: Spending) -> Vec<Line> {
    let line = |(number, agent): (usize, &crate::massgen::story::AgentStory)| {
        let mut rounds: Vec<_> = story.rounds.iter().filter(|round| round.agent == agent.id).collect();
        rounds.sort_by(|one, other| one.from.total_cmp(&other.from));
        let points = summed(&rounds, what);
        let name = words::plain_name(&agent.id, 14);
        (points.last()?.1 > 0.0).then_some(Line { name, mark: Mark::of_series(number), points })
    };
    story.agents.iter().enumerate().filter_map(line).collect()
}

/// Level between two rounds, rising in them.
fn summed(rounds: &[&Round], what: Spending) -> Vec<(f64, f64)> {
    let (mut points, mut sum) = (Vec::new(), 0.0);
    for round in rounds {
        let (Some(from), Some(to), Some(spent)) = (sane(round.from), sane(round.to), what.of(round)) else { continue };
        points.push((from, sum));
        sum += spent;
        points.push((to.max(from), sum));
    }
    points
}

fn draw(area: &Area<'_>, lines: &[Line], what: Spending) -> Result<Vec<Tip>, Error> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let end = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let most = points().map(|(_, sum)| *sum).fold(0.0, f64::max);
    let (unit, per) = chart::unit(end);
    let x = Axis { end: end / per, name: unit, told: Some(chart::plain) };
    let y = Axis { end: most * 1.05, name: "", told: Some(what.axis()) };
    let chart = chart::axes(area, &Room { left: 76, right: 230 }, &x, &y)?;
    let mut tips = Vec::new();
    let mut ends = Vec::new();
    for line in lines {
        let places: Vec<Place> = line.points.iter().map(|(at, sum)| chart.backend_coord(&(at / per, *sum))).collect();
        chart::line(area, places.clone(), line.mark.ink, 2)?;
        for (place, (at, sum)) in places.iter().zip(&line.points).skip(1).step_by(2) {
            line.mark.draw(area, *place)?;
            let told = format!("{}: {} after {}", line.name, what.told()(*sum), words::seconds(*at));
            tips.push(Tip::of_mark(*place, told));
        }
        ends.extend(places.last().map(|(_, y)| *y));
    }
    let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 28;
    for (line, y) in lines.iter().zip(apart(&ends)) {
        let told = format!("{}  {}", line.name, what.told()(line.sum()));
        line.mark.draw(area, (right, y))?;
        chart::word(area, &told, (right + 14, y), HPos::Left, Ink::Text)?;
    }
    Ok(tips)
}

/// Heights for names that are wanted at these, from the top down, far enough from each other to be read.
fn apart(wanted: &[i32]) -> Vec<i32> {
    let mut heights: Vec<i32> = wanted.to_vec();
    for place in 1..heights.len() {
        heights[place] = heights[place].max(heights[place - 1] + APART);
    }
    // What was pushed out below goes back up, with those above it.
    let mut floor = i32::try_from(HEIGHT).unwrap_or_default() - 50;
    for height in heights.iter_mut().rev() {
        *height = (*height).min(floor);
        floor = *height - APART;
    }
    heights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::massgen::story::AgentStory;

    fn story(rounds: &[(&str, f64, f64, Option<f64>)]) -> Story {
        let round = |(agent, from, to, cost_usd): &(&str, f64, f64, Option<f64>)| Round {
            agent: (*agent).to_owned(),
            from: *from,
            to: *to,
            cost_usd: *cost_usd,
            input_tokens: 10,
            ..Round::default()
        };
        let agents = ["a", "b"].map(|id| AgentStory { id: id.to_owned(), ..AgentStory::default() });
        Story { agents: agents.to_vec(), rounds: rounds.iter().map(round).collect(), ..Story::default() }
    }

    #[test]
    fn sums_rise_within_rounds_and_what_is_unknown_is_left_out() {
        let told = story(&[
            ("a", 5.0, 6.0, Some(2.0)),
            ("a", 0.0, 4.0, Some(1.0)),
            ("b", 0.0, 1.0, None),
            ("a", 7.0, f64::NAN, Some(9.0)),
        ]);
        let costs = lines(&told, Spending::Cost);
        assert_eq!(costs.len(), 1);
        assert_eq!(costs[0].points, [(0.0, 0.0), (4.0, 1.0), (5.0, 1.0), (6.0, 3.0)]);
        assert_eq!(lines(&told, Spending::Tokens).len(), 2);
    }

    #[test]
    fn nothing_and_a_single_moment_can_be_drawn() {
        assert!(spending(&story(&[]), Spending::Cost).into_string().contains("not known"));
        let told = spending(&story(&[("a", 0.0, 0.0, Some(1e-7))]), Spending::Cost).into_string();
        assert!(told.contains("<svg") && !told.contains("NaN"), "{told}");
    }

    #[test]
    fn names_of_lines_do_not_lie_on_each_other() {
        assert_eq!(apart(&[50, 52, 51, 200]), [50, 66, 82, 200]);
        assert_eq!(apart(&[208, 209, 210]), [178, 194, 210]);
        assert!(apart(&[]).is_empty());
    }
}
