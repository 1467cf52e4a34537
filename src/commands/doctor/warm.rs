//! Whether runs start warm: what there is now, whether it would take a run with this shell's environment, and how the latest runs
//! were started. It begins no warm process and ends none.

use std::path::Path;

use super::Check;
use crate::fleet::{Fleet, Selection};
use crate::run::{ConfigChoice, RunRecord, RunSpec};
use crate::settings::Settings;
use crate::warm::{self, Cold, Kind};

const NAME: &str = "warm starts";
/// A client may start its server with other variables than this shell has.
const COLD: &str =
    "nothing is lost but some seconds for each run; `details.cold_because` of a run says why it was started cold";

pub(super) async fn check(fleet: &Fleet, settings: &Settings, program: &Path) -> Check {
    if !settings.warm {
        return Check::ok(NAME, "off by the settings; each run imports MassGen by itself");
    }
    if let Err(unfit) = Kind::of(program) {
        return Check::ok(NAME, format!("not to be had: {unfit}"));
    }
    if let Some(because) = refused(fleet, settings, program).await {
        return Check::warning(NAME, format!("on, but a run with this shell's variables starts cold: {because}"), COLD);
    }
    if let Some((id, because)) = latest_cold(fleet).await {
        return Check::warning(NAME, format!("on, but the latest run ({id}) was started cold: {because}"), COLD);
    }
    match warm::living(fleet.state()).len() {
        0 if !warm::has_room(fleet.state()) => {
            let hint = "end other programs, or leave it: runs are started cold, some seconds slower";
            Check::warning(NAME, "on, but less than 2 GB of memory are free", hint)
        }
        0 => Check::ok(NAME, "on; the first run begins a process that keeps MassGen imported"),
        living => Check::ok(NAME, format!("on; warm processes: {living}")),
    }
}

/// Why runs on real models are started cold with this shell's variables.
async fn refused(fleet: &Fleet, settings: &Settings, program: &Path) -> Option<Cold> {
    let (id, project) = (fleet.state().fresh_id().ok()?, settings.project.clone().unwrap_or_default());
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::plain(id, "", ConfigChoice::File("/".into()), project, program.to_owned())
    };
    fleet.refused(&spec).await
}

/// The latest run, where it was started cold although warm starts were on.
async fn latest_cold(fleet: &Fleet) -> Option<(String, String)> {
    let latest = fleet.look_all(&Selection::Latest).await.ok()?.runs.into_iter().find(|run| run.started.is_some())?;
    let RunRecord { spec, cold_because, .. } = latest;
    let because = cold_because.filter(|because| spec.warm && *because != Cold::Stopped.to_string())?;
    Some((spec.id.to_string(), because))
}
