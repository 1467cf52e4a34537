//! `massgen-mcp prune`: removes ended runs by the settings, or says which would go, for people or as JSON.
//! It decides nothing about them.

use std::process::ExitCode;

use serde_json::json;

use super::output::{print_failure, print_line};
use crate::fleet::Fleet;
use crate::fleet::prune::{PlannedRemoval, PruneMode, PruneReason, PruneReport};
use crate::settings::Retention;

/// How to prune.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PruneArgs {
    /// Say what would go, and touch nothing.
    #[arg(long)]
    dry_run: bool,
    /// Tell it as JSON.
    #[arg(long)]
    json: bool,
}

/// Removes ended runs. What could not be removed makes it a failure.
pub async fn prune(fleet: &Fleet, keep: Retention, how: PruneArgs) -> ExitCode {
    let earnest = if how.dry_run { PruneMode::DryRun } else { PruneMode::Apply };
    let pruned = match fleet.prune(keep, earnest).await {
        Ok(pruned) => pruned,
        Err(error) => {
            print_failure(&error, "correct --home or MASSGEN_MCP_HOME, or make the state folder yours");
            return ExitCode::FAILURE;
        }
    };
    if how.json {
        print_line(report_json(&pruned, how.dry_run));
    } else {
        print_report(&pruned, how.dry_run);
    }
    if pruned.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print_report(pruned: &PruneReport, dry_run: bool) {
    for PlannedRemoval { run, reason: why } in &pruned.removed {
        print_line(format_args!(
            "{}  ended {:.0}  {:>9}  {}",
            run.id,
            run.ended_at,
            format_size(run.bytes),
            setting_key(*why)
        ));
    }
    for (name, why) in pruned.failure_messages() {
        print_line(format_args!("{name}  stays: {why}"));
    }
    let (runs, leftovers, freed) = (pruned.removed.len(), pruned.leftovers, format_size(pruned.freed_bytes));
    let done = if dry_run { "would be removed" } else { "removed" };
    print_line(format_args!(
        "{runs} runs and {leftovers} leftovers {done}: {freed}; {} ended runs stay",
        pruned.retained_count
    ));
}

fn report_json(pruned: &PruneReport, dry_run: bool) -> serde_json::Value {
    let gone = pruned.removed.iter().map(|PlannedRemoval { run, reason: why }| {
        json!({"run_id": run.id.as_str(), "ended": run.ended_at.to_string(), "bytes": run.bytes, "why": setting_key(*why)})
    });
    let failed = pruned.failure_messages().map(|(name, why)| json!({"name": name, "why": why}));
    json!({
        "dry_run": dry_run,
        "removed": gone.collect::<Vec<_>>(),
        "leftovers": pruned.leftovers,
        "freed_bytes": pruned.freed_bytes,
        "kept": pruned.retained_count,
        "failed": failed.collect::<Vec<_>>(),
    })
}

/// The setting by which a run goes.
fn setting_key(why: PruneReason) -> &'static str {
    match why {
        PruneReason::Age => "keep_days",
        PruneReason::Count => "keep_runs",
        PruneReason::Size => "keep_gb",
    }
}

fn format_size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
