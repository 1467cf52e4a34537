//! The commands for people: the only module that prints for them. It decides nothing about runs.

mod cli;
mod context;
mod demo;
mod doctor;
mod kill;
mod logs;
mod look;
mod output;
mod prune;
mod report;
mod result;
mod selection;
mod settings;
mod shells;
mod summary;
mod verify;
mod wait;
mod warm;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::context::{failed_imports, program_of};
use self::output::{print_failure, print_line, print_to_stderr};
use crate::massgen::broken;
use crate::massgen::program::{self, ProgramError};
use crate::massgen::setup::{self, SetupError, Versions};
use crate::run::Problem;
use crate::settings::Settings;

pub use cli::CliCommand;
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
            print_line(format_args!("MassGen {version} is at {}", program.display()));
            ExitCode::SUCCESS
        }
        Err(error) => error.print(),
    }
}

/// `massgen-mcp demo`: the whole job through the real protocol, each call and its answer shown.
pub async fn demo(settings: &Settings, me: &Path) -> ExitCode {
    let program = match ensure_massgen(settings, Versions::Locked).await {
        Ok(program) => program,
        Err(error) => return error.print(),
    };
    match demo::show(settings, me, &program).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_failure(&error, "run it again with RUST_LOG=debug to see more; `massgen-mcp setup` checks MassGen");
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
    fn print(&self) -> ExitCode {
        match self {
            NoMassGen::Named(error) => {
                print_failure(error, "correct --massgen or MASSGEN_MCP_MASSGEN, or leave it out")
            }
            NoMassGen::Setup(error) => print_failure(error, error.hint()),
            NoMassGen::Broken(problem) => print_to_stderr(format_args!(
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
        Ok(program) if !program.starts_with(&own_venv) => match broken::problem(&program, &failed_imports(settings)) {
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
    let print = |step: &str| print_line(format_args!("[{:>4} s] {step}", begun.elapsed().as_secs()));
    setup::setup(&settings.home, &failed_imports(settings), versions, print).await.map_err(NoMassGen::Setup)
}
