//! A refusal for an agent or a person: a stable code, one sentence, and the next step. This module knows neither
//! protocol nor terminal: the server and the commands show the same text, each in its own format.

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
use crate::run::{InvalidRunId, Problem};
use crate::secrets::Secrets;

/// Why a call or a command was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
    hint: String,
}

/// Where to find configs.
const CONFIG_HINT: &str = "A config is a path relative to the project, a name in ~/.config/massgen/agents, or @examples/NAME; \
                     @rehearsal only practises: its answers are scripted";
/// The longest message and the longest hint, in characters: a caller's input may have any length.
const MAX_TEXT_CHARS: usize = 1_000;
const FIND_RUN_HINT: &str = "call check_status without arguments to see the latest runs and their run_id";

impl Refusal {
    /// The refusal if MassGen cannot be imported.
    pub(crate) fn broken_import(problem: Problem) -> Refusal {
        Refusal::new(broken_import::CODE, problem.message, problem.hint)
    }

    pub(crate) fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn panicked() -> Refusal {
        let hint = "runs are not touched by it; call check_status to see them, and tell the operator to look at the server's log";
        Refusal::new("internal_error", "massgen-mcp met a fault of its own in this call", hint)
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
        let hint = "call check_status without arguments to see the latest runs";
        Refusal::new("unknown_group", format!("no run has the group `{group}`"), hint)
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
        Refusal { message: format!("{}; {}", self.message, cause.message), hint: cause.hint.clone(), ..self }
    }

    /// Adds the place, for one item of a list.
    #[must_use]
    pub(crate) fn with_location(self, place: &str) -> Refusal {
        Refusal { message: format!("{place}: {}", self.message), ..self }
    }

    /// Masks secrets in the text.
    pub(crate) fn masked(self, secrets: &Secrets) -> Refusal {
        let clean = |text: &str| text::truncate(&text::replace_harmful(&secrets.mask(text)), MAX_TEXT_CHARS);
        Refusal { code: self.code, message: clean(&self.message), hint: clean(&self.hint) }
    }

