//! Copies files that a run left into another run's folder: only regular files and folders, within size limits, whichever program wrote
//! them. Links, pipes and devices are skipped; the source is never changed.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::files::{EntryKind, FolderEntry, RunFiles};

/// The largest workspace that may be copied, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The most files and folders it may contain.
const MAX_FILES: usize = 20_000;
/// The deepest folder nesting.
const MAX_DEPTH: usize = 60;

/// Why files of a run cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The source is too large.
    #[error("the answer's workspace has more than {} MB, {MAX_FILES} files or {MAX_DEPTH} levels", MAX_BYTES >> 20)]
    TooLarge,
    /// An operating system call failed.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The path it was applied to.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::Io { operation, path, source }
}

/// Copies a folder with all its contents.
///
/// # Errors
///
/// If it is too large, or a part of it cannot be read or written. Files copied before the error remain.
pub fn folder(files: &RunFiles, source: &Path, target: &Path) -> Result<(), CopyError> {
    FolderCopy { files, bytes: 0, entries: 0 }.folder(source, target, 0)
}

/// Copies a single file; the limits apply as for a folder with this one file.
///
/// # Errors
///
/// As [`folder`].
pub fn file(files: &RunFiles, source: &Path, target: &Path) -> Result<(), CopyError> {
    let (_, size) = files.open_file(source).map_err(io_error("read", &files.absolute(source)))?;
    if size > MAX_BYTES {
        return Err(CopyError::TooLarge);
    }
    FolderCopy { files, bytes: 0, entries: 0 }.file(source, target)
}

pub(super) fn create_folder(folder: &Path) -> Result<(), CopyError> {
    std::fs::create_dir_all(folder).map_err(io_error("make the folder", folder))
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CopyError> {
    std::fs::write(path, bytes).map_err(io_error("write", path))
}

/// A copy in progress.
struct FolderCopy<'a> {
    files: &'a RunFiles,
    bytes: u64,
    entries: usize,
}

impl FolderCopy<'_> {
    fn folder(&mut self, source: &Path, target: &Path, depth: usize) -> Result<(), CopyError> {
        create_folder(target)?;
        for FolderEntry { name, kind, size } in self.files.list(source) {
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(size);
            if self.entries > MAX_FILES || self.bytes > MAX_BYTES || depth > MAX_DEPTH {
                return Err(CopyError::TooLarge);
            }
            let (source, target) = (source.join(&name), target.join(&name));
            match kind {
                EntryKind::File => self.file(&source, &target)?,
                EntryKind::Folder => self.folder(&source, &target, depth + 1)?,
                EntryKind::Other => {}
            }
        }
        Ok(())
    }

    fn file(&self, source: &Path, target: &Path) -> Result<(), CopyError> {
        let read = io_error("read", &self.files.absolute(source));
        let (mut file, _) = self.files.open_file(source).map_err(read)?;
        let copied = std::fs::File::create(target).and_then(|mut copy| {
            io::copy(&mut file, &mut copy)?;
            // Of the permissions, only the executable bit is kept.
            let mode = file.metadata()?.permissions().mode() & 0o100 | 0o600;
            copy.set_permissions(std::fs::Permissions::from_mode(mode))
        });
        copied.map_err(io_error("copy to", target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_too_deep_folder_is_refused() {
        let root = tempfile::tempdir().expect("temp");
        create_folder(&root.path().join("w").join("d/".repeat(MAX_DEPTH + 2))).expect("made");
        let files = RunFiles::open(root.path()).expect("open");
        let target = tempfile::tempdir().expect("temp");
        let refused = folder(&files, Path::new("w"), &target.path().join("w"));
        assert!(matches!(refused, Err(CopyError::TooLarge)));
    }
}
