//! The subcommands for people and scripts, which do what the tools do, and how they end. `fleet` does the work; this module decides nothing about runs.

use std::path::Path;
use std::process::ExitCode;

use super::context::open_fleet;
use super::output::print_error;
use super::{doctor, kill, logs, report, result, runs, verify, wait, warm, watch};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::settings::{Settings, SettingsError};

/// The subcommands for people and scripts.
#[derive(Debug, clap::Subcommand)]
pub enum CliCommand {
    /// Check that everything is there: MassGen and its flags, keys, folders, the kernel; then run a rehearsal.
    Doctor(doctor::DoctorArgs),
    /// List the latest runs, or those of a group.
    Runs(runs::RunsArgs),
    /// Show all that is known of some runs.
    Status(runs::StatusArgs),
    /// Wait until runs are over, a line for each change; the exit code tells their outcome.
    Wait(wait::WaitArgs),
    /// Print the answer of a run, or another part of what it left.
    Result(result::ResultArgs),
    /// Write a page of a run or a group, for a browser: what happened when, what it cost, who voted for whom.
    Report(report::ReportArgs),
    /// Check that what a run left is still what its manifest says.
    Verify(verify::VerifyArgs),
    /// Stop runs with every process that they started.
    Kill(kill::KillArgs),
    /// Print the log of a run, and follow it.
    Logs(logs::LogsArgs),
    /// Keep MassGen imported for the runs to come, before the first one; servers do the same with their first start.
    Warm(warm::WarmArgs),
    /// Watch the runs in a live table: open them and their pages, steer and kill them by keys.
    Watch(watch::WatchArgs),
}

impl CliCommand {
    /// Whether the output is JSON, for programs.
    pub fn wants_json(&self) -> bool {
        match self {
            CliCommand::Doctor(how) => how.json,
            CliCommand::Runs(how) => how.json,
            CliCommand::Status(how) => how.json,
            CliCommand::Wait(how) => how.json,
            CliCommand::Result(how) => how.json,
            CliCommand::Kill(how) => how.json,
            CliCommand::Report(_)
            | CliCommand::Verify(_)
            | CliCommand::Logs(_)
            | CliCommand::Warm(_)
            | CliCommand::Watch(_) => false,
        }
    }

    /// Whether the command draws on the whole screen, where a log line would be in the way.
    pub fn uses_full_screen(&self) -> bool {
        matches!(self, CliCommand::Watch(_))
    }

    /// Runs the command. `me` is the path of this program.
    pub async fn run(self, settings: Result<Settings, SettingsError>, me: &Path) -> ExitCode {
        let wants_json = self.wants_json();
        let done = match settings {
            Ok(settings) => self.run_checked(&settings, me).await,
            Err(error) => Err(invalid_settings(&error)),
        };
        done.unwrap_or_else(|refusal| {
            print_error(refusal, wants_json);
            ExitCode::FAILURE
        })
    }

    async fn run_checked(self, settings: &Settings, me: &Path) -> Result<ExitCode, Refusal> {
        match self {
            CliCommand::Doctor(how) => Ok(doctor::doctor(settings, me, &how).await),
            CliCommand::Runs(how) => runs::runs(&open_fleet(settings, me)?, &how).await,
            CliCommand::Status(how) => runs::status(&open_fleet(settings, me)?, &how).await,
            CliCommand::Wait(how) => wait::wait(&open_fleet(settings, me)?, settings.limits.timeout, &how).await,
            CliCommand::Result(how) => result::result(&open_fleet(settings, me)?, &how).await,
            CliCommand::Report(how) => report::report(&open_fleet(settings, me)?, &how).await,
            CliCommand::Verify(how) => verify::verify(&open_fleet(settings, me)?, &how).await,
            CliCommand::Kill(how) => kill::kill(&open_fleet(settings, me)?, &how).await,
            CliCommand::Logs(how) => logs::logs(&open_fleet(settings, me)?, &how).await,
            CliCommand::Warm(how) => warm::warm(settings, me, &how).await,
            CliCommand::Watch(how) => watch::watch(open_fleet(settings, me)?, &how).await,
        }
    }
}

fn invalid_settings(error: &SettingsError) -> Refusal {
    let hint = "correct it there; `massgen-mcp --help` lists every setting";
    Refusal::new("settings_invalid", text::error_chain(error), hint)
}
