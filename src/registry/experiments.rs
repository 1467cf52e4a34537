//! Experiments on disk: `experiments/<hash of the group's name>/`, with a plan that is written once, the progress, and a lock that
//! the driver holds. The only module that writes these; the results of the runs are in the runs' own folders.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use sha2::{Digest as _, Sha256};

use super::{
    Durability, Owner, OwnerLock, RegistryError, StateFolder, atomic_write, create_private_folder, format, probe_owner,
    remove, write_atomic,
};
use crate::experiment::{ExperimentPlan, ExperimentProgress};
use crate::run::StopRequest;

/// The minimum time for which an ended experiment stays on disk after all its runs are removed.
const MIN_RETENTION: Duration = Duration::from_secs(3600);

/// One experiment's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExperimentFolder {
    path: PathBuf,
}

/// An experiment as it is on disk at this moment.
#[derive(Debug, Clone)]
pub struct Experiment {
    /// Its folder.
    pub folder: ExperimentFolder,
    /// The plan that was requested.
    pub plan: ExperimentPlan,
    /// The progress so far.
    pub progress: ExperimentProgress,
}

impl StateFolder {
    fn experiments(&self) -> PathBuf {
        self.root.join("experiments")
    }

    /// The folder of a group's experiment, whether it exists or not. The name is hashed because it may not be a valid file name.
    pub fn experiment(&self, group: &str) -> ExperimentFolder {
        let hash = Sha256::digest(group.as_bytes());
        let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        ExperimentFolder { path: self.experiments().join(name) }
    }

    /// All experiments that can be read.
    pub fn list_experiments(&self) -> Vec<Experiment> {
        let entries = std::fs::read_dir(self.experiments()).into_iter().flatten().flatten();
        let named = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        named.filter_map(|entry| ExperimentFolder { path: entry.path() }.load().ok()).collect()
    }

    /// Experiments that ended some time ago and have no runs left.
    pub(super) fn expired_experiments(&self) -> Vec<PathBuf> {
        let is_old = |at: Timestamp| {
            Duration::try_from(Timestamp::now().duration_since(at)).is_ok_and(|age| age > MIN_RETENTION)
        };
        let is_forgotten = |known: &Experiment| {
            let is_over = known.progress.closed.as_ref().is_some_and(|(_, at)| is_old(*at));
            is_over && !known.plan.runs.iter().any(|run| self.run_folder(&run.id).path().exists())
        };
        self.list_experiments().into_iter().filter(is_forgotten).map(|known| known.folder.path).collect()
    }

    /// Locks the creation of experiments, so that a caller can search for one and create it without a race.
    pub fn lock_experiments(&self) -> Result<File, RegistryError> {
        create_private_folder(&self.experiments())?;
        let path = self.root.join("experiments.lock");
        let open = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let locked = open.and_then(|file| file.lock().map(|()| file));
        locked.map_err(RegistryError::io("lock", &path))
    }

    /// Puts an experiment on disk: its folder appears whole, with its lock held by the returned handle, or not at all.
    pub fn create_experiment(&self, plan: &ExperimentPlan) -> Result<(ExperimentFolder, OwnerLock), RegistryError> {
        create_private_folder(&self.experiments())?;
        let folder = self.experiment(&plan.group);
        let name = folder.path.file_name().unwrap_or_default().to_string_lossy();
        let draft = ExperimentFolder { path: self.experiments().join(format!("{}{name}", remove::DRAFT_PREFIX)) };
        // A leftover of a crash: the caller holds the lock of the experiments, so no other process can be writing it.
        drop(std::fs::remove_dir_all(&draft.path));
        let named = draft.create_files(plan).and_then(|lock| {
            std::fs::rename(&draft.path, &folder.path).map_err(RegistryError::io("name", &folder.path))?;
            Ok(lock)
        });
        let lock = named.inspect_err(|_| drop(std::fs::remove_dir_all(&draft.path)))?;
        atomic_write::sync_folder(&self.experiments()).map_err(RegistryError::io("sync", &self.experiments()))?;
        Ok((folder, lock))
    }
}

