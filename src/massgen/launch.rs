//! The command that starts MassGen in the background: arguments, environment, working folder. It starts nothing itself.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::environment;
use crate::run::{Context, Mode, RunSpec};

/// A command line, ready to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its complete environment: it inherits nothing.
    pub env: Vec<(OsString, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
}

/// The run's folders that MassGen receives.
#[derive(Debug, Clone, Copy)]
pub struct LaunchFolders<'a> {
    /// A link to the program's folder, first in PATH: MassGen starts `fastmcp` by its bare name.
    pub bin: &'a Path,
    /// The parent of the log folder.
    pub logs: &'a Path,
    /// The run's own working folder.
    pub work: &'a Path,
    /// Where messages for the agents are written.
    pub inbox: &'a Path,
}

/// Every flag that this program passes to MassGen; `doctor` checks whether the installed version knows them.
pub const FLAGS: &[&str] = &[
    "--automation",
    "--no-parse-at-references",
    "--config",
    "--inbox-dir",
    "--quick",
    "--orchestrator-timeout",
    "--validate",
    "--json",
];

/// The launch of a run with the config that MassGen reads. The question is in the config, because every user of the machine can see a
/// command line. `environment` contains the server's variables that reach MassGen.
pub fn build_launch(
    spec: &RunSpec,
    folders: LaunchFolders<'_>,
    config: &Path,
    config_timeout: Option<f64>,
    environment: Vec<(OsString, OsString)>,
) -> Launch {
    let mut args: Vec<OsString> = vec!["--automation".into(), "--no-parse-at-references".into()];
    args.extend(["--config".into(), config.into(), "--inbox-dir".into(), folders.inbox.into()]);
    if spec.mode == Mode::Quick {
        args.push("--quick".into());
    }
    if let Some(seconds) = orchestrator_timeout(spec.timeout, config_timeout) {
        args.extend(["--orchestrator-timeout".into(), seconds.to_string().into()]);
    }
    let mut env = with_required_variables(environment, folders.bin);
    environment::set_variable(&mut env, LOG_BASE_VARIABLE, folders.logs);
    Launch { program: spec.program.clone(), args, env, cwd: folders.work.to_owned() }
}

/// PATH if the environment has none.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The file in its working folder from which MassGen reads variables.
const ENV_FILE: &str = "configs/.env";

/// The folder that provides `configs/.env`: the project if the agents may access it, else the run's own folder, which has no such file.
pub fn env_folder<'a>(spec: &'a RunSpec, default_folder: &'a Path) -> &'a Path {
    match spec.context {
        Context::None => default_folder,
        Context::Read | Context::Write => &spec.project,
    }
}

/// Prepares a run's access to the project. MassGen always works in the run's own folder: two runs started in the same second never share a
/// session, and MassGen leaves no files in the project. Its config names the project as a context path, and a link provides the variables
/// of `configs/.env`.
///
/// # Errors
///
/// If the project no longer exists, or the link cannot be created.
pub fn prepare_project(spec: &RunSpec, work: &Path) -> io::Result<()> {
    if spec.context == Context::None {
        return Ok(());
    }
    if !spec.project.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, MissingFolder(spec.project.clone())));
    }
    let (file, link) = (spec.project.join(ENV_FILE), work.join(ENV_FILE));
    if file.is_file() {
        std::fs::create_dir_all(work.join("configs"))?;
        std::os::unix::fs::symlink(file, link)?;
    }
    Ok(())
}

/// A folder that a run needs does not exist.
#[derive(Debug, thiserror::Error)]
#[error("the folder `{}` is gone", .0.display())]
pub struct MissingFolder(pub PathBuf);

/// An environment variable for MassGen with a fixed value; see [`escape_prompt`].
const DOLLAR_VARIABLE: &str = "MASSGEN_MCP_DOLLAR";

/// Escapes the question for a config. MassGen substitutes environment variables for `${NAME}` in all texts of a config, once. In a
/// question, that would expose any key to the author of the question. Each such dollar sign becomes a reference that MassGen expands to a
/// dollar sign, so the agents receive the original question.
pub fn escape_prompt(question: &str) -> String {
    question.replace("${", &format!("${{{DOLLAR_VARIABLE}}}{{"))
}

/// The variable with the parent of the log folder; its value differs for each run.
pub const LOG_BASE_VARIABLE: &str = "MASSGEN_LOG_BASE_DIR";

/// The log level of the OpenAI and Anthropic clients (openai 2.2.0, anthropic 2.14.0: `_utils/_logs.py`). At `info` they log a wait before
/// a retry. A provider may ask for a wait of a minute, in which a run could otherwise time out without any output.
const CLIENT_LOG_VARIABLES: [&str; 2] = ["OPENAI_LOG", "ANTHROPIC_LOG"];

/// Variables that MassGen needs in addition to the server's. They are the same for all runs of a program, except `bin`, which comes first
/// in PATH.
pub fn with_required_variables(mut env: Vec<(OsString, OsString)>, bin: &Path) -> Vec<(OsString, OsString)> {
    let path = env.iter().find(|(name, _)| name == OsStr::new("PATH")).map(|(_, path)| path.clone());
    let mut first: OsString = bin.into();
    first.push(":");
    // An empty entry in PATH means the working folder.
    first.push(path.filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.into()));
    environment::set_variable(&mut env, "PATH", first);
    environment::set_variable(&mut env, "PYTHONUNBUFFERED", "1");
    // Otherwise litellm fetches a price list at import, which takes five seconds without a network.
    environment::set_variable(&mut env, "LITELLM_LOCAL_MODEL_COST_MAP", "True");
    for client in CLIENT_LOG_VARIABLES {
        if !env.iter().any(|(name, _)| name == OsStr::new(client)) {
            environment::set_variable(&mut env, client, "info");
        }
    }
    environment::set_variable(&mut env, DOLLAR_VARIABLE, "$");
    env
}

