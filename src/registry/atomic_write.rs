//! Writes a file whole or not at all: a temporary file in the same folder, then a rename.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What a write must survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of this process: the file has the old or the new text, never a mixture. A power cut may lose the newest text.
    NotSynced,
    /// Also a power cut: file and folder are synced before the function returns.
    Synced,
    /// Also a power cut, once something else in the folder has been synced: only the file itself is synced.
    FileSynced,
}

/// Replaces a file by `bytes`, readable by its owner alone.
///
/// A crash can leave the temporary file. With [`Durability::NotSynced`] a power cut can restore an older text.
pub fn write_atomic(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder)?;
    draft.write_all(bytes)?;
    if durability != Durability::NotSynced {
        draft.as_file().sync_all()?;
    }
    draft.persist(path)?;
    match durability {
        Durability::NotSynced | Durability::FileSynced => Ok(()),
        Durability::Synced => sync_folder(folder),
    }
}

/// Creates a file, synced, whole and readable by its owner alone; `false` if it exists already.
pub(super) fn create_atomic(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut draft = tempfile::Builder::new().prefix(".draft-").tempfile_in(folder)?;
    draft.write_all(bytes)?;
    draft.as_file().sync_all()?;
    match draft.persist_noclobber(path) {
        Ok(_) => sync_folder(folder).map(|()| true),
        Err(refused) if refused.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(refused) => Err(refused.error),
    }
}

/// Syncs a file, so that its content survives a power cut.
pub(super) fn sync_file(file: &Path) -> io::Result<()> {
    File::open(file)?.sync_data()
}

/// Syncs a folder, so that the names in it survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn create_atomic_does_not_replace_a_file() {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("x");
        assert!(create_atomic(&path, b"one").expect("write"));
        assert!(!create_atomic(&path, b"two").expect("write"));
        assert_eq!(std::fs::read(&path).expect("read"), b"one");
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn write_atomic_replaces_the_text_and_leaves_no_temporary_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("x");
        write_atomic(&path, b"one", Durability::NotSynced).expect("write");
        write_atomic(&path, b"two", Durability::Synced).expect("write");
        assert_eq!(std::fs::read(&path).expect("read"), b"two");
        assert_eq!(path.metadata().expect("meta").permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1);
    }
}
