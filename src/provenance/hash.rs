//! SHA-256 of texts and of files, as a stream; a file is opened only where it is a regular one and no link.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::FileFact;
use crate::massgen::files::RunFiles;
use crate::massgen::pages::hex;
use crate::registry::{MANIFEST, RunFolder};

pub(super) fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// What a file is, told under the path `shown`.
pub(super) fn of_file(files: &RunFiles, path: &Path, shown: &Path) -> io::Result<FileFact> {
    if !files.has(path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (file, _) = files.open_file(path)?;
    let (bytes, sha256) = of_bytes(file)?;
    Ok(FileFact { path: shown.to_string_lossy().into_owned(), bytes, sha256 })
}

/// Of a run's manifest, where it has one.
pub(super) fn of_manifest(folder: &RunFolder) -> Option<String> {
    let files = RunFiles::open(folder.path()).ok()?;
    Some(of_file(&files, Path::new(MANIFEST), Path::new(MANIFEST)).ok()?.sha256)
}

fn of_bytes(mut source: impl Read) -> io::Result<(u64, String)> {
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok((bytes, hex(&hash.finalize()))),
            Ok(read) => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
