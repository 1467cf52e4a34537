//! How MassGen 0.1.97 is started in the background: arguments, environment, working folder. Pure: it starts nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::configs::QUESTION_ARG_BYTES;
use crate::run::{Context, Mode, RunSpec};

/// A command line, ready to be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Environment variables on top of the inherited ones.
    pub env: Vec<(&'static str, OsString)>,
    /// Its working folder.
    pub cwd: PathBuf,
}

/// The folders of a run that MassGen is told of.
#[derive(Debug, Clone, Copy)]
pub struct Folders<'a> {
    /// The link to the program's folder, first in PATH: MassGen starts `fastmcp` by its bare name.
    pub bin: &'a Path,
    /// Where the log folder is made.
    pub logs: &'a Path,
    /// The run's own working folder.
    pub work: &'a Path,
}

/// The launch of a run with the config that MassGen is to read.
pub fn plan(
    spec: &RunSpec,
    folders: Folders<'_>,
    config: &Path,
    own_timeout: Option<f64>,
    path: Option<OsString>,
) -> Launch {
    let mut args: Vec<OsString> = vec!["--automation".into(), "--no-parse-at-references".into()];
    args.extend(["--config".into(), config.into()]);
    if spec.mode == Mode::Quick {
        args.push("--quick".into());
    }
    match spec.context {
        Context::None => {}
        Context::Read => args.extend(["--cwd-context".into(), "ro".into()]),
        Context::Write => args.extend(["--cwd-context".into(), "rw".into()]),
    }
    if let Some(seconds) = orchestrator_timeout(spec.timeout, own_timeout) {
        args.extend(["--orchestrator-timeout".into(), seconds.to_string().into()]);
    }
    if spec.question.len() <= QUESTION_ARG_BYTES {
        // Without `--` a question that begins with a dash is an option, and `--quick` can swallow one.
        args.extend(["--".into(), spec.question.clone().into()]);
    }
    Launch {
        program: spec.program.clone(),
        args,
        env: environment(folders, path),
        cwd: working_folder(spec, folders.work),
    }
}

/// PATH where the environment has none.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where MassGen runs: a folder of the run's own, so that two runs of one second never share a session; the project
/// where the agents are to have it.
pub fn working_folder(spec: &RunSpec, work: &Path) -> PathBuf {
    match spec.context {
        Context::None => work.to_owned(),
        Context::Read | Context::Write => spec.project.clone(),
    }
}

fn environment(folders: Folders<'_>, path: Option<OsString>) -> Vec<(&'static str, OsString)> {
    let mut first: OsString = folders.bin.into();
    first.push(":");
    // An empty entry would mean the working folder.
    first.push(path.filter(|path| !path.is_empty()).unwrap_or_else(|| USUAL_PATH.into()));
    vec![
        ("PATH", first),
        ("MASSGEN_LOG_BASE_DIR", folders.logs.into()),
        ("PYTHONUNBUFFERED", "1".into()),
        // Otherwise litellm fetches a price list at import and waits five seconds for it where there is no network.
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True".into()),
    ]
}

/// MassGen's own timeout, a little before our deadline, so that it can still present what there is. Left alone where the
/// config asks for less, and where the run is too short for the difference to matter.
fn orchestrator_timeout(deadline: Duration, own: Option<f64>) -> Option<u64> {
    const SHORTEST: Duration = Duration::from_secs(60);
    let reserve = (deadline / 10).clamp(Duration::from_secs(20), Duration::from_secs(60));
    let ours = deadline.checked_sub(reserve).filter(|_| deadline >= SHORTEST)?;
    own.is_none_or(|own| own > ours.as_secs_f64()).then_some(ours.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::ConfigChoice;

    fn spec() -> RunSpec {
        RunSpec {
            id: "mg-00000000".parse().expect("id"),
            created: jiff::Timestamp::UNIX_EPOCH,
            question: "-x @/etc/passwd:w".to_owned(),
            config: ConfigChoice::File("/p/c.yaml".into()),
            group: None,
            timeout: Duration::from_secs(1800),
            mode: Mode::Full,
            context: Context::None,
            project: "/p".into(),
            program: "/venv/bin/massgen".into(),
        }
    }

    fn folders() -> Folders<'static> {
        Folders { bin: Path::new("/r/bin"), logs: Path::new("/r/logs"), work: Path::new("/r/work") }
    }

    fn args(spec: &RunSpec) -> Vec<String> {
        let launch = plan(spec, folders(), Path::new("/p/c.yaml"), None, Some("/usr/bin".into()));
        launch.args.into_iter().map(|arg| arg.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn options_come_first_and_the_question_last() {
        let line = args(&spec()).join(" ");
        assert_eq!(
            line,
            "--automation --no-parse-at-references --config /p/c.yaml --orchestrator-timeout 1740 -- -x @/etc/passwd:w"
        );
    }

    #[test]
    fn a_long_question_is_not_on_the_command_line() {
        let spec = RunSpec { question: "x".repeat(QUESTION_ARG_BYTES + 1), timeout: Duration::from_secs(30), ..spec() };
        assert_eq!(args(&spec), ["--automation", "--no-parse-at-references", "--config", "/p/c.yaml"]);
    }

    #[test]
    fn context_hands_the_project_over() {
        let spec = RunSpec { context: Context::Read, mode: Mode::Quick, ..spec() };
        let launch = plan(&spec, folders(), Path::new("/p/c.yaml"), None, Some("/usr/bin".into()));
        assert_eq!(launch.cwd, Path::new("/p"));
        assert_eq!(args(&spec)[4..7], ["--quick", "--cwd-context", "ro"]);
        assert!(launch.env.contains(&("PATH", "/r/bin:/usr/bin".into())));
    }

    #[test]
    fn massgens_own_timeout_comes_before_ours_and_never_raises_the_configs() {
        assert_eq!(orchestrator_timeout(Duration::from_secs(30), None), None);
        assert_eq!(orchestrator_timeout(Duration::from_secs(100), None), Some(80));
        assert_eq!(orchestrator_timeout(Duration::from_secs(7200), Some(1800.0)), None);
        assert_eq!(orchestrator_timeout(Duration::from_secs(100), Some(1800.0)), Some(80));
    }
}
