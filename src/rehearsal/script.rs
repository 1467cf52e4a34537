//! What a rehearsal model is told to do, read from its name: `rehearsal[/directive]*`.
//!
//! A model's name is the one thing that travels untouched from a config through MassGen to the endpoint, agent by agent. A
//! script can be written back as a name (`Display`), in a form that needs no quoting in YAML. Pure: nothing here does anything.

use std::{fmt, time::Duration};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The first segment of the model's name.
pub(super) const MODEL: &str = "rehearsal";

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

const MOST_SECONDS: f64 = 86_400.0;
const MOST_CHARS: usize = 2_000_000;
const MOST_LABEL: usize = 32;
/// How much of a name an error repeats.
const SHOWN: usize = 80;

/// What the model is told to do. A directive that is given twice counts as it was given last.
#[derive(Debug, Clone, PartialEq)]
pub struct Script {
    /// Before each reply, an error as well.
    pub(super) delay: Duration,
    /// Only before the final presentation's reply, after `delay`.
    pub(super) final_delay: Duration,
    /// The exact size of each answer; the answer's own size when absent.
    pub(super) chars: Option<usize>,
    pub(super) manner: Manner,
    /// What the offered shell tool is asked to run before the first answer.
    pub(super) command: Option<String>,
    /// The config of the run that it has answer the question, where it is offered our tools.
    pub(super) meta: Option<String>,
    pub(super) usage: Usage,
    /// How the agent signs its answers, which also tells agents with the same part apart.
    pub(super) label: Option<String>,
}

/// How the model behaves when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// Answers, votes once there is an answer, presents.
    Willing,
    /// Answers with this HTTP error.
    Refuses(u16),
    /// Accepts the call and never answers.
    Hangs,
    /// Closes the stream in the middle of the reply.
    Drops,
    /// Gives a new answer again and again.
    NeverVotes,
    /// Talks and calls no tool.
    TextOnly,
}

/// What each call reports to have used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Usage {
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
        if segments.next() != Some(MODEL) {
            return Err(ScriptError::NotRehearsal { name: shown(model), expected: MODEL });
        }
        let mut script = Self::default();
        segments.try_for_each(|directive| script.direct(directive))?;
        Ok(script)
    }

    /// Takes one more directive.
    pub(super) fn direct(&mut self, directive: &str) -> Result<(), ScriptError> {
        let (word, value) = match directive.split_once('=') {
            Some((word, value)) => (word, Some(value)),
            None => (directive, None),
        };
        match (word, value) {
            ("hang", None) => self.manner = Manner::Hangs,
            ("drop", None) => self.manner = Manner::Drops,
            ("never-vote", None) => self.manner = Manner::NeverVotes,
            ("text-only", None) => self.manner = Manner::TextOnly,
            ("meta", None) => self.meta = Some("@rehearsal".to_owned()),
            (_, Some(value)) => return self.set(directive, word, value),
            _ => return Err(unknown_or_bare(directive)),
        }
        Ok(())
    }

    fn set(&mut self, directive: &str, word: &str, value: &str) -> Result<(), ScriptError> {
        let or = |wants| move || malformed(directive, wants);
        match word {
            "delay" => self.delay = seconds(value).ok_or_else(or(SECONDS))?,
            "final-delay" => self.final_delay = seconds(value).ok_or_else(or(SECONDS))?,
            "chars" => self.chars = Some(chars(value).ok_or_else(or("a number from 1 to 2000000"))?),
            "status" => self.manner = Manner::Refuses(status(value).ok_or_else(or("an HTTP error from 400 to 599"))?),
            "command" => self.command = Some(decoded(value).ok_or_else(or("a percent-encoded command"))?),
            "meta" => self.meta = Some(decoded(value).ok_or_else(or("a percent-encoded config"))?),
            "tokens" => {
                (self.usage.input, self.usage.output) = tokens(value).ok_or_else(or("two numbers, `IN,OUT`"))?;
            }
            "cost" => self.usage.cost = Some(dollars(value).ok_or_else(or("dollars for each call, from 0 to 1000"))?),
            "name" => self.label = Some(label(value).ok_or_else(or("up to 32 letters, digits, `_` or `-`"))?),
            "hang" | "drop" | "never-vote" | "text-only" => return Err(malformed(directive, "no value")),
            _ => {
                return Err(ScriptError::Unknown { directive: shown(directive) });
            }
        }
        Ok(())
    }
}

