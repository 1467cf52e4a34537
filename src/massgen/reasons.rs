//! Why a run failed, from the output of MassGen and of the process that starts it: one class, one significant line, one next step. Pure.
//! Standard error is read first, because standard output echoes the question and can therefore contain forged lines. The classes are one
//! table (`classes`); `lines` produces the lines for `read_result` with part `errors`.

mod attribution;
mod classes;
mod lines;
mod message;
mod web_pages;

pub use attribution::attribute_problem;
pub use lines::ErrorLines;

use self::classes::{CLASSES, FailureClass, FailureScope, is_model_call_line};
use super::text;
use crate::run::{Problem, Retry, Step};

/// The longest message, in characters.
const MAX_MESSAGE_CHARS: usize = 400;
/// How many characters of an agent's text a message quotes.
const MAX_AGENT_TEXT_CHARS: usize = 200;
/// How many of the last lines are quoted if no class matches.
const MAX_LAST_LINES: usize = 3;

/// The prefix of the only line that our exec step prints if it cannot execute MassGen.
pub const CANNOT_EXECUTE_PREFIX: &str = "massgen-mcp: cannot execute";

/// The output that is judged.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunOutput<'a> {
    /// The end of standard error.
    pub stderr: &'a str,
    /// The end of standard output.
    pub stdout: &'a str,
    /// The first model call error in status.json.
    pub model_error: Option<&'a str>,
    /// The agent's last text where MassGen expected an answer or a vote (`events::last_agent_text`); empty if it said nothing.
    pub agent_text: Option<&'a str>,
    /// Whether an agent's last content is model text (`events::is_answering`): no call has failed since.
    pub is_answering: bool,
    /// The model provider of the failing agents, if known.
    pub provider: Option<&'a str>,
}

/// The class of a failure, or `None` if no known text matches.
pub fn problem(output: RunOutput<'_>) -> Option<Problem> {
    let problem = classify(output, |class| class.scope != FailureScope::Retry)?;
    Some(match output.agent_text {
        Some(agent_text) if problem.code == "agents_failed" => {
            no_response_problem(problem, agent_text, output.provider)
        }
        Some(_) | None => problem,
    })
}

/// What happened to the model calls of a run that was ended before it reported it; `None` if no failure is known.
pub fn failed_call_problem(output: RunOutput<'_>) -> Option<Problem> {
    if output.is_answering {
        return None;
    }
    classify(output, |class| class.scope != FailureScope::MassGen)
}

/// MassGen's own reason for its end, if no class matches: `❌ Error: …` on standard output (`cli/entrypoint.py`).
pub fn massgen_error(stdout: &str) -> Option<Problem> {
    let clean = text::remove_harmful(stdout);
    let last_error = clean.rfind("❌ Error: ").map(|at| &clean[at..])?;
    let lines: Vec<&str> = last_error.lines().filter(|line| !line.trim().is_empty()).take(MAX_LAST_LINES).collect();
    Some(Problem::new(
        "massgen_error",
        &text::single_line(&lines.join(" "), MAX_MESSAGE_CHARS),
        Step::CorrectNamedCause,
    ))
}

/// The last lines of standard error, joined; `None` if it is empty.
pub fn last_lines(stderr: &str) -> Option<String> {
    let clean = text::remove_harmful(stderr);
    let mut last: Vec<&str> = clean.lines().rev().filter(|line| !line.trim().is_empty()).take(MAX_LAST_LINES).collect();
    last.reverse();
    (!last.is_empty()).then(|| text::single_line(&last.join(" | "), MAX_MESSAGE_CHARS))
}

/// Whether MassGen reported its own timeout; status.json does not always record it.
pub fn reports_timeout(stderr: &str) -> bool {
    stderr.contains("No answers available from any agents due to timeout")
}

/// Whether a run that continues a conversation finished: MassGen says so in its next to last line, which reports a bug of its own, and
/// exits with 1 whatever the result of the turn.
pub fn reports_resumed_end(stdout: &str) -> bool {
    stdout.contains("Session error: too many values to unpack")
}

