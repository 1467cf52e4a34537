//! `massgen-mcp result`: a part of what a run left, whole, on standard output. It shows text as the tools do: secrets masked,
//! one harmless character in each harmful one's place.

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

/// What to print.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct ResultArgs {
    /// The run, by its run_id.
    #[arg(value_name = "RUN_ID")]
    run: String,
    /// answer, report, answers, files, file:PATH, log, agent:ID, errors or manifest.
    #[arg(long, default_value = "answer")]
    part: String,
    /// Tell it as JSON, with whose answer it is and whether it is partial.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn result(fleet: &Fleet, how: &ResultArgs) -> Result<ExitCode, Refusal> {
    let (id, part) = (parse_run_id(&how.run)?, how.part.parse::<ResultPart>()?);
    if how.json {
        return print_json_part(fleet, &id, part, &how.part).await;
    }
    let is_answer = part == ResultPart::Answer;
    let Some((state, poured)) = print_part(fleet, &id, part).await? else { return Ok(ExitCode::SUCCESS) };
    if is_answer && poured.is_partial {
        print_to_stderr(format_args!("note: this is only the best answer so far; the run is {state}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a part whole; gives the run's state. Nothing if the pipe is closed.
pub(super) async fn print_part(
    fleet: &Fleet,
    id: &RunId,
    part: ResultPart,
) -> Result<Option<(String, StreamedPart)>, Refusal> {
    let out = TrailingNewlineWriter { newline: true };
    match fleet.stream_part(id, part, out).await {
        Ok((record, poured)) => Ok(Some((record.state.as_str().to_owned(), poured))),
        Err(ReadError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn print_json_part(fleet: &Fleet, id: &RunId, part: ResultPart, name: &str) -> Result<ExitCode, Refusal> {
    let kept = SharedBuffer::default();
    let (record, poured) = fleet.stream_part(id, part, kept.clone()).await?;
    let text = String::from_utf8(kept.take()).unwrap_or_default();
    let mut told = json!({
        "run_id": id.as_str(),
        "state": record.state.as_str().to_owned(),
        "part": name,
        "total_chars": text.chars().count(),
        "text": text,
        "partial": poured.is_partial,
    });
    let path = poured.path.map(|path| path.display().to_string());
    let whose = if record.has_winner(poured.is_partial) { "winner" } else { "best" };
    for (name, value) in [(whose, poured.winner), ("path", path)] {
        if let Some(value) = value {
            told[name] = value.into();
        }
    }
    print_json(told, fleet.secrets());
    Ok(ExitCode::SUCCESS)
}

/// Standard output, with a newline at the end of a text that has none.
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

/// Collects a text for its caller.
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
