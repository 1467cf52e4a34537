//! Colours and style of a page, light and dark, on paper too. The drawing library writes a colour as a number; the style sheet
//! finds that number and puts the theme's colour in its place, so that one drawing serves every theme.

use std::fmt::Write;
use std::sync::LazyLock;

use plotters::style::RGBColor;

/// What a drawn thing is, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
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
    Trouble,
    /// The lines and points of the n-th of several.
    Series(usize),
}

/// Each colour for light and dark. The light ones differ from each other, since the style sheet knows a colour by its number.
const COLOURS: [(u32, u32); 20] = [
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
pub(super) const SERIES: usize = 8;

impl Ink {
    fn place(self) -> usize {
        match self {
            Ink::Text => 0,
            Ink::Faint => 1,
            Ink::Grid => 2,
            Ink::Answering => 3,
            Ink::Voting => 4,
            Ink::Presenting => 5,
            Ink::Other => 6,
            Ink::Answer => 7,
            Ink::Vote => 8,
            Ink::Restart => 9,
            Ink::Tool => 10,
            Ink::Trouble => 11,
            Ink::Series(number) => COLOURS.len() - SERIES + number % SERIES,
        }
    }

    /// Its colour, as the drawing library takes it.
    pub(super) fn colour(self) -> RGBColor {
        let [_, red, green, blue] = COLOURS[self.place()].0.to_be_bytes();
        RGBColor(red, green, blue)
    }
}

/// The style sheet of every page.
pub(super) fn style() -> &'static str {
    static STYLE: LazyLock<String> = LazyLock::new(|| {
        let (light, dark) = (variables(|(light, _)| light), variables(|(_, dark)| dark));
        let mut style = format!(
            ":root{{color-scheme:light dark;{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
        );
        for (place, (light, _)) in COLOURS.iter().enumerate() {
            let _never_fails = writeln!(
                style,
                "svg [fill=\"#{light:06X}\"]{{fill:var(--c{place})}} svg [stroke=\"#{light:06X}\"]{{stroke:var(--c{place})}}"
            );
        }
        style + include_str!("style.css")
    });
    &STYLE
}

fn variables(of: impl Fn((u32, u32)) -> u32) -> String {
    COLOURS.iter().enumerate().map(|(place, colours)| format!("--c{place}:#{:06x};", of(*colours))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_things_have_one_colour() {
        let light: std::collections::BTreeSet<_> = COLOURS.iter().map(|(light, _)| light).collect();
        let dark: std::collections::BTreeSet<_> = COLOURS.iter().map(|(_, dark)| dark).collect();
        assert_eq!((light.len(), dark.len()), (COLOURS.len(), COLOURS.len()));
        assert_eq!(Ink::Series(SERIES).colour(), Ink::Series(0).colour());
        assert_ne!(Ink::Series(0).colour(), Ink::Trouble.colour());
        assert!(style().contains("svg [fill=\"#C9202C\"]{fill:var(--c11)}"));
    }
}
