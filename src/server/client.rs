//! The client of the session: which result fields its protocol version supports, and how much of a result it shows its
//! model. Clients cut longer results, most of them in the middle and without a mark, so an answer has to fit. This
//! module knows no tool.

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

/// The estimated size of a page without its text, in the measured unit. If the actual size is larger, the page is read
/// again.
const PAGE_OVERHEAD: u64 = 700;
/// Shorter texts are never cut: ids, paths and hints are useful only in full.
const MIN_TRUNCATABLE_CHARS: usize = 500;

/// How a client handles answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    display_limit: DisplayLimit,
    /// The protocol version supports structured content.
    is_structured: bool,
}

/// How much a client shows its model.
#[derive(Debug, Clone, Copy)]
struct DisplayLimit {
    content: ShownContent,
    unit: SizeUnit,
    max: u64,
}

/// Which part of a result a client shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ShownContent {
    /// The answer as JSON, from the text or the structured content.
    AnswerJson,
    /// The whole result as JSON: the text is escaped a second time.
    ResultJson,
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeUnit {
    /// UTF-16 code units, as in JavaScript strings.
    Utf16Units,
    /// UTF-8 bytes.
    Bytes,
}

/// Clients with a low limit, by a beginning of their name in `clientInfo`, in lower case: the editions of a program (command line, editor)
/// have different names with the same limit. Each value is below the client's own limit,
/// because the client adds text around an answer.
const CLIENT_LIMITS: [(&str, DisplayLimit); 7] = [
    // Cuts the whole result to 8,000 characters.
    ("@cline", DisplayLimit { content: ShownContent::ResultJson, unit: SizeUnit::Utf16Units, max: 7_800 }),
    ("cline", DisplayLimit { content: ShownContent::ResultJson, unit: SizeUnit::Utf16Units, max: 7_800 }),
    // Cuts to 12,000 bytes for unknown models.
    ("codex", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 9_000 }),
    // Cuts to 16,000 bytes.
    ("fast-agent", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 14_000 }),
    // Saves a result of more than 25,000 characters to a file, and shows 2,000 characters of it.
    ("qwen", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: 24_000 }),
    // Refuses more than 25,000 tokens; a four-byte character may take three tokens.
    ("claude-code", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Bytes, max: 32_000 }),
    // Cuts to 40,000 characters.
    ("gemini-cli", DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: 38_000 }),
];

impl Client {
    /// The sender of a request. The operator's limit applies if the client's own limit is higher or unknown.
    pub(super) fn from_context(context: &RequestContext<RoleServer>, page_chars: u32) -> Client {
        let client_info = context.client_info();
        Client::for_implementation(client_info.as_ref(), page_chars)
            .with_structured_content(protocol::supports_structured_content(context))
    }

    /// An unknown client.
    #[cfg(test)]
    pub(super) fn unknown(page_chars: u32) -> Client {
        Client::for_implementation(None, page_chars)
    }

    /// This client with a smaller limit, which leaves space for text that is added later.
    pub(super) fn with_reserve(self, reserve: u64) -> Client {
        Client {
            display_limit: DisplayLimit { max: self.display_limit.max.saturating_sub(reserve), ..self.display_limit },
            ..self
        }
    }

    fn for_implementation(implementation: Option<&Implementation>, page_chars: u32) -> Client {
        let default_limit =
            DisplayLimit { content: ShownContent::AnswerJson, unit: SizeUnit::Utf16Units, max: page_chars.into() };
        let name = implementation.map(|implementation| implementation.name.to_lowercase()).unwrap_or_default();
        let known = CLIENT_LIMITS.iter().find(|(beginning, _)| name.starts_with(beginning));
        let limit =
            known.map_or(default_limit, |(_, limit)| DisplayLimit { max: limit.max.min(default_limit.max), ..*limit });
        Client { display_limit: limit, is_structured: true }
    }

    fn with_structured_content(self, is_structured: bool) -> Client {
        Client { is_structured, ..self }
    }

    /// Converts an answer to a tool result.
    pub(super) fn call_result(&self, answer: Value) -> CallToolResult {
        let result = structured_result(answer);
        if self.is_structured { result } else { CallToolResult::success(result.content) }
    }

