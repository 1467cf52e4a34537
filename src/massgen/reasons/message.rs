//! The one sentence for a failure: selects the most informative of the matching lines and removes what MassGen adds around a provider's
//! message. Pure.

use super::MAX_MESSAGE_CHARS;
use super::classes::FailureClass;
use super::web_pages;
use crate::massgen::{broken_import, text};

/// The message in these lines, of which the first shows the class.
pub(super) fn failure_message(class: &FailureClass, lines: &[String]) -> String {
    let informative = informative_line(class, lines);
    let message = strip_logger_name(strip_log_prefix(&informative));
    let message = message.rsplit_once("triggering reactive compression: ").map_or(message, |(_, cause)| cause);
    let text = provider_message(message).or_else(|| web_pages::without_markup(message));
    let text = text.unwrap_or_else(|| message.to_owned());
    // The Claude backend gives the reason for its compression in a separate line.
    let prefix = if text.starts_with("Compression recovery failed") { "the context length is exceeded; " } else { "" };
    text::truncate_sentence(&format!("{prefix}{text}"), MAX_MESSAGE_CHARS)
}

fn informative_line(class: &FailureClass, lines: &[String]) -> String {
    match class.code {
        // The reason follows the headline; a traceback has it at its end.
        "config_invalid" => lines.iter().take(6).cloned().collect::<Vec<_>>().join(" "),
        "crashed" | broken_import::CODE => {
            lines.iter().rfind(|line| !line.trim().is_empty()).cloned().unwrap_or_default()
        }
        _ => lines.first().cloned().unwrap_or_default(),
    }
}

/// `14:29:55 | ERROR    | message` → `message`.
fn strip_log_prefix(line: &str) -> &str {
    line.rsplit_once("| ").filter(|(stamp, _)| stamp.len() < 30).map_or(line, |(_, message)| message)
}

/// `[ERROR] orchestrator: message` and `[TIME - openai._base_client:1618 - INFO] message` → `message`.
fn strip_logger_name(line: &str) -> &str {
    let line =
        line.split_once("- INFO] ").filter(|(logger, _)| logger.starts_with('[')).map_or(line, |(_, message)| message);
    line.strip_prefix("[ERROR] ").and_then(|rest| rest.split_once(": ")).map_or(line, |(_, message)| message)
}

/// `… Error code: 402 - {'error': {'message': 'No credit', …}}` → `… Error code: 402: No credit`.
fn provider_message(line: &str) -> Option<String> {
    let (head, body) = line.split_once('{')?;
    let quoted = ["'message': ", "'error': "].iter().find_map(|name| quoted_text(body.split_once(name)?.1))?;
    Some(format!("{}: {quoted}", head.trim_end_matches([' ', '-', '.'])))
}

/// The content of a Python `repr` text, up to its end or the end of the line.
fn quoted_text(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|first| ['\'', '"'].contains(first))?;
    let content = &text[1..];
    let end_of = |end: char| content.find(&format!("{quote}{end}"));
    let end = [end_of(','), end_of('}')].into_iter().flatten().min().unwrap_or(content.len());
    Some(&content[..end]).filter(|content| !content.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_message_is_extracted_from_its_line() {
        for (line, message) in [
            (
                "[ERROR] backend.azure_openai: Azure OpenAI API error: Error code: 402 - {'error': {'code': '402', 'message': 'Payment required.'}}",
                "Azure OpenAI API error: Error code: 402: Payment required.",
            ),
            (
                "Error code: 400 - {'code': 'Client', 'error': \"This model's maximum, it's 10.\"}",
                "Error code: 400: This model's maximum, it's 10.",
            ),
            (
                "400 INVALID_ARGUMENT. {'error': {'code': 400, 'message': 'API key not",
                "400 INVALID_ARGUMENT: API key not",
            ),
            ("Error code: 400 - {'error': {'code': 7}}", "Error code: 400 - {'error': {'code': 7}}"),
            ("Connection error.", "Connection error."),
        ] {
            assert_eq!(provider_message(strip_logger_name(line)).as_deref().unwrap_or(line), message);
        }
    }
}
