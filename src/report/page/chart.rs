//! The common parts of all drawings: axes, markers that differ in shape and in color, tooltips. Drawn by plotters as SVG: the only
//! maintained library that needs neither a font nor a script and draws both bars and points (charming needs a script, charts-rs
//! brings its fonts, poloto draws only lines).

use std::io;

use maud::{Markup, PreEscaped, html};
use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{Cartesian2d, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, TextStyle};

use super::theme::{SERIES_COLORS, ThemeColor};

/// The width of every drawing, in SVG units.
pub(super) const WIDTH: u32 = 960;
/// The font size in drawings, in SVG units.
const FONT_SIZE: i32 = 15;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type DrawError = DrawingAreaErrorKind<io::Error>;
pub(super) type Point = (i32, i32);

/// A tooltip for an area of a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tooltip {
    pub(super) from: Point,
    pub(super) to: Point,
    pub(super) text: String,
}

impl Tooltip {
    /// The tooltip of a marker.
    pub(super) fn for_marker(at: Point, text: String) -> Tooltip {
        Tooltip { from: (at.0 - 7, at.1 - 8), to: (at.0 + 7, at.1 + 8), text }
    }
}

/// A drawing with its title, which screen readers read, and a caption.
pub(super) fn figure(
    title: &str,
    height: u32,
    caption: &Markup,
    draw: impl FnOnce(&Area<'_>) -> Result<Vec<Tooltip>, DrawError>,
) -> Markup {
    let mut svg = String::new();
    let drawn = draw(&SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area());
    html! {
        figure {
            @match drawn {
                Ok(tips) => div class="drawing" tabindex="0" { (figure_markup(title, height, &svg, &tips)) },
                Err(_) => p class="note" { (title) ": this could not be drawn." },
            }
            figcaption { (caption) }
        }
    }
}

fn figure_markup(title: &str, height: u32, svg: &str, tips: &[Tooltip]) -> Markup {
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (height) } role="img" aria-label=(title) {
            title { (title) }
            (PreEscaped(svg_content(svg)))
            @for tip in tips {
                rect class="tip" x=(tip.from.0) y=(tip.from.1)
                    width=((tip.to.0 - tip.from.0).max(1)) height=((tip.to.1 - tip.from.1).max(1)) rx="2" {
                    title { (tip.text) }
                }
            }
        }
    }
}

/// The content of the library's SVG, without the outer element. The library escapes the texts that it writes.
fn svg_content(svg: &str) -> &str {
    let content = svg.split_once('>').map_or("", |(_, rest)| rest);
    content.rsplit_once("</svg>").map_or(content, |(inside, _)| inside)
}

/// A legend: each marker with its meaning.
pub(super) fn legend(entries: &[(Marker, &str)]) -> Markup {
    html! { ul class="legend" { @for (marker, label) in entries { li { (symbol(|area| marker.draw(area, (12, 8)))) (label) } } } }
}

/// A drawing of the size of a character.
pub(super) fn symbol(draw: impl FnOnce(&Area<'_>) -> Result<(), DrawError>) -> Markup {
    let mut svg = String::new();
    let drawn = draw(&SVGBackend::with_string(&mut svg, (24, 16)).into_drawing_area());
    html! { @if drawn.is_ok() { svg viewBox="0 0 24 16" aria-hidden="true" { (PreEscaped(svg_content(&svg))) } } }
}

/// The shape of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerShape {
    Circle,
    Triangle,
    Diamond,
    Square,
    Cross,
    Tick,
}

/// A marker in a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) shape: MarkerShape,
    pub(super) color: ThemeColor,
    /// Whether it is filled or an outline.
    pub(super) is_solid: bool,
}

impl Marker {
    pub(super) const fn solid(shape: MarkerShape, color: ThemeColor) -> Marker {
        Marker { shape, color, is_solid: true }
    }

    pub(super) const fn outline(shape: MarkerShape, color: ThemeColor) -> Marker {
        Marker { shape, color, is_solid: false }
    }

    /// The marker of the n-th series: series differ in shape and color, in as many combinations as possible.
    pub(super) fn for_series(number: usize) -> Marker {
        const SHAPES: [MarkerShape; 4] =
            [MarkerShape::Circle, MarkerShape::Triangle, MarkerShape::Square, MarkerShape::Diamond];
        Marker::solid(SHAPES[(number + number / SERIES_COLORS) % SHAPES.len()], ThemeColor::Series(number))
    }

    pub(super) fn draw(self, area: &Area<'_>, at: Point) -> Result<(), DrawError> {
        let line = self.color.rgb().stroke_width(2);
        match self.shape {
            MarkerShape::Circle if self.is_solid => area.draw(&Circle::new(at, 5, self.color.rgb().filled())),
            MarkerShape::Circle => area.draw(&Circle::new(at, 4, line)),
            MarkerShape::Triangle => self.polygon(area, at, &[(0, -6), (6, 5), (-6, 5)]),
            MarkerShape::Diamond => self.polygon(area, at, &[(0, -7), (6, 0), (0, 7), (-6, 0)]),
            MarkerShape::Square => self.polygon(area, at, &[(-5, -5), (5, -5), (5, 5), (-5, 5)]),
            MarkerShape::Cross => {
                area.draw(&PathElement::new(translate(at, &[(-4, -4), (4, 4)]), line))?;
                area.draw(&PathElement::new(translate(at, &[(-4, 4), (4, -4)]), line))
            }
            MarkerShape::Tick => area.draw(&PathElement::new(translate(at, &[(0, -5), (0, 5)]), line)),
        }
    }

