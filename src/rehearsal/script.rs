//! The script of a rehearsal model, parsed from the model's name: `rehearsal[/directive]*`.
//!
//! The model's name is the only value that MassGen passes unchanged from a config to the endpoint, for each agent. A script can
//! be formatted as a name again (`Display`), which needs no quotes in YAML. Pure.

use std::{fmt, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The first segment of the model's name.
pub(super) const MODEL_PREFIX: &str = "rehearsal";

/// All directives, as a user writes them.
pub const DIRECTIVES: &[&str] = &[
    "delay=SECONDS",
    "final-delay=SECONDS",
    "chars=N",
    "status=CODE",
    "hang",
    "drop",
    "never-vote",
    "text-only",
    "command=PERCENT-ENCODED",
    "meta=CONFIG (percent-encoded; @rehearsal without)",
    "tokens=IN,OUT",
    "cost=USD",
    "name=LABEL",
    "agents=N (config only)",
];

/// The directives without their values.
pub fn directive_words() -> impl Iterator<Item = &'static str> {
    DIRECTIVES.iter().filter_map(|known| known.split(['=', ' ']).next())
}

const MAX_SECONDS: f64 = 86_400.0;
const MAX_CHARS: usize = 2_000_000;
const MAX_LABEL_CHARS: usize = 32;
/// The most characters of a name in an error.
const MAX_SHOWN_CHARS: usize = 80;

/// The behavior of a model. If a directive occurs twice, the last one applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// The delay before each reply, including errors.
    pub(super) delay: Duration,
    /// An additional delay before the reply with the final presentation.
    pub(super) final_delay: Duration,
    /// The exact length of each answer, in characters; `None` keeps its natural length.
    pub(super) chars: Option<usize>,
    pub(super) behavior: Behavior,
    /// The command to run with the offered shell tool before the first answer.
    pub(super) command: Option<String>,
    /// The config of the run that a meta-agent starts to answer the question, if it is offered our tools.
    pub(super) meta_config: Option<String>,
    pub(super) usage: ReportedUsage,
    /// The name in the agent's answers; also distinguishes agents with the same script.
    pub(super) label: Option<String>,
}

/// The reaction of the model to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    /// Answers, votes once an answer exists, and presents.
    Cooperative,
    /// Replies with this HTTP error.
    HttpError(u16),
    /// Accepts the call and never replies.
    Hang,
    /// Closes the stream in the middle of the reply.
    DropStream,
    /// Always gives a new answer and never votes.
    NeverVote,
    /// Replies with text and calls no tool.
    TextOnly,
}

/// The usage that each reply reports.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ReportedUsage {
    pub(super) input: u32,
    pub(super) output: u32,
    /// US dollars. MassGen accepts a cost reported by the provider, although it does not know the model.
    pub(super) cost: Option<f64>,
}

/// An invalid script.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The first segment of the name is wrong.
    #[error("`{name}` does not name the rehearsal (`{expected}`, or `{expected}/directive...`)")]
    NotRehearsal {
        /// The name, cut if it is long.
        name: String,
        /// The expected first segment.
        expected: &'static str,
    },
    /// The directive is unknown.
    #[error("unknown rehearsal directive `{directive}`; known: {}", DIRECTIVES.join(", "))]
    Unknown {
        /// The directive, cut if it is long.
        directive: String,
    },
    /// The value of the directive is invalid.
    #[error("rehearsal directive `{directive}` wants {wants}; known: {}", DIRECTIVES.join(", "))]
    Malformed {
        /// The directive, cut if it is long.
        directive: String,
        /// The expected value.
        wants: &'static str,
    },
    /// The directive is for an agent that the config does not have.
    #[error("rehearsal directive `{directive}` is meant for an agent that is not there: the config has {agents}")]
    NoSuchAgent {
        /// The directive, cut if it is long.
        directive: String,
        /// The number of agents.
        agents: usize,
    },
}

impl Script {
    /// Parses a model's name.
    ///
    /// # Errors
    ///
    /// If the name is not `rehearsal[/directive]*`, or a directive is unknown or malformed.
    pub fn parse(model: &str) -> Result<Self, ScriptError> {
        let mut segments = model.split('/');
        if segments.next() != Some(MODEL_PREFIX) {
            return Err(ScriptError::NotRehearsal { name: truncate_shown(model), expected: MODEL_PREFIX });
        }
        let mut script = Self::default();
        segments.try_for_each(|directive| script.apply(directive))?;
        Ok(script)
    }

