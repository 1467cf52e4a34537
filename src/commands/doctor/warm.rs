//! Checks whether runs start warm: the existing warm processes, whether one accepts a run with this shell's environment, and how
//! the latest run was started. It starts and ends no warm process.

use std::path::Path;

use super::CheckResult;
use crate::fleet::{Fleet, Selection};
use crate::run::{ConfigChoice, RunRecord, RunSpec};
use crate::settings::Settings;
use crate::warm::{self, ColdReason, Installation};

const CHECK_NAME: &str = "warm starts";
/// A hint, not a problem: a client may start its server with other variables than this shell has.
const COLD_HINT: &str =
    "nothing is lost but some seconds for each run; `details.cold_because` of a run says why it was started cold";

pub(super) async fn check(fleet: &Fleet, settings: &Settings, program: &Path) -> CheckResult {
    if !settings.warm {
        return CheckResult::ok(CHECK_NAME, "off by the settings; each run imports MassGen by itself");
    }
    if let Err(unsupported) = Installation::for_program(program) {
        return CheckResult::ok(CHECK_NAME, format!("not to be had: {unsupported}"));
    }
    if let Some(reason) = cold_reason(fleet, settings, program).await {
        return CheckResult::warning(
            CHECK_NAME,
            format!("on, but a run with this shell's variables starts cold: {reason}"),
            COLD_HINT,
        );
    }
    if let Some((id, reason)) = latest_cold_run(fleet).await {
        return CheckResult::warning(
            CHECK_NAME,
            format!("on, but the latest run ({id}) was started cold: {reason}"),
            COLD_HINT,
        );
    }
    match warm::live_processes(fleet.state()).len() {
        0 if !warm::has_capacity(fleet.state()) => {
            let hint = "end other programs, or leave it: runs are started cold, some seconds slower";
            CheckResult::warning(CHECK_NAME, "on, but less than 2 GB of memory are free", hint)
        }
        0 => CheckResult::ok(CHECK_NAME, "on; the first run begins a process that keeps MassGen imported"),
        count => CheckResult::ok(CHECK_NAME, format!("on; warm processes: {count}")),
    }
}

/// Why runs with real models start cold with this shell's variables.
async fn cold_reason(fleet: &Fleet, settings: &Settings, program: &Path) -> Option<ColdReason> {
    let (id, project) = (fleet.state().new_id().ok()?, settings.project.clone().unwrap_or_default());
    let spec = RunSpec {
        pass_env: settings.pass_env.clone(),
        env_file: settings.env_file.clone(),
        ..RunSpec::new(id, "", ConfigChoice::File("/".into()), project, program.to_owned())
    };
    fleet.cold_reason(&spec).await
}

/// The latest started run and the reason, if it was started cold although warm starts were on.
async fn latest_cold_run(fleet: &Fleet) -> Option<(String, String)> {
    let latest = fleet.snapshot(&Selection::Latest).await.ok()?.runs.into_iter().find(|run| run.started.is_some())?;
    let RunRecord { spec, cold_start_reason: cold_reason, .. } = latest;
    let reason = cold_reason.filter(|reason| spec.warm && *reason != ColdReason::Stopped.to_string())?;
    Some((spec.id.to_string(), reason))
}
