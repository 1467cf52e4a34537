//! `massgen-mcp doctor`: checks the set-up, from the kernel to a rehearsal of real MassGen, with a verdict for each check. It fixes
//! nothing and shows no key. It leaves only the rehearsal's run, which is pruned like any other.

mod checks;
mod rehearse;
mod warm;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::context::open_fleet;
use super::next_steps::person_words;
use super::output::{print_json, print_sanitized, print_to_stderr};
use crate::refusal::Refusal;
use crate::secrets::Secrets;
use crate::settings::Settings;

/// The options of the check.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct DoctorArgs {
    /// Skip the rehearsal, which takes 10 to 25 seconds.
    #[arg(long)]
    no_rehearsal: bool,
    /// Print JSON: {"ok": …, "checks": [{"check", "verdict", "message", "hint"}]}.
    #[arg(long)]
    pub(super) json: bool,
}

const EXIT_CODES: &str = "Exit codes: 0 nothing keeps runs from working (there may be warnings); 1 there is a problem; 2 the command \
                     line is wrong.";

/// The verdict of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CheckVerdict {
    Ok,
    Warning,
    Problem,
}

impl fmt::Display for CheckVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CheckVerdict::Ok => "ok",
            CheckVerdict::Warning => "warning",
            CheckVerdict::Problem => "problem",
        })
    }
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CheckResult {
    name: &'static str,
    status: CheckVerdict,
    message: String,
    /// What to do about it; empty if the check passed.
    hint: String,
}

impl CheckResult {
    fn ok(name: &'static str, message: impl Into<String>) -> CheckResult {
        CheckResult { name, status: CheckVerdict::Ok, message: message.into(), hint: String::new() }
    }

    fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> CheckResult {
        CheckResult { name, status: CheckVerdict::Warning, message: message.into(), hint: hint.into() }
    }

    fn problem(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> CheckResult {
        CheckResult { name, status: CheckVerdict::Problem, message: message.into(), hint: hint.into() }
    }

    fn from_refusal(name: &'static str, refusal: &Refusal) -> CheckResult {
        CheckResult::problem(name, format!("{} ({})", refusal.message(), refusal.code()), refusal.hint(person_words))
    }

    fn as_json(&self) -> Value {
        let mut json = json!({"check": self.name, "verdict": self.status.to_string(), "message": self.message});
        if !self.hint.is_empty() {
            json["hint"] = self.hint.as_str().into();
        }
        json
    }
}

/// Collects the results, and prints each one immediately.
struct CheckReporter {
    checks: Vec<CheckResult>,
    as_json: bool,
    secrets: Secrets,
}

impl CheckReporter {
    /// Announces a slow step, if the output is for a person.
    fn announce(&self, step: &str) {
        if !self.as_json {
            print_to_stderr(format_args!("         … {step}"));
        }
    }

    fn add(&mut self, check: CheckResult) {
        if !self.as_json {
            print_sanitized(&format!("{:<7}  {}: {}", check.status, check.name, check.message), &self.secrets);
            if !check.hint.is_empty() {
                print_sanitized(&format!("         hint: {}", check.hint), &self.secrets);
            }
        }
        self.checks.push(check);
    }

    fn count(&self, status: CheckVerdict) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    fn finish(self) -> ExitCode {
        let (warnings, problems) = (self.count(CheckVerdict::Warning), self.count(CheckVerdict::Problem));
        let is_ok = problems == 0;
        if self.as_json {
            let checks: Vec<_> = self.checks.iter().map(CheckResult::as_json).collect();
            print_json(json!({"ok": is_ok, "checks": checks}), &self.secrets);
        } else {
            print_sanitized(
                &format!("{} checks, {warnings} warnings, {problems} problems", self.checks.len()),
                &self.secrets,
            );
        }
        if is_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub(super) async fn doctor(settings: &Settings, program_path: &Path, args: &DoctorArgs) -> ExitCode {
    // An unreadable env file is reported by the check of the keys.
    let secrets = Secrets::from_environment(settings.env_file.as_deref());
    let secrets = secrets.or_else(|_| Secrets::from_environment(None)).unwrap_or_default();
    let mut report = CheckReporter { checks: Vec::new(), as_json: args.json, secrets };
    report.add(checks::kernel());
    report.add(checks::inotify());
    report.add(checks::state_folder(settings));
    report.add(checks::settings_file(settings));
    report.add(checks::project(settings));
    report.add(checks::keys(settings));
    let program = checks::program(settings);
    report.add(program.1);
    let Some(program) = program.0 else { return report.finish() };
    report.add(checks::tools(&program));
    let fleet = open_fleet(settings, program_path);
    if let Ok(fleet) = &fleet {
        report.add(warm::check(fleet, settings, &program).await);
    }
    report.add(checks::default_config(settings, &program));
    report.announce("asking MassGen for its flags");
    report.add(checks::flags(settings, &program).await);
    if !args.no_rehearsal && report.count(CheckVerdict::Problem) == 0 {
        report.announce("a rehearsal: real MassGen with a scripted model, offline, 10 to 25 s");
        let rehearsed = match fleet {
            Ok(fleet) => rehearse::rehearse(&fleet, settings, program, |line| report.announce(line)).await,
            Err(refusal) => Err(refusal),
        };
        report.add(rehearsed.unwrap_or_else(|refusal| CheckResult::from_refusal("rehearsal", &refusal)));
    }
    report.finish()
}
