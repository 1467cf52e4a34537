//! `massgen-mcp report`: writes a page about a run or a group to one self-contained file, and opens it in a browser on request.
//! The module `report` draws the page; this one collects the data, masks secrets and writes the file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::next_steps::person_words;
use super::output::{EXIT_CODES, print_sanitized};
use crate::fleet::Fleet;
use crate::fleet::results::ResultPart;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::{Durability, RunFolder, write_atomic};
use crate::report::page;
use crate::run::{RunId, RunRecord};

/// The page to write.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ReportArgs {
    /// A run_id, or the label of a group.
    #[arg(value_name = "RUN_ID|GROUP")]
    target: String,
    /// Open it in the browser.
    #[arg(long)]
    open: bool,
    /// The file to write; default: report.html in the folder of the run or the experiment.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) async fn report(fleet: &Fleet, args: &ReportArgs) -> Result<ExitCode, Refusal> {
    let out = args.out.as_deref();
    let path = match args.target.trim().parse::<RunId>() {
        Ok(id) => write_run_page(fleet, &id, out, None).await?.1,
        Err(_) => write_group_page(fleet, args.target.trim(), out).await?,
    };
    print_sanitized(&path.display().to_string(), fleet.secrets());
    if args.open {
        open_in_browser(path).await?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the page of a run in its current state; gives the run and the file. With `refresh`, the browser reloads the page at that
/// interval while the run is live.
pub(super) async fn write_run_page(
    fleet: &Fleet,
    id: &RunId,
    out: Option<&Path>,
    refresh: Option<Duration>,
) -> Result<(RunRecord, PathBuf), Refusal> {
    let record = fleet.run_record(id).await?;
    let timeline = fleet.timeline(id).await?;
    let answer = fleet.read_page(id, ResultPart::Answer, 0, page::MAX_ANSWER_CHARS as u64 + 1).await;
    let answer = answer.ok().map(|(_, page)| page.page.text);
    let refresh = refresh.filter(|_| record.state.ending().is_none());
    let html = page::run_page(&record, &timeline, answer.as_deref(), refresh, person_words);
    let path = out.map_or_else(|| fleet.state().run_folder(id).path().join("report.html"), Path::to_owned);
    let path = write_page(path, fleet.secrets().mask(&html).into_owned()).await?;
    Ok((record, path))
}

async fn write_group_page(fleet: &Fleet, group: &str, out: Option<&Path>) -> Result<PathBuf, Refusal> {
    let comparison = fleet.export_comparison(group).await?.ok_or_else(|| Refusal::unknown_group(group))?;
    let html = page::group_page(&comparison.table, None);
    // Runs that share only a label have no common folder: put the page into the folder of the last written run.
    let last = comparison
        .table
        .comparison
        .trials
        .iter()
        .map(|trial| fleet.state().run_folder(&trial.run))
        .max_by_key(RunFolder::last_written);
    let in_experiment = comparison.json.map(|json| json.with_file_name("report.html"));
    let default_path = in_experiment.or_else(|| Some(last?.path().join("group.html")));
    let path = out.map(Path::to_owned).or(default_path).ok_or_else(|| Refusal::unknown_group(group))?;
    write_page(path, fleet.secrets().mask(&html).into_owned()).await
}

async fn write_page(path: PathBuf, page: String) -> Result<PathBuf, Refusal> {
    let written = tokio::task::spawn_blocking(move || {
        let path = std::path::absolute(&path)?;
        write_atomic(&path, page.as_bytes(), Durability::NotSynced).map(|()| path)
    });
    let not_written = |error: &dyn std::error::Error| {
        let message = format!("the page cannot be written: {}", text::error_chain(error));
        Refusal::new("not_written", message, "name another file with --out")
    };
    written.await.map_err(|error| not_written(&error))?.map_err(|error| not_written(&error))
}

/// Opens a page with the default browser, as a detached process.
pub(super) async fn open_in_browser(path: PathBuf) -> Result<(), Refusal> {
    let path_text = path.display().to_string();
    // This blocks for a moment to detect that the opener fails.
    let result = tokio::task::spawn_blocking(move || open::that_detached(path)).await;
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(open_refusal(&path_text, &error)),
        Err(error) => Err(open_refusal(&path_text, &error)),
    }
}

fn open_refusal(path: &str, error: &dyn std::error::Error) -> Refusal {
    let message = format!("there is no program that opens pages: {}", text::error_chain(error));
    Refusal::new("not_opened", message, format!("open `{path}` in a browser, or install xdg-utils"))
}
