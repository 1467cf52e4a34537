//! What people see in a terminal: the only room that prints for them. It decides nothing about runs.

mod demo;
mod doctor;
mod kill;
mod logs;
mod look;
mod people;
mod prune;
mod report;
mod result;
mod settings;
mod shells;
mod verify;
mod wait;
mod warm;
mod watch;

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::massgen::program::{self, Places, ProgramError};
use crate::massgen::setup::{self, SetupError, Versions};
use crate::massgen::{broken, text};
use crate::registry::FAILED_IMPORTS;
use crate::run::Problem;
use crate::settings::Settings;

pub use people::People;
pub use prune::{Prune, prune};
pub use settings::settings;
pub use shells::{Shell, completions};

/// `massgen-mcp setup`: finds a MassGen, or puts one into the state folder, and says which.
///
/// Its packages have the versions that massgen-mcp was tested with, or with `latest` the newest.
pub async fn setup(settings: &Settings, latest: bool) -> ExitCode {
    let versions = if latest { Versions::Latest } else { Versions::Locked };
    match ensure_massgen(settings, versions).await {
        Ok(program) => {
            let version = program::version(&program).unwrap_or_else(|| "of unknown version".to_owned());
            say(format_args!("MassGen {version} is at {}", program.display()));
            ExitCode::SUCCESS
        }
        Err(error) => error.tell(),
    }
}

/// `massgen-mcp demo`: the whole job through the real protocol, each call and its answer shown.
pub async fn demo(settings: &Settings, me: &Path) -> ExitCode {
    let program = match ensure_massgen(settings, Versions::Locked).await {
        Ok(program) => program,
        Err(error) => return error.tell(),
    };
    match demo::show(settings, me, &program).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error, "run it again with RUST_LOG=debug to see more; `massgen-mcp setup` checks MassGen");
            ExitCode::FAILURE
        }
    }
}

/// There is no MassGen, and none could be set up.
enum NoMassGen {
    Named(ProgramError),
    Setup(SetupError),
    Broken(Problem),
}

impl NoMassGen {
    fn tell(&self) -> ExitCode {
        match self {
            NoMassGen::Named(error) => complain(error, "correct --massgen or MASSGEN_MCP_MASSGEN, or leave it out"),
            NoMassGen::Setup(error) => complain(error, error.hint()),
            NoMassGen::Broken(problem) => say_aside(format_args!(
                "massgen-mcp: {}\nhint: leave out --massgen and MASSGEN_MCP_MASSGEN, then run `massgen-mcp setup` again; or run \
                 `pip install 'mcp<2'` in its environment, where mcp is named",
                problem.message
            )),
        }
        ExitCode::FAILURE
    }
}

async fn ensure_massgen(settings: &Settings, versions: Versions) -> Result<PathBuf, NoMassGen> {
    let own_venv = setup::venv(&settings.home);
    // An environment that a set-up has not finished is not one to use.
    match program_of(settings) {
        Ok(program) if !program.starts_with(&own_venv) => match broken::problem(&program, &seen(settings)) {
            Some(problem) if settings.massgen.is_some() => Err(NoMassGen::Broken(problem)),
            Some(_) => set_up(settings, versions).await,
            None => Ok(program),
        },
        Err(error @ ProgramError::NotExecutable(_)) => Err(NoMassGen::Named(error)),
        Ok(_) | Err(ProgramError::Missing { .. }) => set_up(settings, versions).await,
    }
}

async fn set_up(settings: &Settings, versions: Versions) -> Result<PathBuf, NoMassGen> {
    let begun = std::time::Instant::now();
    let tell = |step: &str| say(format_args!("[{:>4} s] {step}", begun.elapsed().as_secs()));
    setup::setup(&settings.home, &seen(settings), versions, tell).await.map_err(NoMassGen::Setup)
}

/// The MassGen that a run would use.
fn program_of(settings: &Settings) -> Result<PathBuf, ProgramError> {
    let own_venv = setup::venv(&settings.home);
    let seen = seen(settings);
    let (named, project) = (settings.massgen.as_deref(), settings.project_folder());
    program::find(Places { named, project, own_venv: &own_venv, seen: &seen })
}

/// The folder with failures of MassGen's import.
fn seen(settings: &Settings) -> PathBuf {
    settings.home.join(FAILED_IMPORTS)
}

/// One line for a person.
fn say(line: impl Display) {
    // A closed pipe means that nobody reads on.
    let _nobody = writeln!(std::io::stdout(), "{line}");
}

/// One line for a person, beside what is read by programs.
fn say_aside(line: impl Display) {
    let _nobody = writeln!(std::io::stderr(), "{line}");
}

fn complain(error: &dyn std::error::Error, hint: &str) {
    say_aside(format_args!("massgen-mcp: {}\nhint: {hint}", text::chain(error)));
}
