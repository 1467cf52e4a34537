//! Finds the project files that changed during a run that may write in the project. It compares sizes and times before and after, so it also
//! counts changes by other programs. It reads no file, follows no link, skips `.git`, and gives up above [`MAX_FILES`] files.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::massgen::text;
use crate::run::ChangedFiles;

/// The most files that are compared; this takes a fraction of a second.
const MAX_FILES: usize = 20_000;
/// The most changed files that are named.
const MAX_NAMED_FILES: usize = 20;
/// The longest name of a changed file, in characters.
const MAX_NAME_CHARS: usize = 200;

/// Size, time of the last change in nanoseconds, and inode: a new file may have replaced the old one.
type FileMeta = (u64, i128, u64);

/// The files of a folder at one moment.
#[derive(Debug)]
pub(super) struct ProjectSnapshot(BTreeMap<PathBuf, FileMeta>);

impl ProjectSnapshot {
    /// Takes a snapshot of a project without the state folder, which may lie in it; `None` if there are too many files.
    pub(super) fn take(project: &Path, state: &Path) -> Option<ProjectSnapshot> {
        let mut files = ProjectSnapshot(BTreeMap::new());
        files.add_folder(project, Path::new(""), state).then_some(files)
    }

    /// `false` if there are more than [`MAX_FILES`] files.
    fn add_folder(&mut self, folder: &Path, below: &Path, state: &Path) -> bool {
        std::fs::read_dir(folder).into_iter().flatten().flatten().all(|entry| {
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            // A file that disappears during the scan is in neither snapshot.
            let Ok(meta) = entry.metadata() else { return true };
            if meta.is_dir() {
                return entry.file_name() == ".git" || path == state || self.add_folder(&path, &name, state);
            }
            let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
            self.0.insert(name, (meta.len(), time, meta.ino()));
            self.0.len() <= MAX_FILES
        })
    }

    /// The difference between this snapshot and a later one: changed, new and deleted files.
    pub(super) fn diff(&self, later: &ProjectSnapshot) -> ChangedFiles {
        let new_or_other = later.0.iter().filter(|(name, stamp)| self.0.get(*name) != Some(stamp));
        let deleted = self.0.keys().filter(|name| !later.0.contains_key(*name));
        let shown = |name: &Path| text::single_line(&name.to_string_lossy(), MAX_NAME_CHARS);
        let names: Vec<String> = new_or_other
            .map(|(name, _)| shown(name))
            .chain(deleted.map(|name| format!("{} (deleted)", shown(name))))
            .collect();
        ChangedFiles { count: names.len() as u64, files: names.into_iter().take(MAX_NAMED_FILES).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changed_new_and_deleted_files_are_listed_except_those_of_git() {
        let root = tempfile::tempdir().expect("temp");
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("created");
            std::fs::write(path, text).expect("written");
        };
        for name in ["same", "a/other", "gone", ".git/index", "state/run.json"] {
            put(name, "one");
        }
        let state = root.path().join("state");
        let before = ProjectSnapshot::take(root.path(), &state).expect("few");
        assert_eq!(before.diff(&ProjectSnapshot::take(root.path(), &state).expect("few")), ChangedFiles::default());
        for (name, text) in [("a/other", "two!"), ("a/new", ""), (".git/index", "two!"), ("state/run.json", "")] {
            put(name, text);
        }
        std::fs::remove_file(root.path().join("gone")).expect("removed");
        let changed = before.diff(&ProjectSnapshot::take(root.path(), &state).expect("few"));
        assert_eq!(changed.files, ["a/new", "a/other", "gone (deleted)"]);
        assert_eq!(changed.count, 3);
    }
}
