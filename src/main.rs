//! The command line: reads it, composes the rooms, tells errors to people. Nothing else is decided here.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use massgen_mcp::fleet::Fleet;
use massgen_mcp::registry::StateFolder;
use massgen_mcp::secrets::Secrets;
use massgen_mcp::settings::{Flags, Settings};
use massgen_mcp::{commands, conductor, server, supervisor};
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
    Setup,
    /// Show the whole job, offline and for nothing: real MassGen against a scripted model.
    Demo,
    /// Show every setting as it is in effect, and who gave it.
    Settings,
    /// Remove ended runs by the settings (keep_days, keep_runs, keep_gb).
    Prune(commands::Prune),
    #[command(flatten)]
    People(commands::People),
    /// Print what a shell needs to complete commands and flags.
    Completions {
        /// The shell.
        shell: commands::Shell,
    },
    /// Own one run to its end (started by the server).
    #[command(hide = true)]
    Supervise {
        /// The run's folder.
        folder: PathBuf,
    },
    /// Conduct one experiment to its end (started by the server).
    #[command(hide = true)]
    Conduct {
        /// The experiment's folder.
        folder: PathBuf,
    },
    /// Become MassGen (started by the supervisor).
    #[command(hide = true, disable_help_flag = true)]
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

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Command::Exec { supervisor, program, args }) = cli.command {
        return exec(supervisor, &program, &args);
    }
    let secrets = secrets(&cli);
    if !matches!(&cli.command, Some(Command::People(people)) if people.has_the_screen()) {
        log_to_stderr(&secrets);
    }
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be there to read it; then there is nobody to tell.
            let _nobody = writeln!(secrets.writer(std::io::stderr()), "massgen-mcp: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What no log and no answer of this process may show.
fn secrets(cli: &Cli) -> Secrets {
    if let Some(Command::Supervise { folder }) = &cli.command {
        return supervisor::secrets(folder);
    }
    if let Some(Command::Conduct { folder }) = &cli.command {
        return conductor::secrets(folder);
    }
    // Settings that cannot be used are told of in a moment, by a process that knows no more than its environment.
    let env_file = cli.flags.clone().or_environment().check().ok().and_then(|settings| settings.env_file);
    let known = Secrets::from_environment(env_file.as_deref());
    known.or_else(|_| Secrets::from_environment(None)).unwrap_or_default()
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let me = Path::new(ME);
    if let Some(Command::Supervise { folder }) = cli.command {
        // One thread, this one: the parent-death signal of MassGen's process is bound to it.
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        return Ok(runtime.block_on(supervisor::supervise(&folder, me)).map(|()| ExitCode::SUCCESS)?);
    }
    if let Some(Command::Conduct { folder }) = cli.command {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        return Ok(runtime.block_on(conductor::conduct(&folder, me)).map(|()| ExitCode::SUCCESS)?);
    }
    if let Some(Command::Completions { shell }) = cli.command {
        return Ok(commands::completions(shell, &Cli::command()));
    }
    let settings = cli.flags.or_environment().check();
    let runtime = runtime()?;
    if let Some(Command::People(people)) = cli.command {
        let code = runtime.block_on(people.run(settings, me));
        runtime.shutdown_background();
        return Ok(code);
    }
    let settings = settings?;
    let code = match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => runtime.block_on(serve(settings, me)).map(|()| ExitCode::SUCCESS),
        Command::Setup => Ok(runtime.block_on(commands::setup(&settings))),
        Command::Demo => Ok(runtime.block_on(commands::demo(&settings, me))),
        Command::Settings => Ok(commands::settings(&settings)),
        Command::Prune(how) => runtime.block_on(prune(&settings, me, how)),
        Command::Supervise { .. }
        | Command::Conduct { .. }
        | Command::Exec { .. }
        | Command::People(_)
        | Command::Completions { .. } => Ok(ExitCode::FAILURE),
    };
    // A read of standard input may still be pending, and must not hold the end of the process.
    runtime.shutdown_background();
    code
}

async fn serve(settings: Settings, me: &Path) -> anyhow::Result<()> {
    let secrets = Secrets::from_environment(settings.env_file.as_deref())?;
    // A server that an agent of a run started belongs to that run, and to its state folder.
    let parent = supervisor::parent_run();
    let above = parent.as_ref().and_then(StateFolder::around);
    let state = match &above {
        Some(state) => state.clone(),
        None => StateFolder::open(&settings.home)?,
    };
    let parent = parent.and_then(|folder| folder.id());
    Ok(server::serve(Fleet::new(state, me).with_secrets(secrets).within(parent), settings).await?)
}

async fn prune(settings: &Settings, me: &Path, how: commands::Prune) -> anyhow::Result<ExitCode> {
    let state = StateFolder::open(&settings.home)?;
    Ok(commands::prune(&Fleet::new(state, me), settings.retention, how).await)
}

fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start a runtime")
}

/// This very program, also after its file was removed or replaced by another version.
const ME: &str = "/proc/self/exe";

fn exec(supervisor: u32, program: &Path, args: &[OsString]) -> ExitCode {
    let Err((code, why)) = supervisor::become_massgen(supervisor, program, args);
    let _nobody = writeln!(std::io::stderr(), "{why}");
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn log_to_stderr(secrets: &Secrets) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    // A line that cannot be written is lost. Told to complain of it, the library would panic where standard error is a file on
    // a full disk, and the supervisor would end with the run that it owns.
    let secrets = secrets.clone();
    let stderr = move || secrets.writer(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_writer(stderr).with_ansi(false).log_internal_errors(false);
    lines.with_env_filter(filter).init();
}
