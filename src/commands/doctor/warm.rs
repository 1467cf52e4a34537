//! Whether runs start warm: what there is now, whether it would take a run with this shell's environment, and how the latest runs
//! were started. It begins no warm process and ends none.

use std::path::Path;

use super::CheckResult;
use crate::fleet::{Fleet, Selection};
use crate::run::{ConfigChoice, RunRecord, RunSpec};
use crate::settings::Settings;
use crate::warm::{self, ColdReason, Installation};

const CHECK_NAME: &str = "warm starts";
/// A client may start its server with other variables than this shell has.
const COLD_HINT: &str =
    "nothing is lost but some seconds for each run; `details.cold_because` of a run says why it was started cold";

pub(super) async fn check(fleet: &Fleet, settings: &Settings, program: &Path) -> CheckResult {
    if !settings.warm {
        return CheckResult::ok(CHECK_NAME, "off by the settings; each run imports MassGen by itself");
    }
    if let Err(unfit) = Installation::for_program(program) {
        return CheckResult::ok(CHECK_NAME, format!("not to be had: {unfit}"));
    }
    if let Some(because) = cold_reason(fleet, settings, program).await {
        return CheckResult::warning(
            CHECK_NAME,
            format!("on, but a run with this shell's variables starts cold: {because}"),
            COLD_HINT,
        );
    }
    if let Some((id, because)) = latest_cold_run(fleet).await {
        return CheckResult::warning(
            CHECK_NAME,
            format!("on, but the latest run ({id}) was started cold: {because}"),
            COLD_HINT,
        );
    }
    match warm::live_processes(fleet.state()).len() {
        0 if !warm::has_capacity(fleet.state()) => {
            let hint = "end other programs, or leave it: runs are started cold, some seconds slower";
            CheckResult::warning(CHECK_NAME, "on, but less than 2 GB of memory are free", hint)
        }
        0 => CheckResult::ok(CHECK_NAME, "on; the first run begins a process that keeps MassGen imported"),
        living => CheckResult::ok(CHECK_NAME, format!("on; warm processes: {living}")),
    }
}

/// Why runs on real models are started cold with this shell's variables.
async fn cold_reason(fleet: &Fleet, settings: &Settings, program: &Path) -> Option<ColdReason> {
    let (id, project) = (fleet.state().new_id().ok()?, settings.project.clone().unwrap_or_default());
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::new(id, "", ConfigChoice::File("/".into()), project, program.to_owned())
    };
    fleet.cold_reason(&spec).await
}

/// The latest run, where it was started cold although warm starts were on.
async fn latest_cold_run(fleet: &Fleet) -> Option<(String, String)> {
    let latest = fleet.snapshot(&Selection::Latest).await.ok()?.runs.into_iter().find(|run| run.started.is_some())?;
    let RunRecord { spec, cold_start_reason: cold_because, .. } = latest;
    let because = cold_because.filter(|because| spec.warm && *because != ColdReason::Stopped.to_string())?;
    Some((spec.id.to_string(), because))
}
