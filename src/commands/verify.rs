//! `massgen-mcp verify`: whether what a run left is still what its manifest says, a line for each thing.

use std::process::ExitCode;

use super::output::print_sanitized;
use crate::fleet::{Fleet, NotVerified, Verified};
use crate::provenance::{Check, Found};
use crate::refusal::Refusal;
use crate::run::RunId;

/// What `--help` says about exit codes.
const EXITS: &str = "Exit codes: 0 all is as it was; 1 it could not be checked; 2 the command line is wrong; 3 something is not as it \
                     was; 4 the run has no manifest.";
/// Something is not as it was.
const DIFFERS: u8 = 3;
/// There is nothing to hold it against.
const NO_MANIFEST: u8 = 4;

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Verify {
    /// A run, by its run_id, or all runs with a label, by that.
    #[arg(value_name = "RUN_ID|GROUP")]
    of: String,
}

pub(super) async fn verify(fleet: &Fleet, how: &Verify) -> Result<ExitCode, Refusal> {
    let code = match how.of.trim().parse::<RunId>() {
        Ok(id) => told(fleet, fleet.verify(&id).await)?,
        Err(_) => verify_group(fleet, how.of.trim()).await?,
    };
    Ok(ExitCode::from(code))
}

/// What is worse of its runs is what is found of the group.
async fn verify_group(fleet: &Fleet, group: &str) -> Result<u8, Refusal> {
    let verified = fleet.verify_group(group).await?;
    if verified.runs.is_empty() && verified.checks.is_empty() {
        return Err(Refusal::unknown_group(group));
    }
    let mut codes = vec![listed(fleet, &verified.checks)];
    for (id, run) in verified.runs {
        super::output::print_line(format_args!("{id}"));
        codes.push(told(fleet, run)?);
    }
    Ok([DIFFERS, NO_MANIFEST].into_iter().find(|code| codes.contains(code)).unwrap_or_default())
}

fn told(fleet: &Fleet, verified: Result<Verified, NotVerified>) -> Result<u8, Refusal> {
    let verified = match verified {
        Err(error @ NotVerified::NoManifest(_)) => {
            super::output::print_error(error.into(), false);
            return Ok(NO_MANIFEST);
        }
        verified => verified?,
    };
    let code = listed(fleet, &verified.checks);
    let left_out = verified.manifest.workspace.and_then(|workspace| workspace.left_out);
    if let Some(left) = left_out {
        super::output::print_line(format_args!(
            "unknown  at least {} files, {} bytes: too many to be hashed",
            left.files, left.bytes
        ));
    }
    Ok(code)
}

fn listed(fleet: &Fleet, checks: &[Check]) -> u8 {
    for check in checks {
        print_sanitized(&line(check), fleet.secrets());
    }
    let as_it_was = checks.iter().all(|check| matches!(check.found, Found::Same | Found::Unknown));
    if as_it_was { 0 } else { DIFFERS }
}

fn line(check: &Check) -> String {
    let word = match check.found {
        Found::Same => "ok",
        Found::Changed => "changed",
        Found::Missing => "missing",
        Found::New => "new",
        Found::Unknown => "unknown",
    };
    format!("{word:<8} {} {}", check.what, check.path).trim_end().to_owned()
}