    /// Applies a directive.
    pub(super) fn apply(&mut self, directive: &str) -> Result<(), ScriptError> {
        let (word, value) = match directive.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (directive, None),
        };
        match (word, value) {
            ("hang", None) => self.behavior = Behavior::Hang,
            ("drop", None) => self.behavior = Behavior::DropStream,
            ("never-vote", None) => self.behavior = Behavior::NeverVote,
            ("text-only", None) => self.behavior = Behavior::TextOnly,
            ("meta", None) => self.meta_config = Some("@rehearsal".to_owned()),
            (_, Some(value)) => return self.set_value(directive, word, value),
            _ => return Err(directive_error(directive)),
        }
        Ok(())
    }

    fn set_value(&mut self, directive: &str, word: &str, value: &str) -> Result<(), ScriptError> {
        let malformed = |wants| move || malformed_directive(directive, wants);
        match word {
            "delay" => self.delay = parse_seconds(value).ok_or_else(malformed(SECONDS_FORM))?,
            "final-delay" => self.final_delay = parse_seconds(value).ok_or_else(malformed(SECONDS_FORM))?,
            "chars" => self.chars = Some(parse_chars(value).ok_or_else(malformed("a number from 1 to 2000000"))?),
            "status" => {
                self.behavior =
                    Behavior::HttpError(parse_status(value).ok_or_else(malformed("an HTTP error from 400 to 599"))?)
            }
            "command" => self.command = Some(percent_decode(value).ok_or_else(malformed("a percent-encoded command"))?),
            "meta" => self.meta_config = Some(percent_decode(value).ok_or_else(malformed("a percent-encoded config"))?),
            "tokens" => {
                (self.usage.input, self.usage.output) =
                    parse_tokens(value).ok_or_else(malformed("two numbers, `IN,OUT`"))?;
            }
            "cost" => {
                self.usage.cost =
                    Some(parse_dollars(value).ok_or_else(malformed("dollars for each call, from 0 to 1000"))?)
            }
            "name" => {
                self.label = Some(parse_label(value).ok_or_else(malformed("up to 32 letters, digits, `_` or `-`"))?)
            }
            "hang" | "drop" | "never-vote" | "text-only" => return Err(malformed_directive(directive, "no value")),
            _ => {
                return Err(ScriptError::Unknown { directive: truncate_shown(directive) });
            }
        }
        Ok(())
    }
}

const SECONDS_FORM: &str = "seconds from 0 to 86400, such as `2.5`";

impl Default for Script {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            final_delay: Duration::ZERO,
            chars: None,
            behavior: Behavior::Cooperative,
            command: None,
            meta_config: None,
            usage: ReportedUsage::default(),
            label: None,
        }
    }
}

impl Default for ReportedUsage {
    fn default() -> Self {
        Self { input: 100, output: 20, cost: None }
    }
}

impl fmt::Display for Script {
    /// Formats the script as a model's name, which parses to the same script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded =
            |text: &Option<String>| text.as_ref().map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
        f.write_str(MODEL_PREFIX)?;
        write_directive(f, "name", self.label.as_ref())?;
        write_directive(f, "delay", nonzero_seconds(self.delay))?;
        write_directive(f, "final-delay", nonzero_seconds(self.final_delay))?;
        write_directive(f, "chars", self.chars)?;
        write_directive(f, "command", encoded(&self.command))?;
        write_directive(f, "meta", encoded(&self.meta_config))?;
        if self.usage != ReportedUsage::default() {
            write!(f, "/tokens={},{}", self.usage.input, self.usage.output)?;
        }
        write_directive(f, "cost", self.usage.cost)?;
        match self.behavior {
            Behavior::Cooperative => Ok(()),
            Behavior::HttpError(status) => write!(f, "/status={status}"),
            Behavior::Hang => f.write_str("/hang"),
            Behavior::DropStream => f.write_str("/drop"),
            Behavior::NeverVote => f.write_str("/never-vote"),
            Behavior::TextOnly => f.write_str("/text-only"),
        }
    }
}

/// A delay in seconds; `None` if it is zero.
fn nonzero_seconds(delay: Duration) -> Option<f64> {
    (!delay.is_zero()).then_some(delay.as_secs_f64())
}

fn write_directive(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "/{word}={value}"))
}

pub(super) fn malformed_directive(directive: &str, wants: &'static str) -> ScriptError {
    ScriptError::Malformed { directive: truncate_shown(directive), wants }
}

/// The beginning of a text, for an error.
pub(super) fn truncate_shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN_CHARS).collect()
}

fn directive_error(directive: &str) -> ScriptError {
    let takes_value = DIRECTIVES.iter().filter_map(|known| known.split_once('=')).any(|(word, _)| word == directive);
    if takes_value {
        malformed_directive(directive, "a value after `=`")
    } else {
        ScriptError::Unknown { directive: truncate_shown(directive) }
    }
}

fn parse_seconds(value: &str) -> Option<Duration> {
    let seconds: f64 = value.parse().ok()?;
    (0.0..=MAX_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn parse_chars(value: &str) -> Option<usize> {
    value.parse().ok().filter(|chars| (1..=MAX_CHARS).contains(chars))
}

fn parse_status(value: &str) -> Option<u16> {
    value.parse().ok().filter(|status| (400..=599).contains(status))
}

fn percent_decode(value: &str) -> Option<String> {
    let text = percent_decode_str(value).decode_utf8().ok()?;
    (!text.trim().is_empty() && !text.contains('\0')).then(|| text.into_owned())
}

fn parse_tokens(value: &str) -> Option<(u32, u32)> {
    let (input, output) = value.split_once(',')?;
    Some((input.parse().ok()?, output.parse().ok()?))
}

fn parse_dollars(value: &str) -> Option<f64> {
    value.parse().ok().filter(|dollars| (0.0..=1000.0).contains(dollars))
}

fn parse_label(value: &str) -> Option<String> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    ((1..=MAX_LABEL_CHARS).contains(&value.len()) && value.chars().all(is_allowed)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
