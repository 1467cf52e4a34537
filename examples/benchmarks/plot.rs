//! The duration of check_status by the number of runs: two plots side by side, for ended runs on disk and for live runs.

use std::error::Error;

use anyhow::anyhow;
use plotters::chart::ChartBuilder;
use plotters::coord::combinators::IntoLogRange;
use plotters::drawing::IntoDrawingArea;
use plotters::element::{Circle, PathElement, Text};
use plotters::prelude::{LineSeries, SVGBackend, SeriesLabelPosition};
use plotters::style::{Color, IntoFont, RGBColor, WHITE};
use serde_json::Value;

const SIZE: (u32, u32) = (960, 400);
const FONT: &str = "sans-serif";
/// Colours that also differ in lightness, for colour-blind readers.
const COLOURS: [RGBColor; 3] = [RGBColor(0, 68, 136), RGBColor(187, 85, 102), RGBColor(120, 120, 120)];

/// The numbers of runs with a label on the axis.
const MEASURED: [f64; 5] = [1.0, 10.0, 50.0, 100.0, 1_000.0];

/// A line of the plot: its name, and its points by the number of runs.
type Line = (String, Vec<(f64, f64)>);

/// The plot as SVG.
pub(crate) fn growth(lines: &[Value]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let drawn = draw(
        &mut svg,
        [("ended runs on disk", "on_disk"), ("live runs", "live")].map(|(title, key)| (title, lines_by(lines, key))),
    );
    drawn.map_err(|error| anyhow!("the plot could not be drawn: {error}"))?;
    Ok(svg)
}

fn lines_by(lines: &[Value], key: &str) -> Vec<Line> {
    let mut found: Vec<Line> = Vec::new();
    let mut add = |name: &str, point: (f64, f64)| match found.iter_mut().find(|(known, _)| known == name) {
        Some((_, points)) => points.push(point),
        None => found.push((name.to_owned(), vec![point])),
    };
    let grows = lines.iter().filter(|line| line["unit"] == "ms");
    for line in grows.clone() {
        if let (Some(runs), Some(took), Some(name)) =
            (line[key].as_f64(), line["median"].as_f64(), line["name"].as_str())
        {
            add(name, (runs, took));
        }
    }
    for line in grows.filter(|line| line["name"].as_str().is_some_and(|name| !name.contains("latest"))) {
        if let (Some(runs), Some(bare)) = (line[key].as_f64(), line["bare"].as_f64()) {
            add("a bare server's constant", (runs, bare));
        }
    }
    found
}

fn draw(svg: &mut String, panels: [(&str, Vec<Line>); 2]) -> Result<(), Box<dyn Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let highest = panels.iter().flat_map(|(_, lines)| lines).flat_map(|(_, points)| points).map(|point| point.1);
    let highest = highest.fold(0.1, f64::max) * 1.5;
    for (area, (title, lines)) in root.split_evenly((1, 2)).iter().zip(&panels) {
        let max_runs = lines.iter().flat_map(|(_, points)| points).map(|point| point.0).fold(10.0, f64::max);
        let mut chart = ChartBuilder::on(area)
            .caption(format!("check_status by {title}"), (FONT, 16))
            .margin(12)
            .x_label_area_size(40)
            .y_label_area_size(60)
            .build_cartesian_2d((1.0..max_runs * 1.2).log_scale(), 0.0..highest)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_desc("runs")
            .y_desc("ms, median")
            .x_label_formatter(&|runs| if MEASURED.contains(runs) { format!("{runs:.0}") } else { String::new() })
            .label_style((FONT, 13))
            .draw()?;
        for ((name, points), colour) in lines.iter().zip(COLOURS) {
            let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
            line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            let above = |(x, y): &(f64, f64)| (x * 0.85, y + highest * 0.045);
            let last =
                points.last().map(|last| Text::new(format!("{:.2}", last.1), above(last), (FONT, 12).into_font()));
            chart.draw_series(last)?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE)
            .border_style(COLOURS[2])
            .label_font((FONT, 12))
            .draw()?;
    }
    root.present()?;
    Ok(())
}
