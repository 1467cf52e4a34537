//! What all drawings have in common: axes, marks that differ in shape as well as in colour, words that show when a pointer rests
//! on something. Drawn by plotters as SVG, the only kept library that needs neither a font nor a script and draws bars as well as
//! points (charming wants a script, charts-rs brings its fonts, poloto knows lines only).

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

/// How wide every drawing is, in its own units.
pub(super) const WIDTH: u32 = 960;
/// The height of the letters in one.
const FONT_SIZE: i32 = 15;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
pub(super) type DrawError = DrawingAreaErrorKind<io::Error>;
pub(super) type Point = (i32, i32);

/// Words for a part of a drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tooltip {
    pub(super) from: Point,
    pub(super) to: Point,
    pub(super) text: String,
}

impl Tooltip {
    /// Words for a mark.
    pub(super) fn for_marker(at: Point, words: String) -> Tooltip {
        Tooltip { from: (at.0 - 7, at.1 - 8), to: (at.0 + 7, at.1 + 8), text: words }
    }
}

/// A drawing with its title, which is also what is read out of it, and what stands below.
pub(super) fn figure(
    title: &str,
    height: u32,
    below: &Markup,
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
            figcaption { (below) }
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

/// What the library wrote, without the element around it. It escapes the texts that it writes.
fn svg_content(svg: &str) -> &str {
    let begun = svg.split_once('>').map_or("", |(_, rest)| rest);
    begun.rsplit_once("</svg>").map_or(begun, |(inside, _)| inside)
}

/// What marks look like beside the words for them.
pub(super) fn legend(of: &[(Marker, &str)]) -> Markup {
    html! { ul class="legend" { @for (mark, words) in of { li { (symbol(|area| mark.draw(area, (12, 8)))) (words) } } } }
}

/// A drawing of the size of a letter.
pub(super) fn symbol(draw: impl FnOnce(&Area<'_>) -> Result<(), DrawError>) -> Markup {
    let mut svg = String::new();
    let drawn = draw(&SVGBackend::with_string(&mut svg, (24, 16)).into_drawing_area());
    html! { @if drawn.is_ok() { svg viewBox="0 0 24 16" aria-hidden="true" { (PreEscaped(svg_content(&svg))) } } }
}

/// The form of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkerShape {
    Circle,
    Triangle,
    Diamond,
    Square,
    Cross,
    Tick,
}

/// A mark in a drawing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) shape: MarkerShape,
    pub(super) color: ThemeColor,
    /// Filled, or an outline.
    pub(super) is_solid: bool,
}

impl Marker {
    pub(super) const fn solid(shape: MarkerShape, ink: ThemeColor) -> Marker {
        Marker { shape, color: ink, is_solid: true }
    }

    pub(super) const fn outline(shape: MarkerShape, ink: ThemeColor) -> Marker {
        Marker { shape, color: ink, is_solid: false }
    }

    /// Of the n-th of several: told by its form as well as by its colour, and as often unlike the others as both allow.
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

fn translate(by: Point, points: &[Point]) -> Vec<Point> {
    points.iter().map(|(x, y)| (x + by.0, y + by.1)).collect()
}

/// A filled rectangle.
pub(super) fn draw_bar(area: &Area<'_>, from: Point, to: Point, ink: ThemeColor) -> Result<(), DrawError> {
    area.draw(&Rectangle::new([from, to], ink.rgb().filled()))
}

/// A line through some places.
pub(super) fn draw_line(area: &Area<'_>, places: Vec<Point>, ink: ThemeColor, width: u32) -> Result<(), DrawError> {
    area.draw(&PathElement::new(places, ink.rgb().stroke_width(width)))
}

/// A word that begins, or with `HPos::Right` ends, at a place, at half its height.
pub(super) fn draw_text(area: &Area<'_>, text: &str, at: Point, side: HPos, ink: ThemeColor) -> Result<(), DrawError> {
    area.draw(&Text::new(text.to_owned(), at, text_style(ink).pos(Pos::new(side, VPos::Center))))
}

fn text_style(ink: ThemeColor) -> TextStyle<'static> {
    ("sans-serif", FONT_SIZE).into_font().color(&ink.rgb())
}

/// An axis from nothing to `end`.
pub(super) struct Axis<'a> {
    pub(super) end: f64,
    pub(super) name: &'a str,
    /// How its numbers read; an axis without them is not drawn.
    pub(super) tick_label: Option<fn(f64) -> String>,
}

/// How much room a drawing leaves on its left and its right.
pub(super) struct Margins {
    pub(super) left: u32,
    pub(super) right: u32,
}

/// Draws two axes.
pub(super) fn draw_axes<'a, 'b>(
    area: &'a Area<'b>,
    room: &Margins,
    x: &Axis<'_>,
    y: &Axis<'_>,
) -> Result<Chart<'a, 'b>, DrawError> {
    let mut builder = ChartBuilder::on(area);
    builder.margin_top(10).margin_right(room.right).x_label_area_size(44);
    match y.tick_label {
        Some(_) => builder.margin_left(4).y_label_area_size(room.left),
        None => builder.margin_left(room.left),
    };
    // An axis without length would have no numbers to put on it.
    let end = |axis: &Axis<'_>| if axis.end > 0.0 { axis.end } else { 1.0 };
    let mut chart = builder.build_cartesian_2d(0.0..end(x), 0.0..end(y))?;
    let (x_told, y_told) = (x.tick_label.unwrap_or(tick_number), y.tick_label.unwrap_or(tick_number));
    let (x_words, y_words) = (|value: &f64| x_told(*value), |value: &f64| y_told(*value));
    let mut mesh = chart.configure_mesh();
    mesh.max_light_lines(0).bold_line_style(ThemeColor::Grid.rgb()).axis_style(ThemeColor::Grid.rgb());
    mesh.label_style(text_style(ThemeColor::Faint))
        .axis_desc_style(text_style(ThemeColor::Faint))
        .set_all_tick_mark_size(3);
    mesh.x_labels(8).x_label_formatter(&x_words).x_desc(x.name);
    match y.tick_label {
        Some(_) => mesh.y_labels(6).y_label_formatter(&y_words).y_desc(y.name),
        None => mesh.disable_y_mesh().disable_y_axis(),
    };
    mesh.draw()?;
    Ok(chart)
}

/// The unit in which so many seconds read well: its name, and its seconds.
pub(super) fn time_unit(seconds: f64) -> (&'static str, f64) {
    match seconds {
        7_200.0.. => ("hours", 3_600.0),
        180.0.. => ("minutes", 60.0),
        _ => ("seconds", 1.0),
    }
}

/// A number with no more digits than it needs.
pub(super) fn tick_number(value: f64) -> String {
    let told = format!("{value:.6}");
    told.trim_end_matches('0').trim_end_matches('.').to_owned()
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
    fn every_mark_can_be_drawn() {
        for shape in [
            MarkerShape::Circle,
            MarkerShape::Triangle,
            MarkerShape::Diamond,
            MarkerShape::Square,
            MarkerShape::Cross,
            MarkerShape::Tick,
        ] {
            for mark in [Marker::solid(shape, ThemeColor::Answer), Marker::outline(shape, ThemeColor::Answer)] {
                assert!(legend(&[(mark, "m")]).into_string().contains("#1D4FB3"), "{mark:?}");
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
