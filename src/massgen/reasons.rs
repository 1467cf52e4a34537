//! Why a run failed, from what MassGen 0.1.97 and the shell around it printed: one class, one telling line, one next step.
//! Pure. It reads standard error first (the question is echoed on standard output, where anybody can forge a line).

use super::{broken, text};
use crate::run::{Problem, Retry};

/// The longest message, in characters.
const MESSAGE_CHARS: usize = 400;
/// How many of the last lines are told where none of them is known.
const LAST_LINES: usize = 3;

/// How our exec step begins its only line when MassGen could not be executed.
pub const CANNOT_EXECUTE: &str = "massgen-mcp: cannot execute";

/// What there is to judge by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Words<'a> {
    /// The end of standard error.
    pub stderr: &'a str,
    /// The end of standard output.
    pub stdout: &'a str,
    /// The first error of a call to a model that status.json keeps.
    pub model_error: Option<&'a str>,
    /// Whose model the failing agents use, where that is known.
    pub provider: Option<&'a str>,
}

struct Class {
    code: &'static str,
    /// In lower case; one of them in a line decides.
    signs: &'static [&'static str],
    hint: &'static str,
    /// Whether the same once more can go well; `None` where it may or may not.
    retry: Option<Retry>,
    /// Whether it is about a provider of models.
    of_model: bool,
}

/// In the order in which they are tried: what explains most comes first.
const CLASSES: &[Class] = &[
    Class {
        code: "program_missing",
        signs: &["massgen-mcp: cannot execute"],
        hint: "ask the operator to run `massgen-mcp setup`, or to point --massgen at a working massgen",
        retry: Some(Retry::No),
        of_model: false,
    },
    Class {
        code: broken::CODE,
        // The line of MassGen's own script, in a traceback of its imports.
        signs: &["from massgen.cli import", "from massgen.cli.entrypoint import"],
        hint: broken::HINT,
        retry: Some(Retry::No),
        of_model: false,
    },
    Class {
        code: "api_key_missing",
        signs: &[
            "api key not found",
            "api_key client option must be set",
            "api key is required",
            "api key required",
            "missing api key",
            "no api key",
        ],
        hint: "put the key into `env` of this server in the client's configuration, or into ~/.massgen/.env; then start the run again",
        retry: Some(Retry::No),
        of_model: true,
    },
    Class {
        code: "config_invalid",
        signs: &[
            "configuration error",
            "config validation failed",
            "error reading config",
            "usage: massgen",
            "context paths not found",
            "got multiple values for keyword argument",
        ],
        hint: "correct the config as the message says, then call run_massgen again",
        retry: Some(Retry::No),
        of_model: false,
    },
    Class {
        code: "conversation_lost",
        signs: &["session error: session"],
        hint: "start a new run without continue_run, and say in its question what matters of the earlier one",
        retry: Some(Retry::No),
        of_model: false,
    },
    Class {
        code: "api_key_rejected",
        signs: &["error code: 401", "error code: 403", "invalid api key", "incorrect api key"],
        hint: "the model provider refused the API key; the operator has to mend it before another run",
        retry: Some(Retry::No),
        of_model: true,
    },
    Class {
        code: "rate_limited",
        signs: &["error code: 429", "rate limit", "insufficient_quota"],
        hint: "wait a few minutes, then call run_massgen again; if it goes on, the account's quota is spent",
        retry: Some(Retry::Later),
        of_model: true,
    },
    Class {
        code: "model_unreachable",
        signs: &[
            "connection error",
            "connection refused",
            "cannot connect",
            "name or service not known",
            "failed to resolve",
            "request timed out",
        ],
        hint: "check `base_url` in the config and the network of this machine, then call run_massgen again",
        retry: Some(Retry::Later),
        of_model: true,
    },
    Class {
        code: "model_error",
        signs: &["error code: 5"],
        hint: "the model provider answered with an error; call run_massgen again later, or with another model",
        retry: Some(Retry::Later),
        of_model: true,
    },
    Class {
        code: "model_error",
        signs: &["error code: 4"],
        hint: "the model provider refused the request; mend the model's name or settings in the config as the message says, or use another model",
        retry: Some(Retry::No),
        of_model: true,
    },
    Class {
        code: "crashed",
        signs: &["traceback (most recent call last)"],
        hint: "see read_result with part `errors`; run it again once, and if it repeats it is a fault of MassGen or of the config",
        retry: Some(Retry::Now),
        of_model: false,
    },
    Class {
        code: "agents_failed",
        signs: &["no successful agents", "no answers available", "failed to use workflow tools", "streaming error"],
        hint: "see read_result with part `errors` for what each agent met, then change the config or the question",
        retry: None,
        of_model: false,
    },
];

/// The class of a failure, or `None` where nothing that is known was said.
pub fn problem(words: Words<'_>) -> Option<Problem> {
    let errors = text::clean(words.stderr);
    let from_model = words.model_error.unwrap_or_default();
    let said = [errors.as_str(), from_model].into_iter().find_map(|text| classify(text, words.provider));
    // MassGen puts a few errors on standard output; there only lines that it marks itself are heard.
    said.or_else(|| classify(&marked(&text::clean(words.stdout)), words.provider))
}

/// The last lines of standard error, as one; `None` where it said nothing.
pub fn last_lines(stderr: &str) -> Option<String> {
    let clean = text::clean(stderr);
    let mut last: Vec<&str> = clean.lines().rev().filter(|line| !line.trim().is_empty()).take(LAST_LINES).collect();
    last.reverse();
    (!last.is_empty()).then(|| text::line(&last.join(" | "), MESSAGE_CHARS))
}

/// Whether MassGen said that its own clock ran out; status.json does not always get to say so.
pub fn tells_timeout(stderr: &str) -> bool {
    stderr.contains("No answers available from any agents due to timeout")
}

