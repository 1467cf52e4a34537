//! `massgen-mcp doctor`: proves the set-up, from the kernel to a rehearsal of real MassGen, a verdict for each check. It mends
//! nothing, shows no value of any key, and leaves nothing but the rehearsal's run, which is forgotten as every run is.

mod checks;
mod rehearse;
mod warm;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::context::open_fleet;
use super::output::{print_json, print_sanitized, print_to_stderr};
use crate::refusal::Refusal;
use crate::secrets::Secrets;
use crate::settings::Settings;

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Doctor {
    /// Leave out the rehearsal, which takes 10 to 25 seconds.
    #[arg(long)]
    no_rehearsal: bool,
    /// Tell it as JSON: {"ok": …, "checks": [{"check", "verdict", "message", "hint"}]}.
    #[arg(long)]
    pub(super) json: bool,
}

const EXITS: &str = "Exit codes: 0 nothing keeps runs from working (there may be warnings); 1 there is a problem; 2 the command \
                     line is wrong.";

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warning,
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "problem",
        })
    }
}

/// One check, done.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    message: String,
    /// What to do about it; nothing where all is well.
    hint: String,
}

impl Check {
    fn ok(name: &'static str, message: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, message: message.into(), hint: String::new() }
    }

    fn warning(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warning, message: message.into(), hint: hint.into() }
    }

    fn problem(name: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Problem, message: message.into(), hint: hint.into() }
    }

    fn refused(name: &'static str, refusal: &Refusal) -> Check {
        Check::problem(name, format!("{} ({})", refusal.message(), refusal.code()), refusal.hint())
    }

    fn as_json(&self) -> Value {
        let mut told = json!({"check": self.name, "verdict": self.verdict.to_string(), "message": self.message});
        if !self.hint.is_empty() {
            told["hint"] = self.hint.as_str().into();
        }
        told
    }
}

/// Checks, and tells each verdict as soon as it is there.
struct Report {
    checks: Vec<Check>,
    as_json: bool,
    secrets: Secrets,
}

impl Report {
    /// Says what takes its time, where nobody but a person listens.
    fn begin(&self, what: &str) {
        if !self.as_json {
            print_to_stderr(format_args!("         … {what}"));
        }
    }

    fn add(&mut self, check: Check) {
        if !self.as_json {
            print_sanitized(&format!("{:<7}  {}: {}", check.verdict, check.name, check.message), &self.secrets);
            if !check.hint.is_empty() {
                print_sanitized(&format!("         hint: {}", check.hint), &self.secrets);
            }
        }
        self.checks.push(check);
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    fn end(self) -> ExitCode {
        let (warnings, problems) = (self.count(Verdict::Warning), self.count(Verdict::Problem));
        let is_ok = problems == 0;
        if self.as_json {
            let checks: Vec<_> = self.checks.iter().map(Check::as_json).collect();
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

pub(super) async fn doctor(settings: &Settings, me: &Path, how: &Doctor) -> ExitCode {
    // The check of the env file reports one that cannot be read.
    let secrets = Secrets::from_environment(settings.env_file.as_deref());
    let secrets = secrets.or_else(|_| Secrets::from_environment(None)).unwrap_or_default();
    let mut report = Report { checks: Vec::new(), as_json: how.json, secrets };
    report.add(checks::kernel());
    report.add(checks::inotify());
    report.add(checks::state_folder(settings));
    report.add(checks::settings_file(settings));
    report.add(checks::project(settings));
    report.add(checks::keys(settings));
    let program = checks::program(settings);
    report.add(program.1);
    let Some(program) = program.0 else { return report.end() };
    report.add(checks::tools(&program));
    let fleet = open_fleet(settings, me);
    if let Ok(fleet) = &fleet {
        report.add(warm::check(fleet, settings, &program).await);
    }
    report.add(checks::default_config(settings, &program));
    report.begin("asking MassGen for its flags");
    report.add(checks::flags(settings, &program).await);
    if !how.no_rehearsal && report.count(Verdict::Problem) == 0 {
        report.begin("a rehearsal: real MassGen with a scripted model, offline, 10 to 25 s");
        let rehearsed = match fleet {
            Ok(fleet) => rehearse::rehearse(&fleet, settings, program, |line| report.begin(line)).await,
            Err(refusal) => Err(refusal),
        };
        report.add(rehearsed.unwrap_or_else(|refusal| Check::refused("rehearsal", &refusal)));
    }
    report.end()
}
