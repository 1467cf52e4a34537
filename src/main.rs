//! The command line: parses it, connects the modules, and reports errors to people. It decides nothing else.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use massgen_mcp::fleet::Fleet;
use massgen_mcp::inherited_state::{self, SighupPolicy};
use massgen_mcp::registry::StateFolder;
use massgen_mcp::secrets::{SecretNameRules, Secrets};
use massgen_mcp::settings::{self, Flags, SecretNameSettings, Settings, SettingsError};
use massgen_mcp::{commands, experiment_driver, server, supervisor};
use tokio::runtime::{Builder, Runtime};

/// An MCP server that lets agents start, follow, read and stop MassGen runs.
///
/// Without a command it serves one MCP client on standard input and output.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve one MCP client on standard input and output (the default).
    Serve,
    /// Put a pinned MassGen into a folder of its own, unless there is one.
    Setup {
        /// Install the newest packages that it allows, in place of those that massgen-mcp was tested with.
        #[arg(long)]
        latest: bool,
    },
    /// Show the whole job, offline and for nothing: real MassGen against a scripted model.
    Demo,
    /// Show every setting as it is in effect, and who gave it.
    Settings,
    /// Remove ended runs by the settings (keep_days, keep_runs, keep_gb).
    Prune(commands::PruneArgs),
    #[command(flatten)]
    Cli(commands::CliCommand),
    /// Print what a shell needs to complete commands and flags.
    Completions {
        /// The shell.
        shell: commands::Shell,
    },
}

/// The names of the internal commands.
const INTERNAL_COMMANDS: [&str; 3] = ["supervise", "conduct", "exec"];