    /// The whole refusal in one line, for a list of problems.
    pub(crate) fn to_single_line(&self) -> String {
        format!("{}: {} ({})", self.code, self.message, self.hint)
    }

    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> &str {
        &self.hint
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
    pub(crate) fn to_text(&self) -> String {
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {}.\n{}", self.code, message.trim_end_matches('.'), self.hint)
    }

    pub(crate) fn into_json(self) -> serde_json::Value {
        serde_json::json!({"code": self.code, "message": self.message, "hint": self.hint})
    }
}

impl From<InvalidRunId> for Refusal {
    fn from(error: InvalidRunId) -> Refusal {
        let message = format!("`{}` is not a run id; they look like mg-7f3k2q9d", text::single_line(&error.0, 80));
        Refusal::new("bad_run_id", message, FIND_RUN_HINT)
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
            RegistryError::Unknown(_) => Refusal::new("unknown_run", error_chain(&error), FIND_RUN_HINT),
            RegistryError::Io { .. } => {
                let hint = "the state folder must be writable and have room: the operator makes it so, or names another with \
                            --home or MASSGEN_MCP_HOME; then call again";
                Refusal::new("state_folder", error_chain(&error), hint)
            }
            RegistryError::NewerVersion { .. } => {
                let hint = "a newer massgen-mcp wrote it; the operator has to update this one to change that run";
                Refusal::new("newer_record", error_chain(&error), hint)
            }
            RegistryError::Format { source, .. } => Refusal::new(
                "unreadable_record",
                damaged_file_message(&error, source),
                "the record is damaged; other runs are not: see check_status without arguments",
            ),
        }
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Refusal {
        match error {
            FleetError::Registry(error) => error.into(),
            FleetError::Launch(error @ (LaunchError::NotStarted { .. } | LaunchError::ExitedEarly { .. })) => {
                Refusal::new(
                    "start_failed",
                    error_chain(&error),
                    "nothing was spent; call run_massgen again, and tell the operator if it repeats",
                )
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
        let (code, hint) = match error {
            SteerError::ContainsSecret(variable) => return Refusal::contains_secret("message".to_owned(), &variable),
            SteerError::RunEnded(_) => (
                "run_over",
                "nobody reads it any more: see read_result; to say something to its agents all the same, call run_massgen with \
                 continue_run set to this run and the message as its question",
            ),
            SteerError::NeverDelivered(_) => (
                "never_delivered",
                "its agents never saw it: see read_result; to say it all the same, call run_massgen with continue_run set to this \
                 run and the message as its question",
            ),
            SteerError::NoTools { .. } => (
                "agents_without_tools",
                "nothing was sent: kill_run it and start again with the instruction in the question; or wait for its end, then \
                 call run_massgen with continue_run set to this run and the instruction as its question",
            ),
            SteerError::InvalidMessage(_) => {
                ("message_invalid", "say in a few sentences what the agents are to know or to do")
            }
            SteerError::UnknownAgent { near: Some(near), .. } => {
                let hint = format!("did you mean {near}? call again with that, or leave `agents` out to reach all");
                return Refusal::new("unknown_agent", message, hint);
            }
            SteerError::UnknownAgent { near: None, .. } => (
                "unknown_agent",
                "name agents as check_status does, or leave `agents` out to reach all; a run that has just begun may not have \
                 named them yet",
            ),
            SteerError::TooManyPending(_) => (
                "too_many_messages",
                "its agents take none up, perhaps because they call no tools: wait for the end with check_status, or kill_run it",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<ContinueError> for Refusal {
    fn from(error: ContinueError) -> Refusal {
        let message = error_chain(&error);
        let (code, hint) = match error {
            ContinueError::NotEnded(_) => (
                "run_not_over",
                "wait for its end with check_status (wait_s, until any_done), then call again; steer_run reaches it now, and `from_run` \
                 builds on its best answer so far",
            ),
            ContinueError::NoAnswer(_) => {
                ("nothing_to_continue", "call run_massgen without continue_run, with the whole question")
            }
            ContinueError::TooLong(_) | ContinueError::Session { .. } => (
                "cannot_continue",
                "call run_massgen with `from_run` set to this run in place of continue_run: its answer is material for other agents, \
                 and a conversation of their own begins",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<ExperimentError> for Refusal {
    fn from(error: ExperimentError) -> Refusal {
        let message = error_chain(&error);
        let (code, hint) = match error {
            ExperimentError::GroupTaken(_) => (
                "group_taken",
                "nothing was started: no runs can be added to those of another call; choose a new group, or leave it out and get one; \
                 check_status with the group shows the runs that it has",
            ),
            ExperimentError::GroupIsExperiment(_) => (
                "group_taken",
                "nothing was started: no run can be added to it; choose a new group for this run, or leave it out; check_status \
                 with the group shows the runs that it has",
            ),
            ExperimentError::RunIsPlanned { .. } => (
                "not_started",
                "wait for its turn with check_status; kill_run with the group stops the whole experiment",
            ),
            ExperimentError::KeyReused(_) => (
                "request_key_taken",
                "nothing was started: repeat the first request exactly to get what it began, or choose another request_key",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<BasisError> for Refusal {
    fn from(error: BasisError) -> Refusal {
        let message = error_chain(&error);
        let (code, hint) = match error {
            BasisError::NoAnswer(_) => (
                "nothing_to_build_on",
                "of a live run wait with check_status until an agent has answered; else call run_massgen without `from_run`",
            ),
            BasisError::Unknown { .. } => (
                "unknown_answer",
                "name one of these, or leave `answer` out for the best; read_result part answers shows them",
            ),
            BasisError::Copy { .. } => (
                "cannot_build_on",
                "call run_massgen without `from_run`, and say in the question what matters of the answer (read_result has it); \
                 continue_run goes on with a whole conversation that has ended",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Refusal {
        let message = error_chain(&error);
        let (code, hint) = match error {
            LedgerError::Registry(error) => return error.into(),
            LedgerError::KeyReused(_) => (
                "request_key_taken",
                "repeat the first request exactly to get its run, or choose another request_key for this one",
            ),
            LedgerError::TooManyStarts { .. } => {
                ("too_many_starts", "wait that long before the next start; check_status with wait_s is a good way to")
            }
            LedgerError::QueueFull(_) => {
                ("queue_full", "wait with check_status until some runs have ended, or stop some with kill_run")
            }
            LedgerError::TreeFull(0) => {
                ("tree_full", "this is final: runs may not start others here. Answer by yourself with what you have")
            }
            LedgerError::NewerVersion { .. } => ("newer_record", "the operator has to update this massgen-mcp"),
            LedgerError::TreeFull(_) => {
                ("tree_full", "wait with check_status until one of your runs has ended, then start this one")
            }
            LedgerError::ParentStopping(_) => {
                ("parent_ending", "this is final: the run that you are part of is being stopped. Give your answer now")
            }
            LedgerError::AboveRunCap { .. } => {
                ("budget_not_allowed", "ask for no more than that, or for nothing; only the operator can raise it")
            }
            LedgerError::InsufficientBudget { .. } => (
                "budget_exhausted",
                "ask for no more than what is left; what live runs do not spend comes back when they end. If nothing is left, \
                 do not try again: work with what you have",
            ),
        };
        Refusal::new(code, message, hint)
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
                let hint = format!("did you mean {}? list_configs finds others. {CONFIG_HINT}", similar.join(", "));
                Refusal::new("config_missing", message, hint)
            }
            ConfigError::Missing { .. } => {
                Refusal::new("config_missing", message, format!("find one with list_configs. {CONFIG_HINT}"))
            }
            ConfigError::NoDefault { .. } => {
                let hint = format!("give `massgen_config`; list_configs finds some. {CONFIG_HINT}");
                Refusal::new("config_missing", message, hint)
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
            ScriptError::Unknown { directive } => names::nearest(directive, rehearsal::directive_words()),
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