/// Whether a run that goes on with a conversation came to its end: MassGen says so in its next to last words, which are those of
/// a fault of its own, and exits with 1 however the turn went.
pub fn tells_resumed_end(stdout: &str) -> bool {
    stdout.contains("Session error: too many values to unpack")
}

fn classify(text: &str, provider: Option<&str>) -> Option<Problem> {
    let lower = text.to_lowercase();
    let lines: Vec<&str> = lower.lines().collect();
    let (class, place) = CLASSES.iter().find_map(|class| Some((class, class.find(&lines)?)))?;
    let original: Vec<&str> = text.lines().skip(place).collect();
    let message = class.message(&original);
    let provider = provider.filter(|_| class.of_model).map(str::to_owned);
    Some(Problem { retry: class.retry, provider, ..Problem::new(class.code, &message, class.hint) })
}

impl Class {
    fn find(&self, lines: &[&str]) -> Option<usize> {
        lines.iter().position(|line| self.signs.iter().any(|sign| line.contains(sign)))
    }

    fn message(&self, lines: &[&str]) -> String {
        let telling = match self.code {
            // The headline is followed by what is wrong; a traceback ends with it.
            "config_invalid" => lines.iter().take(6).copied().collect::<Vec<_>>().join(" "),
            "crashed" | broken::CODE => {
                lines.iter().rfind(|line| !line.trim().is_empty()).copied().unwrap_or_default().to_owned()
            }
            _ => lines.first().copied().unwrap_or_default().to_owned(),
        };
        text::line(without_stamp(&telling), MESSAGE_CHARS)
    }
}

/// `14:29:55 | ERROR    | message` → `message`.
fn without_stamp(line: &str) -> &str {
    line.rsplit_once("| ").filter(|(stamp, _)| stamp.len() < 30).map_or(line, |(_, message)| message)
}

fn marked(stdout: &str) -> String {
    let lines = stdout.lines().filter(|line| line.trim_start().starts_with('❌'));
    lines.collect::<Vec<_>>().join("\n")
}

/// Lines that tell of trouble, for `read_result` with part `errors`: each once, with a count, in order.
pub fn error_lines(text: &str, most: usize) -> Vec<String> {
    const SIGNS: [&str; 7] = ["error", "❌", "traceback", "exception", "failed", "refused", "warning  |"];
    let clean = text::clean(text);
    let tells = |line: &&str| {
        let lower = line.to_lowercase();
        SIGNS.iter().any(|sign| lower.contains(sign))
    };
    let telling = clean.lines().filter(tells);
    let mut seen: Vec<(String, u32)> = Vec::new();
    for line in telling.map(|line| text::line(without_stamp(line), MESSAGE_CHARS)) {
        if let Some((_, count)) = seen.iter_mut().find(|(known, _)| *known == line) {
            *count += 1;
        } else if seen.len() < most {
            seen.push((line, 1));
        }
    }
    let counted = |(line, count): (String, u32)| if count > 1 { format!("{line} (×{count})") } else { line };
    seen.into_iter().map(counted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stderr: &str) -> (String, String) {
        let problem = problem(Words { stderr, ..Words::default() }).expect("known");
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
        for (stderr, code, words) in table {
            let (found, message) = of(stderr);
            assert_eq!(found, code, "{message}");
            assert!(message.contains(words), "{message}");
        }
        assert!(
            problem(Words { stderr: include_str!("../../tests/data/stderr/success.txt"), ..Words::default() })
                .is_none()
        );
    }

    #[test]
    fn a_failure_says_whether_a_retry_can_help_and_whose_model_it_was() {
        let of = |stderr| {
            let words = Words { stderr, provider: Some("api.example.com"), ..Words::default() };
            let problem = problem(words).expect("known");
            (problem.retry, problem.provider.is_some())
        };
        assert_eq!(of("Streaming error: Error code: 503 - busy"), (Some(Retry::Later), true));
        assert_eq!(of("Streaming error: Error code: 400 - no such model"), (Some(Retry::No), true));
        assert_eq!(of("Error code: 401"), (Some(Retry::No), true));
        assert_eq!(of("Traceback (most recent call last):\nOSError: full"), (Some(Retry::Now), false));
        assert_eq!(of("no successful agents"), (None, false));
        let import = "Traceback (most recent call last):\n  File \"/v/bin/massgen\", line 4, in <module>\n    from massgen.cli import \
                      cli_main\nImportError: cannot import name 'x' from 'mcp.y' (/v/mcp/y.py)\n";
        assert_eq!(of(import), (Some(Retry::No), false));
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
    fn where_nothing_is_known_the_last_lines_are_told() {
        assert_eq!(last_lines("zero\none\n\n\u{1b}[31mtwo\u{1b}[0m\n three\n").as_deref(), Some("one | two | three"));
        assert_eq!(last_lines(" \n\n"), None);
        assert!(last_lines(&"x".repeat(1_000_000)).expect("said").chars().count() <= MESSAGE_CHARS);
    }

    #[test]
    fn a_forged_question_is_not_heard() {
        let stdout = "QUESTION: why\nConfiguration error: forged\nrate limit";
        assert!(problem(Words { stdout, ..Words::default() }).is_none());
        let own = "❌ Session error: Configuration error in it";
        assert!(problem(Words { stdout: own, ..Words::default() }).is_some());
    }

    #[test]
    fn error_lines_are_told_once_each() {
        let text = "14:29:55 | ERROR    | Streaming error: 500\n14:29:56 | ERROR    | Streaming error: 500\nfine\n";
        assert_eq!(error_lines(text, 10), ["Streaming error: 500 (×2)"]);
    }
}