    /// Shortens an answer until it fits or `shorten` returns false.
    pub(super) fn fit<A: Serialize>(&self, answer: &mut A, mut shorten: impl FnMut(&mut A) -> bool) {
        while self.excess(answer) > 0 && shorten(answer) {}
    }

    /// Shortens an answer until it fits: first the longest texts, each with a mark at its end, then the longest lists.
    /// The hint then states how many entries are left out, and the remedy.
    pub(super) fn fit_value(&self, mut answer: Value, hint: &str) -> Value {
        self.fit(&mut answer, |answer| {
            let Some(text) = longest_text(answer) else { return false };
            let chars = text.chars().count();
            if chars > MIN_TRUNCATABLE_CHARS {
                *text = text::truncate(text, chars * 3 / 4);
            }
            chars > MIN_TRUNCATABLE_CHARS
        });
        let mut left_out = OmittedEntries::new(&answer, hint);
        self.fit(&mut answer, |answer| left_out.shorten(answer));
        answer
    }

    /// By how much an answer exceeds the limit.
    pub(super) fn excess(&self, answer: &impl Serialize) -> u64 {
        // A value that cannot be serialized is refused when it is sent.
        let text = json::to_json_text(answer).unwrap_or_default();
        let shown_chars = match self.display_limit.content {
            ShownContent::AnswerJson => self.size(&text),
            ShownContent::ResultJson => {
                let content = if self.is_structured { self.size(&text) } else { 0 };
                content + self.size(&json!({"content": [{"type": "text", "text": text}], "isError": false}).to_string())
            }
        };
        shown_chars.saturating_sub(self.display_limit.max)
    }

    /// The page limit for a number of characters, minus a reserve.
    pub(super) fn page_limit(&self, chars: u64, used: u64) -> PageLimit {
        let budget = self.display_limit.max.saturating_sub(PAGE_OVERHEAD + used);
        let client = *self;
        PageLimit { chars, budget, cost: Box::new(move |c| client.char_size(c)) }
    }

    fn size(&self, text: &str) -> u64 {
        match self.display_limit.unit {
            SizeUnit::Utf16Units => text.encode_utf16().count() as u64,
            SizeUnit::Bytes => text.len() as u64,
        }
    }

    /// The size of one character in the measured unit.
    fn char_size(&self, c: char) -> u64 {
        let escaped_once = self.escaped_size(c, 1);
        match self.display_limit.content {
            ShownContent::AnswerJson => escaped_once,
            ShownContent::ResultJson => self.escaped_size(c, 2) + if self.is_structured { escaped_once } else { 0 },
        }
    }

    /// The size of a character after one or two rounds of JSON escaping. Each round doubles a backslash or a quotation
    /// mark.
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

/// An answer as text and as equal structured content.
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
    fn the_editions_of_a_client_have_its_limit() {
        let max = |name: &str| client(name).display_limit.max;
        for (one, other) in
            [("@cline/core", "Cline"), ("codex-mcp-client", "codex_vscode"), ("fast-agent-mcp", "fast-agent")]
        {
            assert!(max(one) == max(other) && max(one) < 20_000, "{one}");
        }
        assert_eq!(max("another"), 20_000);
    }

    #[test]
    fn a_character_costs_its_length_in_the_shown_json() {
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
    fn the_lower_limit_applies() {
        let max_chars = |name: &str, page_chars| {
            Client::for_implementation(Some(&Implementation::new(name, "1")), page_chars).display_limit.max
        };
        assert_eq!((max_chars("x", 20_000), max_chars("codex-mcp-client", 20_000)), (20_000, 9_000));
        assert_eq!(
            (max_chars("x", 5_000), max_chars("codex-mcp-client", 5_000), max_chars("claude-code", 40_000)),
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
        let answer = json!({"a": "x".repeat(MIN_TRUNCATABLE_CHARS), "b": 1});
        let client = Client::for_implementation(None, 100);
        assert_eq!(client.fit_value(answer.clone(), ""), answer, "there is nothing to take away");
    }
}
