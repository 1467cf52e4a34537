//! Which flags an installed MassGen supports, from its `--help`: a missing flag would make every run fail at its start. It runs no agent
//! and passes no key to MassGen.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::environment;
use super::launch::FLAGS;
use super::text;

/// The timeout for MassGen; its import takes seconds, and a minute on a loaded machine.
const HELP_TIMEOUT: Duration = Duration::from_secs(120);

/// Why MassGen's flags could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// The program or its working folder could not be used.
    #[error("cannot ask `{}` for its flags", program.display())]
    Execute {
        /// The program.
        program: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It did not end in time.
    #[error("`{} --help` did not end within {} s", program.display(), HELP_TIMEOUT.as_secs())]
    TimedOut {
        /// The program.
        program: PathBuf,
    },
    /// It ended with an error.
    #[error("`{} --help` failed: {said}", program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// The last line of its error output.
        said: String,
    },
}

/// The flags of [`FLAGS`] that a MassGen does not support.
///
/// # Errors
///
/// If its `--help` cannot be read.
pub async fn missing(program: &Path) -> Result<Vec<&'static str>, FlagsError> {
    let help = help(program).await?;
    let known: BTreeSet<&str> = help.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
    Ok(FLAGS.iter().copied().filter(|flag| !known.contains(flag)).collect())
}

async fn help(program: &Path) -> Result<String, FlagsError> {
    let execute = |source| FlagsError::Execute { program: program.to_owned(), source };
    // MassGen's libraries may leave files in the working folder.
    let folder = tempfile::tempdir().map_err(execute)?;
    let mut command = Command::new(program);
    command.arg("--help").current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    command.env_clear().envs(environment::without_keys(std::env::vars_os()));
    command.env("LITELLM_LOCAL_MODEL_COST_MAP", "True");
    let output = tokio::time::timeout(HELP_TIMEOUT, command.output()).await;
    let finished = output.map_err(|_| FlagsError::TimedOut { program: program.to_owned() })?.map_err(execute)?;
    if finished.status.success() {
        return Ok(String::from_utf8_lossy(&finished.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&finished.stderr).into_owned();
    let last = stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    Err(FlagsError::Failed { program: program.to_owned(), said: text::single_line(last, 200) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("temp");
        let path = folder.path().join("massgen");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        (folder, path)
    }

    #[tokio::test]
    async fn a_flag_with_the_same_prefix_does_not_count() {
        let other_flags = FLAGS.iter().filter(|flag| **flag != "--quick").map(|flag| format!("[{flag}] ,"));
        let (_folder, program) = program(&format!("echo '{}--quickly'", other_flags.collect::<String>()));
        assert_eq!(missing(&program).await.expect("told"), ["--quick"]);
    }

    #[tokio::test]
    async fn a_failed_program_is_reported_with_its_last_line() {
        let (_folder, program) = program("echo first >&2; echo no module >&2; exit 1");
        let error = missing(&program).await.expect_err("failed");
        assert!(error.to_string().ends_with("failed: no module"), "{error}");
    }
}