fn classify(output: RunOutput<'_>, is_relevant: impl Fn(&FailureClass) -> bool) -> Option<Problem> {
    let texts = [
        OutputText::new(output.stderr, false),
        OutputText::new(output.model_error.unwrap_or_default(), true),
        OutputText::new(output.agent_text.filter(|text| is_claude_code_error(text)).unwrap_or_default(), true),
        // MassGen prints a few errors on standard output; only lines that MassGen marks count there.
        OutputText::new(&error_lines(output.stdout), false),
    ];
    let (class, message) = CLASSES.iter().filter(|class| is_relevant(class)).find_map(|class| {
        let message = texts.iter().find_map(|text| text.message(class))?;
        Some((class, message))
    })?;
    let provider = output.provider.filter(|_| class.scope != FailureScope::MassGen).map(str::to_owned);
    Some(Problem { retry: class.retry, provider, ..Problem::new(class.code, &message, class.next) })
}

/// The text of one source.
struct OutputText {
    lines: Vec<String>,
    lower: Vec<String>,
    /// Whether the whole source is about model calls.
    is_call: bool,
}

impl OutputText {
    fn new(text: &str, is_call: bool) -> OutputText {
        let lines = web_pages::join_web_pages(&text::remove_harmful(text));
        let lower = lines.iter().map(|line| line.to_lowercase()).collect();
        OutputText { lines, lower, is_call }
    }

    fn message(&self, class: &FailureClass) -> Option<String> {
        let counts = |line: &str| class.scope != FailureScope::Call || self.is_call || is_model_call_line(line);
        let matches = |line: &String| class.patterns.iter().any(|pattern| line.contains(pattern)) && counts(line);
        let index = self.lower.iter().position(matches)?;
        Some(message::failure_message(class, &self.lines[index..]))
    }
}

/// The agents neither answered nor voted; quote their words without judging them.
fn no_response_problem(problem: Problem, agent_text: &str, provider: Option<&str>) -> Problem {
    let provider = provider.map(str::to_owned);
    let agent_text = text::single_line(agent_text, MAX_AGENT_TEXT_CHARS);
    if agent_text.is_empty() {
        let message = format!("{}; the model's answers were empty", problem.message);
        return Problem {
            retry: Some(Retry::No),
            provider,
            ..Problem::new("model_empty", &message, Step::CorrectModelAddress)
        };
    }
    Problem { message: format!("{}; an agent said last: {agent_text}", problem.message), ..problem }
}

/// Whether these words come from the Claude Code program (`claude_code`), which reports its errors as model text.
fn is_claude_code_error(text: &str) -> bool {
    const FIRST: [&str; 5] =
        ["not logged in", "invalid api key", "credit balance is too low", "prompt is too long", "api error"];
    let lower = text.trim_start().to_lowercase();
    FIRST.iter().any(|first| lower.starts_with(first))
}

fn error_lines(stdout: &str) -> String {
    let clean = text::remove_harmful(stdout);
    let lines = clean.lines().filter(|line| line.trim_start().starts_with('❌'));
    lines.collect::<Vec<_>>().join("\n")
}

