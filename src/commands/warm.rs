//! `massgen-mcp warm`: begins a warm process before the first run needs it, or ends all of them. It starts no run and ends none.

use std::process::ExitCode;

use super::people::{EXITS, open, say_clean};
use super::{program_of, say};
use crate::fleet::Warmth;
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{ConfigChoice, RunSpec};
use crate::settings::Settings;
use crate::warm;

/// What to do.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Warm {
    /// End all warm processes of the state folder; runs go on.
    #[arg(long, conflicts_with = "rehearsal")]
    stop: bool,
    /// For rehearsals, whose environment is another than that of runs on real models.
    #[arg(long)]
    rehearsal: bool,
}

pub(super) async fn warm(settings: &Settings, me: &std::path::Path, how: &Warm) -> Result<ExitCode, Refusal> {
    let fleet = open(settings, me)?;
    if how.stop {
        let living = warm::living(fleet.state()).len();
        warm::stop(fleet.state());
        say(format_args!("warm processes ended: {living}"));
        return Ok(ExitCode::SUCCESS);
    }
    let config =
        if how.rehearsal { ConfigChoice::Rehearsal("@rehearsal".to_owned()) } else { ConfigChoice::File("/".into()) };
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::plain(fleet.state().fresh_id()?, "", config, std::path::PathBuf::new(), program_of(settings)?)
    };
    let folder = warm::folder(fleet.state());
    let failed = |error: std::io::Error| Refusal::new("not_warm", text::chain(&error), LOGS);
    match fleet.warm_up(&spec).await.map_err(failed)? {
        (Warmth::Begun, true) => {
            say_clean(
                &format!("MassGen is warm; its log is in `{}`", folder.display()),
                &crate::secrets::Secrets::default(),
            );
            Ok(ExitCode::SUCCESS)
        }
        (Warmth::Begun, false) => {
            Err(Refusal::new("not_warm", format!("it ended at its import; its log is in `{}`", folder.display()), LOGS))
        }
        (Warmth::Unfit(unfit), _) => {
            let hint = "runs are started in the usual way; `massgen-mcp setup` makes a MassGen that can be kept warm";
            Err(Refusal::new("not_warm", format!("MassGen cannot be kept warm: {unfit}"), hint))
        }
        (Warmth::NoRoom, _) => {
            let hint =
                "`massgen-mcp warm --stop` ends those that are there; runs are started in the usual way without one";
            Err(Refusal::new("not_warm", "less than 2 GB of memory are free, or three others are there already", hint))
        }
    }
}

const LOGS: &str = "look at the log; runs are started in the usual way meanwhile";
