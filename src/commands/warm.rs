//! `massgen-mcp warm`: starts a warm process before the first run needs it, or ends all warm processes. It starts and ends no run.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::context::{massgen_program, open_fleet};
use super::output::{EXIT_CODES, print_line, print_sanitized};
use crate::fleet::Fleet;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::registry::Owner;
use crate::run::{ConfigChoice, RunSpec};
use crate::settings::Settings;
use crate::warm::{self, ColdReason};

/// The options.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct WarmArgs {
    /// End all warm processes of the state folder; runs continue.
    #[arg(long, conflicts_with = "rehearsal")]
    stop: bool,
    /// Start one for rehearsals, which have a different environment than runs with real models.
    #[arg(long)]
    rehearsal: bool,
}

pub(super) async fn warm(settings: &Settings, program: &std::path::Path, args: &WarmArgs) -> Result<ExitCode, Refusal> {
    let fleet = open_fleet(settings, program)?;
    if args.stop {
        return stop_warm_processes(&fleet).await;
    }
    let config =
        if args.rehearsal { ConfigChoice::Rehearsal("@rehearsal".to_owned()) } else { ConfigChoice::File("/".into()) };
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::new(fleet.state().new_id()?, "", config, std::path::PathBuf::new(), massgen_program(settings)?)
    };
    let not_warm = |error: std::io::Error| Refusal::new("not_warm", text::error_chain(&error), LOGS_HINT);
    let warm = fleet.warm_up(&spec).await.map_err(not_warm)?;
    warm.map_err(|cold| Refusal::new("not_warm", cold.to_string(), cold_reason_hint(&cold)))?;
    let folder = warm::warm_folder(fleet.state());
    print_sanitized(
        &format!("MassGen is warm; its log is in `{}`", folder.display()),
        &crate::secrets::Secrets::default(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Ends the warm processes and waits for their exit, so that a call right after this one starts a new process.
async fn stop_warm_processes(fleet: &Fleet) -> Result<ExitCode, Refusal> {
    let locks = warm::stop_all(fleet.state());
    for lock in &locks {
        let started_at = Instant::now();
        while matches!(lock.owner(), Owner::Held) {
            if started_at.elapsed() > EXIT_TIMEOUT {
                let hint = "end the process named `massgen-warm` by hand";
                return Err(Refusal::new("not_ended", "a warm process goes on 30 s after it was asked to end", hint));
            }
            tokio::time::sleep(warm::POLL_INTERVAL).await;
        }
    }
    print_line(format_args!("warm processes ended: {}", locks.len()));
    Ok(ExitCode::SUCCESS)
}

fn cold_reason_hint(cold: &ColdReason) -> &'static str {
    match cold {
        ColdReason::Unsupported(_) => {
            "runs are started cold; `massgen-mcp setup` makes a MassGen that can be kept warm"
        }
        ColdReason::NoCapacity => {
            "`massgen-mcp warm --stop` ends those that are there; runs are started cold without one"
        }
        ColdReason::Refused(_) => "runs are started cold with this environment; unset what is named to have them warm",
        ColdReason::Disabled
        | ColdReason::TimedOut
        | ColdReason::ImportTimedOut
        | ColdReason::Nested
        | ColdReason::NotUtf8
        | ColdReason::ImportFailed(_)
        | ColdReason::NoProcess
        | ColdReason::Stopped
        | ColdReason::Io(_) => LOGS_HINT,
    }
}

const LOGS_HINT: &str = "read the newest log in the folder `warm` of the state folder; runs are started cold meanwhile";

/// How long a warm process may take to end; one that is importing checks for the request once a second.
const EXIT_TIMEOUT: Duration = Duration::from_secs(30);
