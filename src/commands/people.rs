//! The tools' twins for a shell: which commands there are, what they have in common, how they end. The runs themselves are the
//! fleet's; nothing here decides anything about them.

use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::{doctor, kill, logs, look, report, result, say, verify, wait, warm, watch};
use crate::clock;
use crate::fleet::{Fleet, Selection, Sight};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::StateFolder;
use crate::run::{Outcome, RunId, RunRecord, RunState};
use crate::secrets::Secrets;
use crate::settings::{Settings, SettingsError};
use crate::view::{self, Detail, RunView, notation};

/// The commands for people and their scripts.
#[derive(Debug, clap::Subcommand)]
pub enum People {
    /// Check that everything is there: MassGen and its flags, keys, folders, the kernel; then run a rehearsal.
    Doctor(doctor::Doctor),
    /// List the latest runs, or those of a group.
    Runs(look::Runs),
    /// Show all that is known of some runs.
    Status(look::Status),
    /// Wait until runs are over, a line for each change; the exit code tells their outcome.
    Wait(wait::Wait),
    /// Print the answer of a run, or another part of what it left.
    Result(result::Printed),
    /// Write a page of a run or a group, for a browser: what happened when, what it cost, who voted for whom.
    Report(report::Report),
    /// Check that what a run left is still what its manifest says.
    Verify(verify::Verify),
    /// Stop runs with every process that they started.
    Kill(kill::Kill),
    /// Print the log of a run, and follow it.
    Logs(logs::Logs),
    /// Keep MassGen imported for the runs to come, before the first one; servers do the same with their first start.
    Warm(warm::Warm),
    /// Watch the runs in a live table: open them and their pages, steer and kill them by keys.
    Watch(watch::Watch),
}

/// What `--help` of the commands says about exit codes.
pub(super) const EXITS: &str = "Exit codes: 0 done; 1 it could not be done (code, message and hint are on standard error); 2 the \
                                command line is wrong.";

/// Which runs are meant.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// The runs, by their run_id (`massgen-mcp runs` lists them).
    #[arg(value_name = "RUN_ID")]
    runs: Vec<String>,
    /// All runs with this label.
    #[arg(long)]
    group: Option<String>,
}

impl Which {
    pub(super) fn selection(&self) -> Result<Selection, Refusal> {
        match &self.group {
            Some(group) => Ok(Selection::Group(group.clone())),
            None => {
                let mut seen = std::collections::HashSet::new();
                let ids = self.runs.iter().map(|text| run_id(text)).collect::<Result<Vec<_>, _>>()?;
                Ok(Selection::Runs(ids.into_iter().filter(|id| seen.insert(id.clone())).collect()))
            }
        }
    }
}

pub(super) fn run_id(text: &str) -> Result<RunId, Refusal> {
    Ok(text.trim().parse::<RunId>()?)
}

impl People {
    /// Whether programs read what this command says.
    pub fn wants_json(&self) -> bool {
        match self {
            People::Doctor(how) => how.json,
            People::Runs(how) => how.json,
            People::Status(how) => how.json,
            People::Wait(how) => how.json,
            People::Result(how) => how.json,
            People::Kill(how) => how.json,
            People::Report(_) | People::Verify(_) | People::Logs(_) | People::Warm(_) | People::Watch(_) => false,
        }
    }

    /// Whether the whole screen is this command's, so that a log line would spoil it.
    pub fn has_the_screen(&self) -> bool {
        matches!(self, People::Watch(_))
    }

    /// Does what was asked. `me` is this program.
    pub async fn run(self, settings: Result<Settings, SettingsError>, me: &Path) -> ExitCode {
        let wants_json = self.wants_json();
        let done = match settings {
            Ok(settings) => self.done(&settings, me).await,
            Err(error) => Err(bad_settings(&error)),
        };
        done.unwrap_or_else(|refusal| {
            complain(refusal, wants_json);
            ExitCode::FAILURE
        })
    }

