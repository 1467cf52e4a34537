//! What the operator set: read once at the start, checked once, never changed by an agent.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use etcetera::BaseStrategy;

/// How long a run may take where the agent does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// The longest an agent may ask for.
pub const MOST_TIMEOUT: Duration = Duration::from_secs(7200);
/// The longest that a call may wait for a change unless the operator raises it: clients give up a call after 60 s.
pub const MOST_WAIT: Duration = Duration::from_secs(50);
/// The longest that the operator may raise it to: one widespread client moves a call to the background after 120 s.
pub const HIGHEST_MOST_WAIT: Duration = Duration::from_secs(110);

/// The flags that every command knows. Each has an environment variable beside it, which counts where the flag is absent.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Flags {
    /// The state folder, with all runs [env: MASSGEN_MCP_HOME; default: $XDG_STATE_HOME/massgen-mcp or
    /// ~/.local/state/massgen-mcp].
    #[arg(long, global = true, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// The MassGen program [env: MASSGEN_MCP_MASSGEN; default: the project's .venv/bin/massgen, PATH, the one from
    /// `massgen-mcp setup`].
    #[arg(long, global = true, value_name = "FILE")]
    massgen: Option<PathBuf>,
    /// The project folder, from which relative paths are meant [env: MASSGEN_MCP_PROJECT; default: the working folder].
    #[arg(long, global = true, value_name = "FOLDER")]
    project: Option<PathBuf>,
    /// The longest that a call may wait for a change, in seconds, at most 110 [env: MASSGEN_MCP_MAX_WAIT_S; default: 50].
    #[arg(long, global = true, value_name = "SECONDS")]
    max_wait_s: Option<u64>,
}

/// Checked settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The state folder, absolute.
    pub home: PathBuf,
    /// The MassGen program that was named.
    pub massgen: Option<PathBuf>,
    /// The project folder, absolute.
    pub project: PathBuf,
    /// The user's home folder, where there is one.
    pub user_home: Option<PathBuf>,
    /// The longest that a call may wait.
    pub most_wait: Duration,
}

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No home folder, and no state folder named.
    #[error("there is no home folder to keep state in: set --home or MASSGEN_MCP_HOME")]
    NoHome(#[source] etcetera::HomeDirError),
    /// The project is not a folder.
    #[error("--project or MASSGEN_MCP_PROJECT: `{}` is not a folder", .0.display())]
    Project(PathBuf),
    /// The wait is too long.
    #[error("--max-wait-s or MASSGEN_MCP_MAX_WAIT_S is not a number of seconds up to 110, which is what clients wait")]
    Wait,
    /// The working folder is gone.
    #[error("the working folder cannot be used")]
    WorkingFolder(#[source] std::io::Error),
}

/// A variable of ours. Clients hand on what a person left empty as an empty variable, or as the name of the placeholder; either
/// counts as not given.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| is_given(value))
}

fn is_given(value: &OsStr) -> bool {
    let text = value.to_string_lossy();
    !text.trim().is_empty() && !text.contains("${")
}

impl Flags {
    /// Takes from the environment what no flag gives.
    #[must_use]
    pub fn or_environment(self) -> Flags {
        let path = |name| variable(name).map(PathBuf::from);
        Flags {
            home: self.home.or_else(|| path("MASSGEN_MCP_HOME")),
            massgen: self.massgen.or_else(|| path("MASSGEN_MCP_MASSGEN")),
            project: self.project.or_else(|| path("MASSGEN_MCP_PROJECT")),
            // What is no number is more than any number, and refused as that.
            max_wait_s: self.max_wait_s.or_else(|| {
                variable("MASSGEN_MCP_MAX_WAIT_S")
                    .map(|value| value.to_string_lossy().trim().parse().unwrap_or(u64::MAX))
            }),
        }
    }

    /// Checks what was given and fills in the defaults.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let absolute = |path: PathBuf| std::path::absolute(path).map_err(SettingsError::WorkingFolder);
        let home = match self.home {
            Some(home) => home,
            None => default_home()?,
        };
        let project = absolute(self.project.unwrap_or_else(|| PathBuf::from(".")))?;
        let project =
            project.canonicalize().ok().filter(|path| path.is_dir()).ok_or(SettingsError::Project(project))?;
        let most_wait = self.max_wait_s.map_or(MOST_WAIT, Duration::from_secs);
        if most_wait > HIGHEST_MOST_WAIT {
            return Err(SettingsError::Wait);
        }
        Ok(Settings {
            home: absolute(home)?,
            massgen: self.massgen.map(absolute).transpose()?,
            project,
            user_home: etcetera::home_dir().ok(),
            most_wait,
        })
    }
}

fn default_home() -> Result<PathBuf, SettingsError> {
    let base = etcetera::base_strategy::Xdg::new().map_err(SettingsError::NoHome)?;
    // XDG has a state folder on every system that this program runs on.
    Ok(base.state_dir().unwrap_or_else(|| base.home_dir().join(".local/state")).join("massgen-mcp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(project: PathBuf, max_wait_s: Option<u64>) -> Flags {
        Flags { home: Some("state".into()), massgen: None, project: Some(project), max_wait_s }
    }

    #[test]
    fn paths_become_absolute_and_defaults_are_filled_in() {
        let folder = tempfile::tempdir().expect("temp");
        let settings = flags(folder.path().to_owned(), None).check().expect("good");
        assert!(settings.home.is_absolute() && settings.home.ends_with("state"));
        assert_eq!(settings.most_wait, MOST_WAIT);
    }

    #[test]
    fn what_was_left_empty_is_not_given() {
        for empty in ["", "  ", "${user_config.project}"] {
            assert!(!is_given(OsStr::new(empty)), "{empty:?}");
        }
        assert!(is_given(OsStr::new("/project")));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let gone = flags("/no/such/folder".into(), None).check().expect_err("no folder");
        assert!(gone.to_string().contains("MASSGEN_MCP_PROJECT"));
        let long = flags("/".into(), Some(111)).check().expect_err("too long");
        assert!(long.to_string().contains("MASSGEN_MCP_MAX_WAIT_S"));
    }
}
