//! What the operator set: read once at the start, checked once, never changed by an agent.

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

/// The flags and environment variables that every command knows.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// The state folder, with all runs [default: $XDG_STATE_HOME/massgen-mcp or ~/.local/state/massgen-mcp].
    #[arg(long, env = "MASSGEN_MCP_HOME", global = true, value_name = "FOLDER")]
    home: Option<PathBuf>,
    /// The MassGen program [default: the project's .venv/bin/massgen, PATH, the one from `massgen-mcp setup`].
    #[arg(long, env = "MASSGEN_MCP_MASSGEN", global = true, value_name = "FILE")]
    massgen: Option<PathBuf>,
    /// The project folder, from which relative paths are meant [default: the working folder].
    #[arg(long, env = "MASSGEN_MCP_PROJECT", global = true, value_name = "FOLDER")]
    project: Option<PathBuf>,
    /// The longest that a call may wait for a change, in seconds, at most 110 [default: 50].
    #[arg(long, env = "MASSGEN_MCP_MAX_WAIT_S", global = true, value_name = "SECONDS")]
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
    #[error("--max-wait-s or MASSGEN_MCP_MAX_WAIT_S: {0} is more than 110 seconds, which clients do not wait")]
    Wait(u64),
    /// The working folder is gone.
    #[error("the working folder cannot be used")]
    WorkingFolder(#[source] std::io::Error),
}

impl Flags {
    /// Checks what was given and fills in the defaults.
    pub fn check(self) -> Result<Settings, SettingsError> {
        let absolute = |path: PathBuf| std::path::absolute(path).map_err(SettingsError::WorkingFolder);
        let home = match given(self.home) {
            Some(home) => home,
            None => default_home()?,
        };
        let project = absolute(given(self.project).unwrap_or_else(|| PathBuf::from(".")))?;
        let project =
            project.canonicalize().ok().filter(|path| path.is_dir()).ok_or(SettingsError::Project(project))?;
        let most_wait = self.max_wait_s.map_or(MOST_WAIT, Duration::from_secs);
        if most_wait > HIGHEST_MOST_WAIT {
            return Err(SettingsError::Wait(most_wait.as_secs()));
        }
        Ok(Settings {
            home: absolute(home)?,
            massgen: given(self.massgen).map(absolute).transpose()?,
            project,
            user_home: etcetera::home_dir().ok(),
            most_wait,
        })
    }
}

/// Clients hand an option that a person left empty on as an empty variable.
fn given(path: Option<PathBuf>) -> Option<PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
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
    fn what_is_empty_is_not_given() {
        let empty = Some(PathBuf::new());
        let settings =
            Flags { home: Some("/s".into()), massgen: empty.clone(), project: empty, max_wait_s: None }.check();
        assert_eq!(settings.expect("good").massgen, None);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let gone = flags("/no/such/folder".into(), None).check().expect_err("no folder");
        assert!(gone.to_string().contains("MASSGEN_MCP_PROJECT"));
        let long = flags("/".into(), Some(111)).check().expect_err("too long");
        assert!(long.to_string().contains("MASSGEN_MCP_MAX_WAIT_S"));
    }
}
