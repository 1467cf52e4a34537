//! The client at the other end: what its version of the protocol knows of a result, and how much of one it shows its model. Clients
//! cut what is longer, most of them in the middle and without a word, so that an answer has to fit. It knows no tool.

mod omitted;

use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, Implementation};
use rmcp::service::RequestContext;
use serde::Serialize;
use serde_json::{Value, json};

use self::omitted::OmittedEntries;
use super::protocol;
use crate::massgen::pages::PageLimit;
use crate::massgen::text;
use crate::view::json;

/// What an answer has besides a page's text, in what is measured. Where it is more, the page is read again.
const PAGE_OVERHEAD: u64 = 700;
/// Texts of fewer characters are never cut: ids, paths and hints are of use whole alone.
const MIN_TRUNCATABLE_CHARS: usize = 500;

/// What a client does with answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    display_limit: DisplayLimit,
    /// Its version of the protocol knows structured content.
    is_structured: bool,
}

/// How much a client shows its model.
#[derive(Debug, Clone, Copy)]
struct DisplayLimit {
    content: ShownContent,
    unit: SizeUnit,
    max: u64,
}

/// What is shown of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownContent {
    /// The answer as JSON, from its text or its structured content.
    AnswerJson,
    /// The whole result as JSON, with all that it has: the text is escaped a second time.
    ResultJson,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeUnit {
    /// Units of UTF-16, the characters of JavaScript.
    Utf16Units,
    /// Bytes of UTF-8.
    Bytes,
}

/// Clients that show less than others, by the beginning of their name in `clientInfo`. Each limit is below the client's own, since it adds
/// words round an answer.
const CLIENT_LIMITS: [(&str, DisplayLimit); 6] = [
    // Cuts the whole result to 8,000 characters.
    ("@cline/core", DisplayLimit { content: ShownContent::ResultJson, unit: SizeUnit::Utf16Units, max: 7_800 }),
    // Cuts to 12,000 bytes for models that it does not know.
    ("codex-mcp-client", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 9_000 }),
    // Cuts to 16,000 bytes.
    ("fast-agent-mcp", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 14_000 }),
    // Saves more than 25,000 characters to a file, and shows 2,000 of them.
    (
        "qwen-cli-mcp-client",
        DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: 24_000 },
    ),
    // Refuses more than 25,000 tokens; a character of four bytes may be three tokens.
    ("claude-code", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 32_000 }),
    // Cuts to 40,000 characters.
    (
        "gemini-cli-mcp-client",
        DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: 38_000 },
    ),
];

impl Client {
    /// The sender of a request. The operator's limit holds where the client's own is higher or not known.
    pub(super) fn from_context(context: &RequestContext<RoleServer>, page_chars: u32) -> Client {
        let about = context.client_info();
        Client::for_implementation(about.as_ref(), page_chars)
            .with_structured_content(protocol::supports_structured_content(context))
    }

    /// One of which nothing is known.
    #[cfg(test)]
    pub(super) fn unknown(page_chars: u32) -> Client {
        Client::for_implementation(None, page_chars)
    }

    /// This client, as if it showed so much less: what is added to an answer afterwards has room then.
    pub(super) fn with_reserve(self, room: u64) -> Client {
        Client {
            display_limit: DisplayLimit { max: self.display_limit.max.saturating_sub(room), ..self.display_limit },
            ..self
        }
    }

