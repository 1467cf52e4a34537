//! Copying what a run left into another run's folder: regular files and folders alone, within bounds, no matter which program wrote them.
//! Links, pipes and devices stay behind; it never changes what it copies from.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::files::{EntryKind, FolderEntry, RunFiles};

/// The most that a workspace may hold to be handed on, in bytes.
const MAX_BYTES: u64 = 256 << 20;
/// The most files and folders of it.
const MAX_FILES: usize = 20_000;
/// How deep its folders may lie in each other.
const MAX_DEPTH: usize = 60;

/// What a run left that cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is too much of it.
    #[error("the answer's workspace has more than {} MB, {MAX_FILES} files or {MAX_DEPTH} levels", MAX_BYTES >> 20)]
    TooLarge,
    /// The operating system refused.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

pub(super) fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CopyError + use<> {
    let path = path.to_owned();
    move |source| CopyError::Io { operation, path, source }
}

/// Copies a folder with all that is in it.
///
/// # Errors
///
/// Where it is too large, or something of it cannot be read or written; what was copied by then stays.
pub fn folder(files: &RunFiles, from: &Path, to: &Path) -> Result<(), CopyError> {
    FolderCopy { files, bytes: 0, entries: 0 }.folder(from, to, 0)
}

/// Copies a file, which counts as a folder with nothing else in it.
///
/// # Errors
///
/// As [`folder`].
pub fn file(files: &RunFiles, from: &Path, to: &Path) -> Result<(), CopyError> {
    let (_, size) = files.open_file(from).map_err(io_error("read", &files.absolute(from)))?;
    if size > MAX_BYTES {
        return Err(CopyError::TooLarge);
    }
    FolderCopy { files, bytes: 0, entries: 0 }.file(from, to)
}

pub(super) fn create_folder(folder: &Path) -> Result<(), CopyError> {
    std::fs::create_dir_all(folder).map_err(io_error("make the folder", folder))
}

pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CopyError> {
    std::fs::write(path, bytes).map_err(io_error("write", path))
}

/// A copy in the making. Links, pipes and devices stay behind.
struct FolderCopy<'a> {
    files: &'a RunFiles,
    bytes: u64,
    entries: usize,
}

impl FolderCopy<'_> {
    fn folder(&mut self, from: &Path, to: &Path, depth: usize) -> Result<(), CopyError> {
        create_folder(to)?;
        for FolderEntry { name, kind, size } in self.files.list(from) {
            self.entries += 1;
            self.bytes = self.bytes.saturating_add(size);
            if self.entries > MAX_FILES || self.bytes > MAX_BYTES || depth > MAX_DEPTH {
                return Err(CopyError::TooLarge);
            }
            let (from, to) = (from.join(&name), to.join(&name));
            match kind {
                EntryKind::File => self.file(&from, &to)?,
                EntryKind::Folder => self.folder(&from, &to, depth + 1)?,
                EntryKind::Other => {}
            }
        }
        Ok(())
    }

    fn file(&self, from: &Path, to: &Path) -> Result<(), CopyError> {
        let read = io_error("read", &self.files.absolute(from));
        let (mut file, _) = self.files.open_file(from).map_err(read)?;
        let copied = std::fs::File::create(to).and_then(|mut copy| {
            io::copy(&mut file, &mut copy)?;
            // Of the rights only whether it is a program matters.
            let mode = file.metadata()?.permissions().mode() & 0o100 | 0o600;
            copy.set_permissions(std::fs::Permissions::from_mode(mode))
        });
        copied.map_err(io_error("copy to", to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_end_is_refused() {
        let root = tempfile::tempdir().expect("temp");
        create_folder(&root.path().join("w").join("d/".repeat(MAX_DEPTH + 2))).expect("made");
        let files = RunFiles::open(root.path()).expect("open");
        let into = tempfile::tempdir().expect("temp");
        let refused = folder(&files, Path::new("w"), &into.path().join("w"));
        assert!(matches!(refused, Err(CopyError::TooLarge)));
    }
}
