//! MassGen kept warm: processes that have imported it (`warm/warm.py` is their program) and fork runs from there. This room finds
//! them, asks them for a run, and says with what one is started. A state folder has them in `warm/`.
//! It signals nobody and writes no record: a run that was started warm is its supervisor's like any other.

mod link;
mod process;

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::massgen::pages::hex;
use crate::massgen::program;
use crate::registry::StateFolder;

pub use link::{Keeper, News, Offer, Outputs, ask, fits};
pub use process::{Beginning, Progress, beginning, has_room, living, progress, stop};

/// What the warm process runs, in MassGen's own interpreter.
const PROGRAM: &str = include_str!("warm/warm.py");
/// The ending of the socket that a warm process listens on.
const SOCKET: &str = "sock";
/// Of a folder of theirs: how many may be there at once, each for another MassGen or another environment.
const MOST: usize = 3;

/// An installed MassGen, as far as one process can stand for another: the same program, interpreter and version, seen from the same
/// namespaces of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    interpreter: PathBuf,
    program: PathBuf,
    /// How the names of its processes begin.
    stem: String,
}

impl Kind {
    /// Of a program; none where it is no Python script, or cannot be read.
    pub fn of(program: &Path) -> Option<Kind> {
        let interpreter = program::interpreter(program)?;
        let namespaces = ["mnt", "net", "pid", "user"].map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")));
        let namespaces: Vec<_> = namespaces.into_iter().flatten().collect();
        let seen = format!(
            "{PROGRAM}\0{program:?}\0{interpreter:?}\0{namespaces:?}\0{:?}\0{:?}\0{:?}",
            stamp(program).ok()?,
            stamp(&interpreter).ok()?,
            program::metadata(program).map(|metadata| stamp(&metadata).ok()),
        );
        Some(Kind { interpreter, program: program.to_owned(), stem: short(&seen) })
    }

    /// The folder of the program, which stands first in the PATH of what it starts.
    fn folder(&self) -> &Path {
        self.program.parent().unwrap_or(Path::new("/"))
    }
}

/// Whether a file is the same as before: what an installation changes.
fn stamp(path: &Path) -> io::Result<(u64, i64, i64, u64)> {
    path.metadata().map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
}

fn short(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())).chars().take(12).collect()
}

/// Variables of an environment, one by one.
pub type Environment = Vec<(OsString, OsString)>;

/// The folder of a state folder's warm processes, whether it is there or not.
pub fn folder(state: &StateFolder) -> PathBuf {
    state.root().join("warm")
}

/// The sockets of one kind, or of all.
fn sockets(state: &StateFolder, kind: Option<&Kind>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(state)).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        path.extension().is_some_and(|ending| ending == SOCKET) && kind.is_none_or(|kind| stem.starts_with(&kind.stem))
    };
    entries.filter(is_wanted).collect()
}
