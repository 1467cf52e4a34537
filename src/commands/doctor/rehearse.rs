//! The rehearsal: one run of real MassGen with the scripted model, from start to answer, as a server would start it.
//! It costs nothing and needs no network. A run that does not end in time is stopped.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::CheckResult;
use crate::commands::kill;
use crate::commands::summary::{summary_line, view_of};
use crate::fleet::{ConfigKeys, Cursor, Fleet, Selection, StartLimits, StartRequest, WaitUntil};
use crate::refusal::Refusal;
use crate::run::{Cap, ConfigChoice, Outcome, RunId, RunRecord, RunSpec, Unpriced};
use crate::settings::Settings;
use crate::view::Detail;

/// How long the rehearsal may take; it normally takes 10 to 25 s.
const REHEARSAL_TIMEOUT: Duration = Duration::from_secs(180);
const QUESTION: &str = "What is 6 times 7?";

pub(super) async fn rehearse(
    fleet: &Fleet,
    settings: &Settings,
    program: PathBuf,
    report: impl Fn(&str),
) -> Result<CheckResult, Refusal> {
    let started = fleet.start(start_request(fleet.state().new_id()?, settings, program)).await?;
    let id = started.record.spec.id.clone();
    let record = wait_for_end(fleet, started.record, report).await?;
    if record.state.ending().is_none() {
        let stopped = kill::stop_run(fleet, &id, Duration::ZERO, Some("the doctor gave up".to_owned())).await?;
        let timed_out_state = view_of(fleet, &record, Detail::Brief).state;
        let final_state = view_of(fleet, &stopped, Detail::Brief).state;
        let message = format!(
            "{id} was still {timed_out_state} after {} s; it is {final_state} now",
            REHEARSAL_TIMEOUT.as_secs()
        );
        return Ok(CheckResult::problem("rehearsal", message, inspect_hint(&id)));
    }
    Ok(check_record(fleet, &record))
}

fn start_request(id: RunId, settings: &Settings, program: PathBuf) -> StartRequest {
    let mut limits = StartLimits::from(settings);
    // The rehearsal costs nothing, so no budget applies to it.
    (limits.per_run.cap, limits.per_run.unpriced) = (Cap::default(), Unpriced::Warn);
    (limits.global.server_usd, limits.global.day_usd) = (None, None);
    let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
    let spec = RunSpec {
        group: Some("doctor".to_owned()),
        timeout: REHEARSAL_TIMEOUT,
        ..RunSpec::new(id, QUESTION, config, settings.project.clone().unwrap_or_default(), program)
    };
    StartRequest {
        spec,
        config: None,
        keys: ConfigKeys::default(),
        requested_cap: Cap::default(),
        limits,
        request: QUESTION.to_owned(),
        request_key: None,
        fresh: true,
        share: None,
    }
}

/// Waits for the end of the run, or for the timeout; reports each change through `say`.
async fn wait_for_end(fleet: &Fleet, mut record: RunRecord, report: impl Fn(&str)) -> Result<RunRecord, Refusal> {
    let deadline = Instant::now() + REHEARSAL_TIMEOUT;
    let selection = Selection::Runs(vec![record.spec.id.clone()]);
    while record.state.ending().is_none() && Instant::now() < deadline {
        report(&summary_line(&view_of(fleet, &record, Detail::Brief)));
        let since = Some(Cursor::from_runs(std::slice::from_ref(&record)));
        let remaining = deadline.saturating_duration_since(Instant::now());
        let waited = fleet.wait(&selection, WaitUntil::Change, since, remaining, std::future::pending()).await?;
        record = waited.snapshot.runs.into_iter().next().unwrap_or(record);
    }
    Ok(record)
}

fn check_record(fleet: &Fleet, record: &RunRecord) -> CheckResult {
    let id = &record.spec.id;
    let run = view_of(fleet, record, Detail::Full);
    let succeeded = record.state.ending().is_some_and(|ending| ending.outcome == Outcome::Succeeded);
    if succeeded && run.answer_chars.is_some_and(|chars| chars > 0) {
        return CheckResult::ok("rehearsal", format!("{id} succeeded in {} s with an answer", run.elapsed_s));
    }
    let problem_text = run.problem.map(|problem| format!(": {} ({}; {})", problem.message, problem.code, problem.hint));
    CheckResult::problem(
        "rehearsal",
        format!("{id} {}{}", run.state, problem_text.unwrap_or_default()),
        inspect_hint(id),
    )
}

fn inspect_hint(id: &RunId) -> String {
    format!("look at `massgen-mcp result {id} --part errors` and `massgen-mcp logs {id}`")
}
