//! `massgen-mcp verify`: verifies the files of runs against their manifests, and prints a line for each file.

use std::process::ExitCode;

use super::output::print_sanitized;
use crate::fleet::{Fleet, Verification, VerifyError};
use crate::provenance::{CheckFinding, ManifestCheck};
use crate::refusal::Refusal;
use crate::run::RunId;

/// The exit codes, for `--help`.
const EXIT_CODES: &str = "Exit codes: 0 all is as it was; 1 it could not be checked; 2 the command line is wrong; 3 something is not as it \
                     was; 4 the run has no manifest.";
/// A file has changed.
const EXIT_CHANGED: u8 = 3;
/// The run has no manifest.
const EXIT_NO_MANIFEST: u8 = 4;

/// The runs to verify.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct VerifyArgs {
    /// A run_id, or the label of a group.
    #[arg(value_name = "RUN_ID|GROUP")]
    target: String,
}

pub(super) async fn verify(fleet: &Fleet, args: &VerifyArgs) -> Result<ExitCode, Refusal> {
    let code = match args.target.trim().parse::<RunId>() {
        Ok(id) => print_verification(fleet, fleet.verify(&id).await)?,
        Err(_) => verify_group(fleet, args.target.trim()).await?,
    };
    Ok(ExitCode::from(code))
}

/// Verifies a group; the exit code is the worst of its runs.
async fn verify_group(fleet: &Fleet, group: &str) -> Result<u8, Refusal> {
    let verified = fleet.verify_group(group).await?;
    if verified.runs.is_empty() && verified.checks.is_empty() {
        return Err(Refusal::unknown_group(group));
    }
    let mut codes = vec![print_checks(fleet, &verified.checks)];
    for (id, run) in verified.runs {
        super::output::print_line(format_args!("{id}"));
        codes.push(print_verification(fleet, run)?);
    }
    Ok([EXIT_CHANGED, EXIT_NO_MANIFEST].into_iter().find(|code| codes.contains(code)).unwrap_or_default())
}

fn print_verification(fleet: &Fleet, verified: Result<Verification, VerifyError>) -> Result<u8, Refusal> {
    let verified = match verified {
        Err(error @ VerifyError::NoManifest(_)) => {
            super::output::print_error(error.into(), false);
            return Ok(EXIT_NO_MANIFEST);
        }
        verified => verified?,
    };
    let code = print_checks(fleet, &verified.checks);
    let left_out = verified.manifest.workspace.and_then(|workspace| workspace.left_out);
    if let Some(rest) = left_out {
        super::output::print_line(format_args!(
            "unknown  at least {} files, {} bytes: too many to be hashed",
            rest.files, rest.bytes
        ));
    }
    Ok(code)
}

fn print_checks(fleet: &Fleet, checks: &[ManifestCheck]) -> u8 {
    for check in checks {
        print_sanitized(&check_line(check), fleet.secrets());
    }
    let is_unchanged =
        checks.iter().all(|check| matches!(check.finding, CheckFinding::Unchanged | CheckFinding::NotRecorded));
    if is_unchanged { 0 } else { EXIT_CHANGED }
}

fn check_line(check: &ManifestCheck) -> String {
    let word = match check.finding {
        CheckFinding::Unchanged => "ok",
        CheckFinding::Changed => "changed",
        CheckFinding::Missing => "missing",
        CheckFinding::Added => "new",
        CheckFinding::NotRecorded => "unknown",
    };
    format!("{word:<8} {} {}", check.subject, check.path).trim_end().to_owned()
}
