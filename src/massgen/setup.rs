//! Installs a pinned MassGen in its own virtual environment: python3 -m venv, uv from PyPI, massgen, compiled bytecode. The package
//! versions are those this program was tested with (`requirements.txt`, made by `scripts/lock`). It writes nothing outside that folder,
//! announces each step, and never changes an existing MassGen.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{VERSION, broken_import};

/// The uv version that installs it.
const UV_REQUIREMENT: &str = "uv==0.13.9";
/// The packages to install, with their versions.
const LOCKED_PACKAGES: &str = include_str!("requirements.txt");
/// The oldest supported Python.
const MIN_PYTHON: (u32, u32) = (3, 11);

/// Which versions of MassGen's packages to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PackageVersions {
    /// The versions that this program was tested with.
    Locked,
    /// The newest versions that MassGen allows.
    Latest,
}

/// Why a set-up failed.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is no Python, or only older versions.
    #[error("MassGen needs Python {}.{} or newer; {found}", MIN_PYTHON.0, MIN_PYTHON.1)]
    NoPython {
        /// What was found instead.
        found: String,
    },
    /// A step failed.
    #[error("`{step}` failed; its output is in `{}` and ends with: {last}", log.display())]
    Step {
        /// The command.
        step: String,
        /// The path of its output.
        log: PathBuf,
        /// The last line of its output.
        last: String,
    },
    /// An operating system call failed.
    #[error("cannot {operation} `{}`", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// The path it was applied to.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl SetupError {
    /// What a person can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            SetupError::NoPython { .. } => {
                "install it, on Debian and Ubuntu with `apt-get install python3 python3-venv`"
            }
            SetupError::Step { last, .. } if last.contains("ensurepip") || last.contains("venv") => {
                "on Debian and Ubuntu, install the missing part with `apt-get install python3-venv`"
            }
            SetupError::Step { .. } => "correct what the output names (network, disk), then run the same command again",
            SetupError::Io { .. } => "check that the state folder is writable and has 3 GB free",
        }
    }
}

/// The path of the set-up environment in a state folder.
pub fn venv_folder(state: &Path) -> PathBuf {
    state.join(format!("massgen-{VERSION}"))
}

/// Sets up MassGen unless it is already set up, and returns the program. Calls `say` before each step. Concurrent set-ups wait for each
/// other. An interrupted set-up starts over; a finished one is kept unless it cannot start.
///
/// `seen` is the folder of failed imports.
pub async fn setup(
    state: &Path,
    failed_imports: &Path,
    versions: PackageVersions,
    mut report: impl FnMut(&str),
) -> Result<PathBuf, SetupError> {
    let venv = venv_folder(state);
    let (program, finished) = (venv.join("bin/massgen"), venv.join(".finished"));
    std::fs::create_dir_all(state).map_err(io_error("make the folder", state))?;
    let _lock = lock_setup(state, &mut report).await?;
    if finished.exists() && broken_import::known_problem(&program, failed_imports).is_none() {
        if versions == PackageVersions::Latest {
            report(&format!("it is set up already; to install the newest packages, remove `{}` first", venv.display()));
        }
        return Ok(program);
    }
    let python = find_python().await?;
    let log = state.join("setup.log");
    File::create(&log).map_err(io_error("write", &log))?;
    if venv.exists() {
        std::fs::remove_dir_all(&venv).map_err(io_error("remove the unfinished", &venv))?;
    }
    let venv_python = venv.join("bin/python");
    let package = format!("massgen=={VERSION}");
    let locked = state.join("setup.txt");
    std::fs::write(&locked, LOCKED_PACKAGES).map_err(io_error("write", &locked))?;
    let packages = match versions {
        PackageVersions::Locked => ["-r", path_arg(&locked)],
        PackageVersions::Latest => ["--upgrade", &package],
    };
    let steps: [(String, PathBuf, Vec<&str>); 4] = [
        ("making a virtual environment".to_owned(), python, vec!["-m", "venv", path_arg(&venv)]),
        (
            "fetching uv from PyPI".to_owned(),
            venv_python.clone(),
            vec!["-m", "pip", "install", "--quiet", UV_REQUIREMENT],
        ),
        (
            format!("fetching {package} and what it needs (some 2 GB on disk)"),
            venv_python.clone(),
            [&["-m", "uv", "pip", "install", "--quiet"][..], &packages].concat(),
        ),
        (
            "compiling its bytecode (saves seconds at every start)".to_owned(),
            venv_python,
            vec!["-m", "compileall", "-q", "-j", "0", path_arg(&venv)],
        ),
    ];
    for (number, (description, program, args)) in steps.iter().enumerate() {
        report(&format!("step {} of {}: {description}", number + 1, steps.len()));
        run_step(program, args, &venv, &log, number + 1 == steps.len()).await?;
    }
    File::create(&finished).map_err(io_error("write", &finished))?;
    Ok(program)
}

