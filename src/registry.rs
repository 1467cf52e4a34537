//! Run folders on disk: creates, loads, lists and removes them. The only module that writes run records.
//! It handles formats, whole-file writes and locks. It starts and signals no process.

mod atomic_write;
mod cache;
mod experiments;
mod format;
mod listing;
mod owner;
mod remove;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use tempfile::TempDir;

use self::cache::{FileStamp, RecordCache};
use self::listing::Listing;
use crate::crash;
use crate::run::{InvalidRunId, RunId, RunRecord, RunSpec, RunState, StopRequest};

pub use atomic_write::{Durability, write_atomic};
pub use experiments::{Experiment, ExperimentFolder};
pub use owner::{Owner, OwnerLock, OwnerProbe, probe_owner};
pub use remove::{CHECK_PREFIX, FAILED_IMPORTS_FOLDER, Leftover, PruneLock, Removal, VALIDATION_CACHE_FOLDER};

/// The log of MassGen's standard output, in a run's folder.
pub const STDOUT_LOG: &str = "stdout.log";
/// The log of MassGen's standard error, in a run's folder.
pub const STDERR_LOG: &str = "stderr.log";

/// The record, in a run's folder.
pub const RECORD_FILE: &str = "run.json";
/// The spec with the caller's request, in a run's folder.
const SPEC_FILE: &str = "spec.json";
/// The manifest, in a run's folder.
pub const MANIFEST_FILE: &str = "manifest.json";
/// The answer that a run builds on, in its folder.
pub const BASIS_FOLDER: &str = "from";
/// The version of the formats on disk that this program writes.
pub const FORMAT_VERSION: u32 = format::VERSION;

/// The name of a log's predecessor: logs have a maximum size, and a new log replaces a full one.
pub fn rotated_log(log: &Path) -> PathBuf {
    log.with_extension("old.log")
}

/// The state folder: private, shared by every server of a user.
#[derive(Debug, Clone)]
pub struct StateFolder {
    root: PathBuf,
    listing: Arc<Listing>,
    cache: Arc<RecordCache>,
}

/// The record of a run that has not started.
pub fn initial_record(spec: RunSpec) -> RunRecord {
    format::initial_record(spec)
}

/// One run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

/// The initial content of a run's folder, in addition to its spec.
#[derive(Debug, Clone, Copy, Default)]
pub struct InitialFiles<'a> {
    /// The effective config, with the question: its name in the folder, and its text. `None` for a rehearsal.
    pub config: Option<(&'a str, &'a str)>,
    /// A folder with the turns before this run; it moves into the run's folder.
    pub session: Option<&'a Path>,
    /// A folder with the answer that the run builds on; it moves into the run's folder.
    pub basis: Option<&'a Path>,
}

/// An error with a run record.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The operating system refused.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// No version of this program writes such a record.
    #[error("`{}` is not a run record", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it differs from the format.
        source: serde_json::Error,
    },
    /// A newer version wrote it, so this version may not write it back.
    #[error("`{}` is in format {version}, which this version does not write", path.display())]
    NewerVersion {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// No such run exists.
    #[error("there is no run `{0}`")]
    Unknown(RunId),
}

impl RegistryError {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RegistryError {
        let path = path.to_owned();
        move |source| RegistryError::Io { operation, path, source }
    }
}

impl StateFolder {
    /// Opens the state folder. If it is missing, creates it, accessible only to its owner.
    pub fn open(root: &Path) -> Result<StateFolder, RegistryError> {
        let folder = StateFolder::from_path(root);
        folder.create_root()?;
        Ok(folder)
    }

    /// Creates the folder if it is missing: at the first use, or after it was removed.
    pub fn create_root(&self) -> Result<(), RegistryError> {
        create_private_folder(&self.root)?;
        create_private_folder(&self.runs())
    }

    /// The state folder that contains a run's folder.
    pub fn containing(folder: &RunFolder) -> Option<StateFolder> {
        folder.path.parent()?.parent().map(StateFolder::from_path)
    }

    /// The state folder at a path, whether it exists or not.
    pub fn from_path(root: &Path) -> StateFolder {
        StateFolder { root: root.to_owned(), listing: Arc::default(), cache: Arc::default() }
    }

