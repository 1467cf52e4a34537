//! A page for people: one HTML file with all that belongs to it, of a run or of a group. Pure; it draws what it is given.
//! What runs say is data: every text is made harmless, cut and escaped, and the page may neither run a script nor load anything.

mod chart;
mod format;
mod group;
mod plots;
mod run;
mod spending_chart;
mod theme;
mod timeline;

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

pub use group::group_page;
pub use run::{MAX_ANSWER_CHARS, run_page};

/// What the browser is told: nothing may be run or loaded, whatever stands in the page.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page. With `refresh`, the browser reads the file again and again.
fn html_page(title: &str, refresh: Option<Duration>, body: &Markup) -> String {
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_SECURITY_POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                @if let Some(every) = refresh {
                    meta http-equiv="refresh" content=(every.as_secs().max(1));
                }
                title { (title) " · massgen-mcp" }
                style { (PreEscaped(theme::style_sheet())) }
            }
            body { main { (body) } }
        }
    };
    whole.into_string()
}

/// A part of a page under a heading.
fn section(id: &str, heading: &str, body: Markup) -> Markup {
    html! { section aria-labelledby=(id) { h2 id=(id) { (heading) } (body) } }
}

/// A fact of a page's head, where it is known.
fn fact(name: &str, value: Option<Markup>) -> Markup {
    html! { @if let Some(value) = value { div { dt { (name) } dd { (value) } } } }
}

/// A table with a heading for each column; a name that begins with `#` is of numbers. Of more rows than a page holds it says so.
fn table<T>(columns: &[&str], rows: &[T], row: impl Fn(&T) -> Markup) -> Markup {
    let heading = |name: &str| match name.strip_prefix('#') {
        Some(name) => html! { th scope="col" class="number" { (name) } },
        None => html! { th scope="col" { (name) } },
    };
    html! {
        div class="scroll" tabindex="0" {
            table {
                thead { tr { @for name in columns { (heading(name)) } } }
                tbody { @for of in rows.iter().take(MAX_ROWS) { tr { (row(of)) } } }
            }
        }
        (truncation_note("rows", rows.len(), MAX_ROWS))
    }
}

/// The most rows of a table.
const MAX_ROWS: usize = 500;

/// Says that there was more, where there was.
fn truncation_note(what: &str, of: usize, most: usize) -> Markup {
    html! { @if of > most { p class="note" { "Of " (format::count(of as u64)) " " (what) " the first " (format::count(most as u64)) " are shown." } } }
}

/// A text of many lines, as it is, with its beginning where it is long.
fn preformatted(text: &str, most: usize, rest: &Markup) -> Markup {
    let length = text.chars().count();
    html! {
        pre dir="auto" tabindex="0" { (format::truncate_lines(text, most)) }
        @if length > most {
            p class="note" {
                "Cut after " (format::count(most as u64)) " of " (format::count(length as u64)) " characters; " (rest)
            }
        }
    }
}
