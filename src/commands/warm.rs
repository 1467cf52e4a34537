//! `massgen-mcp warm`: begins a warm process before the first run needs it, or ends all of them. It starts no run and ends none.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::context::{open_fleet, program_of};
use super::output::{EXIT_CODES, print_line, print_sanitized};
use crate::fleet::Fleet;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{ConfigChoice, RunSpec};
use crate::settings::Settings;
use crate::warm::{self, Cold};

/// What to do.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Warm {
    /// End all warm processes of the state folder; runs go on.
    #[arg(long, conflicts_with = "rehearsal")]
    stop: bool,
    /// For rehearsals, whose environment is another than that of runs on real models.
    #[arg(long)]
    rehearsal: bool,
}

pub(super) async fn warm(settings: &Settings, me: &std::path::Path, how: &Warm) -> Result<ExitCode, Refusal> {
    let fleet = open_fleet(settings, me)?;
    if how.stop {
        return stop(&fleet).await;
    }
    let config =
        if how.rehearsal { ConfigChoice::Rehearsal("@rehearsal".to_owned()) } else { ConfigChoice::File("/".into()) };
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::plain(fleet.state().fresh_id()?, "", config, std::path::PathBuf::new(), program_of(settings)?)
    };
    let failed = |error: std::io::Error| Refusal::new("not_warm", text::chain(&error), LOGS);
    let warm = fleet.warm_up(&spec).await.map_err(failed)?;
    warm.map_err(|cold| Refusal::new("not_warm", cold.to_string(), hint(&cold)))?;
    let folder = warm::folder(fleet.state());
    print_sanitized(
        &format!("MassGen is warm; its log is in `{}`", folder.display()),
        &crate::secrets::Secrets::default(),
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns once they have ended, so that a call right after this one begins another.
async fn stop(fleet: &Fleet) -> Result<ExitCode, Refusal> {
    let locks = warm::stop(fleet.state());
    for lock in &locks {
        let begun = Instant::now();
        while lock.try_lock_shared().is_err() {
            if begun.elapsed() > END {
                let hint = "end the process named `massgen-warm` by hand";
                return Err(Refusal::new("not_ended", "a warm process goes on 30 s after it was asked to end", hint));
            }
            tokio::time::sleep(warm::LOOK_AGAIN).await;
        }
    }
    print_line(format_args!("warm processes ended: {}", locks.len()));
    Ok(ExitCode::SUCCESS)
}

fn hint(cold: &Cold) -> &'static str {
    match cold {
        Cold::Unfit(_) => "runs are started cold; `massgen-mcp setup` makes a MassGen that can be kept warm",
        Cold::NoRoom => "`massgen-mcp warm --stop` ends those that are there; runs are started cold without one",
        Cold::Refused(_) => "runs are started cold with this environment; unset what is named to have them warm",
        Cold::Off
        | Cold::Silent
        | Cold::Slow
        | Cold::Nested
        | Cold::NotText
        | Cold::Failed(_)
        | Cold::None
        | Cold::Stopped
        | Cold::Io(_) => LOGS,
    }
}

const LOGS: &str = "read the newest log in the folder `warm` of the state folder; runs are started cold meanwhile";

/// How long a process may take to end; one that imports looks once a second.
const END: Duration = Duration::from_secs(30);