/// MassGen's own timeout, slightly before our deadline, so that MassGen can still present an answer. Unchanged if the config sets a shorter
/// one, or if the run is too short for the difference to matter.
fn orchestrator_timeout(deadline: Duration, config_timeout: Option<f64>) -> Option<u64> {
    const SHORTEST: Duration = Duration::from_secs(60);
    let margin = (deadline / 10).clamp(Duration::from_secs(20), Duration::from_secs(60));
    let timeout = deadline.checked_sub(margin).filter(|_| deadline >= SHORTEST)?;
    config_timeout.is_none_or(|config_timeout| config_timeout > timeout.as_secs_f64()).then_some(timeout.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ConfigChoice;

    fn plain() -> RunSpec {
        let id = "mg-00000000".parse().expect("id");
        RunSpec::new(id, "q", ConfigChoice::Rehearsal("@rehearsal".to_owned()), "/p".into(), "/b".into())
    }

    fn spec() -> RunSpec {
        RunSpec {
            created: jiff::Timestamp::UNIX_EPOCH,
            question: "-x @/etc/passwd:w".to_owned(),
            config: ConfigChoice::File("/p/c.yaml".into()),
            group: None,
            timeout: Duration::from_secs(1800),
            mode: Mode::Full,
            context: Context::None,
            project: "/p".into(),
            program: "/venv/bin/massgen".into(),
            ..plain()
        }
    }

    fn folders() -> LaunchFolders<'static> {
        LaunchFolders {
            bin: Path::new("/r/bin"),
            logs: Path::new("/r/logs"),
            work: Path::new("/r/work"),
            inbox: Path::new("/r/inbox"),
        }
    }

    fn launched(spec: &RunSpec) -> Launch {
        let environment = vec![("PATH".into(), "/usr/bin".into()), ("A_API_KEY".into(), "k".into())];
        build_launch(spec, folders(), Path::new("/p/c.yaml"), None, environment)
    }

    fn args(spec: &RunSpec) -> Vec<String> {
        launched(spec).args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn the_question_is_not_on_the_command_line() {
        let line = args(&spec()).join(" ");
        assert_eq!(
            line,
            "--automation --no-parse-at-references --config /p/c.yaml --inbox-dir /r/inbox --orchestrator-timeout 1740"
        );
    }

    #[test]
    fn every_used_flag_is_listed() {
        for context in [Context::None, Context::Read, Context::Write] {
            let arguments = args(&RunSpec { context, mode: Mode::Quick, ..spec() });
            for flag in arguments.iter().filter(|arg| arg.starts_with("--")) {
                assert!(FLAGS.contains(&flag.as_str()), "{flag}");
            }
        }
    }

    #[test]
    fn a_question_sets_no_variable() {
        assert_eq!(escape_prompt("a ${KEY} $b {c}"), "a ${MASSGEN_MCP_DOLLAR}{KEY} $b {c}");
        assert_eq!(escape_prompt("$${${x}"), "$${MASSGEN_MCP_DOLLAR}{${MASSGEN_MCP_DOLLAR}{x}");
        assert!(launched(&spec()).env.contains(&("MASSGEN_MCP_DOLLAR".into(), "$".into())));
    }

    #[test]
    fn the_project_is_not_the_working_folder_and_its_variables_are_read() {
        let (project, work) = (tempfile::tempdir().expect("temp"), tempfile::tempdir().expect("temp"));
        std::fs::create_dir(project.path().join("configs")).expect("made");
        std::fs::write(project.path().join(ENV_FILE), "A=1\n").expect("written");
        let mut spec = RunSpec { context: Context::None, project: project.path().to_owned(), ..spec() };
        prepare_project(&spec, work.path()).expect("nothing to do");
        assert!(!work.path().join("configs").exists() && env_folder(&spec, work.path()) == work.path());
        spec.context = Context::Read;
        prepare_project(&spec, work.path()).expect("linked");
        assert_eq!(std::fs::read_to_string(work.path().join(ENV_FILE)).expect("read"), "A=1\n");
        assert_eq!(env_folder(&spec, work.path()), project.path());
        drop(project);
        assert!(prepare_project(&spec, work.path()).is_err_and(|error| error.to_string().ends_with("is gone")));
    }

    #[test]
    fn the_environment_is_complete_and_the_mode_is_passed() {
        let spec = RunSpec { context: Context::Read, mode: Mode::Quick, ..spec() };
        let launch = launched(&spec);
        assert_eq!(launch.cwd, Path::new("/r/work"));
        assert_eq!(args(&spec)[6], "--quick");
        assert!(launch.env.contains(&("PATH".into(), "/r/bin:/usr/bin".into())));
        assert!(launch.env.contains(&("A_API_KEY".into(), "k".into())));
    }

    #[test]
    fn massgens_timeout_is_shorter_than_ours_and_never_longer_than_the_configs() {
        assert_eq!(orchestrator_timeout(Duration::from_secs(30), None), None);
        assert_eq!(orchestrator_timeout(Duration::from_secs(100), None), Some(80));
        assert_eq!(orchestrator_timeout(Duration::from_secs(7200), Some(1800.0)), None);
        assert_eq!(orchestrator_timeout(Duration::from_secs(100), Some(1800.0)), Some(80));
    }
}
