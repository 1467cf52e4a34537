//! Web pages that a proxy or gateway sends in place of a provider's error; MassGen prints them over several lines. Pure.

use super::classes::is_model_call_line;

/// How many bytes of a page are read.
const MAX_PAGE_BYTES: usize = 2000;

/// The lines of a text, with each page about a model call reduced to one line.
pub(super) fn join_web_pages(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match lines.last_mut().filter(|page| is_web_page(page) && !is_log_line(line)) {
            Some(page) if page.len() < MAX_PAGE_BYTES => {
                page.push(' ');
                page.push_str(line.trim());
            }
            Some(_) => {}
            None => lines.push(line.to_owned()),
        }
    }
    lines
}

/// `Streaming error: <html>… <title>404 Not Found</title> …` → `Streaming error: 404 Not Found`.
pub(super) fn without_markup(line: &str) -> Option<String> {
    let (head, page) = line.split_once('<')?;
    let title =
        page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map(|(title, _)| title.trim());
    is_web_page(line).then(|| format!("{head}{}", title.unwrap_or("a web page")))
}

fn is_web_page(line: &str) -> bool {
    let lower = line.to_lowercase();
    is_model_call_line(&lower) && ["<html", "<!doctype"].iter().any(|start| lower.contains(start))
}

/// `14:29:55 | ERROR    | …`, or another logger's line.
fn is_log_line(line: &str) -> bool {
    line.starts_with('[') || line.split_once(" | ").is_some_and(|(stamp, _)| stamp.len() < 30)
}
