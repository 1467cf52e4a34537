//! The commands for people: the only module that prints for them. It makes no decisions about runs.

mod cli;
mod completions;
mod context;
mod demo;
mod doctor;
mod kill;
mod logs;
mod next_steps;
mod output;
mod prune;
mod report;
mod result;
mod runs;
mod selection;
mod settings;
mod summary;
mod verify;
mod wait;
mod warm;
mod watch;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::context::{failed_imports, massgen_program};
use self::output::{print_failure, print_line, print_to_stderr};
use crate::massgen::broken_import;
use crate::massgen::program::{self, ProgramError};
use crate::massgen::setup::{self, PackageVersions, SetupError};
use crate::run::Problem;
use crate::settings::Settings;

pub use cli::CliCommand;
pub use completions::{Shell, completions};
pub use prune::{PruneArgs, prune};
pub use settings::settings;

/// `massgen-mcp setup`: finds a MassGen, or installs one into the state folder, and prints its path.
///
/// The installed packages have the versions that massgen-mcp was tested with, or the newest with `latest`.
pub async fn setup(settings: &Settings, latest: bool) -> ExitCode {
    let versions = if latest { PackageVersions::Latest } else { PackageVersions::Locked };
    match find_or_install_massgen(settings, versions).await {
        Ok(program) => {
            let version = program::version(&program).unwrap_or_else(|| "of unknown version".to_owned());
            print_line(format_args!("MassGen {version} is at {}", program.display()));
            ExitCode::SUCCESS
        }
        Err(error) => error.report_and_exit_code(),
    }
}

/// `massgen-mcp demo`: all steps of a run through the real protocol; prints each call and its answer.
pub async fn demo(settings: &Settings, program_path: &Path) -> ExitCode {
    let program = match find_or_install_massgen(settings, PackageVersions::Locked).await {
        Ok(program) => program,
        Err(error) => return error.report_and_exit_code(),
    };
    match demo::run_demo(settings, program_path, &program).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_failure(&error, "run it again with RUST_LOG=debug to see more; `massgen-mcp setup` checks MassGen");
            ExitCode::FAILURE
        }
    }
}

/// No MassGen was found, and none could be installed.
enum SetupFailure {
    NamedProgram(ProgramError),
    Setup(SetupError),
    Broken(Problem),
}

impl SetupFailure {
    fn report_and_exit_code(&self) -> ExitCode {
        match self {
            SetupFailure::NamedProgram(error) => {
                print_failure(error, "correct --massgen or MASSGEN_MCP_MASSGEN, or leave it out")
            }
            SetupFailure::Setup(error) => print_failure(error, error.hint()),
            SetupFailure::Broken(problem) => print_to_stderr(format_args!(
                "massgen-mcp: {}\nhint: leave out --massgen and MASSGEN_MCP_MASSGEN, then run `massgen-mcp setup` again; or run \
                 `pip install 'mcp<2'` in its environment, where mcp is named",
                problem.message
            )),
        }
        ExitCode::FAILURE
    }
}

async fn find_or_install_massgen(settings: &Settings, versions: PackageVersions) -> Result<PathBuf, SetupFailure> {
    let own_venv = setup::venv_folder(&settings.state_folder);
    // A MassGen in our own venv may be the result of an unfinished set-up, so run the set-up, which completes it.
    match massgen_program(settings) {
        Ok(program) if !program.starts_with(&own_venv) => {
            match broken_import::known_problem(&program, &failed_imports(settings)) {
                Some(problem) if settings.massgen.is_some() => Err(SetupFailure::Broken(problem)),
                Some(_) => install_massgen(settings, versions).await,
                None => Ok(program),
            }
        }
        Err(error @ ProgramError::NotExecutable(_)) => Err(SetupFailure::NamedProgram(error)),
        Ok(_) | Err(ProgramError::Missing { .. }) => install_massgen(settings, versions).await,
    }
}

async fn install_massgen(settings: &Settings, versions: PackageVersions) -> Result<PathBuf, SetupFailure> {
    let started_at = std::time::Instant::now();
    let print = |step: &str| print_line(format_args!("[{:>4} s] {step}", started_at.elapsed().as_secs()));
    setup::setup(&settings.state_folder, &failed_imports(settings), versions, print).await.map_err(SetupFailure::Setup)
}
