//! What an agent or a person is told when something cannot be done: a stable word, one sentence, and what to do next.
//! It knows neither protocol nor terminal: the server and the commands show the same words, each in its way.

use crate::fleet::results::{BadPart, ReadError};
use crate::fleet::{FleetError, LaunchError, NotBegun, NotBuilt, NotContinued, NotStarted, NotSteered, NotVerified};
use crate::ledger::LedgerError;
use crate::massgen::broken;
use crate::massgen::configs::{ConfigError, ValidateError};
use crate::massgen::program::ProgramError;
use crate::massgen::text::{self, chain};
use crate::registry::RegistryError;
use crate::rehearsal::ScriptError;
use crate::run::{BadRunId, Problem};
use crate::secrets::Secrets;

/// A call, or a command, that was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: &'static str,
    message: String,
    hint: String,
}

/// Where configs are.
const WHERE: &str = "A config is a path relative to the project, a name in ~/.config/massgen/agents, or @examples/NAME; \
                     @rehearsal only practises: its answers are scripted";
/// The longest message and the longest hint, in characters: what a caller gave may be of any length.
const MOST_TOLD: usize = 1_000;
const SEE_RUNS: &str = "call check_status without arguments to see the latest runs and their run_id";

impl Refusal {
    /// A MassGen that cannot be imported.
    pub(crate) fn broken(problem: Problem) -> Refusal {
        Refusal::new(broken::CODE, problem.message, problem.hint)
    }

    pub(crate) fn new(code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), hint: hint.into() }
    }

    pub(crate) fn panicked() -> Refusal {
        let hint = "runs are not touched by it; call check_status to see them, and tell the operator to look at the server's log";
        Refusal::new("internal_error", "massgen-mcp met a fault of its own in this call", hint)
    }

    /// A number outside of what is allowed.
    pub(crate) fn out_of_range(field: &str, value: f64, least: f64, most: f64) -> Refusal {
        // Digits by the hundred say no more than a power of ten.
        let value = if value.abs() < 1e15 { value.to_string() } else { format!("{value:e}") };
        let message = format!("`{field}` is {value}, which is not between {least} and {most}");
        Refusal::new("out_of_range", message, format!("call again with `{field}` from {least} to {most}"))
    }

    /// A secret in a field of a call; the variable is named, its value never.
    pub(crate) fn secret(field: String, variable: &str) -> Refusal {
        let message = format!("`{field}` has a secret of the operator in it, the value of {variable}");
        let hint = "nothing was done with it; take it out and call again: MassGen gets its keys from the operator, never from you";
        Refusal::new("secret_in_arguments", message, hint)
    }

    /// A group without any run.
    pub(crate) fn unknown_group(group: &str) -> Refusal {
        let hint = "call check_status without arguments to see the latest runs";
        Refusal::new("unknown_group", format!("no run has the group `{group}`"), hint)
    }

    /// What needs a project folder where there is none, or none any more.
    pub(crate) fn no_project(why: &dyn std::error::Error) -> Refusal {
        let hint = "configs and question files are looked for in a project, and `context` hands it over: name its folder with \
                    --project or MASSGEN_MCP_PROJECT; without one, absolute paths, @examples/NAME, names in ~/.config/massgen/agents and @rehearsal work";
        Refusal::new("no_project", format!("there is no project: {why}"), hint)
    }

    /// This refusal, with another one that may be the cause of it and what to do about that.
    #[must_use]
    pub(crate) fn also(self, cause: &Refusal) -> Refusal {
        Refusal { message: format!("{}; {}", self.message, cause.message), hint: cause.hint.clone(), ..self }
    }

    /// The same, of one of several things.
    #[must_use]
    pub(crate) fn about(self, place: &str) -> Refusal {
        Refusal { message: format!("{place}: {}", self.message), ..self }
    }

    /// As it may be shown.
    pub(crate) fn masked(self, secrets: &Secrets) -> Refusal {
        let clean = |text: &str| text::cut(&text::harmless(&secrets.mask(text)), MOST_TOLD);
        Refusal { code: self.code, message: clean(&self.message), hint: clean(&self.hint) }
    }

    /// All of it in one line, for a list of problems.
    pub(crate) fn in_one_line(&self) -> String {
        format!("{}: {} ({})", self.code, self.message, self.hint)
    }

    /// The stable word.
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

    /// Whether it is only that there is nothing yet, of something that is known.
    pub(crate) fn is_for_later(&self) -> bool {
        self.code == "nothing_to_read"
    }

    /// All of it for a model: code and message in the first line, the hint in the second. It is no JSON document, since some clients
    /// take a text that parses as one for structured content.
    pub(crate) fn sentence(&self) -> String {
        let message = self.message.split_whitespace().collect::<Vec<_>>().join(" ");
        format!("{}: {}.\n{}", self.code, message.trim_end_matches('.'), self.hint)
    }

    pub(crate) fn into_json(self) -> serde_json::Value {
        serde_json::json!({"code": self.code, "message": self.message, "hint": self.hint})
    }
}