    async fn done(self, settings: &Settings, me: &Path) -> Result<ExitCode, Refusal> {
        match self {
            People::Doctor(how) => Ok(doctor::doctor(settings, me, &how).await),
            People::Runs(how) => look::runs(&open(settings, me)?, &how).await,
            People::Status(how) => look::status(&open(settings, me)?, &how).await,
            People::Wait(how) => wait::wait(&open(settings, me)?, settings.limits.timeout, &how).await,
            People::Result(how) => result::result(&open(settings, me)?, &how).await,
            People::Report(how) => report::report(&open(settings, me)?, &how).await,
            People::Verify(how) => verify::verify(&open(settings, me)?, &how).await,
            People::Kill(how) => kill::kill(&open(settings, me)?, &how).await,
            People::Logs(how) => logs::logs(&open(settings, me)?, &how).await,
            People::Warm(how) => warm::warm(settings, me, &how).await,
            People::Watch(how) => watch::watch(open(settings, me)?, &how).await,
        }
    }
}

/// The runs of the state folder, with the secrets that no terminal is to show.
pub(super) fn open(settings: &Settings, me: &Path) -> Result<Fleet, Refusal> {
    let secrets = Secrets::from_environment(settings.env_file.as_deref()).map_err(|error| {
        let hint = "correct env_file in the settings (`massgen-mcp settings` shows it), or leave it out";
        Refusal::new("env_file", text::chain(&error), hint)
    })?;
    Ok(Fleet::new(StateFolder::open(&settings.home)?, me).with_secrets(secrets))
}

fn bad_settings(error: &SettingsError) -> Refusal {
    let hint = "correct it there; `massgen-mcp --help` lists every setting";
    Refusal::new("settings_invalid", text::chain(error), hint)
}

/// Says on standard error what could not be done: as JSON in one line, or in words.
pub(super) fn complain(refusal: Refusal, as_json: bool) {
    let refusal = for_people(refusal).masked(&Secrets::from_environment(None).unwrap_or_default());
    let (code, message, hint) = (refusal.code(), refusal.message().to_owned(), refusal.hint().to_owned());
    if as_json {
        super::say_aside(refusal.into_json());
    } else {
        super::say_aside(format_args!("massgen-mcp: {message} ({code})\nhint: {hint}"));
    }
}

/// Where the words name a tool, people are told the command in its place.
fn for_people(refusal: Refusal) -> Refusal {
    let hint = match (refusal.code(), refusal.hint()) {
        ("bad_run_id" | "unknown_run" | "unknown_group", _) => "`massgen-mcp runs` lists the latest runs",
        ("unreadable_record", _) => "the record is damaged; other runs are not: see `massgen-mcp runs`",
        ("nothing_to_read", hint) if hint.contains("check_status") => "wait with `massgen-mcp wait`, then read again",
        (_, _) => return refusal,
    };
    Refusal::new(refusal.code(), refusal.message().to_owned(), hint)
}

/// A group without any run is a mistake; so is a run alone whose record cannot be read. Others are told of and passed over.
pub(super) fn known(selection: &Selection, mut sight: Sight) -> Result<Vec<RunRecord>, Refusal> {
    if sight.runs.is_empty()
        && let Some((_, error)) = sight.unreadable.pop()
    {
        return Err(error.into());
    }
    for (_, error) in sight.unreadable {
        complain(error.into(), false);
    }
    match selection {
        Selection::Group(group) if sight.runs.is_empty() => Err(Refusal::unknown_group(group)),
        Selection::Group(_) | Selection::Runs(_) | Selection::Latest | Selection::Live { .. } => Ok(sight.runs),
    }
}

