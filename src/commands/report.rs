//! `massgen-mcp report`: a page of a run or a group, written to one file that needs nothing else, and opened in a browser on
//! request. What is on the page is the report's; here it is only gathered, cleared of secrets and written.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::output::{EXIT_CODES, print_sanitized};
use crate::fleet::Fleet;
use crate::fleet::results::ResultPart;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::{Durability, RunFolder, write_atomic};
use crate::report::page;
use crate::run::{RunId, RunRecord};

/// Of what to write a page.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ReportArgs {
    /// A run, by its run_id, or all runs with a label, by that.
    #[arg(value_name = "RUN_ID|GROUP")]
    target: String,
    /// Open it in the browser.
    #[arg(long)]
    open: bool,
    /// Where to write it; otherwise report.html in the folder of the run or the experiment.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn report(fleet: &Fleet, how: &ReportArgs) -> Result<ExitCode, Refusal> {
    let out = how.out.as_deref();
    let path = match how.target.trim().parse::<RunId>() {
        Ok(id) => write_run_page(fleet, &id, out, None).await?.1,
        Err(_) => write_group_page(fleet, how.target.trim(), out).await?,
    };
    print_sanitized(&path.display().to_string(), fleet.secrets());
    if how.open {
        open_in_browser(path).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a run as it is now; gives the run and the file. With `refresh`, the browser reads it again and again for as
/// long as the run goes on.
pub(super) async fn write_run_page(
    fleet: &Fleet,
    id: &RunId,
    out: Option<&Path>,
    refresh: Option<Duration>,
) -> Result<(RunRecord, PathBuf), Refusal> {
    let record = fleet.run_record(id).await?;
    let story = fleet.timeline(id).await?;
    let answer = fleet.read_page(id, ResultPart::Answer, 0, page::MAX_ANSWER_CHARS as u64 + 1).await;
    let answer = answer.ok().map(|(_, reading)| reading.page.text);
    let refresh = refresh.filter(|_| record.state.ending().is_none());
    let drawn = page::run_page(&record, &story, answer.as_deref(), refresh);
    let path = out.map_or_else(|| fleet.state().run_folder(id).path().join("report.html"), Path::to_owned);
    let path = write_page(path, fleet.secrets().mask(&drawn).into_owned()).await?;
    Ok((record, path))
}

async fn write_group_page(fleet: &Fleet, group: &str, out: Option<&Path>) -> Result<PathBuf, Refusal> {
    let compared = fleet.export_comparison(group).await?.ok_or_else(|| Refusal::unknown_group(group))?;
    let drawn = page::group_page(&compared.table, None);
    // Runs that only a label joins have no folder together, and the page goes when the last of them does.
    let last = compared
        .table
        .comparison
        .trials
        .iter()
        .map(|trial| fleet.state().run_folder(&trial.run))
        .max_by_key(RunFolder::last_written);
    let beside = compared.json.map(|json| json.with_file_name("report.html"));
    let own = beside.or_else(|| Some(last?.path().join("group.html")));
    let path = out.map(Path::to_owned).or(own).ok_or_else(|| Refusal::unknown_group(group))?;
    write_page(path, fleet.secrets().mask(&drawn).into_owned()).await
}

async fn write_page(path: PathBuf, page: String) -> Result<PathBuf, Refusal> {
    let written = tokio::task::spawn_blocking(move || {
        let path = std::path::absolute(&path)?;
        write_atomic(&path, page.as_bytes(), Durability::NotSynced).map(|()| path)
    });
    let refused = |error: &dyn std::error::Error| {
        let message = format!("the page cannot be written: {}", text::error_chain(error));
        Refusal::new("not_written", message, "name another file with --out")
    };
    written.await.map_err(|error| refused(&error))?.map_err(|error| refused(&error))
}

/// Opens a page in whatever the person reads pages with, and leaves it to itself.
pub(super) async fn open_in_browser(path: PathBuf) -> Result<(), Refusal> {
    let shown = path.display().to_string();
    // It looks for a moment whether the opener fails.
    let opened = tokio::task::spawn_blocking(move || open::that_detached(path)).await;
    match opened {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(open_refusal(&shown, &error)),
        Err(error) => Err(open_refusal(&shown, &error)),
    }
}

fn open_refusal(path: &str, error: &dyn std::error::Error) -> Refusal {
    let message = format!("there is no program that opens pages: {}", text::error_chain(error));
    Refusal::new("not_opened", message, format!("open `{path}` in a browser, or install xdg-utils"))
}