    /// The path of the state folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder that contains the runs' folders.
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }

    /// The path of a run's folder, whether it exists or not.
    pub fn run_folder(&self, id: &RunId) -> RunFolder {
        RunFolder { path: self.runs().join(id.as_str()) }
    }

    /// A new, unused name for a run.
    pub fn new_id(&self) -> Result<RunId, RegistryError> {
        loop {
            let mut bytes = [0; 5];
            getrandom::fill(&mut bytes)
                .map_err(io::Error::from)
                .map_err(RegistryError::io("draw a name in", &self.root))?;
            let id = RunId::from_bytes(bytes);
            if !self.run_folder(&id).path.exists() {
                return Ok(id);
            }
        }
    }

    /// Puts a run on disk: its folder appears whole, with its spec synced and its lock held by the returned handle, or not
    /// at all. A crash before the rename leaves a folder whose name begins with a dot, which no listing shows.
    ///
    pub fn create(&self, spec: &RunSpec, from: InitialFiles<'_>) -> Result<(RunFolder, OwnerLock), RegistryError> {
        let draft = RunFolder { path: self.runs().join(format!("{}{}", remove::DRAFT_PREFIX, spec.id)) };
        let folder = self.run_folder(&spec.id);
        let named = draft.create_files(spec, from).and_then(|lock| {
            std::fs::rename(&draft.path, &folder.path).map_err(RegistryError::io("name", &folder.path))?;
            Ok(lock)
        });
        // On a full disk, the files of a refused start would use up the remaining space.
        let lock = named.inspect_err(|_| drop(std::fs::remove_dir_all(&draft.path)))?;
        atomic_write::sync_folder(&self.runs()).map_err(RegistryError::io("sync", &self.runs()))?;
        crash::point("folder-named");
        Ok((folder, lock))
    }

    /// Creates a folder for a new run's initial content; dropping it removes it. A crash leaves it as a [`Leftover`].
    pub fn create_staging_folder(&self) -> Result<TempDir, RegistryError> {
        let runs = self.runs();
        let prefix = format!("{}session-", remove::DRAFT_PREFIX);
        tempfile::Builder::new().prefix(&prefix).tempdir_in(&runs).map_err(RegistryError::io("make a folder in", &runs))
    }

    /// Loads the record of a run by name.
    pub fn load(&self, id: &RunId) -> Result<RunRecord, RegistryError> {
        let folder = self.run_folder(id);
        // Stat before reading, so that a concurrent rename invalidates the cache entry.
        let stamp = FileStamp::of_path(&folder.run());
        if let Some(known) = self.cache.record(id, stamp) {
            return Ok(known);
        }
        let record = folder.load_run(self.spec(&folder, id)?)?;
        self.cache.insert_record(&record, stamp);
        Ok(record)
    }

    /// The run's spec, which is written only once.
    fn spec(&self, folder: &RunFolder, id: &RunId) -> Result<RunSpec, RegistryError> {
        let stamp = FileStamp::of_path(&folder.spec()).ok_or_else(|| RegistryError::Unknown(id.clone()))?;
        if let Some(known) = self.cache.spec(id, stamp) {
            return Ok(known);
        }
        let spec = folder.load_spec()?;
        self.cache.insert_spec(&spec, stamp);
        Ok(spec)
    }

    /// The names of all runs, the newest first (by the time when their spec was written; a spec is never rewritten).
    pub fn list(&self) -> Result<Vec<RunId>, RegistryError> {
        self.latest(usize::MAX)
    }

    /// The names of the latest runs, at most `most`, the newest first.
    pub fn latest(&self, most: usize) -> Result<Vec<RunId>, RegistryError> {
        self.listing.latest(&self.runs(), most).map_err(RegistryError::io("list", &self.runs()))
    }
}

