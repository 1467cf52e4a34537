//! `massgen-mcp verify`: whether what a run left is still what its manifest says, a line for each thing.

use std::process::ExitCode;

use super::people::{run_id, say_clean};
use crate::fleet::{Fleet, NotVerified};
use crate::provenance::{Check, Found};
use crate::refusal::Refusal;

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
    /// The run, by its run_id.
    #[arg(value_name = "RUN_ID")]
    run: String,
}

pub(super) async fn verify(fleet: &Fleet, how: &Verify) -> Result<ExitCode, Refusal> {
    let verified = match fleet.verify(&run_id(&how.run)?).await {
        Err(error @ NotVerified::NoManifest(_)) => {
            super::people::complain(error.into(), false);
            return Ok(ExitCode::from(NO_MANIFEST));
        }
        verified => verified?,
    };
    for check in &verified.checks {
        say_clean(&line(check), fleet.secrets());
    }
    let left_out = verified.manifest.workspace.and_then(|workspace| workspace.left_out);
    if let Some(left) = left_out {
        super::say(format_args!("unknown  at least {} files, {} bytes: too many to be hashed", left.files, left.bytes));
    }
    let as_it_was = verified.checks.iter().all(|check| matches!(check.found, Found::Same | Found::Unknown));
    Ok(if as_it_was { ExitCode::SUCCESS } else { ExitCode::from(DIFFERS) })
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