fn path_arg(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

async fn lock_setup(state: &Path, report: &mut impl FnMut(&str)) -> Result<File, SetupError> {
    let path = state.join("setup.lock");
    let file = File::options().write(true).create(true).truncate(false).open(&path).map_err(io_error("open", &path))?;
    if file.try_lock().is_err() {
        report("waiting for another set-up to end");
    }
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.map_err(io::Error::from);
    locked.and_then(|locked| locked).map_err(io_error("lock", &path))
}

/// The first Python that is new enough: tries `python3`, then the versioned names.
async fn find_python() -> Result<PathBuf, SetupError> {
    let mut tried = Vec::new();
    for name in ["python3", "python3.13", "python3.12", "python3.11"] {
        let Ok(path) = which::which(name) else { continue };
        match python_version(&path).await {
            Some(version) if version >= MIN_PYTHON => return Ok(path),
            Some((major, minor)) => tried.push(format!("{name} is {major}.{minor}")),
            None => tried.push(format!("{name} does not run")),
        }
    }
    let tried = if tried.is_empty() { "no python3 is in PATH".to_owned() } else { tried.join(", ") };
    Err(SetupError::NoPython { found: tried })
}

async fn python_version(python: &Path) -> Option<(u32, u32)> {
    let script = "import sys; print(*sys.version_info[:2])";
    let output = Command::new(python).args(["-c", script]).stdin(Stdio::null()).kill_on_drop(true).output();
    let answer = tokio::time::timeout(Duration::from_secs(30), output).await.ok()?.ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let (major, minor) = text.trim().split_once(' ')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

async fn run_step(
    program: &Path,
    args: &[&str],
    venv: &Path,
    log: &Path,
    ignores_failure: bool,
) -> Result<(), SetupError> {
    let out = File::options().append(true).open(log).map_err(io_error("open", log))?;
    let err = out.try_clone().map_err(io_error("open", log))?;
    let mut command = Command::new(program);
    command.args(args).env("VIRTUAL_ENV", venv).env_remove("PYTHONDONTWRITEBYTECODE").env_remove("PYTHONHOME");
    command.stdin(Stdio::null()).stdout(out).stderr(err).kill_on_drop(true);
    let ended = command.status().await.map_err(io_error("execute", program))?;
    // Some files of MassGen's dependencies are templates that Python cannot compile; all other files are compiled.
    if ended.success() || ignores_failure {
        return Ok(());
    }
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("(nothing)").to_owned();
    let step = format!("{} {}", program.display(), args.join(" "));
    Err(SetupError::Step { step, log: log.to_owned(), last })
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SetupError {
    let path = path.to_owned();
    move |source| SetupError::Io { operation, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locked_packages_have_exact_working_versions_and_no_registry() {
        let lines: Vec<&str> = LOCKED_PACKAGES.lines().filter(|line| !line.starts_with('#')).collect();
        let packages: Vec<(&str, &str)> =
            lines.iter().map(|line| line.split_once("==").unwrap_or_else(|| panic!("{line}"))).collect();
        assert!(packages.contains(&("massgen", VERSION)) && packages.len() > 200, "{}", packages.len());
        assert!(
            packages.iter().any(|(name, version)| *name == "mcp" && version.starts_with("1.")),
            "MassGen needs mcp 1"
        );
        assert!(lines.iter().all(|line| !line.contains("://") && !line.contains('@') && !line.starts_with('-')));
    }
}