const SECONDS: &str = "seconds from 0 to 86400, such as `2.5`";

impl Default for Script {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            final_delay: Duration::ZERO,
            chars: None,
            manner: Manner::Willing,
            command: None,
            meta: None,
            usage: Usage::default(),
            label: None,
        }
    }
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 100, output: 20, cost: None }
    }
}

impl fmt::Display for Script {
    /// The model's name: parsing it gives this script again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded =
            |text: &Option<String>| text.as_ref().map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string());
        f.write_str(MODEL)?;
        optional(f, "name", self.label.as_ref())?;
        optional(f, "delay", noted(self.delay))?;
        optional(f, "final-delay", noted(self.final_delay))?;
        optional(f, "chars", self.chars)?;
        optional(f, "command", encoded(&self.command))?;
        optional(f, "meta", encoded(&self.meta))?;
        if self.usage != Usage::default() {
            write!(f, "/tokens={},{}", self.usage.input, self.usage.output)?;
        }
        optional(f, "cost", self.usage.cost)?;
        match self.manner {
            Manner::Willing => Ok(()),
            Manner::Refuses(status) => write!(f, "/status={status}"),
            Manner::Hangs => f.write_str("/hang"),
            Manner::Drops => f.write_str("/drop"),
            Manner::NeverVotes => f.write_str("/never-vote"),
            Manner::TextOnly => f.write_str("/text-only"),
        }
    }
}

/// A wait in seconds, where there is one.
fn noted(wait: Duration) -> Option<f64> {
    (!wait.is_zero()).then_some(wait.as_secs_f64())
}

fn optional(f: &mut fmt::Formatter<'_>, word: &str, value: Option<impl fmt::Display>) -> fmt::Result {
    value.map_or(Ok(()), |value| write!(f, "/{word}={value}"))
}

pub(super) fn malformed(directive: &str, wants: &'static str) -> ScriptError {
    ScriptError::Malformed { directive: shown(directive), wants }
}

/// The beginning of a text that may be long, for an error.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

fn unknown_or_bare(directive: &str) -> ScriptError {
    let takes_value = DIRECTIVES.iter().filter_map(|known| known.split_once('=')).any(|(word, _)| word == directive);
    if takes_value {
        malformed(directive, "a value after `=`")
    } else {
        ScriptError::Unknown { directive: shown(directive) }
    }
}

fn seconds(value: &str) -> Option<Duration> {
    let seconds: f64 = value.parse().ok()?;
    (0.0..=MOST_SECONDS).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

fn chars(value: &str) -> Option<usize> {
    value.parse().ok().filter(|chars| (1..=MOST_CHARS).contains(chars))
}

fn status(value: &str) -> Option<u16> {
    value.parse().ok().filter(|status| (400..=599).contains(status))
}

fn decoded(value: &str) -> Option<String> {
    let text = percent_decode_str(value).decode_utf8().ok()?;
    (!text.trim().is_empty() && !text.contains('\0')).then(|| text.into_owned())
}

fn tokens(value: &str) -> Option<(u32, u32)> {
    let (input, output) = value.split_once(',')?;
    Some((input.parse().ok()?, output.parse().ok()?))
}

fn dollars(value: &str) -> Option<f64> {
    value.parse().ok().filter(|dollars| (0.0..=1000.0).contains(dollars))
}

fn label(value: &str) -> Option<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    ((1..=MOST_LABEL).contains(&value.len()) && value.chars().all(fits)).then(|| value.to_owned())
}

#[cfg(test)]
mod tests;
