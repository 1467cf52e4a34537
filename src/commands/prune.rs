//! `massgen-mcp prune`: removes ended runs by the settings, or says which would go, for people or as JSON.
//! It decides nothing about them.

use std::process::ExitCode;

use serde_json::json;

use super::output::{print_failure, print_line};
use crate::fleet::Fleet;
use crate::fleet::prune::{Earnest, Planned, Pruned, Why};
use crate::settings::Retention;

/// How to prune.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Prune {
    /// Say what would go, and touch nothing.
    #[arg(long)]
    dry_run: bool,
    /// Tell it as JSON.
    #[arg(long)]
    json: bool,
}

/// Removes ended runs. What could not be removed makes it a failure.
pub async fn prune(fleet: &Fleet, keep: Retention, how: Prune) -> ExitCode {
    let earnest = if how.dry_run { Earnest::OnlySay } else { Earnest::Remove };
    let pruned = match fleet.prune(keep, earnest).await {
        Ok(pruned) => pruned,
        Err(error) => {
            print_failure(&error, "correct --home or MASSGEN_MCP_HOME, or make the state folder yours");
            return ExitCode::FAILURE;
        }
    };
    if how.json {
        print_line(as_json(&pruned, how.dry_run));
    } else {
        tell(&pruned, how.dry_run);
    }
    if pruned.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(pruned: &Pruned, dry_run: bool) {
    for Planned { run, why } in &pruned.gone {
        print_line(format_args!("{}  ended {:.0}  {:>9}  {}", run.id, run.ended, size(run.bytes), word(*why)));
    }
    for (name, why) in pruned.complaints() {
        print_line(format_args!("{name}  stays: {why}"));
    }
    let (runs, leftovers, freed) = (pruned.gone.len(), pruned.leftovers, size(pruned.freed));
    let done = if dry_run { "would be removed" } else { "removed" };
    print_line(format_args!("{runs} runs and {leftovers} leftovers {done}: {freed}; {} ended runs stay", pruned.kept));
}

fn as_json(pruned: &Pruned, dry_run: bool) -> serde_json::Value {
    let gone = pruned.gone.iter().map(|Planned { run, why }| {
        json!({"run_id": run.id.as_str(), "ended": run.ended.to_string(), "bytes": run.bytes, "why": word(*why)})
    });
    let failed = pruned.complaints().map(|(name, why)| json!({"name": name, "why": why}));
    json!({
        "dry_run": dry_run,
        "removed": gone.collect::<Vec<_>>(),
        "leftovers": pruned.leftovers,
        "freed_bytes": pruned.freed,
        "kept": pruned.kept,
        "failed": failed.collect::<Vec<_>>(),
    })
}

/// The setting by which a run goes.
fn word(why: Why) -> &'static str {
    match why {
        Why::Age => "keep_days",
        Why::Count => "keep_runs",
        Why::Size => "keep_gb",
    }
}

fn size(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
