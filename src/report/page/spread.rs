//! How the runs of a group lie: cost against time, and each measure by arm, every run a point. A mark's form tells the arm as well
//! as its colour does; one that is not filled did not succeed.

use maud::{Markup, html};
use plotters::data::Quartiles;
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, Error, Mark, Room, Tip};
use super::left_out;
use super::theme::Ink;
use super::words::{self, sane};
use crate::experiment::table::{Comparison, Trial, arm_key};

/// The most arms that are drawn, and the most runs.
const MOST_ARMS: usize = 24;
const MOST_RUNS: usize = 2_000;
/// From so many values on there is a box.
const BOX: usize = 4;
/// The height of an arm.
const LANE: u32 = 44;

/// What is measured of each run.
pub(super) struct Measured {
    pub(super) title: &'static str,
    of: fn(&Trial) -> Option<f64>,
    told: fn(f64) -> String,
    axis: fn(f64) -> String,
    /// The unit of an axis that is so long, and how much of what is measured it is.
    unit: fn(f64) -> (&'static str, f64),
}

pub(super) const TIME: Measured =
    Measured { title: "Time", of: |trial| trial.took_s, told: words::seconds, axis: chart::plain, unit: chart::unit };
pub(super) const COST: Measured = Measured {
    title: "Cost",
    of: |trial| trial.cost_usd,
    told: words::usd,
    axis: words::round_usd,
    unit: |_| ("", 1.0),
};
pub(super) const TOKENS: Measured = Measured {
    title: "Tokens",
    of: |trial| trial.tokens.map(|tokens| tokens as f64),
    told: words::about,
    axis: words::about,
    unit: |_| ("", 1.0),
};

impl Measured {
    fn value(&self, trial: &Trial) -> Option<f64> {
        (self.of)(trial).and_then(sane)
    }
}

fn shown(of: &Comparison) -> impl Iterator<Item = &Trial> {
    of.trials.iter().take(MOST_RUNS).filter(|trial| trial.arm < of.arms.len().min(MOST_ARMS))
}

fn mark(trial: &Trial) -> Mark {
    Mark { is_solid: trial.state == "succeeded", ..Mark::of_series(trial.arm) }
}

fn tip(of: &Comparison, trial: &Trial, told: &str) -> String {
    let arm = arm(of, trial.arm, 60);
    let state = words::plain_name(&trial.state, 20);
    format!("{} ({arm}, question {}, repeat {}, {state}): {told}", trial.run, trial.question + 1, trial.repeat)
}

/// An arm where there is little room: its key comes first, since variants of one config differ at the end of their names.
fn arm(of: &Comparison, arm: usize, most: usize) -> String {
    let name = of.arms.get(arm).map(|name| words::plain_name(name, most)).unwrap_or_default();
    format!("{} {name}", arm_key(arm))
}

/// What the axes leave out.
fn below(of: &Comparison) -> Markup {
    html! { (left_out("arms", of.arms.len(), MOST_ARMS)) (left_out("runs", of.trials.len(), MOST_RUNS)) }
}

/// Cost against time, a point for each run.
pub(super) fn scatter(of: &Comparison) -> Markup {
    let point = |trial: &Trial| Some((TIME.value(trial)?, COST.value(trial)?));
    let points: Vec<_> = shown(of).filter_map(|trial| Some((trial, point(trial)?))).collect();
    if points.is_empty() {
        return html! { p class="note" { "No run has both a time and a cost yet." } };
    }
    let arms = of.arms.len().min(MOST_ARMS);
    let height = 320.max(u32::try_from(arms).unwrap_or_default() * 20 + 60);
    chart::figure("Cost against time", height, &below(of), |area| {
        let (end, most) = points.iter().fold((0.0, 0.0), |(x, y), (_, at)| (f64::max(x, at.0), f64::max(y, at.1)));
        let (unit, per) = chart::unit(end);
        let x = Axis { end: end / per * 1.05, name: unit, told: Some(chart::plain) };
        let y = Axis { end: most * 1.08, name: "", told: Some(words::round_usd) };
        let chart = chart::axes(area, &Room { left: 76, right: 230 }, &x, &y)?;
        let mut tips = Vec::new();
        for (trial, (took, cost)) in &points {
            let place = chart.backend_coord(&(took / per, *cost));
            mark(trial).draw(area, place)?;
            tips.push(Tip::of_mark(
                place,
                tip(of, trial, &format!("{}, {}", words::seconds(*took), words::usd(*cost))),
            ));
        }
        let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 24;
        key(area, of, arms, right)?;
        Ok(tips)
    })
}

/// Which mark is whose.
fn key(area: &Area<'_>, of: &Comparison, arms: usize, left: i32) -> Result<(), Error> {
    let used = (0..arms).filter(|arm| of.trials.iter().any(|trial| trial.arm == *arm));
    for (arm, top) in used.zip((20..).step_by(20)) {
        Mark::of_series(arm).draw(area, (left, top))?;
        chart::word(area, &self::arm(of, arm, 22), (left + 14, top), HPos::Left, Ink::Text)?;
    }
    Ok(())
}

/// A measure by arm: each run a point, and a box from quartile to quartile with the median in it where there are enough.
pub(super) fn strips(of: &Comparison, measured: &Measured) -> Markup {
    let values: Vec<_> = shown(of).filter_map(|trial| Some((trial, measured.value(trial)?))).collect();
    if values.is_empty() {
        return html! { h3 { (measured.title) } p class="note" { "No run has a value yet." } };
    }
    let arms = of.arms.len().min(MOST_ARMS);
    let height = u32::try_from(arms).unwrap_or_default() * LANE + 60;
    html! {
        h3 { (measured.title) }
        (chart::figure(&format!("{} of each run, by arm", measured.title), height, &below(of), |area| {
            draw_strips(area, of, arms, &values, measured)
        }))
    }
}

fn draw_strips(
    area: &Area<'_>,
    of: &Comparison,
    arms: usize,
    values: &[(&Trial, f64)],
    measured: &Measured,
) -> Result<Vec<Tip>, Error> {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (unit, per) = (measured.unit)(most);
    let x = Axis { end: most / per * 1.05, name: unit, told: Some(measured.axis) };
    let chart =
        chart::axes(area, &Room { left: 220, right: 40 }, &x, &Axis { end: arms as f64, name: "", told: None })?;
    let place = |arm: usize, value: f64| chart.backend_coord(&(value / per, (arms - arm) as f64 - 0.5));
    let mut tips = Vec::new();
    for arm in 0..arms {
        let (left, middle) = place(arm, 0.0);
        chart::word(area, &self::arm(of, arm, 22), (left - 12, middle), HPos::Right, Ink::Text)?;
        let mine: Vec<_> = values.iter().filter(|(trial, _)| trial.arm == arm).copied().collect();
        boxed(area, &mine, |value| place(arm, value))?;
        for (number, (trial, value)) in mine.iter().enumerate() {
            let (x, y) = place(arm, *value);
            let at = (x, y + scattered(number));
            mark(trial).draw(area, at)?;
            tips.push(Tip::of_mark(at, tip(of, trial, &(measured.told)(*value))));
        }
    }
    Ok(tips)
}

/// Points of one value lie beside each other.
fn scattered(number: usize) -> i32 {
    [0, -6, 6, -3, 3, -9, 9][number % 7]
}

fn boxed(area: &Area<'_>, of: &[(&Trial, f64)], place: impl Fn(f64) -> (i32, i32)) -> Result<(), Error> {
    if of.len() < BOX {
        return Ok(());
    }
    let values: Vec<f64> = of.iter().map(|(_, value)| *value).collect();
    let [_, lower, _, upper, _] = Quartiles::new(&values).values();
    let [(left, y), (right, _)] = [lower, upper].map(|value| place(f64::from(value)));
    chart::bar(area, (left, y - 14), (right.max(left + 2), y + 14), Ink::Other)?;
    let (median, _) = place(Quartiles::new(&values).median());
    chart::line(area, vec![(median, y - 14), (median, y + 14)], Ink::Text, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(values: &[(usize, Option<f64>, Option<f64>)]) -> Comparison {
        let trial = |(place, (arm, took_s, cost_usd)): (usize, &(usize, Option<f64>, Option<f64>))| Trial {
            run: format!("mg-0000000{}", place % 10).parse().expect("id"),
            arm: *arm,
            question: 0,
            repeat: 1,
            state: "succeeded".to_owned(),
            took_s: *took_s,
            cost_usd: *cost_usd,
            tokens: None,
            answer: None,
            winner: None,
            model: None,
            votes: std::collections::BTreeMap::new(),
        };
        let trials = values.iter().enumerate().map(trial).collect();
        Comparison { group: "g".into(), arms: vec!["a<b>".into(), "b".into()], questions: vec!["q".into()], trials }
    }

    #[test]
    fn what_is_no_number_is_not_drawn() {
        let of = comparison(&[(0, Some(f64::NAN), Some(1.0)), (1, Some(1.0), None), (7, Some(1.0), Some(1.0))]);
        assert!(scatter(&of).into_string().contains("No run has both"));
        let told = strips(&of, &TIME).into_string();
        assert!(told.contains("a&lt;b&gt;") && !told.contains("NaN"), "{told}");
        assert_eq!(told.matches("class=\"tip\"").count(), 1);
        assert!(strips(&of, &TOKENS).into_string().contains("No run has a value"));
    }

    #[test]
    fn one_run_that_took_no_time_can_be_drawn_and_many_get_a_box() {
        let of = comparison(&[(0, Some(0.0), Some(0.0))]);
        assert!(scatter(&of).into_string().contains("<svg"));
        assert!(!strips(&of, &TIME).into_string().contains("#D5D9DE"));
        let of = comparison(&[(0, Some(1.0), None), (0, Some(2.0), None), (0, Some(3.0), None), (0, Some(9.0), None)]);
        assert!(strips(&of, &TIME).into_string().contains("#D5D9DE"), "a box from quartile to quartile");
    }
}
