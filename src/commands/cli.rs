//! The subcommands for people and scripts, which correspond to the tools, and their exit codes. `fleet` does the work; this module
//! makes no decisions about runs.

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
    /// Check the installation: MassGen and its flags, keys, folders, the kernel; then run a rehearsal.
    Doctor(doctor::DoctorArgs),
    /// List the latest runs, or the runs of a group.
    Runs(runs::RunsArgs),
    /// Show all details of runs.
    Status(runs::StatusArgs),
    /// Wait until runs have ended, and print a line for each change; the exit code is their outcome.
    Wait(wait::WaitArgs),
    /// Print the answer of a run, or another part of its result.
    Result(result::ResultArgs),
    /// Write an HTML page about a run or a group: its timeline, its cost and its votes.
    Report(report::ReportArgs),
    /// Verify the files of a run against its manifest.
    Verify(verify::VerifyArgs),
    /// Stop runs with all processes that they started.
    Kill(kill::KillArgs),
    /// Print or follow the log of a run.
    Logs(logs::LogsArgs),
    /// Import MassGen now, so that the next runs start faster; a server does the same at its first start of a run.
    Warm(warm::WarmArgs),
    /// Watch runs in a live table; keys open, steer and kill them.
    Watch(watch::WatchArgs),
}

impl CliCommand {
    /// Whether the output is JSON, for programs.
    pub fn wants_json(&self) -> bool {
        match self {
            CliCommand::Doctor(args) => args.json,
            CliCommand::Runs(args) => args.json,
            CliCommand::Status(args) => args.json,
            CliCommand::Wait(args) => args.json,
            CliCommand::Result(args) => args.json,
            CliCommand::Kill(args) => args.json,
            CliCommand::Report(_)
            | CliCommand::Verify(_)
            | CliCommand::Logs(_)
            | CliCommand::Warm(_)
            | CliCommand::Watch(_) => false,
        }
    }

    /// Whether the command uses the full screen, so that log lines must not be printed.
    pub fn uses_full_screen(&self) -> bool {
        matches!(self, CliCommand::Watch(_))
    }

    /// Runs the command. `program` is the path of this program.
    pub async fn run(self, settings: Result<Settings, SettingsError>, program: &Path) -> ExitCode {
        let wants_json = self.wants_json();
        let result = match settings {
            Ok(settings) => self.run_checked(&settings, program).await,
            Err(error) => Err(invalid_settings(&error)),
        };
        result.unwrap_or_else(|refusal| {
            print_error(refusal, wants_json);
            ExitCode::FAILURE
        })
    }

    async fn run_checked(self, settings: &Settings, program: &Path) -> Result<ExitCode, Refusal> {
        match self {
            CliCommand::Doctor(args) => Ok(doctor::doctor(settings, program, &args).await),
            CliCommand::Runs(args) => runs::runs(&open_fleet(settings, program)?, &args).await,
            CliCommand::Status(args) => runs::status(&open_fleet(settings, program)?, &args).await,
            CliCommand::Wait(args) => wait::wait(&open_fleet(settings, program)?, settings.limits.timeout, &args).await,
            CliCommand::Result(args) => result::result(&open_fleet(settings, program)?, &args).await,
            CliCommand::Report(args) => report::report(&open_fleet(settings, program)?, &args).await,
            CliCommand::Verify(args) => verify::verify(&open_fleet(settings, program)?, &args).await,
            CliCommand::Kill(args) => kill::kill(&open_fleet(settings, program)?, &args).await,
            CliCommand::Logs(args) => logs::logs(&open_fleet(settings, program)?, &args).await,
            CliCommand::Warm(args) => warm::warm(settings, program, &args).await,
            CliCommand::Watch(args) => watch::watch(open_fleet(settings, program)?, &args).await,
        }
    }
}

fn invalid_settings(error: &SettingsError) -> Refusal {
    let hint = "correct it there; `massgen-mcp --help` lists every setting";
    Refusal::new("settings_invalid", text::error_chain(error), hint)
}