impl RunFolder {
    /// Accepts a path as a run's folder, as a supervisor gets it on its command line.
    pub fn from_path(path: &Path) -> Result<RunFolder, InvalidRunId> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.parse::<RunId>().map(|_| RunFolder { path: path.to_owned() })
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `lock`: held by the supervisor for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// `config.yaml`: the effective config.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.yaml")
    }

    /// `inbox`: MassGen reads messages from here while it runs.
    pub fn inbox(&self) -> PathBuf {
        self.path.join("inbox")
    }

    /// `session`: the turns before this run, if it continues another run's conversation.
    pub fn session(&self) -> PathBuf {
        self.path.join("session")
    }

    /// `from`: the answer of an earlier run that this one builds on, with its workspace.
    pub fn basis(&self) -> PathBuf {
        self.path.join(BASIS_FOLDER)
    }

    /// `bin`: a link to the folder of the MassGen program, first in the run's PATH; it marks the run's processes.
    pub fn bin(&self) -> PathBuf {
        self.path.join("bin")
    }

    /// `work`: MassGen's working folder, unless the project serves as one.
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// `logs`: MassGen creates its log folder here.
    pub fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// `stdout.log`: the end of MassGen's standard output.
    pub fn stdout_log(&self) -> PathBuf {
        self.path.join(STDOUT_LOG)
    }

    /// `stderr.log`: the end of MassGen's standard error.
    pub fn stderr_log(&self) -> PathBuf {
        self.path.join(STDERR_LOG)
    }

    /// `supervisor.log`: the supervisor's own log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.path.join("supervisor.log")
    }

    /// `children`: one file for each run that this run started, named after it.
    pub fn children(&self) -> PathBuf {
        self.path.join("children")
    }

    /// Records that this run started another run. The new file wakes the watchers of the folder.
    pub fn record_child(&self, child: &RunId) -> Result<(), RegistryError> {
        create_private_folder(&self.children())?;
        let path = self.children().join(child.as_str());
        std::fs::write(&path, b"").map_err(RegistryError::io("write", &path))
    }

    /// The runs that this run started.
    pub fn child_runs(&self) -> Vec<RunId> {
        let entries = std::fs::read_dir(self.children()).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// `built_on`: one file for each run that builds on an answer of this one, named after it.
    fn dependents_folder(&self) -> PathBuf {
        self.path.join("built_on")
    }

    /// Records that another run builds on an answer of this one. If this run was removed, its folder is not created again.
    pub fn record_dependent(&self, by: &RunId) -> Result<(), RegistryError> {
        use std::os::unix::fs::DirBuilderExt;
        let folder = self.dependents_folder();
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RegistryError::io("make the folder", &folder)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let path = folder.join(by.as_str());
        std::fs::write(&path, b"").map_err(RegistryError::io("write", &path))
    }

    /// The names of the runs that build on an answer of this one.
    pub fn dependents(&self) -> Vec<RunId> {
        let entries = std::fs::read_dir(self.dependents_folder()).into_iter().flatten().flatten();
        let mut runs: Vec<RunId> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        runs.sort();
        runs
    }

    /// Puts a message into the inbox and returns its file, which appears complete or not at all. Any process may do so at any
    /// time: names contain the time, so MassGen reads them in order, and no name is used twice.
    pub fn put_message(&self, kind: &str, text: &str) -> Result<PathBuf, RegistryError> {
        create_private_folder(&self.inbox())?;
        let now = jiff::Timestamp::now().as_millisecond();
        let mut number = 0;
        loop {
            let path = self.inbox().join(format!("msg_{now:013}_{number:04}_{kind}.json"));
            if atomic_write::create_atomic(&path, text.as_bytes()).map_err(RegistryError::io("write", &path))? {
                return Ok(path);
            }
            number += 1;
        }
    }

    /// The number of unread messages of a kind in the inbox.
    pub fn pending_messages(&self, kind: &str) -> usize {
        let entries = std::fs::read_dir(self.inbox()).into_iter().flatten().flatten();
        let ending = format!("_{kind}.json");
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|name| name.ends_with(&ending))).count()
    }

    /// The name of this run.
    pub fn id(&self) -> Option<RunId> {
        self.path.file_name()?.to_str()?.parse().ok()
    }

    /// Creates a new run's folder with its initial content.
    fn create_files(&self, spec: &RunSpec, from: InitialFiles<'_>) -> Result<OwnerLock, RegistryError> {
        // Encode before anything is written: a path in the spec may not be UTF-8.
        let encoded = format::spec_to_json(spec).map_err(RegistryError::io("encode", &self.spec()))?;
        create_private_folder(&self.path)?;
        crash::point("folder-made");
        for part in [self.logs(), self.work()] {
            create_private_folder(&part)?;
        }
        let lock = OwnerLock::create(&self.lock()).map_err(RegistryError::io("lock", &self.lock()))?;
        crash::point("lock-taken");
        for (source_folder, target) in [(from.session, self.session()), (from.basis, self.basis())] {
            if let Some(source_folder) = source_folder {
                std::fs::rename(source_folder, target).map_err(RegistryError::io("move", source_folder))?;
            }
        }
        if let Some((name, text)) = from.config {
            self.write(&self.path.join(name), text.as_bytes(), Durability::NotSynced)?;
        }
        // The lock's owner syncs the folder with the first record, before anything starts.
        self.write(&self.spec(), &encoded, Durability::FileSynced)?;
        crash::point("spec-written");
        Ok(lock)
    }

    fn spec(&self) -> PathBuf {
        self.path.join(SPEC_FILE)
    }

    fn run(&self) -> PathBuf {
        self.path.join(RECORD_FILE)
    }

    fn stop(&self) -> PathBuf {
        self.path.join("stop.json")
    }

    /// The run as it is on disk now. Without a `run.json`, the run has not started.
    pub fn load(&self) -> Result<RunRecord, RegistryError> {
        self.load_run(self.load_spec()?)
    }

    fn load_spec(&self) -> Result<RunSpec, RegistryError> {
        format::spec_from_json(&self.read(&self.spec())?).map_err(|source| self.format_error(self.spec(), source))
    }

    fn load_run(&self, spec: RunSpec) -> Result<RunRecord, RegistryError> {
        match self.read(&self.run()) {
            Ok(bytes) => format::run_from_json(spec, &bytes).map_err(|source| self.format_error(self.run(), source)),
            Err(RegistryError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(format::initial_record(spec))
            }
            Err(other) => Err(other),
        }
    }

    /// Writes `run.json` whole. Only the holder of the run's lock may do so; the handle is the proof. A record in a newer format is
    /// never written back: fields that this version does not know would be lost.
    pub fn save(&self, record: &RunRecord, _held: &OwnerLock, durability: Durability) -> Result<(), RegistryError> {
        if record.version > format::VERSION || matches!(record.state, RunState::Unknown(_)) {
            return Err(RegistryError::NewerVersion { path: self.run(), version: record.version });
        }
        let encoded = format::run_to_json(record).map_err(RegistryError::io("encode", &self.run()))?;
        self.write(&self.run(), &encoded, durability)
    }

    /// Requests a stop. The first request stays in force, unless a later one gives less time.
    pub fn request_stop(&self, ask: &StopRequest) -> Result<(), RegistryError> {
        let path = self.stop();
        let bytes = format::stop_to_json(ask).map_err(RegistryError::io("encode", &path))?;
        if atomic_write::create_atomic(&path, &bytes).map_err(RegistryError::io("write", &path))? {
            return Ok(());
        }
        match self.stop_request() {
            Some(earlier) if earlier.grace <= ask.grace => Ok(()),
            Some(_) | None => self.write(&path, &bytes, Durability::Synced),
        }
    }

    /// When the record was last written, by the file system's clock; `None` if the run has not started.
    pub fn last_written(&self) -> Option<Timestamp> {
        let modified = std::fs::metadata(self.run()).and_then(|meta| meta.modified()).ok()?;
        Timestamp::try_from(modified).ok()
    }

    /// `manifest.json`: the description of the run and its results, written at its end.
    pub fn manifest(&self) -> PathBuf {
        self.path.join(MANIFEST_FILE)
    }

    /// Writes the manifest whole, before the ending is recorded. Only the holder of the run's lock may do so; the handle is the proof.
    pub fn save_manifest(&self, text: &[u8], _held: &OwnerLock) -> Result<(), RegistryError> {
        self.write(&self.manifest(), text, Durability::NotSynced)
    }

    /// Syncs the ending and its manifest, which are already written, so that they survive a power cut.
    pub fn sync_ending(&self, _held: &OwnerLock) -> Result<(), RegistryError> {
        for file in [self.manifest(), self.run()] {
            match atomic_write::sync_file(&file) {
                // There may be no manifest, for example after a full disk.
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RegistryError::io("sync", &file)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        atomic_write::sync_folder(&self.path).map_err(RegistryError::io("sync", &self.path))
    }

    /// The stop that was requested, if any. An unreadable request still counts as one.
    pub fn stop_request(&self) -> Option<StopRequest> {
        self.read(&self.stop()).ok().map(|bytes| format::stop_from_json(&bytes))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, RegistryError> {
        std::fs::read(path).map_err(RegistryError::io("read", path))
    }

    fn write(&self, path: &Path, bytes: &[u8], durability: Durability) -> Result<(), RegistryError> {
        write_atomic(path, bytes, durability).map_err(RegistryError::io("write", path))
    }

    fn format_error(&self, path: PathBuf, source: serde_json::Error) -> RegistryError {
        RegistryError::Format { path, source }
    }
}

fn create_private_folder(path: &Path) -> Result<(), RegistryError> {
    use std::os::unix::fs::DirBuilderExt;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    created.map_err(RegistryError::io("make the folder", path))
}
