//! `massgen-mcp wait`: sleeps until runs are over, as check_status does, and tells by its exit code how they ended. A client with
//! a shell waits with it at no cost. It undoes nothing when it is broken off.

use std::collections::HashMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ValueParser;
use tokio::time::Instant;

use super::output::{print_json, print_sanitized};
use super::selection::{RunSelector, existing};
use super::summary::{exit_code, one_line, view_of};
use crate::fleet::{Cursor, Fleet, Selection, Until};
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord};
use crate::view::Detail;

/// What to wait for.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Wait {
    #[command(flatten)]
    which: RunSelector,
    /// Until one of them is over; otherwise until all are.
    #[arg(long)]
    any: bool,
    /// Give up after so many seconds, 1 to max_timeout_s; the runs go on.
    // The setting of this name means nothing to a wait, and its flag is read and checked as it is everywhere.
    #[arg(id = "timeout_s", long = "timeout-s", value_name = "SECONDS", value_parser = ValueParser::os_string())]
    timeout_s: Option<OsString>,
    /// Tell each change as a line of JSON: the run as check_status shows it.
    #[arg(long)]
    pub(super) json: bool,
}

const EXITS: &str = "\
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

/// Not over in time; what `timeout` of the coreutils says.
const NOT_OVER: u8 = 124;
/// Longer than any run may take.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// `timeout` is what was given by the flag.
pub(super) async fn wait(fleet: &Fleet, timeout: Duration, how: &Wait) -> Result<ExitCode, Refusal> {
    let selection = how.which.selection()?;
    let deadline = Instant::now() + how.timeout_s.as_ref().map_or(FOR_EVER, |_| timeout);
    let mut told = HashMap::new();
    let mut records = existing(&selection, fleet.look_all(&selection).await?)?;
    loop {
        tell(fleet, &records, &mut told, how.json);
        if is_over(&records, how.any) {
            return Ok(ExitCode::from(worst(&records)));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(ExitCode::from(NOT_OVER));
        }
        records = change(fleet, &selection, &records, left).await?;
    }
}

/// The runs after the next change that is news, or as they are when the time has passed.
async fn change(
    fleet: &Fleet,
    selection: &Selection,
    before: &[RunRecord],
    patience: Duration,
) -> Result<Vec<RunRecord>, Refusal> {
    let seen = Some(Cursor::of(before));
    let waited = fleet.wait(selection, Until::Change, seen, patience, std::future::pending()).await?;
    Ok(waited.sight.runs)
}

/// A line for each run that has changed since it was told of.
fn tell(fleet: &Fleet, records: &[RunRecord], told: &mut HashMap<RunId, u64>, as_json: bool) {
    for record in records {
        if told.insert(record.spec.id.clone(), record.seq) == Some(record.seq) {
            continue;
        }
        let run = view_of(fleet, record, Detail::Brief);
        if as_json {
            print_json(run, fleet.secrets());
        } else {
            print_sanitized(&one_line(&run), fleet.secrets());
        }
    }
}

fn is_over(records: &[RunRecord], any: bool) -> bool {
    let mut ended = records.iter().map(|record| record.state.ended().is_some());
    if any { ended.any(|ended| ended) } else { ended.all(|ended| ended) }
}

fn worst(records: &[RunRecord]) -> u8 {
    let ended = records.iter().filter_map(|record| record.state.ended());
    ended.map(|ending| exit_code(&ending.outcome)).max().unwrap_or_default()
}
