//! Where MassGen keeps its files: a run's log folder, its newest turn and attempt, and their contents. Every path is relative to the run's
//! folder. It lists folders and trusts no printed path; an agent's name is only compared with folder names, never joined to a path.

use std::path::{Path, PathBuf};

use super::files::RunFiles;

/// MassGen writes to the folder in MASSGEN_LOG_BASE_DIR; 0.1.12 supports only its working folder.
const LOG_BASES: [&str; 2] = ["logs", "work/.massgen/massgen_logs"];

/// The newest attempt of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// `…/log_<timestamp>`.
    pub log: PathBuf,
    /// `…/turn_N`.
    pub turn: PathBuf,
    /// `…/turn_N/attempt_M`; the turn itself if it has no attempts (0.1.12).
    pub attempt: PathBuf,
}

impl Layout {
    /// Finds the newest turn and attempt in the run's log folder; `None` until MassGen has created one. `known` is the log folder that the
    /// run itself announced. A MassGen started by an agent inherits the parent of the log folders, and its log folder must not be mistaken
    /// for the run's.
    pub fn find(files: &RunFiles, known: Option<&Path>) -> Option<Layout> {
        let log = find_log_folder(files, known)?;
        let turn = newest_numbered(files, &log, "turn_")?;
        let attempt = newest_numbered(files, &turn, "attempt_").unwrap_or_else(|| turn.clone());
        Some(Layout { log, turn, attempt })
    }

    /// The newest attempts of other MassGen processes that write into the run's folder: subagents, and any MassGen that an agent starts
    /// without this program. They inherit the parent of the log folders.
    pub fn find_others(files: &RunFiles, own_log: &Path) -> Vec<Layout> {
        let others = log_folders(files).filter(|log| log != own_log);
        others.filter_map(|log| Layout::find(files, Some(&log))).collect()
    }

    /// The existing folders in which new files can appear, including those of other MassGen processes; they are watched.
    pub fn watched_folders(files: &RunFiles, known: Option<&Path>) -> Vec<PathBuf> {
        let mut folders: Vec<PathBuf> =
            LOG_BASES.iter().map(PathBuf::from).filter(|base| files.is_folder(base)).collect();
        let mut logs: Vec<PathBuf> = log_folders(files).collect();
        logs.extend(known.filter(|known| !logs.iter().any(|log| log == known)).map(Path::to_owned));
        for log in logs {
            let turn = newest_numbered(files, &log, "turn_");
            let attempt = turn.as_ref().and_then(|turn| newest_numbered(files, turn, "attempt_"));
            folders.extend([Some(log), turn, attempt].into_iter().flatten());
        }
        folders
    }

    /// `status.json` of the newest attempt.
    pub fn status(&self) -> PathBuf {
        self.attempt.join("status.json")
    }

    /// MassGen's own log of the newest attempt; 0.1.12 keeps it next to the attempts. If a conversation continues, MassGen opens its log
    /// before it knows the turn number, and keeps writing there.
    pub fn massgen_log(&self, files: &RunFiles) -> Option<PathBuf> {
        self.find_log_file(files, "massgen.log")
    }

    /// MassGen's events; the file is in the same folder as its own log.
    pub fn events(&self, files: &RunFiles) -> Option<PathBuf> {
        self.find_log_file(files, "events.jsonl")
    }

    fn find_log_file(&self, files: &RunFiles, name: &str) -> Option<PathBuf> {
        let first = Some(self.log.join("turn_1/attempt_1")).filter(|first| *first != self.attempt);
        let folders = [Some(self.attempt.clone()), Some(self.turn.clone()), first];
        folders.into_iter().flatten().map(|folder| folder.join(name)).find(|path| files.has_file(path))
    }