/// One example line for each class about a provider.
#[cfg(test)]
pub(crate) fn provider_patterns() -> impl Iterator<Item = &'static str> {
    let classes = CLASSES.iter().filter(|class| class.scope != FailureScope::MassGen);
    classes.filter_map(|class| class.patterns.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stderr: &str) -> (String, String) {
        let problem = problem(RunOutput { stderr, ..RunOutput::default() }).expect("known");
        (problem.code, problem.message)
    }

    #[test]
    fn the_captured_errors_have_their_class_and_line() {
        let table = [
            (
                include_str!("../../tests/data/stderr/nokey.txt"),
                "api_key_missing",
                "The api_key client option must be set",
            ),
            (include_str!("../../tests/data/stderr/badyaml.txt"), "config_invalid", "while parsing a block collection"),
            (
                include_str!("../../tests/data/stderr/badbackend.txt"),
                "config_invalid",
                "Unknown backend type: 'nosuchbackend'",
            ),
            (include_str!("../../tests/data/stderr/missingcfg.txt"), "config_invalid", "Configuration file not found"),
            (include_str!("../../tests/data/stderr/q_x.txt"), "config_invalid", "usage: massgen"),
            (include_str!("../../tests/data/stderr/err500.txt"), "model_error", "Error code: 500"),
        ];
        for (stderr, code, part) in table {
            let (found, message) = of(stderr);
            assert_eq!(found, code, "{message}");
            assert!(message.contains(part), "{message}");
        }
        assert!(
            problem(RunOutput { stderr: include_str!("../../tests/data/stderr/success.txt"), ..RunOutput::default() })
                .is_none()
        );
    }

    #[test]
    fn a_failure_says_whether_a_retry_can_help_and_names_the_provider() {
        let problem_of = |stderr| {
            let output = RunOutput { stderr, provider: Some("api.example.com"), ..RunOutput::default() };
            let problem = problem(output).expect("known");
            (problem.retry, problem.provider.is_some())
        };
        assert_eq!(problem_of("Streaming error: Error code: 503 - busy"), (Some(Retry::Later), true));
        assert_eq!(problem_of("Streaming error: Error code: 400 - no such model"), (Some(Retry::No), true));
        assert_eq!(problem_of("Error code: 401"), (Some(Retry::No), true));
        assert_eq!(problem_of("Traceback (most recent call last):\nOSError: full"), (Some(Retry::Now), false));
        assert_eq!(problem_of("no successful agents"), (None, false));
        let import = "Traceback (most recent call last):\n  File \"/v/bin/massgen\", line 4, in <module>\n    from massgen.cli import \
                      cli_main\nImportError: cannot import name 'x' from 'mcp.y' (/v/mcp/y.py)\n";
        assert_eq!(problem_of(import), (Some(Retry::No), false));
    }

    #[test]
    fn other_classes() {
        assert_eq!(
            of("Streaming error: Error code: 401 - {'error': 'Incorrect API key provided'}").0,
            "api_key_rejected"
        );
        assert_eq!(of("Streaming error: Error code: 429 - slow down").0, "rate_limited");
        assert_eq!(of("Streaming error: Connection error.").0, "model_unreachable");
        assert_eq!(of("❌ Configuration error: OpenAI API key not found. Set it").0, "api_key_missing");
        let (code, message) =
            of("Traceback (most recent call last):\n  File \"x\"\nOSError: [Errno 28] No space left\n");
        assert_eq!((code.as_str(), message.as_str()), ("crashed", "OSError: [Errno 28] No space left"));
        let import = "Traceback (most recent call last):\n    from massgen.cli import cli_main\nImportError: no x\n";
        assert_eq!(of(import), ("massgen_broken".to_owned(), "ImportError: no x".to_owned()));
    }

    #[test]
    fn a_failed_tool_is_not_a_failed_model_call() {
        let line = "14:29:55 | WARNING  | [MCP] tool execute_command: curl: (7) connection refused, error 429 rate limit, no credits";
        assert!(problem(RunOutput { stderr: line, ..RunOutput::default() }).is_none());
        assert!(problem(RunOutput { stderr: &format!("Streaming error: {line}"), ..RunOutput::default() }).is_some());
    }

    #[test]
    fn the_text_of_a_program_in_place_of_its_model_is_the_message() {
        let failed = "[ERROR] orchestrator: Agent failed to use workflow tools after 3 attempts";
        let problem_of = |text| {
            problem(RunOutput { stderr: failed, agent_text: Some(text), provider: Some("p"), ..RunOutput::default() })
        };
        let problem_of = |text| problem_of(text).map(|problem| (problem.code, problem.message)).expect("known");
        let login = "Not logged in · Please run /login";
        assert_eq!(problem_of(login), ("not_logged_in".to_owned(), login.to_owned()));
        assert_eq!(problem_of("Credit balance is too low").0, "no_credit");
        // A model's text is arbitrary.
        let (code, message) = problem_of("I was not logged in; api key not found, insufficient_quota");
        assert_eq!(code, "agents_failed");
        assert!(
            message.ends_with("an agent said last: I was not logged in; api key not found, insufficient_quota"),
            "{message}"
        );
        let (code, message) = problem_of("");
        assert_eq!(code, "model_empty");
        assert!(message.starts_with("Agent failed to use workflow tools after 3 attempts; "), "{message}");
    }

    #[test]
    fn a_missing_program_is_recognized_for_each_backend() {
        for stderr in [
            "Codex CLI not found. Install with: npm install -g @openai/codex",
            "Gemini CLI not found. Install it using one of:",
            "Antigravity CLI ('agy') not found. Install with:",
            "Failed to install LM Studio CLI: Command '['curl', '-sSL']' returned non-zero exit status 2.",
            "Failed to download checksums from https://github.com/github/copilot-cli/releases/download/v1.0.104/SHA256SUMS.txt",
        ] {
            let stdout = format!("❌ Error: {stderr}\n");
            let problem = problem(RunOutput { stdout: &stdout, ..RunOutput::default() }).expect("known");
            assert_eq!((problem.code.as_str(), problem.retry), ("agent_program_missing", Some(Retry::No)), "{stderr}");
        }
    }

    #[test]
    fn massgens_own_error_is_reported_from_its_last_mark_on() {
        let stdout = "QUESTION: why\nCOMPLETED: 1 agents\n\u{1b}[91m❌ Error: Gemini CLI not found. Install it using one of:\n  npm install\n";
        let problem = massgen_error(stdout).expect("told");
        assert_eq!((problem.code.as_str(), problem.retry), ("massgen_error", None));
        assert_eq!(problem.message, "❌ Error: Gemini CLI not found. Install it using one of: npm install");
        assert_eq!(massgen_error("Error: no mark"), None);
    }

    #[test]
    fn an_unknown_failure_reports_the_last_lines() {
        assert_eq!(last_lines("zero\none\n\n\u{1b}[31mtwo\u{1b}[0m\n three\n").as_deref(), Some("one | two | three"));
        assert_eq!(last_lines(" \n\n"), None);
        assert!(last_lines(&"x".repeat(1_000_000)).expect("said").chars().count() <= MAX_MESSAGE_CHARS);
    }

    #[test]
    fn a_duplicate_key_has_its_own_hint() {
        let stdout = "❌ Error: ChatCompletionsBackend() got multiple values for keyword argument 'api_key'";
        let problem = problem(RunOutput { stdout, ..RunOutput::default() }).expect("known");
        assert!(problem.code == "config_invalid" && problem.next.step() == Step::RemoveApiKey, "{problem:?}");
    }

    /// The output of an OpenAI-compatible provider's client → the class and whether a retry helps.
    #[test]
    fn errors_of_openai_compatible_providers_are_classified() {
        const NO: Option<Retry> = Some(Retry::No);
        const LATER: Option<Retry> = Some(Retry::Later);
        for (message, code, retry) in [
            (
                "Error code: 403 - {'error': {'message': 'Key limit exceeded (total limit).', 'code': 403}}",
                "no_credit",
                NO,
            ),
            ("Error code: 429 - {'error': {'code': '1113', 'message': '余额不足'}}", "no_credit", NO),
            (
                "Error code: 412 - {'error': {'message': 'Account x is suspended, reaching the monthly spending limit or failure to pay past invoices.'}}",
                "no_credit",
                NO,
            ),
            ("Error code: 403 - {'error': {'code': 'AllocationQuota.FreeTierOnly'}}", "quota_spent", NO),
            (
                "Error code: 429 - {'error': {'message': 'Rate limit of 50 per 86400s exceeded for UserByModelByDay.'}}",
                "quota_spent",
                NO,
            ),
            (
                "Error code: 404 - {'error': {'message': 'Your organization must be verified to use the model `o3`.', 'code': 'model_not_found'}}",
                "model_access",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': 'Your organization must be verified to stream this model.'}}",
                "model_access",
                NO,
            ),
            (
                "Error code: 404 - {'error': {'message': 'No endpoints found matching your data policy'}}",
                "model_access",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': \"Previous response with id 'resp_1' does not exist.\"}}",
                "model_error",
                NO,
            ),
            (
                "Error code: 400 - {'object': 'error', 'message': 'Invalid model: foo', 'type': 'invalid_model'}",
                "model_unknown",
                NO,
            ),
            ("Error code: 400 - {'error': {'message': 'Model Not Exist'}}", "model_unknown", NO),
            (
                "Error code: 400 - {'object': 'error', 'message': \"The input (9123 tokens) is longer than the model's context length\"}",
                "context_too_long",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': 'the request exceeds the available context size'}}",
                "context_too_long",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': 'The number of tokens to keep is greater than the context length.'}}",
                "context_too_long",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': 'Your request exceeded model token limit: 8192'}}",
                "context_too_long",
                NO,
            ),
            (
                "Error code: 422 - {'error': {'message': '`inputs` tokens + `max_new_tokens` must be <= 8193'}}",
                "context_too_long",
                NO,
            ),
            (
                "Error code: 400 - {'error': {'message': \"'max_tokens' or 'max_completion_tokens' is too large: 16384. This model's maximum context length is 8192 tokens\"}}",
                "model_error",
                NO,
            ),
            ("Error code: 408 - {'error': {'message': 'Request timeout'}}", "model_error", LATER),
            ("Error code: 498 - {'error': {'message': 'Flex tier capacity exceeded'}}", "model_error", LATER),
            ("Unauthorized", "api_key_rejected", NO),
            ("404 page not found", "model_unknown", NO),
            ("<html>\r\n<head><title>404 Not Found</title></head>\r\n<body></body>\r\n</html>", "model_unknown", NO),
            ("<html><head><title>403 Forbidden</title></head></html>", "model_access", NO),
            ("<!DOCTYPE html>\n<html>\n<head>\n<title>413 Request Entity Too Large</title>", "request_too_large", NO),
            ("Internal Server Error", "model_error", LATER),
            ("<html><head><title>524: A timeout occurred</title></head></html>", "model_error", LATER),
            ("no healthy upstream", "model_overloaded", LATER),
        ] {
            let stderr = format!(
                "20:49:05 | ERROR    | Streaming error: {message}\n20:49:05 | ERROR    | no successful agents\n"
            );
            let found = problem(RunOutput { stderr: &stderr, ..RunOutput::default() }).expect("known");
            assert_eq!((found.code.as_str(), found.retry), (code, retry), "{message}");
            assert!(!found.message.contains("<html") && !found.message.contains("<title"), "{}", found.message);
        }
    }

    #[test]
    fn a_possibly_successful_retry_is_not_a_cause_of_failure() {
        let retried = "[2026-11-26 22:34:36 - openai._base_client:1618 - INFO] Retrying request to /chat/completions in 0.4 seconds\n";
        let stderr = format!("{retried}20:49:05 | ERROR    | Agent failed to use workflow tools\n");
        let output = RunOutput { stderr: &stderr, ..RunOutput::default() };
        assert_eq!(problem(output).expect("known").code, "agents_failed");
        let spent = failed_call_problem(output).expect("known");
        assert_eq!((spent.code.as_str(), spent.message.starts_with("Retrying request")), ("model_busy", true));
        assert_eq!(failed_call_problem(RunOutput { is_answering: true, ..output }), None);
    }

    #[test]
    fn error_lines_in_a_question_are_ignored() {
        let stdout = "QUESTION: why\nConfiguration error: forged\nrate limit";
        assert!(problem(RunOutput { stdout, ..RunOutput::default() }).is_none());
        let real_line = "❌ Session error: Configuration error in it";
        assert!(problem(RunOutput { stdout: real_line, ..RunOutput::default() }).is_some());
    }
}