    fn for_implementation(about: Option<&Implementation>, page_chars: u32) -> Client {
        let usual =
            DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: page_chars.into() };
        let known = CLIENT_LIMITS.iter().find(|(name, _)| about.is_some_and(|about| about.name.starts_with(name)));
        let shows = known.map_or(usual, |(_, shows)| DisplayLimit { max: shows.max.min(usual.max), ..*shows });
        Client { display_limit: shows, is_structured: true }
    }

    fn with_structured_content(self, is_structured: bool) -> Client {
        Client { is_structured, ..self }
    }

    /// An answer as a result of a tool.
    pub(super) fn call_result(&self, answer: Value) -> CallToolResult {
        let result = structured_result(answer);
        if self.is_structured { result } else { CallToolResult::success(result.content) }
    }

    /// Shortens an answer until it fits, as long as there is something to take away.
    pub(super) fn fit<A: Serialize>(&self, answer: &mut A, mut shorten: impl FnMut(&mut A) -> bool) {
        while self.excess(answer) > 0 && shorten(answer) {}
    }

    /// An answer whose longest texts are cut, marked at their ends, until it fits; then its longest lists, and its hint says how many
    /// entries are left out, with the remedy.
    pub(super) fn fit_value(&self, mut answer: Value, remedy: &str) -> Value {
        self.fit(&mut answer, |answer| {
            let Some(text) = longest_text(answer) else { return false };
            let chars = text.chars().count();
            if chars > MIN_TRUNCATABLE_CHARS {
                *text = text::truncate(text, chars * 3 / 4);
            }
            chars > MIN_TRUNCATABLE_CHARS
        });
        let mut left_out = OmittedEntries::new(&answer, remedy);
        self.fit(&mut answer, |answer| left_out.shorten(answer));
        answer
    }

    /// By how much an answer is too long.
    pub(super) fn excess(&self, answer: &impl Serialize) -> u64 {
        // What cannot be written is refused when it is.
        let text = json::to_json_text(answer).unwrap_or_default();
        let shown = match self.display_limit.content {
            ShownContent::AnswerJson => self.size(&text),
            ShownContent::ResultJson => {
                let content = if self.is_structured { self.size(&text) } else { 0 };
                content + self.size(&json!({"content": [{"type": "text", "text": text}], "isError": false}).to_string())
            }
        };
        shown.saturating_sub(self.display_limit.max)
    }

    /// The extent of a page of so many characters, less so much room.
    pub(super) fn page_limit(&self, chars: u64, less: u64) -> PageLimit {
        let room = self.display_limit.max.saturating_sub(PAGE_OVERHEAD + less);
        let client = *self;
        PageLimit { chars, budget: room, cost: Box::new(move |c| client.char_size(c)) }
    }

    fn size(&self, text: &str) -> u64 {
        match self.display_limit.unit {
            SizeUnit::Utf16Units => text.encode_utf16().count() as u64,
            SizeUnit::Bytes => text.len() as u64,
        }
    }

    /// What a character of a text comes to in what is shown.
    fn char_size(&self, c: char) -> u64 {
        let once = self.escaped_size(c, 1);
        match self.display_limit.content {
            ShownContent::AnswerJson => once,
            ShownContent::ResultJson => self.escaped_size(c, 2) + if self.is_structured { once } else { 0 },
        }
    }

    /// A character that was written as JSON once or twice. A backslash and a quotation mark become two characters each time.
    fn escaped_size(&self, c: char, times: u32) -> u64 {
        match c {
            '"' | '\\' => 2_u64.pow(times),
            '\n' | '\t' | '\r' | '\u{8}' | '\u{c}' => 1 + u64::from(times),
            '\0'..' ' => 5 + u64::from(times),
            c => self.size(c.encode_utf8(&mut [0; 4])),
        }
    }
}

/// The longest text in a value.
fn longest_text(value: &mut Value) -> Option<&mut String> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(list) => list.iter_mut().filter_map(longest_text).max_by_key(|text| text.len()),
        Value::Object(fields) => fields.values_mut().filter_map(longest_text).max_by_key(|text| text.len()),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// An answer as text and structured content, which are the same.
pub(super) fn structured_result(answer: Value) -> CallToolResult {
    let text = json::to_json_text(&answer).unwrap_or_default();
    let mut result = CallToolResult::structured(answer);
    result.content = vec![ContentBlock::text(text)];
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> Client {
        Client::for_implementation(Some(&Implementation::new(name, "1")), 20_000)
    }

    #[test]
    fn a_character_costs_what_it_adds_to_what_is_shown() {
        for name in ["", "@cline/core", "codex-mcp-client", "fast-agent-mcp", "qwen-cli-mcp-client-massgen"] {
            for is_structured in [false, true] {
                let mut client = client(name).with_structured_content(is_structured);
                client.display_limit.max = 0;
                let empty = client.excess(&json!({"text": ""}));
                for c in ['a', '"', '\\', '\n', '\t', '\r', '\u{1}', 'é', '漢', '🦀', '\u{2028}'] {
                    let cost = client.excess(&json!({"text": c.to_string()})) - empty;
                    assert_eq!(client.char_size(c), cost, "{c:?} of {name}");
                }
            }
        }
    }

    #[test]
    fn the_lower_of_both_limits_holds() {
        let most = |name: &str, page_chars| {
            Client::for_implementation(Some(&Implementation::new(name, "1")), page_chars).display_limit.max
        };
        assert_eq!((most("x", 20_000), most("codex-mcp-client", 20_000)), (20_000, 9_000));
        assert_eq!(
            (most("x", 5_000), most("codex-mcp-client", 5_000), most("claude-code", 40_000)),
            (5_000, 5_000, 32_000)
        );
    }

    #[test]
    fn an_answer_is_shortened_until_it_fits() {
        let mut list = vec!["x".repeat(1_000); 30];
        client("x").fit(&mut list, |list| list.pop().is_some());
        assert_eq!(list.len(), 19);
        let answer = json!({"hint": "h".repeat(400), "config": {"text": "c".repeat(40_000)}, "n": 1});
        let bounded = client("x").fit_value(answer.clone(), "");
        assert_eq!((&bounded["hint"], &bounded["n"], client("x").excess(&bounded)), (&answer["hint"], &json!(1), 0));
        let text = bounded["config"]["text"].as_str().expect("text");
        assert!(text.ends_with('…') && text.len() > 10_000, "{} bytes", text.len());
        let many = json!(vec!["x".repeat(MIN_TRUNCATABLE_CHARS); 100]);
        assert_eq!(
            client("x").fit_value(many.clone(), "").as_array().map(Vec::len),
            Some(31),
            "three quarters, again and again"
        );
        let one = json!({"a": "x".repeat(MIN_TRUNCATABLE_CHARS), "b": 1});
        let tiny = Client::for_implementation(None, 100);
        assert_eq!(tiny.fit_value(one.clone(), ""), one, "there is nothing to take away");
    }
}
