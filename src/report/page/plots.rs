//! Plots of a group's runs: cost against time, and each measure by arm, with a point for each run. The shape and the color of a
//! marker show the arm; an outline marks a run that did not succeed.

use maud::{Markup, html};
use plotters::data::Quartiles;
use plotters::style::text_anchor::HPos;

use super::chart::{self, Area, Axis, DrawError, Margins, Marker, Tooltip};
use super::format::{self, drawable};
use super::theme::ThemeColor;
use super::truncation_note;
use crate::experiment::table::{Comparison, Trial, arm_key};

/// The most arms and the most runs that are drawn.
const MAX_ARMS: usize = 24;
const MAX_RUNS: usize = 2_000;
/// The least number of values for a box.
const MIN_BOX_VALUES: usize = 4;
/// The height of an arm's strip.
const STRIP_HEIGHT: u32 = 44;

/// A measure of a run.
pub(super) struct RunMetric {
    pub(super) title: &'static str,
    value: fn(&Trial) -> Option<f64>,
    format: fn(f64) -> String,
    tick_format: fn(f64) -> String,
    /// The unit for an axis of this length: its name and its size.
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

fn shown_trials(comparison: &Comparison) -> impl Iterator<Item = &Trial> {
    comparison.trials.iter().take(MAX_RUNS).filter(|trial| trial.arm < comparison.arms.len().min(MAX_ARMS))
}

fn trial_marker(trial: &Trial) -> Marker {
    Marker { is_solid: trial.state == "succeeded", ..Marker::for_series(trial.arm) }
}

fn trial_tooltip(comparison: &Comparison, trial: &Trial, values: &str) -> String {
    let arm = short_arm_name(comparison, trial.arm, 60);
    let state = format::short_name(&trial.state, 20);
    format!("{} ({arm}, question {}, repeat {}, {state}): {values}", trial.run, trial.question + 1, trial.repeat)
}

/// A short name of an arm: the key comes first, because variants of one config differ only at the end of their names.
fn short_arm_name(comparison: &Comparison, arm: usize, max_chars: usize) -> String {
    let name = comparison.arms.get(arm).map(|name| format::short_name(name, max_chars)).unwrap_or_default();
    format!("{} {name}", arm_key(arm))
}

/// Notes about arms and runs that are not drawn.
fn omitted_note(comparison: &Comparison) -> Markup {
    html! { (truncation_note("arms", comparison.arms.len(), MAX_ARMS)) (truncation_note("runs", comparison.trials.len(), MAX_RUNS)) }
}

/// Cost against time, a point for each run.
pub(super) fn scatter_plot(comparison: &Comparison) -> Markup {
    let point = |trial: &Trial| Some((TIME_METRIC.checked_value(trial)?, COST_METRIC.checked_value(trial)?));
    let points: Vec<_> = shown_trials(comparison).filter_map(|trial| Some((trial, point(trial)?))).collect();
    if points.is_empty() {
        return html! { p class="note" { "No run has both a time and a cost yet." } };
    }
    let arms = comparison.arms.len().min(MAX_ARMS);
    let height = 320.max(u32::try_from(arms).unwrap_or_default() * 20 + 60);
    chart::figure("Cost against time", height, &omitted_note(comparison), |area| {
        let (end, max_cost) =
            points.iter().fold((0.0, 0.0), |(x, y), (_, point)| (f64::max(x, point.0), f64::max(y, point.1)));
        let (unit, unit_size) = chart::time_unit(end);
        let x = Axis { end: end / unit_size * 1.05, name: unit, tick_label: Some(chart::tick_number) };
        let y = Axis { end: max_cost * 1.08, name: "", tick_label: Some(format::axis_usd) };
        let chart = chart::draw_axes(area, &Margins { left: 76, right: 230 }, &x, &y)?;
        let mut tips = Vec::new();
        for (trial, (took, cost)) in &points {
            let position = chart.backend_coord(&(took / unit_size, *cost));
            trial_marker(trial).draw(area, position)?;
            tips.push(Tooltip::for_marker(
                position,
                trial_tooltip(comparison, trial, &format!("{}, {}", format::seconds(*took), format::usd(*cost))),
            ));
        }
        let right = chart.backend_coord(&(chart.x_range().end, 0.0)).0 + 24;
        draw_legend(area, comparison, arms, right)?;
        Ok(tips)
    })
}

/// Draws the legend of the arms.
fn draw_legend(area: &Area<'_>, comparison: &Comparison, arms: usize, left: i32) -> Result<(), DrawError> {
    let used = (0..arms).filter(|arm| comparison.trials.iter().any(|trial| trial.arm == *arm));
    for (arm, top) in used.zip((20..).step_by(20)) {
        Marker::for_series(arm).draw(area, (left, top))?;
        chart::draw_text(
            area,
            &self::short_arm_name(comparison, arm, 22),
            (left + 14, top),
            HPos::Left,
            ThemeColor::Text,
        )?;
    }
    Ok(())
}

/// A measure by arm: a point for each run, and a box from quartile to quartile with the median if there are enough values.
pub(super) fn strip_plot(comparison: &Comparison, metric: &RunMetric) -> Markup {
    let values: Vec<_> =
        shown_trials(comparison).filter_map(|trial| Some((trial, metric.checked_value(trial)?))).collect();
    if values.is_empty() {
        return html! { h3 { (metric.title) } p class="note" { "No run has a value yet." } };
    }
    let arms = comparison.arms.len().min(MAX_ARMS);
    let height = u32::try_from(arms).unwrap_or_default() * STRIP_HEIGHT + 60;
    html! {
        h3 { (metric.title) }
        (chart::figure(&format!("{} of each run, by arm", metric.title), height, &omitted_note(comparison), |area| {
            draw_strip_plot(area, comparison, arms, &values, metric)
        }))
    }
}

fn draw_strip_plot(
    area: &Area<'_>,
    comparison: &Comparison,
    arms: usize,
    values: &[(&Trial, f64)],
    metric: &RunMetric,
) -> Result<Vec<Tooltip>, DrawError> {
    let max_value = values.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let (unit, unit_size) = (metric.unit)(max_value);
    let x = Axis { end: max_value / unit_size * 1.05, name: unit, tick_label: Some(metric.tick_format) };
    let chart = chart::draw_axes(
        area,
        &Margins { left: 220, right: 40 },
        &x,
        &Axis { end: arms as f64, name: "", tick_label: None },
    )?;
    let position_of = |arm: usize, value: f64| chart.backend_coord(&(value / unit_size, (arms - arm) as f64 - 0.5));
    let mut tips = Vec::new();
    for arm in 0..arms {
        let (left, middle) = position_of(arm, 0.0);
        chart::draw_text(
            area,
            &self::short_arm_name(comparison, arm, 22),
            (left - 12, middle),
            HPos::Right,
            ThemeColor::Text,
        )?;
        let arm_values: Vec<_> = values.iter().filter(|(trial, _)| trial.arm == arm).copied().collect();
        draw_box(area, &arm_values, |value| position_of(arm, value))?;
        for (number, (trial, value)) in arm_values.iter().enumerate() {
            let (x, y) = position_of(arm, *value);
            let at = (x, y + jitter(number));
            trial_marker(trial).draw(area, at)?;
            tips.push(Tooltip::for_marker(at, trial_tooltip(comparison, trial, &(metric.format)(*value))));
        }
    }
    Ok(tips)
}

/// Shifts points vertically so that equal values stay visible.
fn jitter(number: usize) -> i32 {
    [0, -6, 6, -3, 3, -9, 9][number % 7]
}

fn draw_box(
    area: &Area<'_>,
    trials: &[(&Trial, f64)],
    position_of: impl Fn(f64) -> (i32, i32),
) -> Result<(), DrawError> {
    if trials.len() < MIN_BOX_VALUES {
        return Ok(());
    }
    let values: Vec<f64> = trials.iter().map(|(_, value)| *value).collect();
    let [_, lower, _, upper, _] = Quartiles::new(&values).values();
    let [(left, y), (right, _)] = [lower, upper].map(|value| position_of(f64::from(value)));
    chart::draw_bar(area, (left, y - 14), (right.max(left + 2), y + 14), ThemeColor::Other)?;
    let (median, _) = position_of(Quartiles::new(&values).median());
    chart::draw_line(area, vec![(median, y - 14), (median, y + 14)], ThemeColor::Text, 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_comparison(values: &[(usize, Option<f64>, Option<f64>)]) -> Comparison {
        let trial = |(index, (arm, took_s, cost_usd)): (usize, &(usize, Option<f64>, Option<f64>))| Trial {
            run: format!("mg-0000000{}", index % 10).parse().expect("id"),
            arm: *arm,
            question: 0,
            repeat: 1,
            state: "succeeded".to_owned(),
            took_s: *took_s,
            cost_usd: *cost_usd,
            tokens: None,
            answer: None,
            winner: None,
            partial_by: None,
            model: None,
            votes: std::collections::BTreeMap::new(),
        };
        let trials = values.iter().enumerate().map(trial).collect();
        Comparison { group: "g".into(), arms: vec!["a<b>".into(), "b".into()], questions: vec!["q".into()], trials }
    }

    #[test]
    fn impossible_numbers_are_not_drawn() {
        let comparison =
            test_comparison(&[(0, Some(f64::NAN), Some(1.0)), (1, Some(1.0), None), (7, Some(1.0), Some(1.0))]);
        assert!(scatter_plot(&comparison).into_string().contains("No run has both"));
        let svg = strip_plot(&comparison, &TIME_METRIC).into_string();
        assert!(svg.contains("a&lt;b&gt;") && !svg.contains("NaN"), "{svg}");
        assert_eq!(svg.matches("class=\"tip\"").count(), 1);
        assert!(strip_plot(&comparison, &TOKENS_METRIC).into_string().contains("No run has a value"));
    }

    #[test]
    fn one_run_that_took_no_time_can_be_drawn_and_many_get_a_box() {
        let comparison = test_comparison(&[(0, Some(0.0), Some(0.0))]);
        assert!(scatter_plot(&comparison).into_string().contains("<svg"));
        assert!(!strip_plot(&comparison, &TIME_METRIC).into_string().contains("#D5D9DE"));
        let comparison =
            test_comparison(&[(0, Some(1.0), None), (0, Some(2.0), None), (0, Some(3.0), None), (0, Some(9.0), None)]);
        assert!(
            strip_plot(&comparison, &TIME_METRIC).into_string().contains("#D5D9DE"),
            "a box from quartile to quartile"
        );
    }
}
