//! Reads a growing log by file offset: text that was shown is not read again, however long the log becomes.
//! MassGen appends to its logs without an event, so a follower has to poll; the caller decides how often.

use std::path::PathBuf;

use super::results::{ReadError, ResultPart, RunReader};
use super::{Fleet, blocking};
use crate::massgen::pages::TextStream;
use crate::run::{RunId, RunRecord};

/// The most bytes of one read.
const MAX_CHUNK_BYTES: u64 = 1 << 20;

/// Follows one part of a run.
pub struct Follower {
    fleet: Fleet,
    id: RunId,
    part: ResultPart,
    position: Option<FilePosition>,
}

/// The offset up to which a file was shown.
struct FilePosition {
    path: PathBuf,
    offset: u64,
    stream: TextStream,
}

/// The result of one read of a growing log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogChunk {
    /// Some text, and there may be more already.
    Text(String),
    /// No new text; the run continues.
    NoChange,
    /// The run has ended and this was the last text.
    End(String),
}

impl Fleet {
    /// Follows the log of a run ([`ResultPart::Log`]) or an agent's output ([`ResultPart::Agent`]), from its beginning.
    pub fn follow(&self, id: &RunId, part: ResultPart) -> Follower {
        Follower { fleet: self.clone(), id: id.clone(), part, position: None }
    }
}

impl Follower {
    /// The text added since the last read.
    ///
    /// # Errors
    ///
    /// If the run or its log cannot be read, or the run has ended without a log.
    pub async fn next_chunk(&mut self) -> Result<LogChunk, ReadError> {
        // Read the state before the file: if it says ended, the file is complete.
        let record = self.fleet.run_record(&self.id).await?;
        let root = self.fleet.state.run_folder(&self.id).path().to_owned();
        let (fleet, part, position) = (self.fleet.clone(), self.part.clone(), self.position.take());
        let (position, chunk) = blocking(move || {
            let reader = RunReader::open(&root, record.clone(), fleet.secrets.clone(), fleet.wording)?;
            read_next(&reader, &record, &part, position, &fleet)
        })
        .await??;
        self.position = position;
        Ok(chunk)
    }
}

fn read_next(
    reader: &RunReader,
    record: &RunRecord,
    part: &ResultPart,
    previous: Option<FilePosition>,
    fleet: &Fleet,
) -> Result<(Option<FilePosition>, LogChunk), ReadError> {
    let is_over = record.state.ending().is_some();
    let Some(path) = reader.growing_file(part).or_else(|| previous.as_ref().map(|position| position.path.clone()))
    else {
        return Ok((
            None,
            if is_over { LogChunk::End(read_printed(reader, part, fleet)?) } else { LogChunk::NoChange },
        ));
    };
    // A new turn or attempt has a new log.
    let current = previous.filter(|position| position.path == path);
    let new_position = || FilePosition { path: path.clone(), offset: 0, stream: TextStream::new(&fleet.secrets) };
    let mut position = current.unwrap_or_else(new_position);
    let unreadable = |source| ReadError::Unreadable { path: path.clone(), source };
    let bytes = match reader.read_from(&path, position.offset, MAX_CHUNK_BYTES).map_err(unreadable)? {
        Some(bytes) => bytes,
        None => {
            // The file was truncated or replaced.
            position = new_position();
            reader.read_from(&path, 0, MAX_CHUNK_BYTES).map_err(unreadable)?.unwrap_or_default()
        }
    };
    position.offset += bytes.len() as u64;
    let text = position.stream.push(&bytes);
    let chunk = match (bytes.is_empty(), is_over) {
        (false, _) => LogChunk::Text(text),
        (true, true) => LogChunk::End(position.stream.finish()),
        (true, false) => LogChunk::NoChange,
    };
    Ok((Some(position), chunk))
}

/// The printed output of an ended run that wrote no log.
fn read_printed(reader: &RunReader, part: &ResultPart, fleet: &Fleet) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let read = reader.source(part, None)?.text.read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Unreadable { path: PathBuf::new(), source })?;
    let mut stream = TextStream::new(&fleet.secrets);
    Ok(stream.push(&bytes) + &stream.finish())
}
