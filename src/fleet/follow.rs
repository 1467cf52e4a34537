//! A log that is read as it grows, by its place in the file: what was shown is not read again, however long the log becomes.
//! MassGen adds to its logs without a sign, so that whoever follows has to look; nothing here decides how often.

use std::path::PathBuf;

use super::results::{Part, ReadError, Shelf};
use super::{Fleet, blocking};
use crate::massgen::pages::Pour;
use crate::run::{RunId, RunRecord};

/// The most bytes of one look.
const MOST: u64 = 1 << 20;

/// Follows one part of a run.
pub struct Follower {
    fleet: Fleet,
    id: RunId,
    part: Part,
    at: Option<Place>,
}

/// How far a file was shown.
struct Place {
    path: PathBuf,
    offset: u64,
    pour: Pour,
}

/// What a look at a growing log gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum More {
    /// Some text, and there may be more already.
    Text(String),
    /// Nothing new; the run goes on.
    Nothing,
    /// The run is over and this was the last of it.
    Over(String),
}

impl Fleet {
    /// Follows the log of a run ([`Part::Log`]) or what an agent puts out ([`Part::Agent`]), from its beginning.
    pub fn follow(&self, id: &RunId, part: Part) -> Follower {
        Follower { fleet: self.clone(), id: id.clone(), part, at: None }
    }
}

impl Follower {
    /// What was added since the last look.
    ///
    /// # Errors
    ///
    /// Where the run cannot be looked at, its log cannot be read, or it is over and has none.
    pub async fn more(&mut self) -> Result<More, ReadError> {
        // The state is looked at first: what was added until the end is on disk then.
        let record = self.fleet.look(&self.id).await?;
        let root = self.fleet.state.folder(&self.id).path().to_owned();
        let (fleet, part, at) = (self.fleet.clone(), self.part.clone(), self.at.take());
        let (at, more) = blocking(move || {
            let shelf = Shelf::open(&root, record.clone(), fleet.secrets.clone())?;
            look(&shelf, &record, &part, at, &fleet)
        })
        .await??;
        self.at = at;
        Ok(more)
    }
}

fn look(
    shelf: &Shelf,
    record: &RunRecord,
    part: &Part,
    at: Option<Place>,
    fleet: &Fleet,
) -> Result<(Option<Place>, More), ReadError> {
    let is_over = record.state.ended().is_some();
    let Some(path) = shelf.growing(part).or_else(|| at.as_ref().map(|place| place.path.clone())) else {
        return Ok((None, if is_over { More::Over(whole(shelf, part, fleet)?) } else { More::Nothing }));
    };
    // A new turn or attempt has a new log.
    let same = at.filter(|place| place.path == path);
    let begin = || Place { path: path.clone(), offset: 0, pour: Pour::new(&fleet.secrets) };
    let mut place = same.unwrap_or_else(begin);
    let unreadable = |source| ReadError::Unreadable { path: path.clone(), source };
    let bytes = match shelf.bytes_from(&path, place.offset, MOST).map_err(unreadable)? {
        Some(bytes) => bytes,
        None => {
            // It was begun anew.
            place = begin();
            shelf.bytes_from(&path, 0, MOST).map_err(unreadable)?.unwrap_or_default()
        }
    };
    place.offset += bytes.len() as u64;
    let text = place.pour.push(&bytes);
    let more = match (bytes.is_empty(), is_over) {
        (false, _) => More::Text(text),
        (true, true) => More::Over(place.pour.finish()),
        (true, false) => More::Nothing,
    };
    Ok((Some(place), more))
}

/// What a run that is over left where it made no log: what it printed.
fn whole(shelf: &Shelf, part: &Part, fleet: &Fleet) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    let read = shelf.source(part, None)?.text.read_to_end(&mut bytes);
    read.map_err(|source| ReadError::Unreadable { path: PathBuf::new(), source })?;
    let mut pour = Pour::new(&fleet.secrets);
    Ok(pour.push(&bytes) + &pour.finish())
}
