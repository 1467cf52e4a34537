//! Reads files inside one run's folder and never outside it: links, `..` and absolute paths that lead out cannot be opened, and only
//! regular files are read, so neither a pipe nor a device can block a reader. This file never writes and does not interpret what it reads.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};

/// One run's folder, as a root for reading.
#[derive(Debug)]
pub struct RunFiles {
    root: PathBuf,
    dir: Dir,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderEntry {
    /// The name, with invalid UTF-8 replaced.
    pub name: String,
    /// Its kind; links are not followed.
    pub kind: EntryKind,
    /// The size in bytes, for a file.
    pub size: u64,
}

/// The kind of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A link, a pipe, a device: never read.
    Other,
}

/// Identifies a version of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileVersion {
    inode: u64,
    /// Its size.
    pub bytes: u64,
    modified: std::time::SystemTime,
}

impl RunFiles {
    /// Opens a run's folder.
    pub fn open(root: &Path) -> io::Result<RunFiles> {
        let dir = Dir::open_ambient_dir(root, cap_std::ambient_authority())?;
        Ok(RunFiles { root: root.to_owned(), dir })
    }

    /// The absolute path of an entry, which people and agents can open themselves.
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }

    /// Opens a regular file and returns its size in bytes.
    pub fn open_file(&self, path: &Path) -> io::Result<(std::fs::File, u64)> {
        let mut options = OpenOptions::new();
        // Opening a pipe would otherwise block until a process writes to it.
        options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        let file = self.dir.open_with(path, &options)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok((file.into_std(), meta.len()))
    }

    /// The current version of a regular file; `None` if no such file exists.
    pub fn version(&self, path: &Path) -> Option<FileVersion> {
        use std::os::unix::fs::MetadataExt;
        let meta = self.open_file(path).ok()?.0.metadata().ok()?;
        Some(FileVersion { inode: meta.ino(), bytes: meta.len(), modified: meta.modified().ok()? })
    }

    /// The first `most` bytes of a file.
    pub fn head(&self, path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
        let (file, size) = self.open_file(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size.min(max_bytes)).unwrap_or_default());
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// The last `most` bytes of a file, with invalid UTF-8 replaced.
    pub fn tail(&self, path: &Path, max_bytes: u64) -> io::Result<String> {
        use std::io::{Seek, SeekFrom};
        let (mut file, size) = self.open_file(path)?;
        file.seek(SeekFrom::Start(size.saturating_sub(max_bytes)))?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A whole file, or the first and the last `most` bytes of a large one, with invalid UTF-8 replaced.
    pub fn head_and_tail(&self, path: &Path, max_bytes: u64) -> io::Result<String> {
        let (_, size) = self.open_file(path)?;
        if size <= 2 * max_bytes {
            return self.tail(path, 2 * max_bytes);
        }
        let head = String::from_utf8_lossy(&self.head(path, max_bytes)?).into_owned();
        Ok(format!("{head}\n{}", self.tail(path, max_bytes)?))
    }

    /// The entries of a folder, sorted by name; empty if the folder does not exist.
    pub fn list(&self, path: &Path) -> Vec<FolderEntry> {
        let Ok(dir_entries) = self.dir.read_dir(path) else { return Vec::new() };
        let mut entries: Vec<FolderEntry> =
            dir_entries.flatten().filter_map(|entry| FolderEntry::from_dir_entry(&entry)).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The names of the subfolders of a folder, sorted.
    pub fn folders(&self, path: &Path) -> Vec<String> {
        let Ok(entries) = self.dir.read_dir(path) else { return Vec::new() };
        // The listing includes each entry's kind, so no stat call is needed.
        let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut names: Vec<String> = folders.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Whether a folder exists.
    pub fn is_folder(&self, path: &Path) -> bool {
        self.dir.symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
    }

    /// Whether a regular file exists.
    pub fn has_file(&self, path: &Path) -> bool {
        self.dir.symlink_metadata(path).is_ok_and(|meta| meta.is_file())
    }
}

impl FolderEntry {
    fn from_dir_entry(entry: &cap_std::fs::DirEntry) -> Option<FolderEntry> {
        let meta = entry.metadata().ok()?;
        let kind = match (meta.is_file(), meta.is_dir()) {
            (true, _) => EntryKind::File,
            (_, true) => EntryKind::Folder,
            (false, false) => EntryKind::Other,
        };
        Some(FolderEntry { name: entry.file_name().to_string_lossy().into_owned(), kind, size: meta.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_outside_the_root_cannot_be_opened() {
        let outside = tempfile::tempdir().expect("temp");
        std::fs::write(outside.path().join("secret"), "s").expect("write");
        let root = tempfile::tempdir().expect("temp");
        let files = RunFiles::open(root.path()).expect("open");
        std::os::unix::fs::symlink(outside.path(), root.path().join("door")).expect("link");
        std::fs::write(root.path().join("own"), "mine").expect("write");
        std::os::unix::fs::symlink("own", root.path().join("inner")).expect("link");

        let parent_path = Path::new("..").join(outside.path().file_name().expect("name")).join("secret");
        for path in [Path::new("door/secret"), parent_path.as_path(), &outside.path().join("secret")] {
            assert!(files.open_file(path).is_err(), "{path:?}");
        }
        assert!(files.list(Path::new("door")).is_empty());
        assert_eq!(files.head(Path::new("inner"), 9).expect("a link that stays inside"), b"mine");
        for (max_bytes, expected) in [(1, "m\ne"), (2, "mine"), (9, "mine")] {
            assert_eq!(files.head_and_tail(Path::new("own"), max_bytes).expect("read"), expected);
        }
    }

    #[test]
    fn a_pipe_is_not_a_file_and_does_not_block() {
        let root = tempfile::tempdir().expect("temp");
        let status = std::process::Command::new("mkfifo").arg(root.path().join("pipe")).status().expect("mkfifo");
        assert!(status.success());
        let files = RunFiles::open(root.path()).expect("open");
        assert!(files.open_file(Path::new("pipe")).is_err());
        assert!(files.open_file(Path::new(".")).is_err());
    }
}
