//! A page for people about a run or a group: one self-contained HTML file. Pure: it draws the given data.
//! Texts of runs are untrusted: each is sanitized, cut and escaped, and the page can neither run a script nor load anything.

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

/// The content security policy of pages: nothing may be run or loaded.
const CONTENT_SECURITY_POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";

/// A whole page. With `refresh`, the browser reloads the file at that interval.
fn html_page(title: &str, refresh: Option<Duration>, body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_SECURITY_POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                @if let Some(interval) = refresh {
                    meta http-equiv="refresh" content=(interval.as_secs().max(1));
                }
                title { (title) " · massgen-mcp" }
                style { (PreEscaped(theme::style_sheet())) }
            }
            body { main { (body) } }
        }
    };
    page.into_string()
}

/// A part of a page under a heading.
fn section(id: &str, heading: &str, body: Markup) -> Markup {
    html! { section aria-labelledby=(id) { h2 id=(id) { (heading) } (body) } }
}

/// A fact in a page's head; nothing if it is unknown.
fn fact(name: &str, value: Option<Markup>) -> Markup {
    html! { @if let Some(value) = value { div { dt { (name) } dd { (value) } } } }
}

/// A table with a heading for each column; a `#` before a name marks a column of numbers. A note says if rows were left out.
fn table<T>(columns: &[&str], rows: &[T], row: impl Fn(&T) -> Markup) -> Markup {
    let heading = |name: &str| match name.strip_prefix('#') {
        Some(name) => html! { th scope="col" class="number" { (name) } },
        None => html! { th scope="col" { (name) } },
    };
    html! {
        div class="scroll" tabindex="0" {
            table {
                thead { tr { @for name in columns { (heading(name)) } } }
                tbody { @for item in rows.iter().take(MAX_ROWS) { tr { (row(item)) } } }
            }
        }
        (truncation_note("rows", rows.len(), MAX_ROWS))
    }
}

/// The most rows of a table.
const MAX_ROWS: usize = 500;

/// A note that entries were left out, if any were.
fn truncation_note(noun: &str, total: usize, limit: usize) -> Markup {
    html! { @if total > limit { p class="note" { "Of " (format::count(total as u64)) " " (noun) " the first " (format::count(limit as u64)) " are shown." } } }
}

/// A text of many lines, preformatted; a long text is cut, with a note.
fn preformatted(text: &str, limit: usize, rest: &Markup) -> Markup {
    let length = text.chars().count();
    html! {
        pre dir="auto" tabindex="0" { (format::truncate_lines(text, limit)) }
        @if length > limit {
            p class="note" {
                "Cut after " (format::count(limit as u64)) " of " (format::count(length as u64)) " characters; " (rest)
            }
        }
    }
}