/// Commands that this program starts by itself, never a person: they accept none of the flags.
#[derive(Parser)]
#[command(name = "massgen-mcp")]
enum InternalCommand {
    /// Own one run to its end (started by the server).
    Supervise {
        /// The run's folder.
        folder: PathBuf,
    },
    /// Conduct one experiment to its end (started by the server).
    Conduct {
        /// The experiment's folder.
        folder: PathBuf,
    },
    /// Become MassGen (started by the supervisor).
    #[command(disable_help_flag = true)]
    Exec {
        /// The supervisor's process id.
        supervisor: u32,
        /// What to execute.
        program: PathBuf,
        /// Its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

/// Flags without a command; every client starts the server like this.
#[derive(Parser)]
#[command(name = "massgen-mcp")]
struct FlagsOnly {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    let is_part = std::env::args_os().nth(1).is_some_and(|word| INTERNAL_COMMANDS.iter().any(|part| word == *part));
    inherited_state::reset(Path::new(SELF_EXE), if is_part { SighupPolicy::Reset } else { SighupPolicy::KeepIgnored });
    if is_part {
        return InternalCommand::parse().execute();
    }
    let Cli { flags, command } = parse_args();
    let command = command.unwrap_or(Command::Serve);
    let settings = flags.with_environment().resolve();
    if let Ok(settings) = &settings {
        let SecretNameSettings { masked, shown } = settings.secret_name_rules.clone();
        SecretNameRules { masked, shown }.install();
    }
    // A later step reports unusable settings; until then the process knows only its environment.
    let env_file = settings.as_ref().ok().and_then(|settings| settings.env_file.as_deref());
    let known = Secrets::from_environment(env_file).or_else(|_| Secrets::from_environment(None));
    let secrets = known.unwrap_or_default();
    let uses_full_screen = matches!(&command, Command::Cli(command) if command.uses_full_screen());
    if !uses_full_screen {
        log_to_stderr(&secrets);
    }
    exit_code(run(command, settings, &secrets), &secrets)
}

/// Parses the command line. Building the parser with every flag on every command takes as long as the rest of a server's start.
/// So the full parser is built only for input other than valid flags.
fn parse_args() -> Cli {
    let words = settings::join_switch_values(std::env::args_os());
    FlagsOnly::try_parse_from(&words)
        .map_or_else(|_| Cli::parse_from(&words), |FlagsOnly { flags }| Cli { flags, command: None })
}

/// The exit code; an error is reported on standard error.
fn exit_code(result: anyhow::Result<ExitCode>, secrets: &Secrets) -> ExitCode {
    result.unwrap_or_else(|error| {
        // If no process reads standard error, the report is lost.
        let _nobody = writeln!(secrets.mask_writer(std::io::stderr()), "massgen-mcp: {error:#}");
        ExitCode::FAILURE
    })
}

impl InternalCommand {
    fn execute(self) -> ExitCode {
        let me = Path::new(SELF_EXE);
        match self {
            InternalCommand::Exec { supervisor, program, args } => exec(supervisor, &program, &args),
            InternalCommand::Supervise { folder } => {
                let secrets = supervisor::secrets(&folder);
                log_to_stderr(&secrets);
                let supervised = async { Ok(supervisor::supervise(&folder, me).await?) };
                exit_code(block_on_current_thread(supervised), &secrets)
            }
            InternalCommand::Conduct { folder } => {
                let secrets = experiment_driver::secrets(&folder);
                log_to_stderr(&secrets);
                let driven = async { Ok(experiment_driver::drive(&folder, me).await?) };
                exit_code(block_on_current_thread(driven), &secrets)
            }
        }
    }
}

/// Runs on a single thread, this one: the parent-death signal of MassGen's process is bound to it.
fn block_on_current_thread(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
    runtime.block_on(work).map(|()| ExitCode::SUCCESS)
}

fn run(command: Command, settings: Result<Settings, SettingsError>, secrets: &Secrets) -> anyhow::Result<ExitCode> {
    let me = Path::new(SELF_EXE);
    if let Command::Completions { shell } = command {
        return Ok(commands::completions(shell, &Cli::command()));
    }
    let runtime = runtime()?;
    if let Command::Cli(command) = command {
        let code = runtime.block_on(command.run(settings, me));
        runtime.shutdown_background();
        return Ok(code);
    }
    let settings = settings?;
    let code = match command {
        Command::Serve => runtime.block_on(serve(settings, me, secrets)).map(|()| ExitCode::SUCCESS),
        Command::Setup { latest } => Ok(runtime.block_on(commands::setup(&settings, latest))),
        Command::Demo => Ok(runtime.block_on(commands::demo(&settings, me))),
        Command::Settings => Ok(commands::settings(&settings)),
        Command::Prune(how) => runtime.block_on(prune(&settings, me, how)),
        Command::Cli(_) | Command::Completions { .. } => Ok(ExitCode::FAILURE),
    };
    // A read of standard input may still be pending; it must not delay the end of the process.
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings, me: &Path, secrets: &Secrets) -> anyhow::Result<()> {
    let secrets = match settings.env_file.as_deref() {
        None => secrets.clone(),
        // Read the env file again, since an unreadable one must be reported.
        named => Secrets::from_environment(named)?,
    };
    // A server that an agent of a run started belongs to that run and uses its state folder.
    let parent = supervisor::parent_run();
    let above = parent.as_ref().and_then(StateFolder::containing);
    let state = match &above {
        Some(state) => state.clone(),
        None => StateFolder::from_path(&settings.state_folder),
    };
    // A failure does not prevent serving: each call tries to create the folder again, or reports the problem.
    if let Err(error) = state.create_root() {
        tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "the state folder cannot be made");
    }
    let parent = parent.and_then(|folder| folder.id());
    Ok(server::serve(Fleet::new(state, me).with_secrets(secrets).with_parent(parent), settings).await?)
}

async fn prune(settings: &Settings, me: &Path, how: commands::PruneArgs) -> anyhow::Result<ExitCode> {
    let state = StateFolder::open(&settings.state_folder)?;
    Ok(commands::prune(&Fleet::new(state, me), settings.retention, how).await)
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start a runtime")
}

/// This program, even after its file was removed or replaced by another version.
const SELF_EXE: &str = "/proc/self/exe";

fn exec(supervisor: u32, program: &Path, args: &[OsString]) -> ExitCode {
    let Err((code, why)) = supervisor::exec_massgen(supervisor, program, args);
    let _nobody = writeln!(std::io::stderr(), "{why}");
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn log_to_stderr(secrets: &Secrets) {
    use tracing_subscriber::filter::Targets;
    use tracing_subscriber::prelude::*;
    // Levels by module are enough; filters by fields would bring a regex engine into the program.
    let asked = std::env::var("RUST_LOG").ok().filter(|asked| !asked.trim().is_empty());
    let asked = asked.and_then(|asked| asked.parse::<Targets>().ok());
    let filter = asked.unwrap_or_else(|| server::DEFAULT_LOG_FILTER.parse().unwrap_or_default());
    // A line that cannot be written is lost. If the library reported that, it would panic when standard error is a file on a
    // full disk, and the supervisor would end together with its run.
    let secrets = secrets.clone();
    let stderr = move || secrets.mask_writer(std::io::stderr());
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr).with_ansi(false).log_internal_errors(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}
