//! `massgen-mcp prune`: removes ended runs by the settings, or lists the runs that would be removed, as text or JSON.
//! `fleet` decides which runs are removed.

use std::process::ExitCode;

use serde_json::json;

use super::output::{print_failure, print_line};
use crate::fleet::Fleet;
use crate::fleet::prune::{PlannedRemoval, PruneMode, PruneReason, PruneReport};
use crate::settings::Retention;

/// How to prune.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PruneArgs {
    /// List what would be removed, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Removes ended runs. The exit code is a failure if a folder could not be removed.
pub async fn prune(fleet: &Fleet, keep: Retention, args: PruneArgs) -> ExitCode {
    let mode = if args.dry_run { PruneMode::DryRun } else { PruneMode::Apply };
    let report = match fleet.prune(keep, mode).await {
        Ok(report) => report,
        Err(error) => {
            print_failure(&error, "correct --home or MASSGEN_MCP_HOME, or make the state folder yours");
            return ExitCode::FAILURE;
        }
    };
    if args.json {
        print_line(report_json(&report, args.dry_run));
    } else {
        print_report(&report, args.dry_run);
    }
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_report(report: &PruneReport, dry_run: bool) {
    for PlannedRemoval { run, reason } in &report.removed {
        print_line(format_args!(
            "{}  ended {:.0}  {:>9}  {}",
            run.id,
            run.ended_at,
            format_size(run.bytes),
            setting_key(*reason)
        ));
    }
    for (name, reason) in report.failure_messages() {
        print_line(format_args!("{name}  stays: {reason}"));
    }
    let (runs, leftovers, freed) = (report.removed.len(), report.leftovers, format_size(report.freed_bytes));
    let done = if dry_run { "would be removed" } else { "removed" };
    print_line(format_args!(
        "{runs} runs and {leftovers} leftovers {done}: {freed}; {} ended runs stay",
        report.retained_count
    ));
}

fn report_json(report: &PruneReport, dry_run: bool) -> serde_json::Value {
    let removed = report.removed.iter().map(|PlannedRemoval { run, reason }| {
        json!({"run_id": run.id.as_str(), "ended": run.ended_at.to_string(), "bytes": run.bytes, "why": setting_key(*reason)})
    });
    let failed = report.failure_messages().map(|(name, reason)| json!({"name": name, "why": reason}));
    json!({
        "dry_run": dry_run,
        "removed": removed.collect::<Vec<_>>(),
        "leftovers": report.leftovers,
        "freed_bytes": report.freed_bytes,
        "kept": report.retained_count,
        "failed": failed.collect::<Vec<_>>(),
    })
}

/// The setting that caused the removal of a run.
fn setting_key(reason: PruneReason) -> &'static str {
    match reason {
        PruneReason::Age => "keep_days",
        PruneReason::Count => "keep_runs",
        PruneReason::Size => "keep_gb",
    }
}

fn format_size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
