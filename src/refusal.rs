//! A refusal for an agent or a person: a stable code, one sentence, and the next step. This module knows neither
//! protocol nor terminal: the server and the commands show it, each in its own words and format.

use crate::fleet::results::{InvalidPart, ReadError};
use crate::fleet::{
    BasisError, ContinueError, ExperimentError, FleetError, LaunchError, StartError, SteerError, VerifyError,
};
use crate::ledger::LedgerError;
use crate::massgen::broken_import;
use crate::massgen::configs::{ConfigError, ValidateError};
use crate::massgen::names;
use crate::massgen::program::ProgramError;
use crate::massgen::text::{self, error_chain};
use crate::registry::RegistryError;
use crate::rehearsal::{self, ScriptError};
use crate::run::{InvalidRunId, NextStep, Problem, Step, Wording};
use crate::secrets::Secrets;

/// Why a call or a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
    next: NextStep,
}

/// The longest message and the longest hint, in characters: a caller's input may have any length.
const MAX_TEXT_CHARS: usize = 1_000;

impl Refusal {
    /// The refusal if MassGen cannot be imported.
    pub(crate) fn broken_import(problem: Problem) -> Refusal {
        Refusal::new(broken_import::CODE, problem.message, problem.next)
    }

    pub(crate) fn new(code: &'static str, message: impl Into<String>, next: impl Into<NextStep>) -> Refusal {
        Refusal { code, message: message.into(), next: next.into() }
    }

    pub(crate) fn panicked() -> Refusal {
        Refusal::new("internal_error", "massgen-mcp met a fault of its own in this call", Step::ReportFault)
    }

    /// The refusal of a number outside the allowed range.
    pub(crate) fn out_of_range(field: &str, value: f64, least: f64, most: f64) -> Refusal {
        // For a huge number, exponent notation says as much as hundreds of digits.
        let value = if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") };
        let message = format!("`{field}` is {value}, which is not between {least} and {most}");
        Refusal::new("out_of_range", message, format!("call again with `{field}` from {least} to {most}"))
    }

    /// The refusal of a call with a secret in a field. It names the variable, never the value.
    pub(crate) fn contains_secret(field: String, variable: &str) -> Refusal {
        let message = format!("`{field}` has a secret of the operator in it, the value of {variable}");
        let hint = "nothing was done with it; take it out and call again: MassGen gets its keys from the operator, never from you";
        Refusal::new("secret_in_arguments", message, hint)
    }

    /// The refusal of a group without runs.
    pub(crate) fn unknown_group(group: &str) -> Refusal {
        Refusal::new("unknown_group", format!("no run has the group `{group}`"), Step::ListRuns)
    }

    /// The refusal of a call that needs a project folder when there is none, or it no longer exists.
    pub(crate) fn no_project(why: &dyn std::error::Error) -> Refusal {
        let hint = "configs and question files are looked for in a project, and `context` hands it over: name its folder with \
                    --project or MASSGEN_MCP_PROJECT; without one, absolute paths, @examples/NAME, names in ~/.config/massgen/agents and @rehearsal work";
        Refusal::new("no_project", format!("there is no project: {why}"), hint)
    }

    /// Adds another refusal as the possible cause, with its hint.
    #[must_use]
    pub(crate) fn with_cause(self, cause: &Refusal) -> Refusal {
        Refusal { message: format!("{}; {}", self.message, cause.message), next: cause.next.clone(), ..self }
    }

    /// Adds what the refused call has or has not done.
    #[must_use]
    pub(crate) fn with_effect(self, effect: &str) -> Refusal {
        Refusal { message: format!("{}; {effect}", self.message), ..self }
    }

    /// Adds the place, for one item of a list.
    #[must_use]
    pub(crate) fn with_location(self, place: &str) -> Refusal {
        Refusal { message: format!("{place}: {}", self.message), ..self }
    }

    /// Masks secrets in the text.
    pub(crate) fn masked(self, secrets: &Secrets) -> Refusal {
        let clean = |text: &str| text::truncate(&text::replace_harmful(&secrets.mask(text)), MAX_TEXT_CHARS);
        Refusal { code: self.code, message: clean(&self.message), next: self.next.map_detail(clean) }
    }