    /// The folders of final answers, the authoritative one first. `turn_N/final` is a copy that MassGen makes at the very end. If a crash
    /// prevented it, the attempts' own folders follow, newest attempt first.
    pub fn final_folders(&self, files: &RunFiles) -> Vec<PathBuf> {
        let mut attempts = numbered_folders(files, &self.turn, "attempt_");
        attempts.reverse();
        let attempts = attempts.into_iter().map(|attempt| attempt.join("final"));
        std::iter::once(self.turn.join("final")).chain(attempts).collect()
    }
}

/// The first folder by name, with a timestamp at its end, is the run's own: the run creates it at its start, and others come later.
fn find_log_folder(files: &RunFiles, known: Option<&Path>) -> Option<PathBuf> {
    known.map(Path::to_owned).or_else(|| log_folders(files).next())
}

fn log_folders(files: &RunFiles) -> impl Iterator<Item = PathBuf> {
    LOG_BASES.into_iter().flat_map(|base| {
        let names = files.folders(Path::new(base)).into_iter().filter(|name| name.starts_with("log_"));
        names.map(move |name| Path::new(base).join(name))
    })
}

/// Whether a folder name has MassGen's format for one answer or vote: `20261123_150001_000000`.
pub fn is_timestamp(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let lengths = parts.iter().map(|part| part.len());
    lengths.eq([8, 6, 6]) && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn newest_numbered(files: &RunFiles, parent: &Path, prefix: &str) -> Option<PathBuf> {
    numbered_folders(files, parent, prefix).pop()
}

/// The folders `<prefix>N`, sorted by number (`turn_10` after `turn_9`).
fn numbered_folders(files: &RunFiles, parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(u32, String)> = files
        .folders(parent)
        .into_iter()
        .filter_map(|name| Some((name.strip_prefix(prefix)?.parse().ok()?, name)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, name)| parent.join(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[&str]) -> (tempfile::TempDir, RunFiles) {
        let root = tempfile::tempdir().expect("temp");
        for path in paths {
            std::fs::create_dir_all(root.path().join(path)).expect("mkdir");
        }
        let files = RunFiles::open(root.path()).expect("open");
        (root, files)
    }

    #[test]
    fn the_newest_turn_and_attempt_of_the_runs_log_are_used() {
        let (_root, files) = tree(&[
            "logs/log_20261123_150000_000001/turn_1/attempt_1",
            "logs/log_20261123_150000_000001/turn_10/attempt_2",
            "logs/log_20261123_150000_000001/turn_9/attempt_3",
            "logs/log_20261123_160000_000001/turn_11/attempt_4",
        ]);
        let layout = Layout::find(&files, None).expect("found");
        assert_eq!(layout.attempt, Path::new("logs/log_20261123_150000_000001/turn_10/attempt_2"));
        assert_eq!(Layout::watched_folders(&files, None).len(), 7, "the base, and three folders of each");
        let known = Path::new("logs/log_20261123_160000_000001");
        assert_eq!(Layout::find(&files, Some(known)).expect("found").log, known);
        assert_eq!(Layout::find_others(&files, known), [layout]);
    }

    #[test]
    fn the_log_of_a_later_turn_is_in_the_first_turns_folder() {
        let (root, files) = tree(&["logs/log_1/turn_1/attempt_1", "logs/log_1/turn_2/attempt_1"]);
        let log = "logs/log_1/turn_1/attempt_1/massgen.log";
        std::fs::write(root.path().join(log), "").expect("write");
        let layout = Layout::find(&files, None).expect("found");
        assert_eq!(layout.massgen_log(&files).expect("found"), Path::new(log));
    }

    #[test]
    fn without_attempts_the_turn_folder_is_used() {
        let (_root, files) = tree(&["work/.massgen/massgen_logs/log_1/turn_1"]);
        let layout = Layout::find(&files, None).expect("found");
        assert_eq!(layout.attempt, layout.turn);
    }

    #[test]
    fn an_empty_folder_has_no_layout() {
        let (_root, files) = tree(&["logs"]);
        assert_eq!(Layout::find(&files, None), None);
        assert_eq!(Layout::watched_folders(&files, None), [Path::new("logs")]);
    }
}
