//! SHA-256 of texts and files. Files are read as a stream; only regular files are opened, no links.

use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::HashedFile;
use crate::massgen::files::RunFiles;
use crate::massgen::pages::hex;
use crate::registry::{MANIFEST_FILE, RunFolder};

pub(super) fn text_sha256(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Hashes a file; the result names it by `recorded_path`.
pub(super) fn hash_file(files: &RunFiles, path: &Path, recorded_path: &Path) -> io::Result<HashedFile> {
    if !files.has_file(path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let (file, _) = files.open_file(path)?;
    let (bytes, sha256) = hash_reader(file)?;
    Ok(HashedFile { path: recorded_path.to_string_lossy().into_owned(), bytes, sha256 })
}

/// The hash of a run's manifest, if it has one.
pub(super) fn manifest_sha256(folder: &RunFolder) -> Option<String> {
    let files = RunFiles::open(folder.path()).ok()?;
    Some(hash_file(&files, Path::new(MANIFEST_FILE), Path::new(MANIFEST_FILE)).ok()?.sha256)
}

fn hash_reader(mut source: impl Read) -> io::Result<(u64, String)> {
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
