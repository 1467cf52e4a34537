//! What a rehearsal model is told to do, read from its name: `rehearsal[/directive]*`.
//!
//! A model's name is the one thing that travels untouched from a config through MassGen to the endpoint, agent by agent. A
//! script can be written back as a name (`Display`), in a form that needs no quoting in YAML. Pure: nothing here does anything.

use std::{fmt, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The first segment of the model's name.
pub(super) const MODEL_PREFIX: &str = "rehearsal";

/// Every directive, as a person would write it.
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
/// How much of a name an error repeats.
const MAX_SHOWN_CHARS: usize = 80;

/// What the model is told to do. A directive that is given twice counts as it was given last.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Before each reply, an error as well.
    pub(super) delay: Duration,
    /// Only before the final presentation's reply, after `delay`.
    pub(super) final_delay: Duration,
    /// The exact size of each answer; the answer's own size when absent.
    pub(super) chars: Option<usize>,
    pub(super) behavior: Behavior,
    /// What the offered shell tool is asked to run before the first answer.
    pub(super) command: Option<String>,
    /// The config of the run that it has answer the question, where it is offered our tools.
    pub(super) meta_config: Option<String>,
    pub(super) usage: ReportedUsage,
    /// How the agent signs its answers, which also tells agents with the same part apart.
    pub(super) label: Option<String>,
}

/// How the model behaves when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behavior {
    /// Answers, votes once there is an answer, presents.
    Cooperative,
    /// Answers with this HTTP error.
    HttpError(u16),
    /// Accepts the call and never answers.
    Hang,
    /// Closes the stream in the middle of the reply.
    DropStream,
    /// Gives a new answer again and again.
    NeverVote,
    /// Talks and calls no tool.
    TextOnly,
}

/// What each call reports to have used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ReportedUsage {
    pub(super) input: u32,
    pub(super) output: u32,
    /// In dollars. MassGen believes a provider that names a cost, although it does not know the model.
    pub(super) cost: Option<f64>,
}

/// Why a script was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// The name's first segment is another one.
    #[error("`{name}` does not name the rehearsal (`{expected}`, or `{expected}/directive...`)")]
    NotRehearsal {
        /// The name, cut if it is long.
        name: String,
        /// What the first segment has to be.
        expected: &'static str,
    },
    /// There is no such directive here.
    #[error("unknown rehearsal directive `{directive}`; known: {}", DIRECTIVES.join(", "))]
    Unknown {
        /// The directive, cut if it is long.
        directive: String,
    },
    /// The directive is known and its value is not understood.
    #[error("rehearsal directive `{directive}` wants {wants}; known: {}", DIRECTIVES.join(", "))]
    Malformed {
        /// The directive, cut if it is long.
        directive: String,
        /// What its value has to be.
        wants: &'static str,
    },
    /// The directive is meant for an agent that the config does not have.
    #[error("rehearsal directive `{directive}` is meant for an agent that is not there: the config has {agents}")]
    NoSuchAgent {
        /// The directive, cut if it is long.
        directive: String,
        /// How many agents there are.
        agents: usize,
    },
}

impl Script {
    /// Reads a model's name.
    ///
    /// # Errors
    ///
    /// When the name is not `rehearsal[/directive]*`, or a directive is unknown or malformed.
    pub fn parse(model: &str) -> Result<Self, ScriptError> {
        let mut segments = model.split('/');
        if segments.next() != Some(MODEL_PREFIX) {
            return Err(ScriptError::NotRehearsal { name: truncate_shown(model), expected: MODEL_PREFIX });
        }
        let mut script = Self::default();
        segments.try_for_each(|directive| script.apply(directive))?;
        Ok(script)
    }

    /// Takes one more directive.
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
        let or = |wants| move || malformed_directive(directive, wants);
        match word {
            "delay" => self.delay = parse_seconds(value).ok_or_else(or(SECONDS_FORM))?,
            "final-delay" => self.final_delay = parse_seconds(value).ok_or_else(or(SECONDS_FORM))?,
            "chars" => self.chars = Some(parse_chars(value).ok_or_else(or("a number from 1 to 2000000"))?),
            "status" => {
                self.behavior =
                    Behavior::HttpError(parse_status(value).ok_or_else(or("an HTTP error from 400 to 599"))?)
            }
            "command" => self.command = Some(percent_decode(value).ok_or_else(or("a percent-encoded command"))?),
            "meta" => self.meta_config = Some(percent_decode(value).ok_or_else(or("a percent-encoded config"))?),
            "tokens" => {
                (self.usage.input, self.usage.output) = parse_tokens(value).ok_or_else(or("two numbers, `IN,OUT`"))?;
            }
            "cost" => {
                self.usage.cost = Some(parse_dollars(value).ok_or_else(or("dollars for each call, from 0 to 1000"))?)
            }
            "name" => self.label = Some(parse_label(value).ok_or_else(or("up to 32 letters, digits, `_` or `-`"))?),
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
    /// The model's name: parsing it gives this script again.
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

/// A wait in seconds, where there is one.
fn nonzero_seconds(wait: Duration) -> Option<f64> {
    (!wait.is_zero()).then_some(wait.as_secs_f64())
}

fn write_directive(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "/{word}={value}"))
}

pub(super) fn malformed_directive(directive: &str, wants: &'static str) -> ScriptError {
    ScriptError::Malformed { directive: truncate_shown(directive), wants }
}

/// The beginning of a text that may be long, for an error.
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
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    ((1..=MAX_LABEL_CHARS).contains(&value.len()) && value.chars().all(fits)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