impl ExperimentFolder {
    /// Accepts a path as an experiment's folder, as a driver gets it on its command line.
    pub fn from_path(path: &Path) -> ExperimentFolder {
        ExperimentFolder { path: path.to_owned() }
    }

    /// The path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state folder that contains it.
    pub fn state(&self) -> Option<StateFolder> {
        self.path.parent()?.parent().map(StateFolder::from_path)
    }

    /// `lock`: held by the driver for as long as it lives.
    pub fn lock(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// `conductor.log`: the driver's own log.
    pub fn log(&self) -> PathBuf {
        self.path.join("conductor.log")
    }

    /// Whether its driver is alive, as far as known: a lock that cannot be examined counts as held, so that no experiment is called
    /// interrupted by mistake.
    pub fn has_live_driver(&self) -> bool {
        match probe_owner(&self.lock()) {
            Owner::Held | Owner::Unknown(_) => true,
            Owner::Free | Owner::Missing => false,
        }
    }

    /// The experiment as it is now.
    pub fn load(&self) -> Result<Experiment, RegistryError> {
        let path = self.plan();
        let bytes = std::fs::read(&path).map_err(RegistryError::io("read", &path))?;
        let bad = |path: PathBuf| move |source| RegistryError::Format { path, source };
        let plan = format::plan_from_json(&bytes, |name| std::fs::read_to_string(self.path.join(name)));
        let plan = plan.map_err(bad(path))?;
        Ok(Experiment { folder: self.clone(), plan, progress: self.progress()? })
    }

    fn progress(&self) -> Result<ExperimentProgress, RegistryError> {
        let path = self.path.join("progress.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let bad = |source| RegistryError::Format { path: path.clone(), source };
                format::progress_from_json(&bytes).map_err(bad)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ExperimentProgress::default()),
            Err(source) => Err(RegistryError::io("read", &path)(source)),
        }
    }

    /// Writes the progress. Only the holder of the lock may do so.
    pub fn save(&self, progress: &ExperimentProgress, _held: &OwnerLock) -> Result<(), RegistryError> {
        const NAME: &str = "progress.json";
        let encoded = format::progress_to_json(progress);
        self.write(NAME, &encoded.map_err(RegistryError::io("encode", &self.path.join(NAME)))?)
    }

    /// Requests a stop of all runs of the experiment. The first request stays in force.
    pub fn request_stop(&self, ask: &StopRequest) -> Result<(), RegistryError> {
        let path = self.path.join("stop.json");
        let bytes = format::stop_to_json(ask).map_err(RegistryError::io("encode", &path))?;
        atomic_write::create_atomic(&path, &bytes).map(drop).map_err(RegistryError::io("write", &path))
    }

    /// The stop that was requested, if any. An unreadable request still counts as one.
    pub fn stop_request(&self) -> Option<StopRequest> {
        std::fs::read(self.path.join("stop.json")).ok().map(|bytes| format::stop_from_json(&bytes))
    }

    /// Writes a file for use outside of this program and returns its path.
    pub fn export(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, RegistryError> {
        self.write(name, bytes)?;
        Ok(self.path.join(name))
    }

    fn plan(&self) -> PathBuf {
        self.path.join("plan.json")
    }

    fn create_files(&self, plan: &ExperimentPlan) -> Result<OwnerLock, RegistryError> {
        let path = self.plan();
        let encoded = format::plan_to_json(plan).map_err(RegistryError::io("encode", &path))?;
        create_private_folder(&self.path)?;
        let lock = OwnerLock::create(&self.lock()).map_err(RegistryError::io("lock", &self.lock()))?;
        for (name, text) in format::plan_configs(plan) {
            self.write(&name, text.as_bytes())?;
        }
        let written = write_atomic(&path, &encoded, Durability::Synced);
        written.map_err(RegistryError::io("write", &path))?;
        Ok(lock)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let path = self.path.join(name);
        write_atomic(&path, bytes, Durability::NotSynced).map_err(RegistryError::io("write", &path))
    }
}
