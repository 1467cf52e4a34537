//! `massgen-mcp kill`: requests the stop of runs, waits until they have ended, and reports the result. It sends no signals.

use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::output::{print_json, print_line, print_sanitized};
use super::selection::{RunSelector, found_records};
use crate::fleet::{Fleet, Selection, WaitUntil};
use crate::refusal::Refusal;
use crate::run::{DEFAULT_GRACE, RunId, RunRecord, StopRequest};
use crate::view::{self, ReceiptView};

/// The runs to stop, and how.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 all of them are over; 1 one of them is not, or it could not be done; 2 the command line is wrong."
)]
pub struct KillArgs {
    #[command(flatten)]
    selector: RunSelector,
    /// All running and waiting runs (`massgen-mcp runs --live` lists them).
    #[arg(long, group = "RunSelector")]
    all: bool,
    /// How long MassGen may take to exit by itself, in seconds, 0 to 60.
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_GRACE.as_secs_f64())]
    grace_s: f64,
    /// The reason; it is recorded with the run.
    #[arg(long)]
    reason: Option<String>,
    /// Print JSON: {"receipts": […], "others": {…}}, as kill_run does.
    #[arg(long)]
    pub(super) json: bool,
}

/// The longest grace period, in seconds.
const MAX_GRACE_S: f64 = 60.0;
/// How long a forced stop may take after the grace period, including nested runs.
const FORCE_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn kill(fleet: &Fleet, args: &KillArgs) -> Result<ExitCode, Refusal> {
    if !(0.0..=MAX_GRACE_S).contains(&args.grace_s) {
        return Err(Refusal::out_of_range("grace-s", args.grace_s, 0.0, MAX_GRACE_S));
    }
    if let Some(variable) = args.reason.as_deref().and_then(|reason| fleet.secrets().find_name(reason)) {
        return Err(Refusal::contains_secret("reason".to_owned(), variable));
    }
    let selection = if args.all { fleet.live_selection() } else { args.selector.selection()? };
    let grace = Duration::from_secs_f64(args.grace_s);
    let request = StopRequest { grace, reason: args.reason.clone(), tree: true };
    let experiments = if args.all { fleet.live_experiments(None).await? } else { vec![selection.clone()] };
    let mut stopping = Vec::new();
    for experiment in experiments {
        if fleet.stop_experiment(&experiment, &request).await? {
            stopping.push(experiment);
        }
    }
    let records = found_records(&selection, fleet.snapshot(&selection).await?)?;
    if matches!(selection, Selection::Runs(_)) {
        // Its experiment would start it later.
        records.iter().filter(|run| run.state.ending().is_none()).try_for_each(|run| fleet.check_is_started(run))?;
    }
    let (mut planned, records): (Vec<_>, Vec<_>) = records.into_iter().partition(|run| fleet.is_planned(run));
    let stops = records.iter().map(|record| stop_run(fleet, &record.spec.id, grace, args.reason.clone()));
    let stopped = join_all(stops).await;
    for experiment in &stopping {
        // An experiment has ended once its driver has recorded it.
        let waited =
            fleet.wait(experiment, WaitUntil::AllEnded, None, grace + FORCE_TIMEOUT, std::future::pending()).await?;
        if args.all {
            planned.extend(waited.snapshot.runs.into_iter().filter(|run| fleet.is_planned(run)));
        }
    }
    let receipts: Vec<_> = records.iter().zip(&stopped).map(|(record, stopped)| receipt(record, stopped)).collect();
    if args.json {
        let mut output = json!({"receipts": receipts});
        if !planned.is_empty() {
            output["others"] = json!({"not_started": planned.len()});
        }
        print_json(output, fleet.secrets());
    } else {
        receipts.iter().for_each(|receipt| print_sanitized(&receipt_line(receipt), fleet.secrets()));
        if receipts.is_empty() && planned.is_empty() {
            print_line("no run goes on");
        }
        if !planned.is_empty() {
            print_line(format_args!("{} planned runs were not started", planned.len()));
        }
    }
    let all_over = stopped.iter().all(|stopped| stopped.as_ref().is_ok_and(|record| record.state.ending().is_some()));
    Ok(if all_over { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Stops a run with all runs that it started, and waits for its end.
pub(super) async fn stop_run(
    fleet: &Fleet,
    id: &RunId,
    grace: Duration,
    reason: Option<String>,
) -> Result<RunRecord, Refusal> {
    let request = StopRequest { grace, reason, tree: true };
    Ok(fleet.stop(id, request, grace + FORCE_TIMEOUT, std::future::pending()).await?)
}

fn receipt(before: &RunRecord, stopped: &Result<RunRecord, Refusal>) -> ReceiptView {
    match stopped {
        Ok(record) if before.state.ending().is_some() => view::ended_receipt(record),
        Ok(record) => view::receipt(record),
        Err(refusal) => view::failed_receipt(before, refusal.message()),
    }
}

/// The result of a stop, in one line.
pub(super) fn receipt_line(receipt: &ReceiptView) -> String {
    let ReceiptView { run_id, state, already_ended, took_s, force, processes, survivors, readable } = receipt;
    if already_ended.is_some() {
        return format!("{run_id}  {state}  had already ended; {readable}");
    }
    let note = match survivors.is_empty() {
        true => String::new(),
        false => format!("; still there: {}", survivors.join(", ")),
    };
    format!("{run_id}  {state}  {took_s:.1} s, {processes} processes, force: {force}{note}; {readable}")
}
