//! A conversation in MassGen's restore format: a folder for each turn with the question, the answer and the winner's workspace. It is made
//! from the files of earlier runs, not from MassGen's own session files, and never changes those runs.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::answers::Answer;
use super::copy::{self, CopyError, create_folder, io_error, write_file};
use super::files::RunFiles;

/// How many bytes of an answer are passed on: every agent reads it again.
const MAX_ANSWER_BYTES: u64 = 1 << 20;
/// The note before an answer that is not the final answer of a successful run.
const PARTIAL_NOTICE: &str = "[This turn was cut short. Its best answer until then:]\n\n";

/// The folder in MassGen's working folder that contains sessions.
const SESSIONS_FOLDER: &str = ".massgen/sessions";

/// A finished turn.
#[derive(Debug, Clone, Copy)]
pub struct SessionTurn<'a> {
    /// Its number in the conversation, from 1.
    pub number: u32,
    /// The question.
    pub question: &'a str,
    /// The best answer.
    pub answer: &'a Answer,
    /// Whether the answer is not the final answer of a successful run.
    pub is_partial: bool,
}

/// Writes a conversation into a new folder: the earlier turns from the `session` folder of the given turn's run, and the given turn.
/// Workspaces of earlier turns are omitted: MassGen gives its agents the latest one, which has developed from them.
pub fn write_session(files: &RunFiles, session: &Path, turn: &SessionTurn<'_>, target: &Path) -> Result<(), CopyError> {
    for number in 1..turn.number {
        let name = turn_folder_name(number);
        create_folder(&target.join(&name))?;
        for part in ["metadata.json", "answer.txt"] {
            let path = session.join(&name).join(part);
            let bytes = files.head(&path, MAX_ANSWER_BYTES).map_err(io_error("read", &files.absolute(&path)))?;
            write_file(&target.join(&name).join(part), &bytes)?;
        }
    }
    let turn_folder = target.join(turn_folder_name(turn.number));
    create_folder(&turn_folder)?;
    let metadata = json!({"turn": turn.number, "task": turn.question, "winning_agent": turn.answer.agent});
    write_file(&turn_folder.join("metadata.json"), metadata.to_string().as_bytes())?;
    let path = &turn.answer.path;
    let answer = files.head(path, MAX_ANSWER_BYTES).map_err(io_error("read", &files.absolute(path)))?;
    let before = if turn.is_partial { PARTIAL_NOTICE } else { "" };
    write_file(&turn_folder.join("answer.txt"), &[before.as_bytes(), &answer].concat())?;
    let workspace = path.with_file_name("workspace");
    if files.is_folder(&workspace) {
        copy::folder(files, &workspace, &turn_folder.join("workspace"))?;
    }
    Ok(())
}

fn turn_folder_name(number: u32) -> String {
    format!("turn_{number}")
}

/// A link to the conversation in MassGen's working folder; dropping this value removes the link.
#[derive(Debug)]
#[must_use = "the link is gone when this is dropped"]
pub struct SessionLink(PathBuf);

impl SessionLink {
    /// Links the session folder into a working folder, under the name in the config.
    pub fn create(working_folder: &Path, name: &str, session: &Path) -> io::Result<SessionLink> {
        let folder = working_folder.join(SESSIONS_FOLDER);
        std::fs::create_dir_all(&folder)?;
        let link = folder.join(name);
        std::os::unix::fs::symlink(session, &link)?;
        Ok(SessionLink(link))
    }
}

impl Drop for SessionLink {
    fn drop(&mut self) {
        // If the link is already gone, nothing remains to do; a dangling link does no harm.
        let _removed = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::run::AnswerSource;

    fn left(files: &[(&str, &str)]) -> (tempfile::TempDir, RunFiles) {
        let root = tempfile::tempdir().expect("temp");
        for (path, text) in files {
            let path = root.path().join(path);
            create_folder(path.parent().expect("parent")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let files = RunFiles::open(root.path()).expect("open");
        (root, files)
    }

    fn answer() -> Answer {
        Answer { agent: "b".to_owned(), label: None, path: "l/final/b/answer.txt".into(), source: AnswerSource::Final }
    }

    #[test]
    fn a_turn_is_added_after_earlier_ones_with_only_its_workspace() {
        let (root, files) = left(&[
            ("session/turn_1/metadata.json", "{\"task\": \"one?\"}"),
            ("session/turn_1/answer.txt", "one"),
            ("session/turn_1/workspace/old", "old"),
            ("session/turn_2/answer.txt", "what MassGen kept itself"),
            ("l/final/b/answer.txt", "two"),
            ("l/final/b/workspace/src/run.sh", "#!/bin/sh"),
        ]);
        let script = root.path().join("l/final/b/workspace/src/run.sh");
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("set");
        std::os::unix::fs::symlink("/etc", root.path().join("l/final/b/workspace/etc")).expect("link");
        let target = tempfile::tempdir().expect("temp");
        let answer = answer();
        let turn = SessionTurn { number: 2, question: "two?\n\"", answer: &answer, is_partial: true };
        write_session(&files, Path::new("session"), &turn, target.path()).expect("handed on");

        let read = |path: &str| std::fs::read_to_string(target.path().join(path)).expect("file");
        assert_eq!(
            (read("turn_1/answer.txt"), read("turn_1/metadata.json")),
            ("one".into(), "{\"task\": \"one?\"}".into())
        );
        assert!(!target.path().join("turn_1/workspace").exists());
        assert_eq!(read("turn_2/answer.txt"), format!("{PARTIAL_NOTICE}two"));
        let metadata: serde_json::Value = serde_json::from_str(&read("turn_2/metadata.json")).expect("JSON");
        assert_eq!((&metadata["task"], &metadata["winning_agent"]), (&json!("two?\n\""), &json!("b")));
        let copy = target.path().join("turn_2/workspace");
        assert_eq!(copy.join("src/run.sh").metadata().expect("there").permissions().mode() & 0o777, 0o700);
        assert!(copy.join("etc").symlink_metadata().is_err(), "no link is followed or copied");
    }

    #[test]
    fn a_link_exists_until_it_is_dropped() {
        let (work, session) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
        let link_path = work.path().join(".massgen/sessions/mg-00000000");
        let link = SessionLink::create(work.path(), "mg-00000000", session.path()).expect("made");
        assert!(link_path.is_dir());
        drop(link);
        assert!(link_path.symlink_metadata().is_err() && session.path().is_dir());
    }
}
