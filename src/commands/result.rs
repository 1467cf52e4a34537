//! `massgen-mcp result`: prints a whole part of a run. It shows text as the tools do: secrets are masked, and each harmful
//! character is replaced by a harmless one.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use super::output::{EXIT_CODES, print_json, print_to_stderr};
use super::selection::parse_run_id;
use crate::fleet::Fleet;
use crate::fleet::results::{ReadError, ResultPart, StreamedPart};
use crate::refusal::Refusal;
use crate::run::RunId;

/// The part to print.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ResultArgs {
    /// The run, by its run_id.
    #[arg(value_name = "RUN_ID")]
    run: String,
    /// answer, report, answers, files, file:PATH, log, agent:ID, errors or manifest.
    #[arg(long, default_value = "answer")]
    part: String,
    /// Print JSON, with the agent of the answer and whether it is partial.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn result(fleet: &Fleet, args: &ResultArgs) -> Result<ExitCode, Refusal> {
    let (id, part) = (parse_run_id(&args.run)?, args.part.parse::<ResultPart>()?);
    if args.json {
        return print_json_part(fleet, &id, part, &args.part).await;
    }
    let is_answer = part == ResultPart::Answer;
    let Some((state, streamed)) = print_part(fleet, &id, part).await? else { return Ok(ExitCode::SUCCESS) };
    if is_answer && streamed.is_partial {
        print_to_stderr(format_args!("note: this is only the best answer so far; the run is {state}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a whole part; gives the run's state, or `None` if the pipe is closed.
pub(super) async fn print_part(
    fleet: &Fleet,
    id: &RunId,
    part: ResultPart,
) -> Result<Option<(String, StreamedPart)>, Refusal> {
    let out = TrailingNewlineWriter { newline: true };
    match fleet.stream_part(id, part, out).await {
        Ok((record, streamed)) => Ok(Some((record.state.as_str().to_owned(), streamed))),
        Err(ReadError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn print_json_part(fleet: &Fleet, id: &RunId, part: ResultPart, name: &str) -> Result<ExitCode, Refusal> {
    let buffer = SharedBuffer::default();
    let (record, streamed) = fleet.stream_part(id, part, buffer.clone()).await?;
    let text = String::from_utf8(buffer.take()).unwrap_or_default();
    let mut output = json!({
        "run_id": id.as_str(),
        "state": record.state.as_str().to_owned(),
        "part": name,
        "total_chars": text.chars().count(),
        "text": text,
        "partial": streamed.is_partial,
    });
    let path = streamed.path.map(|path| path.display().to_string());
    let agent_key = if record.has_winner(streamed.is_partial) { "winner" } else { "best" };
    for (name, value) in [(agent_key, streamed.winner), ("path", path)] {
        if let Some(value) = value {
            output[name] = value.into();
        }
    }
    print_json(output, fleet.secrets());
    Ok(ExitCode::SUCCESS)
}

/// Writes to standard output, and ends the text with a newline if it has none.
struct TrailingNewlineWriter {
    newline: bool,
}

impl Write for TrailingNewlineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write_all(bytes)?;
        if let Some(last) = bytes.last() {
            self.newline = *last == b'\n';
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.newline {
            io::stdout().write_all(b"\n")?;
        }
        io::stdout().flush()
    }
}

/// A buffer that the caller can read after the writer was moved.
#[derive(Clone, Default)]
struct SharedBuffer(Arc<Mutex<Vec<u8>>>);

impl SharedBuffer {
    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for SharedBuffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