    /// The whole refusal in one line, for a list of problems.
    pub(crate) fn to_single_line(&self, wording: Wording) -> String {
        format!("{}: {} ({})", self.code, self.message, self.hint(wording))
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What to do next, in the words of a reader.
    pub(crate) fn hint(&self, wording: Wording) -> String {
        wording(&self.next)
    }

    /// What to do next.
    pub(crate) fn next(&self) -> &NextStep {
        &self.next
    }

    /// What is wrong, in one sentence.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Whether the target is known but has no content yet.
    pub(crate) fn is_not_ready(&self) -> bool {
        self.code == "nothing_to_read"
    }

    /// The whole refusal for a model: code and message in the first line, the hint in the second. It is not a JSON
    /// document, because some clients treat text that parses as JSON as structured content.
    pub(crate) fn to_text(&self, wording: Wording) -> String {
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {}.\n{}", self.code, message.trim_end_matches('.'), self.hint(wording))
    }

    pub(crate) fn to_json(&self, wording: Wording) -> serde_json::Value {
        serde_json::json!({"code": self.code, "message": self.message, "hint": self.hint(wording)})
    }
}

impl From<InvalidRunId> for Refusal {
    fn from(error: InvalidRunId) -> Refusal {
        let message = format!("`{}` is not a run id; they look like mg-7f3k2q9d", text::single_line(&error.0, 80));
        Refusal::new("bad_run_id", message, Step::FindRun)
    }
}

impl From<InvalidPart> for Refusal {
    fn from(error: InvalidPart) -> Refusal {
        let hint = "answer: the final text, or the best so far; answers: every agent's, with labels; report: who voted for what and why, time \
                    and money; files: the winner's workspace, file:PATH one of them; agent:ID: what one agent said; errors; log; \
                    manifest: hashes of config, question, answer and files, which prove that none was altered";
        Refusal::new("bad_part", error_chain(&error), hint)
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Refusal {
        match &error {
            RegistryError::Unknown(_) => Refusal::new("unknown_run", error_chain(&error), Step::FindRun),
            RegistryError::Io { .. } => {
                let hint = "the state folder must be writable and have room: the operator makes it so, or names another with \
                            --home or MASSGEN_MCP_HOME; then call again";
                Refusal::new("state_folder", error_chain(&error), hint)
            }
            RegistryError::NewerVersion { .. } => {
                let hint = "a newer massgen-mcp wrote it; the operator has to update this one to change that run";
                Refusal::new("newer_record", error_chain(&error), hint)
            }
            RegistryError::Format { source, .. } => {
                Refusal::new("unreadable_record", damaged_file_message(&error, source), Step::ListOtherRuns)
            }
        }
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Refusal {
        match error {
            FleetError::Registry(error) => error.into(),
            FleetError::Launch(error @ (LaunchError::NotStarted { .. } | LaunchError::ExitedEarly { .. })) => {
                Refusal::new("start_failed", error_chain(&error), Step::RetryStart)
            }
            FleetError::Start(error) => error.into(),
            FleetError::Steer(error) => error.into(),
            FleetError::Continue(error) => error.into(),
            FleetError::Experiment(error) => error.into(),
            FleetError::Basis(error) => error.into(),
            FleetError::Ledger(error) => error.into(),
            FleetError::Interrupted(_) => Refusal::panicked(),
        }
    }
}

/// The texts are meant to stop an agent from retrying: no action of the agent changes these conditions.
impl From<StartError> for Refusal {
    fn from(error: StartError) -> Refusal {
        let message = error_chain(&error);
        match error {
            StartError::BrokenImport(problem) => Refusal::broken_import(*problem),
            StartError::TooDeep { .. } => Refusal::new(
                "too_deep",
                message,
                "this is final: do not try again from here. Answer by yourself with what you have",
            ),
            StartError::SameAsAncestor { .. } => Refusal::new(
                "same_as_ancestor",
                message,
                "this is final: it would go round in circles. Answer the question by yourself, or ask a smaller part of it",
            ),
        }
    }
}

impl From<SteerError> for Refusal {
    fn from(error: SteerError) -> Refusal {
        let message = error_chain(&error);
        let (code, next): (_, NextStep) = match error {
            SteerError::ContainsSecret(variable) => return Refusal::contains_secret("message".to_owned(), &variable),
            SteerError::RunEnded(_) => ("run_over", Step::ContinueEndedRun.into()),
            SteerError::NeverDelivered(_) => ("never_delivered", Step::ContinueWithMessage.into()),
            SteerError::NoTools { .. } => ("agents_without_tools", Step::RestartWithInstruction.into()),
            SteerError::InvalidMessage(_) => {
                ("message_invalid", "say in a few sentences what the agents are to know or to do".into())
            }
            SteerError::UnknownAgent { near: Some(near), .. } => {
                let hint = format!("did you mean {near}? call again with that, or leave `agents` out to reach all");
                return Refusal::new("unknown_agent", message, hint);
            }
            SteerError::UnknownAgent { near: None, .. } => ("unknown_agent", Step::NameAgents.into()),
            SteerError::TooManyPending(_) => ("too_many_messages", Step::WaitOrStop.into()),
        };
        Refusal::new(code, message, next)
    }
}

impl From<ContinueError> for Refusal {
    fn from(error: ContinueError) -> Refusal {
        let message = error_chain(&error);
        let (code, next): (_, NextStep) = match error {
            ContinueError::NotEnded(_) => ("run_not_over", Step::WaitForEnd.into()),
            ContinueError::NoAnswer(_) => ("nothing_to_continue", Step::AskWholeQuestion.into()),
            ContinueError::TooLong(_) | ContinueError::Session { .. } => {
                ("cannot_continue", Step::BuildOnAnswer.into())
            }
        };
        Refusal::new(code, message, next)
    }
}

impl From<ExperimentError> for Refusal {
    fn from(error: ExperimentError) -> Refusal {
        let message = error_chain(&error);
        let (code, next): (_, NextStep) = match error {
            ExperimentError::GroupTaken(_) => (
                "group_taken",
                Step::ChooseGroup.into(),
            ),
            ExperimentError::GroupIsExperiment(_) => (
                "group_taken",
                Step::ChooseGroupForRun.into(),
            ),
            ExperimentError::RunIsPlanned { .. } => (
                "not_started",
                Step::WaitForPlannedRun.into(),
            ),
            ExperimentError::KeyReused(_) => (
                "request_key_taken",
                "nothing was started: repeat the first request exactly to get what it began, or choose another request_key".into(),
            ),
        };
        Refusal::new(code, message, next)
    }
}

impl From<BasisError> for Refusal {
    fn from(error: BasisError) -> Refusal {
        let message = error_chain(&error);
        let (code, next): (_, NextStep) = match error {
            BasisError::NoAnswer(_) => ("nothing_to_build_on", Step::WaitToBuildOn.into()),
            BasisError::Unknown { .. } => ("unknown_answer", Step::NameAnswer.into()),
            BasisError::Copy { .. } => ("cannot_build_on", Step::QuoteAnswer.into()),
        };
        Refusal::new(code, message, next)
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Refusal {
        let message = error_chain(&error);
        let (code, next): (_, NextStep) = match error {
            LedgerError::Registry(error) => return error.into(),
            LedgerError::KeyReused(_) => (
                "request_key_taken",
                "repeat the first request exactly to get its run, or choose another request_key for this one".into(),
            ),
            LedgerError::TooManyStarts { .. } => {
                ("too_many_starts", Step::WaitBeforeStart.into())
            }
            LedgerError::QueueFull(_) => {
                ("queue_full", Step::WaitForQueue.into())
            }
            LedgerError::TreeFull(0) => {
                ("tree_full", "this is final: runs may not start others here. Answer by yourself with what you have".into())
            }
            LedgerError::NewerVersion { .. } => ("newer_record", "the operator has to update this massgen-mcp".into()),
            LedgerError::TreeFull(_) => {
                ("tree_full", Step::WaitForOwnRun.into())
            }
            LedgerError::ParentStopping(_) => {
                ("parent_ending", "this is final: the run that you are part of is being stopped. Give your answer now".into())
            }
            LedgerError::AboveRunCap { .. } => {
                ("budget_not_allowed", "ask for no more than that, or for nothing; only the operator can raise it".into())
            }
            LedgerError::InsufficientBudget { .. } => (
                "budget_exhausted",
                "ask for no more than what is left; what live runs do not spend comes back when they end. If nothing is left, \
                 do not try again: work with what you have".into(),
            ),
        };
        Refusal::new(code, message, next)
    }
}

/// The refusal if MassGen does not start; no other call changes that.
impl From<ValidateError> for Refusal {
    fn from(error: ValidateError) -> Refusal {
        if let ValidateError::BrokenImport(problem) = error {
            return Refusal::broken_import(*problem);
        }
        let hint = "start it without dry_run, or tell the operator to look at the MassGen installation";
        Refusal::new("validation_failed", error_chain(&error), hint)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        match error {
            ReadError::Missing { what, instead } => Refusal::new("nothing_to_read", what, instead),
            ReadError::Unreadable { .. } => {
                Refusal::new("unreadable", error_chain(&error), "try another part: answer, answers, files, log, errors")
            }
            ReadError::Binary { .. } => Refusal::new(
                "binary_file",
                error_chain(&error),
                "open it at that path with a program for its kind; part `files` lists the others",
            ),
            ReadError::Fleet(error) => error.into(),
        }
    }
}

impl From<VerifyError> for Refusal {
    fn from(error: VerifyError) -> Refusal {
        let message = error_chain(&error);
        match error {
            VerifyError::Fleet(error) => error.into(),
            VerifyError::NotEnded(_) => {
                Refusal::new("run_not_over", message, "wait for its end with `massgen-mcp wait`, then check again")
            }
            VerifyError::NoManifest(_) => Refusal::new(
                "no_manifest",
                message,
                "nothing tells what it left then; runs that end from now on have one",
            ),
            VerifyError::Damaged { ref source, .. } => Refusal::new(
                "manifest_damaged",
                damaged_file_message(&error, source),
                "take the run's files for changed; `massgen-mcp status` shows what is on record",
            ),
        }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Refusal {
        let message = error_chain(&error);
        match error {
            ConfigError::Missing { similar, .. } if !similar.is_empty() => {
                let similar = format!("did you mean {}? ", similar.join(", "));
                Refusal::new("config_missing", message, Step::FindConfig.with(similar))
            }
            ConfigError::Missing { .. } => Refusal::new("config_missing", message, Step::FindConfig),
            ConfigError::NoDefault { .. } => {
                Refusal::new("config_missing", message, Step::FindConfig.with("give `massgen_config`; "))
            }
            ConfigError::NotAConfig { .. } => {
                Refusal::new("config_unsuitable", message, "give a MassGen config: a YAML or JSON file")
            }
        }
    }
}

impl From<ScriptError> for Refusal {
    fn from(error: ScriptError) -> Refusal {
        let near = match &error {
            ScriptError::Unknown { directive } => {
                names::nearest(directive.split('=').next().unwrap_or_default(), rehearsal::directive_words())
            }
            ScriptError::NotRehearsal { .. } | ScriptError::Malformed { .. } | ScriptError::NoSuchAgent { .. } => None,
        };
        let near = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        let hint = "the rehearsal is @rehearsal, or @rehearsal/directive/directive with the directives that are named";
        Refusal::new("rehearsal_invalid", error_chain(&error), near + hint)
    }
}

impl From<ProgramError> for Refusal {
    fn from(error: ProgramError) -> Refusal {
        let hint = match &error {
            ProgramError::NotExecutable(_) => {
                "the operator has to correct --massgen (MASSGEN_MCP_MASSGEN), or to leave it out so that MassGen is looked for"
            }
            ProgramError::Missing { .. } => {
                "the operator has to run `massgen-mcp setup` once, or to name a working one with --massgen"
            }
        };
        Refusal::new("program_missing", error_chain(&error), hint)
    }
}

/// The message for an unreadable file of ours, with the position. serde's own message is about Rust types, which does
/// not help the caller.
fn damaged_file_message(error: &dyn std::error::Error, source: &serde_json::Error) -> String {
    format!("{error} (line {}, column {})", source.line(), source.column())
}

#[cfg(test)]
mod tests;
