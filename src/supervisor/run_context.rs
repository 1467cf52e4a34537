//! The data that all parts of a supervisor read: the run's folder and its files, the state folder and the secrets to mask.
//! It does not change while the run lives.

use std::path::Path;

use super::{SupervisorError, io_error};
use crate::massgen::files::RunFiles;
use crate::massgen::layout::Layout;
use crate::registry::{RunFolder, StateFolder};
use crate::secrets::Secrets;

/// One run's folders and files.
pub(super) struct RunContext {
    pub(super) folder: RunFolder,
    /// The files in that folder, for reading.
    pub(super) files: RunFiles,
    pub(super) state: StateFolder,
    /// The secrets to mask in everything from MassGen.
    pub(super) secrets: Secrets,
}

impl RunContext {
    pub(super) fn open(folder: RunFolder, state: StateFolder, secrets: Secrets) -> Result<RunContext, SupervisorError> {
        let files = RunFiles::open(folder.path()).map_err(io_error("open the run's folder"))?;
        Ok(RunContext { folder, files, state, secrets })
    }

    /// Where MassGen writes; `log_dir` is its log folder, if it is known already.
    pub(super) fn layout(&self, log_dir: Option<&Path>) -> Option<Layout> {
        Layout::find(&self.files, log_dir)
    }
}
