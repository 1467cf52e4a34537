//! The colors and the style of a page, light, dark and for print. The drawing library writes a color as a number; the style sheet
//! replaces that number by the theme's color, so that one drawing fits every theme.

use std::fmt::Write;
use std::sync::LazyLock;

use plotters::style::RGBColor;

/// The role of a drawn element, which decides its color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThemeColor {
    Text,
    Faint,
    Grid,
    /// Bars, by the kind of round.
    Answering,
    Voting,
    Presenting,
    Other,
    /// Markers.
    Answer,
    Vote,
    Restart,
    Tool,
    Error,
    /// The lines and points of the n-th series.
    Series(usize),
}

/// Each color in its light and dark variant. The light variants must differ, because the style sheet identifies a color by its number.
const COLORS: [(u32, u32); 20] = [
    (0x1f2328, 0xe6e9ee),
    (0x656d76, 0x9aa4b0),
    (0xe4e7eb, 0x30363d),
    (0xb6cdf0, 0x2f4a75),
    (0xf4dca6, 0x6b5219),
    (0xb4dec6, 0x28593e),
    (0xd5d9de, 0x444c56),
    (0x1d4fb3, 0xa9c6ff),
    (0x9a4d00, 0xffc97d),
    (0x8250c4, 0xc7a6ff),
    (0x57606a, 0xa6b0bb),
    (0xc9202c, 0xff7b72),
    (0x3366cc, 0x7aa2f7),
    (0xc65d07, 0xf0a05a),
    (0x1a7f4b, 0x5fc48d),
    (0x9a4fd0, 0xc09af5),
    (0xbf3989, 0xee8fc0),
    (0x0f7c8a, 0x56c2d0),
    (0x8a6100, 0xd9b24c),
    (0x5b6b7c, 0xa9b8c8),
];

/// The number of series colors; after that they repeat.
pub(super) const SERIES_COLORS: usize = 8;

impl ThemeColor {
    fn index(self) -> usize {
        match self {
            ThemeColor::Text => 0,
            ThemeColor::Faint => 1,
            ThemeColor::Grid => 2,
            ThemeColor::Answering => 3,
            ThemeColor::Voting => 4,
            ThemeColor::Presenting => 5,
            ThemeColor::Other => 6,
            ThemeColor::Answer => 7,
            ThemeColor::Vote => 8,
            ThemeColor::Restart => 9,
            ThemeColor::Tool => 10,
            ThemeColor::Error => 11,
            ThemeColor::Series(number) => COLORS.len() - SERIES_COLORS + number % SERIES_COLORS,
        }
    }

    /// Its color, in the type of the drawing library.
    pub(super) fn rgb(self) -> RGBColor {
        let [_, red, green, blue] = COLORS[self.index()].0.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The style sheet of every page.
pub(super) fn style_sheet() -> &'static str {
    static STYLE: LazyLock<String> = LazyLock::new(|| {
        let (light, dark) = (css_variables(|(light, _)| light), css_variables(|(_, dark)| dark));
        let mut style = format!(
            ":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        );
        for (index, (light, _)) in COLORS.iter().enumerate() {
            let _written = writeln!(
                style,
                "svg [fill=\"#{light:06X}\"]{{fill:var(--c{index})}} svg [stroke=\"#{light:06X}\"]{{stroke:var(--c{index})}}"
            );
        }
        style + include_str!("style.css")
    });
    &STYLE
}

fn css_variables(variant: impl Fn((u32, u32)) -> u32) -> String {
    COLORS.iter().enumerate().map(|(index, colors)| format!("--c{index}:#{:06x};", variant(*colors))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_colors_are_different() {
        let light: std::collections::BTreeSet<_> = COLORS.iter().map(|(light, _)| light).collect();
        let dark: std::collections::BTreeSet<_> = COLORS.iter().map(|(_, dark)| dark).collect();
        assert_eq!((light.len(), dark.len()), (COLORS.len(), COLORS.len()));
        assert_eq!(ThemeColor::Series(SERIES_COLORS).rgb(), ThemeColor::Series(0).rgb());
        assert_ne!(ThemeColor::Series(0).rgb(), ThemeColor::Error.rgb());
        assert!(style_sheet().contains("svg [fill=\"#C9202C\"]{fill:var(--c11)}"));
    }
}
