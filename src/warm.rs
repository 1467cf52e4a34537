//! Keeps MassGen warm: processes that have imported it (`warm/warm.py` is their program) fork runs. This module finds them,
//! requests runs from them, and prepares the start of new ones. They belong to a state folder and have their files in its `warm/`.
//! It sends no signals and writes no record: the supervisor owns a run that was started warm, as it owns any run.

mod connection;
mod process;
mod socket;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::massgen::pages::hex;
use crate::massgen::program;
use crate::registry::StateFolder;

pub use connection::{ForkTicket, KeeperConnection, KeeperEvent, Outputs, check_compatible, execute, request_fork};
pub use process::{
    SpawnSpec, WarmState, has_capacity, live_processes, log_path, recorded_refusal, spawn_spec, stop_all, warm_state,
};

/// How often a waiter checks whether an import is done.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The program of a warm process, which runs in MassGen's own interpreter.
const PYTHON_PROGRAM: &str = include_str!("warm/warm.py");
/// The extension of the socket that a warm process listens on.
const SOCKET_EXTENSION: &str = "sock";
/// How many warm processes one state folder may have at once, each for a different MassGen or environment.
const MAX_PROCESSES: usize = 3;

/// Why a MassGen cannot be kept warm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// MassGen is started by something other than Python, or its program cannot be read.
    #[error("its program is no script of a Python that its first line names")]
    NotPython,
    /// The source may change at any time, so an import may be out of date.
    #[error("it is an editable installation, whose source may change between two runs")]
    Editable,
}

/// Why a run was not started warm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColdReason {
    /// The operator has disabled warm starts.
    #[error("the setting `warm` is off")]
    Disabled,
    /// This MassGen cannot be kept warm.
    #[error("MassGen cannot be kept warm: {0}")]
    Unsupported(#[from] Unsupported),
    /// A cold start would import something else than the warm process did.
    #[error("{0}")]
    Refused(String),
    /// No answer came within five seconds; one usually takes some hundredths of a second.
    #[error("the warm process did not answer within 5 s")]
    TimedOut,
    /// The import took longer than a run waits for it.
    #[error("the import in the warm process took more than 60 s")]
    ImportTimedOut,
    /// A server that an agent of a run started starts no warm process, since it would end with that run.
    #[error("a nested run begins no warm process, and there is none for it")]
    Nested,
    /// The limit of warm processes is reached, or memory is short.
    #[error("less than 2 GB of memory are free, or three warm processes are there for other environments")]
    NoCapacity,
    /// Requests to a warm process are UTF-8, and a value is not.
    #[error("a variable, an argument or a folder of the run is not UTF-8")]
    NotUtf8,
    /// The warm process ended before its import was complete.
    #[error("the warm process ended at its import; its log is `{}`", .0.display())]
    ImportFailed(PathBuf),
    /// No process exists for this MassGen and environment.
    #[error("there is no warm process")]
    NoProcess,
    /// A stop of the run was requested before an answer came.
    #[error("a stop was asked for meanwhile")]
    Stopped,
    /// The operating system refused.
    #[error("cannot ask for a warm start: {0}")]
    Io(String),
}

impl From<io::Error> for ColdReason {
    fn from(error: io::Error) -> ColdReason {
        ColdReason::Io(error.to_string())
    }
}

/// An installed MassGen. Two warm processes are interchangeable if they have the same program, interpreter and packages, and run in
/// the same kernel namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    interpreter: PathBuf,
    program: PathBuf,
    /// The prefix of the names of its processes.
    name_prefix: String,
}

impl Installation {
    /// The installation of a program as it is now.
    ///
    /// # Errors
    ///
    /// This MassGen cannot be kept warm.
    pub fn for_program(program: &Path) -> Result<Installation, Unsupported> {
        let interpreter = program::interpreter(program).ok_or(Unsupported::NotPython)?;
        let metadata = program::metadata(program);
        if metadata.as_deref().is_some_and(program::is_editable) {
            return Err(Unsupported::Editable);
        }
        let installation = program::installation_fingerprint(program).map_err(|_unreadable| Unsupported::NotPython)?;
        let namespaces = ["mnt", "net", "pid", "user"].map(|kind| std::fs::read_link(format!("/proc/self/ns/{kind}")));
        let namespaces: Vec<_> = namespaces.into_iter().flatten().collect();
        let identity = format!("{PYTHON_PROGRAM}\0{installation}\0{namespaces:?}");
        Ok(Installation { interpreter, program: program.to_owned(), name_prefix: short_hash(&identity) })
    }

    /// The first folder in the PATH of processes that it starts.
    fn bin_folder(&self) -> PathBuf {
        program::scripts(&self.program)
    }
}

fn short_hash(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes())).chars().take(12).collect()
}

/// The variables of an environment.
pub type Environment = Vec<(OsString, OsString)>;

/// The folder for the warm processes of a state folder, whether it exists or not.
pub fn warm_folder(state: &StateFolder) -> PathBuf {
    state.root().join("warm")
}

/// The sockets of one installation, or of all.
fn sockets(state: &StateFolder, installation: Option<&Installation>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(warm_folder(state)).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        path.extension().is_some_and(|extension| extension == SOCKET_EXTENSION)
            && installation.is_none_or(|installation| stem.starts_with(&installation.name_prefix))
    };
    entries.filter(is_wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_package_makes_a_new_installation_and_an_editable_one_is_unsupported() {
        let root = tempfile::tempdir().expect("temp");
        let site = root.path().join("lib/python3.11/site-packages");
        let metadata = site.join(format!("massgen-{}.dist-info", crate::massgen::VERSION));
        let (program, interpreter) = (root.path().join("bin/massgen"), root.path().join("bin/python"));
        std::fs::create_dir_all(&metadata).expect("mkdir");
        std::fs::create_dir(root.path().join("bin")).expect("mkdir");
        std::fs::write(&program, format!("#!{}\n", interpreter.display())).expect("written");
        assert_eq!(Installation::for_program(&program), Err(Unsupported::NotPython), "the interpreter does not exist");
        std::fs::write(&interpreter, "").expect("written");
        let installation = Installation::for_program(&program).expect("an installation");
        assert_eq!(Installation::for_program(&program).as_ref(), Ok(&installation));
        std::fs::create_dir(site.join("litellm-1.80.0.dist-info")).expect("mkdir");
        assert_ne!(Installation::for_program(&program), Ok(installation));
        std::fs::write(metadata.join("direct_url.json"), r#"{"dir_info": {"editable": true}}"#).expect("written");
        assert_eq!(Installation::for_program(&program), Err(Unsupported::Editable));
    }
}
