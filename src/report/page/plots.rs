//! How the runs of a group lie: cost against time, and each measure by arm, every run a point. A mark's form tells the arm as well
//! as its colour does; one that is not filled did not succeed.

use maud::{Markup, html};
use plotters::data::Quartiles;
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, DrawError, Margins, Marker, Tooltip};
use super::format::{self, drawable};
use super::theme::ThemeColor;
use super::truncation_note;
use crate::experiment::table::{Comparison, Trial, arm_key};

/// The most arms that are drawn, and the most runs.
const MAX_ARMS: usize = 24;
const MAX_RUNS: usize = 2_000;
/// From so many values on there is a box.
const MIN_BOX_VALUES: usize = 4;
/// The height of an arm.
const STRIP_HEIGHT: u32 = 44;

/// What is measured of each run.
pub(super) struct RunMetric {
    pub(super) title: &'static str,
    value: fn(&Trial) -> Option<f64>,
    format: fn(f64) -> String,
    tick_format: fn(f64) -> String,
    /// The unit of an axis that is so long, and how much of what is measured it is.
    unit: fn(f64) -> (&'static str, f64),
}

pub(super) const TIME_METRIC: RunMetric = RunMetric {
    title: "Time",
    value: |trial| trial.took_s,
    format: format::seconds,
    tick_format: chart::tick_number,
    unit: chart::time_unit,
};
pub(super) const COST_METRIC: RunMetric = RunMetric {
    title: "Cost",
    value: |trial| trial.cost_usd,
    format: format::usd,
    tick_format: format::axis_usd,
    unit: |_| ("", 1.0),
};
pub(super) const TOKENS_METRIC: RunMetric = RunMetric {
    title: "Tokens",
    value: |trial| trial.tokens.map(|tokens| tokens as f64),
    format: format::rounded_count,
    tick_format: format::rounded_count,
    unit: |_| ("", 1.0),
};

impl RunMetric {
    fn checked_value(&self, trial: &Trial) -> Option<f64> {
        (self.value)(trial).and_then(drawable)
    }
}

fn shown_trials(of: &Comparison) -> impl Iterator<Item = &Trial> {
    of.trials.iter().take(MAX_RUNS).filter(|trial| trial.arm < of.arms.len().min(MAX_ARMS))
}

fn trial_marker(trial: &Trial) -> Marker {
    Marker { is_solid: trial.state == "succeeded", ..Marker::for_series(trial.arm) }
}

fn trial_tooltip(of: &Comparison, trial: &Trial, told: &str) -> String {
    let arm = short_arm_name(of, trial.arm, 60);
    let state = format::short_name(&trial.state, 20);
    format!("{} ({arm}, question {}, repeat {}, {state}): {told}", trial.run, trial.question + 1, trial.repeat)
}

/// An arm where there is little room: its key comes first, since variants of one config differ at the end of their names.
fn short_arm_name(of: &Comparison, arm: usize, most: usize) -> String {
    let name = of.arms.get(arm).map(|name| format::short_name(name, most)).unwrap_or_default();
    format!("{} {name}", arm_key(arm))
}

/// What the axes leave out.
fn omitted_note(of: &Comparison) -> Markup {
    html! { (truncation_note("arms", of.arms.len(), MAX_ARMS)) (truncation_note("runs", of.trials.len(), MAX_RUNS)) }
}

/// Cost against time, a point for each run.
pub(super) fn scatter_plot(of: &Comparison) -> Markup {
    let point = |trial: &Trial| Some((TIME_METRIC.checked_value(trial)?, COST_METRIC.checked_value(trial)?));
    let points: Vec<_> = shown_trials(of).filter_map(|trial| Some((trial, point(trial)?))).collect();
    if points.is_empty() {
        return html! { p class="note" { "No run has both a time and a cost yet." } };
    }
    let arms = of.arms.len().min(MAX_ARMS);
    let height = 320.max(u32::try_from(arms).unwrap_or_default() * 20 + 60);
    chart::figure("Cost against time", height, &omitted_note(of), |area| {
        let (end, most) = points.iter().fold((0.0, 0.0), |(x, y), (_, at)| (f64::max(x, at.0), f64::max(y, at.1)));
        let (unit, per) = chart::time_unit(end);
        let x = Axis { end: end / per * 1.05, name: unit, tick_label: Some(chart::tick_number) };
        let y = Axis { end: most * 1.08, name: "", tick_label: Some(format::axis_usd) };
        let chart = chart::draw_axes(area, &Margins { left: 76, right: 230 }, &x, &y)?;
        let mut tips = Vec::new();
        for (trial, (took, cost)) in &points {
            let place = chart.backend_coord(&(took / per, *cost));
            trial_marker(trial).draw(area, place)?;
            tips.push(Tooltip::for_marker(
                place,
                trial_tooltip(of, trial, &format!("{}, {}", format::seconds(*took), format::usd(*cost))),
            ));
        }
        let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 24;
        draw_legend(area, of, arms, right)?;
        Ok(tips)
    })
}

/// Which mark is whose.
fn draw_legend(area: &Area<'_>, of: &Comparison, arms: usize, left: i32) -> Result<(), DrawError> {
    let used = (0..arms).filter(|arm| of.trials.iter().any(|trial| trial.arm == *arm));
    for (arm, top) in used.zip((20..).step_by(20)) {
        Marker::for_series(arm).draw(area, (left, top))?;
        chart::draw_text(area, &self::short_arm_name(of, arm, 22), (left + 14, top), HPos::Left, ThemeColor::Text)?;
    }
    Ok(())
}

/// A measure by arm: each run a point, and a box from quartile to quartile with the median in it where there are enough.
pub(super) fn strip_plot(of: &Comparison, measured: &RunMetric) -> Markup {
    let values: Vec<_> = shown_trials(of).filter_map(|trial| Some((trial, measured.checked_value(trial)?))).collect();
    if values.is_empty() {
        return html! { h3 { (measured.title) } p class="note" { "No run has a value yet." } };
    }
    let arms = of.arms.len().min(MAX_ARMS);
    let height = u32::try_from(arms).unwrap_or_default() * STRIP_HEIGHT + 60;
    html! {
        h3 { (measured.title) }
        (chart::figure(&format!("{} of each run, by arm", measured.title), height, &omitted_note(of), |area| {
            draw_strip_plot(area, of, arms, &values, measured)
        }))
    }
}

fn draw_strip_plot(
    area: &Area<'_>,
    of: &Comparison,
    arms: usize,
    values: &[(&Trial, f64)],
    measured: &RunMetric,
) -> Result<Vec<Tooltip>, DrawError> {
    let most = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (unit, per) = (measured.unit)(most);
    let x = Axis { end: most / per * 1.05, name: unit, tick_label: Some(measured.tick_format) };
    let chart = chart::draw_axes(
        area,
        &Margins { left: 220, right: 40 },
        &x,
        &Axis { end: arms as f64, name: "", tick_label: None },
    )?;
    let place = |arm: usize, value: f64| chart.backend_coord(&(value / per, (arms - arm) as f64 - 0.5));
    let mut tips = Vec::new();
    for arm in 0..arms {
        let (left, middle) = place(arm, 0.0);
        chart::draw_text(area, &self::short_arm_name(of, arm, 22), (left - 12, middle), HPos::Right, ThemeColor::Text)?;
        let mine: Vec<_> = values.iter().filter(|(trial, _)| trial.arm == arm).copied().collect();
        draw_box(area, &mine, |value| place(arm, value))?;
        for (number, (trial, value)) in mine.iter().enumerate() {
            let (x, y) = place(arm, *value);
            let at = (x, y + jitter(number));
            trial_marker(trial).draw(area, at)?;
            tips.push(Tooltip::for_marker(at, trial_tooltip(of, trial, &(measured.format)(*value))));
        }
    }
    Ok(tips)
}

/// Points of one value lie beside each other.
fn jitter(number: usize) -> i32 {
    [0, -6, 6, -3, 3, -9, 9][number % 7]
}

fn draw_box(area: &Area<'_>, of: &[(&Trial, f64)], place: impl Fn(f64) -> (i32, i32)) -> Result<(), DrawError> {
    if of.len() < MIN_BOX_VALUES {
        return Ok(());
    }
    let values: Vec<f64> = of.iter().map(|(_, value)| *value).collect();
    let [_, lower, _, upper, _] = Quartiles::new(&values).values();
    let [(left, y), (right, _)] = [lower, upper].map(|value| place(f64::from(value)));
    chart::draw_bar(area, (left, y - 14), (right.max(left + 2), y + 14), ThemeColor::Other)?;
    let (median, _) = place(Quartiles::new(&values).median());
    chart::draw_line(area, vec![(median, y - 14), (median, y + 14)], ThemeColor::Text, 2)
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
        assert!(scatter_plot(&of).into_string().contains("No run has both"));
        let told = strip_plot(&of, &TIME_METRIC).into_string();
        assert!(told.contains("a&lt;b&gt;") && !told.contains("NaN"), "{told}");
        assert_eq!(told.matches("class=\"tip\"").count(), 1);
        assert!(strip_plot(&of, &TOKENS_METRIC).into_string().contains("No run has a value"));
    }

    #[test]
    fn one_run_that_took_no_time_can_be_drawn_and_many_get_a_box() {
        let of = comparison(&[(0, Some(0.0), Some(0.0))]);
        assert!(scatter_plot(&of).into_string().contains("<svg"));
        assert!(!strip_plot(&of, &TIME_METRIC).into_string().contains("#D5D9DE"));
        let of = comparison(&[(0, Some(1.0), None), (0, Some(2.0), None), (0, Some(3.0), None), (0, Some(9.0), None)]);
        assert!(strip_plot(&of, &TIME_METRIC).into_string().contains("#D5D9DE"), "a box from quartile to quartile");
    }
}