    fn polygon(self, area: &Area<'_>, at: Point, corners: &[Point]) -> Result<(), DrawError> {
        let mut corners = translate(at, corners);
        if self.is_solid {
            return area.draw(&Polygon::new(corners, self.color.rgb().filled()));
        }
        corners.push(corners[0]);
        area.draw(&PathElement::new(corners, self.color.rgb().stroke_width(2)))
    }
}

fn translate(offset: Point, points: &[Point]) -> Vec<Point> {
    points.iter().map(|(x, y)| (x + offset.0, y + offset.1)).collect()
}

/// A filled rectangle.
pub(super) fn draw_bar(area: &Area<'_>, from: Point, to: Point, color: ThemeColor) -> Result<(), DrawError> {
    area.draw(&Rectangle::new([from, to], color.rgb().filled()))
}

/// A line through points.
pub(super) fn draw_line(area: &Area<'_>, points: Vec<Point>, color: ThemeColor, width: u32) -> Result<(), DrawError> {
    area.draw(&PathElement::new(points, color.rgb().stroke_width(width)))
}

/// A text that starts at a point, or ends there with `HPos::Right`; it is vertically centered.
pub(super) fn draw_text(
    area: &Area<'_>,
    text: &str,
    at: Point,
    side: HPos,
    color: ThemeColor,
) -> Result<(), DrawError> {
    area.draw(&Text::new(text.to_owned(), at, text_style(color).pos(Pos::new(side, VPos::Center))))
}

fn text_style(color: ThemeColor) -> TextStyle<'static> {
    ("sans-serif", FONT_SIZE).into_font().color(&color.rgb())
}

/// An axis from 0 to `end`.
pub(super) struct Axis<'a> {
    pub(super) end: f64,
    pub(super) name: &'a str,
    /// The format of its numbers; an axis without it is not drawn.
    pub(super) tick_label: Option<fn(f64) -> String>,
}

/// The left and right margins of a drawing.
pub(super) struct Margins {
    pub(super) left: u32,
    pub(super) right: u32,
}

/// Draws two axes.
pub(super) fn draw_axes<'a, 'b>(
    area: &'a Area<'b>,
    margins: &Margins,
    x: &Axis<'_>,
    y: &Axis<'_>,
) -> Result<Chart<'a, 'b>, DrawError> {
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(10).margin_right(margins.right).x_label_area_size(44);
    match y.tick_label {
        Some(_) => builder.margin_left(4).y_label_area_size(margins.left),
        None => builder.margin_left(margins.left),
    };
    // An axis of length 0 would have no numbers.
    let end = |axis: &Axis<'_>| if axis.end > 0.0 { axis.end } else { 1.0 };
    let mut chart = builder.build_cartesian_2d(0.0..end(x), 0.0..end(y))?;
    let (x_format, y_format) = (x.tick_label.unwrap_or(tick_number), y.tick_label.unwrap_or(tick_number));
    let (x_formatter, y_formatter) = (|value: &f64| x_format(*value), |value: &f64| y_format(*value));
    let mut mesh = chart.configure_mesh();
    mesh.max_light_lines(0).bold_line_style(ThemeColor::Grid.rgb()).axis_style(ThemeColor::Grid.rgb());
    mesh.label_style(text_style(ThemeColor::Faint))
        .axis_desc_style(text_style(ThemeColor::Faint))
        .set_all_tick_mark_size(3);
    mesh.x_labels(8).x_label_formatter(&x_formatter).x_desc(x.name);
    match y.tick_label {
        Some(_) => mesh.y_labels(6).y_label_formatter(&y_formatter).y_desc(y.name),
        None => mesh.disable_y_mesh().disable_y_axis(),
    };
    mesh.draw()?;
    Ok(chart)
}

/// A suitable unit for a time: its name and its length in seconds.
pub(super) fn time_unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        7_200.0.. => ("hours", 3_600.0),
        180.0.. => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

/// A number without trailing zeros.
pub(super) fn tick_number(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(end: f64) -> String {
        let axis = || Axis { end, name: "a < b", tick_label: Some(tick_number) };
        figure("a & b", 100, &html! {}, |area| {
            draw_axes(area, &Margins { left: 60, right: 10 }, &axis(), &axis())?;
            Ok(vec![Tooltip::for_marker((5, 5), "<script>".to_owned())])
        })
        .into_string()
    }

    #[test]
    fn a_drawing_has_a_title_and_escapes_its_words() {
        let svg = drawn(10.0);
        for part in ["role=\"img\"", "<title>a &amp; b</title>", "a &lt; b", "&lt;script&gt;", "</svg>"] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("<script") && svg.matches("<svg").count() == 1);
    }

    #[test]
    fn axes_of_any_length_can_be_drawn() {
        for end in [0.0, 1e-9, 1.0, 86_400.0, 1e12] {
            assert!(!drawn(end).contains("NaN"), "{end}");
        }
    }

    #[test]
    fn every_marker_can_be_drawn() {
        for shape in [
            MarkerShape::Circle,
            MarkerShape::Triangle,
            MarkerShape::Diamond,
            MarkerShape::Square,
            MarkerShape::Cross,
            MarkerShape::Tick,
        ] {
            for marker in [Marker::solid(shape, ThemeColor::Answer), Marker::outline(shape, ThemeColor::Answer)] {
                assert!(legend(&[(marker, "m")]).into_string().contains("#1D4FB3"), "{marker:?}");
            }
        }
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        assert_eq!(
            [0.5, 179.0, 180.0, 7_200.0].map(|end| time_unit(end).0),
            ["seconds", "seconds", "minutes", "hours"]
        );
        assert_eq!([0.5, 10.0, 0.0].map(tick_number), ["0.5", "10", "0"]);
    }
}
