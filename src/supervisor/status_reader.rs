//! Reads MassGen's status.json while the run lives: only if it has changed, with the votes that count now. It stores no digest: for a file that
//! is incomplete or too large it returns none, and the caller uses the last good one.

use crate::massgen::files::FileVersion;
use crate::massgen::layout::Layout;
use crate::massgen::status;
use crate::massgen::vote_poll::VotePoll;
use crate::run::Digest;

use super::run_context::RunContext;

#[derive(Default)]
pub(super) struct StatusReader {
    /// The version of status.json that the last digest is from.
    version: Option<FileVersion>,
    vote_poll: VotePoll,
}

impl StatusReader {
    /// A new digest if status.json has changed and is complete.
    pub(super) fn read(&mut self, run: &RunContext, layout: &Layout) -> Option<Digest> {
        let path = layout.status();
        let version = run.files.version(&path)?;
        if Some(&version) == self.version.as_ref() || version.bytes > status::MAX_BYTES {
            return None;
        }
        let bytes = run.files.head(&path, status::MAX_BYTES).ok()?;
        let digest = status::masked_digest(&bytes, &run.secrets);
        let mut digest = digest
            .inspect_err(|error| tracing::debug!(%error, "status.json could not be read; the last good digest stays"))
            .ok()?;
        self.vote_poll.correct_votes(&mut digest, &run.files, layout, &run.secrets);
        self.version = Some(version);
        Some(digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{RunFolder, StateFolder};
    use crate::secrets::Secrets;

    #[test]
    fn status_json_is_read_again_only_if_it_has_changed_and_is_complete() {
        let root = tempfile::tempdir().expect("temp");
        let folder = root.path().join("runs/mg-00000000");
        let status = folder.join("logs/log_1/turn_1/attempt_1/status.json");
        std::fs::create_dir_all(status.parent().expect("folder")).expect("created");
        let write = |text: &str| {
            let new = status.with_extension("new");
            std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &status)).expect("written");
        };
        write(r#"{"costs": {"total_estimated_cost": 0.5}}"#);
        let folder = RunFolder::from_path(&folder).expect("a run's folder");
        let state = StateFolder::containing(&folder).expect("a state folder");
        let run = RunContext::open(folder, state, Secrets::default()).expect("opened");
        let layout = run.layout(None).expect("a layout");
        let mut reader = StatusReader::default();
        let mut cost = || reader.read(&run, &layout).map(|digest| digest.cost_usd);
        assert_eq!((cost(), cost()), (Some(Some(0.5)), None));
        write(r#"{"costs": {"total_"#);
        assert_eq!(cost(), None, "the file is incomplete");
        write(r#"{"costs": {"total_estimated_cost": 0.75}}"#);
        assert_eq!(cost(), Some(Some(0.75)));
    }
}