impl From<BadRunId> for Refusal {
    fn from(error: BadRunId) -> Refusal {
        let message = format!("`{}` is not a run id; they look like mg-7f3k2q9d", text::line(&error.0, 80));
        Refusal::new("bad_run_id", message, SEE_RUNS)
    }
}

impl From<BadPart> for Refusal {
    fn from(error: BadPart) -> Refusal {
        let hint = "answer: the final text, or the best so far; answers: every agent's, with labels; report: who voted for what and why, time \
                    and money; files: the winner's workspace, file:PATH one of them; agent:ID: what one agent said; errors; log; \
                    manifest: hashes of config, question, answer and files, which prove that none was altered";
        Refusal::new("bad_part", chain(&error), hint)
    }
}

impl From<RegistryError> for Refusal {
    fn from(error: RegistryError) -> Refusal {
        match &error {
            RegistryError::Unknown(_) => Refusal::new("unknown_run", chain(&error), SEE_RUNS),
            RegistryError::Io { .. } => {
                let hint = "the state folder must be writable and have room: the operator makes it so, or names another with \
                            --home or MASSGEN_MCP_HOME; then call again";
                Refusal::new("state_folder", chain(&error), hint)
            }
            RegistryError::Newer { .. } => {
                let hint = "a newer massgen-mcp wrote it; the operator has to update this one to change that run";
                Refusal::new("newer_record", chain(&error), hint)
            }
            RegistryError::Format { source, .. } => Refusal::new(
                "unreadable_record",
                damaged(&error, source),
                "the record is damaged; other runs are not: see check_status without arguments",
            ),
        }
    }
}

impl From<FleetError> for Refusal {
    fn from(error: FleetError) -> Refusal {
        match error {
            FleetError::Registry(error) => error.into(),
            FleetError::Launch(error @ (LaunchError::NotStarted { .. } | LaunchError::GaveUp { .. })) => Refusal::new(
                "start_failed",
                chain(&error),
                "nothing was spent; call run_massgen again, and tell the operator if it repeats",
            ),
            FleetError::NotStarted(error) => error.into(),
            FleetError::NotSteered(error) => error.into(),
            FleetError::NotContinued(error) => error.into(),
            FleetError::NotBegun(error) => error.into(),
            FleetError::NotBuilt(error) => error.into(),
            FleetError::Ledger(error) => error.into(),
            FleetError::BrokenOff(_) => Refusal::panicked(),
        }
    }
}

