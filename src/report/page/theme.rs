//! Colours and style of a page, light and dark, on paper too. The drawing library writes a colour as a number; the style sheet
//! finds that number and puts the theme's colour in its place, so that one drawing serves every theme.

use std::fmt::Write;
use std::sync::LazyLock;

use plotters::style::RGBColor;

/// What a drawn thing is, which decides its colour.
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
    /// Marks.
    Answer,
    Vote,
    Restart,
    Tool,
    Error,
    /// The lines and points of the n-th of several.
    Series(usize),
}

/// Each colour for light and dark. The light ones differ from each other, since the style sheet knows a colour by its number.
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

/// How many colours there are for several of a kind; then they begin again.
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

    /// Its colour, as the drawing library takes it.
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
        for (place, (light, _)) in COLORS.iter().enumerate() {
            let _never_fails = writeln!(
                style,
                "svg [fill=\"#{light:06X}\"]{{fill:var(--c{place})}} svg [stroke=\"#{light:06X}\"]{{stroke:var(--c{place})}}"
            );
        }
        style + include_str!("style.css")
    });
    &STYLE
}

fn css_variables(of: impl Fn((u32, u32)) -> u32) -> String {
    COLORS.iter().enumerate().map(|(place, colours)| format!("--c{place}:#{:06x};", of(*colours))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_have_one_colour() {
        let light: std::collections::BTreeSet<_> = COLORS.iter().map(|(light, _)| light).collect();
        let dark: std::collections::BTreeSet<_> = COLORS.iter().map(|(_, dark)| dark).collect();
        assert_eq!((light.len(), dark.len()), (COLORS.len(), COLORS.len()));
        assert_eq!(ThemeColor::Series(SERIES_COLORS).rgb(), ThemeColor::Series(0).rgb());
        assert_ne!(ThemeColor::Series(0).rgb(), ThemeColor::Error.rgb());
        assert!(style_sheet().contains("svg [fill=\"#C9202C\"]{fill:var(--c11)}"));
    }
}