/// A run as agents see it, and people.
pub(super) fn seen(fleet: &Fleet, record: &RunRecord, detail: Detail) -> RunView {
    let queue = (record.state == RunState::Queued).then(|| fleet.place(&record.spec.id)).flatten();
    let folder = fleet.state().folder(&record.spec.id);
    let messages = fleet.messages_waiting(&record.spec.id);
    let (children, built_on_by) = (&folder.child_runs(), &folder.built_on_by());
    let models = &fleet.models_awaited(record);
    let seen = view::Seen { folder: folder.path(), children, built_on_by, queue, messages, models };
    view::run(record, &seen, detail, &clock::now()).with_group(record)
}

/// A value as a line of JSON, without secrets and harmful characters.
pub(super) fn say_json(value: impl serde::Serialize, secrets: &Secrets) {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    let value = text::each_text(value, &|text| text::harmless(&secrets.mask(text)));
    say(notation::text(&value).unwrap_or_default());
}

/// A line about a run, without secrets and harmful characters.
pub(super) fn say_clean(line: &str, secrets: &Secrets) {
    say(text::harmless(&secrets.mask(line)));
}

/// The exit code for an outcome; none of them is one that shells or `clap` use by themselves.
pub(super) fn exit_code(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed(_) => 3,
        Outcome::TimedOut { .. } => 4,
        Outcome::OverBudget => 5,
        Outcome::Killed { .. } => 6,
        Outcome::Lost => 7,
    }
}

/// What a run says of itself in one line.
pub(super) fn brief(run: &RunView) -> String {
    let agents: Vec<_> = run.agents.iter().map(|(id, at)| format!("{id} {at}")).collect();
    let votes: Vec<_> = run.votes.iter().map(|(label, count)| format!("{label} {count}")).collect();
    let answer = run.answer_chars.map(|chars| {
        let kind = if run.partial == Some(true) { " (partial)" } else { "" };
        format!("answer of {}{kind}, {chars} characters", run.answered_by().unwrap_or("?"))
    });
    let parts = [
        run.queue.clone(),
        run.phase.clone(),
        answer,
        (!agents.is_empty() && !run.is_over()).then(|| agents.join(", ")),
        (!votes.is_empty() && !run.is_over()).then(|| format!("votes: {}", votes.join(", "))),
        money(run),
        run.budget.clone(),
        run.problem.as_ref().map(|problem| format!("{}: {}", problem.code, problem.message)),
        run.warning.as_ref().map(|warning| format!("{}: {}", warning.code, warning.message)),
    ];
    let told: Vec<_> = parts.into_iter().flatten().collect();
    format!("{}  {:<11}  {:>5} s  {}", run.run_id, run.state, run.elapsed_s, told.join("; ")).trim_end().to_owned()
}

/// What it has cost, where something is known of it.
pub(super) fn money(run: &RunView) -> Option<String> {
    let usd = match (run.cost_usd, run.cost_unknown) {
        (Some(usd), Some(true)) => Some(format!("more than ${usd:.4}")),
        (Some(usd), _) => Some(format!("${usd:.4}")),
        (None, Some(true)) => Some("cost unknown".to_owned()),
        (None, _) => None,
    };
    let tokens = run.tokens.map(|tokens| format!("{tokens} tokens"));
    let both: Vec<_> = usd.into_iter().chain(tokens).collect();
    (!both.is_empty()).then(|| both.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_for_people_name_commands_and_the_words_stay() {
        for refusal in [
            Refusal::from("nope".parse::<RunId>().expect_err("none")),
            Refusal::unknown_group("g"),
            Refusal::new("nothing_to_read", "no agent has answered yet", "wait with check_status and wait_s"),
        ] {
            let (code, message) = (refusal.code(), refusal.message().to_owned());
            let told = for_people(refusal);
            assert_eq!((told.code(), told.message()), (code, message.as_str()));
            assert!(told.hint().contains("`massgen-mcp ") && !told.hint().contains("check_status"), "{}", told.hint());
        }
        let other = Refusal::new("state_folder", "m", "h");
        assert_eq!(for_people(other.clone()), other);
    }
}