/// Words that stop an agent from trying again: nothing that it can do changes these.
impl From<NotStarted> for Refusal {
    fn from(error: NotStarted) -> Refusal {
        let message = chain(&error);
        match error {
            NotStarted::Broken(problem) => Refusal::broken(*problem),
            NotStarted::TooDeep { .. } => Refusal::new(
                "too_deep",
                message,
                "this is final: do not try again from here. Answer by yourself with what you have",
            ),
            NotStarted::SameAsAncestor { .. } => Refusal::new(
                "same_as_ancestor",
                message,
                "this is final: it would go round in circles. Answer the question by yourself, or ask a smaller part of it",
            ),
        }
    }
}

impl From<NotSteered> for Refusal {
    fn from(error: NotSteered) -> Refusal {
        let message = chain(&error);
        let (code, hint) = match error {
            NotSteered::Secret(variable) => return Refusal::secret("message".to_owned(), &variable),
            NotSteered::Over(_) => (
                "run_over",
                "nobody reads it any more: see read_result; to say something to its agents all the same, call run_massgen with \
                 continue_run set to this run and the message as its question",
            ),
            NotSteered::NeverDelivered(_) => (
                "never_delivered",
                "its agents never saw it: see read_result; to say it all the same, call run_massgen with continue_run set to this \
                 run and the message as its question",
            ),
            NotSteered::NoTools { .. } => (
                "agents_without_tools",
                "nothing was sent: kill_run it and start again with the instruction in the question; or wait for its end, then \
                 call run_massgen with continue_run set to this run and the instruction as its question",
            ),
            NotSteered::BadMessage(_) => {
                ("message_invalid", "say in a few sentences what the agents are to know or to do")
            }
            NotSteered::UnknownAgent { near: Some(near), .. } => {
                let hint = format!("did you mean {near}? call again with that, or leave `agents` out to reach all");
                return Refusal::new("unknown_agent", message, hint);
            }
            NotSteered::UnknownAgent { near: None, .. } => (
                "unknown_agent",
                "name agents as check_status does, or leave `agents` out to reach all; a run that has just begun may not have \
                 named them yet",
            ),
            NotSteered::TooMany(_) => (
                "too_many_messages",
                "its agents take none up, perhaps because they call no tools: wait for the end with check_status, or kill_run it",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<NotContinued> for Refusal {
    fn from(error: NotContinued) -> Refusal {
        let message = chain(&error);
        let (code, hint) = match error {
            NotContinued::Lives(_) => (
                "run_not_over",
                "wait for its end with check_status (wait_s, until any_done), then call again; steer_run reaches it now, and `from_run` \
                 builds on its best answer so far",
            ),
            NotContinued::NoAnswer(_) => {
                ("nothing_to_continue", "call run_massgen without continue_run, with the whole question")
            }
            NotContinued::TooLong(_) | NotContinued::Session { .. } => (
                "cannot_continue",
                "call run_massgen with `from_run` set to this run in place of continue_run: its answer is material for other agents, \
                 and a conversation of their own begins",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<NotBegun> for Refusal {
    fn from(error: NotBegun) -> Refusal {
        let message = chain(&error);
        let (code, hint) = match error {
            NotBegun::GroupTaken(_) => (
                "group_taken",
                "nothing was started: no runs can be added to those of another call; choose a new group, or leave it out and get one; \
                 check_status with the group shows the runs that it has",
            ),
            NotBegun::GroupIsExperiment(_) => (
                "group_taken",
                "nothing was started: no run can be added to it; choose a new group for this run, or leave it out; check_status \
                 with the group shows the runs that it has",
            ),
            NotBegun::Waits { .. } => (
                "not_started",
                "wait for its turn with check_status; kill_run with the group stops the whole experiment",
            ),
            NotBegun::KeyTaken(_) => (
                "request_key_taken",
                "nothing was started: repeat the first request exactly to get what it began, or choose another request_key",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

impl From<NotBuilt> for Refusal {
    fn from(error: NotBuilt) -> Refusal {
        let message = chain(&error);
        let (code, hint) = match error {
            NotBuilt::NoAnswer(_) => (
                "nothing_to_build_on",
                "of a live run wait with check_status until an agent has answered; else call run_massgen without `from_run`",
            ),
            NotBuilt::Unknown { .. } => (
                "unknown_answer",
                "name one of these, or leave `answer` out for the best; read_result part answers shows them",
            ),
            NotBuilt::Copy { .. } => (
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
        let message = chain(&error);
        let (code, hint) = match error {
            LedgerError::Registry(error) => return error.into(),
            LedgerError::KeyTaken(_) => (
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
            LedgerError::Newer { .. } => ("newer_record", "the operator has to update this massgen-mcp"),
            LedgerError::TreeFull(_) => {
                ("tree_full", "wait with check_status until one of your runs has ended, then start this one")
            }
            LedgerError::ParentEnding(_) => {
                ("parent_ending", "this is final: the run that you are part of is being stopped. Give your answer now")
            }
            LedgerError::NotAllowed { .. } => {
                ("budget_not_allowed", "ask for no more than that, or for nothing; only the operator can raise it")
            }
            LedgerError::Short { .. } => (
                "budget_exhausted",
                "ask for no more than what is left; what live runs do not spend comes back when they end. If nothing is left, \
                 do not try again: work with what you have",
            ),
        };
        Refusal::new(code, message, hint)
    }
}

/// A MassGen that does not start, which no other call changes.
impl From<ValidateError> for Refusal {
    fn from(error: ValidateError) -> Refusal {
        if let ValidateError::Broken(problem) = error {
            return Refusal::broken(*problem);
        }
        let hint = "start it without dry_run, or tell the operator to look at the MassGen installation";
        Refusal::new("validation_failed", chain(&error), hint)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Refusal {
        match error {
            ReadError::Nothing { what, instead } => Refusal::new("nothing_to_read", what, instead),
            ReadError::Unreadable { .. } => {
                Refusal::new("unreadable", chain(&error), "try another part: answer, answers, files, log, errors")
            }
            ReadError::Binary { .. } => Refusal::new(
                "binary_file",
                chain(&error),
                "open it at that path with a program for its kind; part `files` lists the others",
            ),
            ReadError::Fleet(error) => error.into(),
        }
    }
}

impl From<NotVerified> for Refusal {
    fn from(error: NotVerified) -> Refusal {
        let message = chain(&error);
        match error {
            NotVerified::Fleet(error) => error.into(),
            NotVerified::Lives(_) => {
                Refusal::new("run_not_over", message, "wait for its end with `massgen-mcp wait`, then check again")
            }
            NotVerified::NoManifest(_) => Refusal::new(
                "no_manifest",
                message,
                "nothing tells what it left then; runs that end from now on have one",
            ),
            NotVerified::Damaged { ref source, .. } => Refusal::new(
                "manifest_damaged",
                damaged(&error, source),
                "take the run's files for changed; `massgen-mcp status` shows what is on record",
            ),
        }
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Refusal {
        let message = chain(&error);
        match error {
            ConfigError::Missing { similar, .. } if !similar.is_empty() => {
                let hint = format!("did you mean {}? list_configs finds others. {WHERE}", similar.join(", "));
                Refusal::new("config_missing", message, hint)
            }
            ConfigError::Missing { .. } => {
                Refusal::new("config_missing", message, format!("find one with list_configs. {WHERE}"))
            }
            ConfigError::NoDefault { .. } => {
                let hint = format!("give `massgen_config`; list_configs finds some. {WHERE}");
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
        let hint = "the rehearsal is @rehearsal, or @rehearsal/directive/directive with the directives that are named";
        Refusal::new("rehearsal_invalid", chain(&error), hint)
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
        Refusal::new("program_missing", chain(&error), hint)
    }
}

/// A file of ours that cannot be read, and where. The reader's own words are about types of Rust, which help no caller.
fn damaged(error: &dyn std::error::Error, source: &serde_json::Error) -> String {
    format!("{error} (line {}, column {})", source.line(), source.column())
}

#[cfg(test)]
mod tests;
