//! `massgen-mcp wait`: waits until runs have ended, as check_status does, and exits with a code for their outcome. A client with a
//! shell can wait with it without spending tokens. Interrupting it changes nothing.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ValueParser;
use tokio::time::Instant;

use super::output::{print_json, print_sanitized};
use super::selection::{RunSelector, found_records};
use super::summary::{exit_code, summary_line, view_of};
use crate::fleet::{Cursor, Fleet, Selection, Snapshot, WaitUntil};
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord, Step};
use crate::view::Detail;

/// The runs to wait for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct WaitArgs {
    #[command(flatten)]
    selector: RunSelector,
    /// Wait until one of the runs has ended; default: until all have.
    #[arg(long)]
    any: bool,
    /// Stop waiting after this many seconds, 1 to max_timeout_s; the runs continue.
    // The flag of the setting with this name is reused: it is parsed and checked with the settings.
    #[arg(id = "timeout_s", long = "timeout-s", value_name = "SECONDS", value_parser = ValueParser::os_string())]
    timeout_s: Option<OsString>,
    /// Print each change as a line of JSON: the run as check_status shows it.
    #[arg(long)]
    pub(super) json: bool,
}

const EXIT_CODES: &str = "\
Exit codes, of several runs the largest:
  0    succeeded
  1    it could not be done (code, message and hint are on standard error)
  2    the command line is wrong
  3    failed
  4    timed_out
  5    over_budget
  6    killed
  7    lost
  124  not over when --timeout-s had passed";

/// The time expired; the same code as `timeout` of the coreutils.
const EXIT_TIMED_OUT: u8 = 124;
/// A wait without a limit: longer than any run may take.
const NO_TIMEOUT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Waits for runs. `timeout` is the value of the flag, if it was given.
pub(super) async fn wait(fleet: &Fleet, timeout: Duration, args: &WaitArgs) -> Result<ExitCode, Refusal> {
    let selection = args.selector.selection()?;
    let deadline = Instant::now() + args.timeout_s.as_ref().map_or(NO_TIMEOUT, |_| timeout);
    let mut printed = HashMap::new();
    let snapshot = fleet.snapshot(&selection).await?;
    let mut is_interrupted = snapshot.is_interrupted();
    let mut records = found_records(&selection, snapshot)?;
    loop {
        print_changes(fleet, &records, &mut printed, args.json);
        if is_done(&records, args.any) {
            return Ok(ExitCode::from(worst_exit_code(&records)));
        }
        if is_interrupted {
            let message = "the process that starts its runs was killed; nothing more is started";
            return Err(Refusal::new("conductor_died", message, Step::ResumeOrStopGroup));
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Ok(ExitCode::from(EXIT_TIMED_OUT));
        }
        let snapshot = next_change(fleet, &selection, &records, remaining).await?;
        (is_interrupted, records) = (snapshot.is_interrupted(), snapshot.runs);
    }
}

/// The state after the next notable change, or after the timeout.
async fn next_change(
    fleet: &Fleet,
    selection: &Selection,
    before: &[RunRecord],
    timeout: Duration,
) -> Result<Snapshot, Refusal> {
    let since = Some(Cursor::from_runs(before));
    let waited = fleet.wait(selection, WaitUntil::Change, since, timeout, std::future::pending()).await?;
    Ok(waited.snapshot)
}

/// Prints a line for each run that has changed since it was last printed.
fn print_changes(fleet: &Fleet, records: &[RunRecord], printed: &mut HashMap<RunId, u64>, as_json: bool) {
    for record in records {
        if printed.insert(record.spec.id.clone(), record.seq) == Some(record.seq) {
            continue;
        }
        let run = view_of(fleet, record, Detail::Brief);
        if as_json {
            print_json(run, fleet.secrets());
        } else {
            print_sanitized(&summary_line(&run), fleet.secrets());
        }
    }
}

fn is_done(records: &[RunRecord], any: bool) -> bool {
    let mut ended = records.iter().map(|record| record.state.ending().is_some());
    if any { ended.any(|ended| ended) } else { ended.all(|ended| ended) }
}

fn worst_exit_code(records: &[RunRecord]) -> u8 {
    let ended = records.iter().filter_map(|record| record.state.ending());
    ended.map(|ending| exit_code(&ending.outcome)).max().unwrap_or_default()
}
