//! `massgen-mcp logs`: prints the log of a run or the output of one agent, and can follow it.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use super::output::EXIT_CODES;
use super::result;
use super::selection::parse_run_id;
use crate::fleet::results::ResultPart;
use crate::fleet::{Fleet, LogChunk};
use crate::refusal::Refusal;

/// The log to print.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct LogsArgs {
    /// The run, by its run_id.
    #[arg(value_name = "RUN_ID")]
    run: String,
    /// Print this agent's output instead of MassGen's log.
    #[arg(long, value_name = "ID")]
    agent: Option<String>,
    /// Continue until the run has ended.
    #[arg(long, short)]
    follow: bool,
}

/// How often a growing log is read: MassGen appends to it without an event.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub(super) async fn logs(fleet: &Fleet, args: &LogsArgs) -> Result<ExitCode, Refusal> {
    let id = parse_run_id(&args.run)?;
    let part = args.agent.clone().map_or(ResultPart::Log, ResultPart::Agent);
    if !args.follow {
        result::print_part(fleet, &id, part).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut follower = fleet.follow(&id, part);
    loop {
        let (text, is_over) = match follower.next_chunk().await? {
            LogChunk::Text(text) => (text, false),
            LogChunk::End(text) => (text, true),
            LogChunk::NoChange => {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
        };
        if !print_chunk(&text) || is_over {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Prints a text; `false` if the output is closed.
fn print_chunk(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}
