//! The check that does: one run of real MassGen with the scripted model, as a server would start it, from start to answer.
//! It costs nothing and needs no network; a run that does not come to its end is stopped.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::Check;
use crate::commands::kill;
use crate::commands::summary::{one_line, view_of};
use crate::fleet::{Cursor, Fleet, Keys, Limits, Selection, Start, Until};
use crate::refusal::Refusal;
use crate::run::{Cap, ConfigChoice, Outcome, RunId, RunRecord, RunSpec, Unpriced};
use crate::settings::Settings;
use crate::view::Detail;

/// How long the rehearsal may take; far longer than it does on a machine with anything to spare.
const PATIENCE: Duration = Duration::from_secs(180);
const QUESTION: &str = "What is 6 times 7?";

pub(super) async fn rehearse(
    fleet: &Fleet,
    settings: &Settings,
    program: PathBuf,
    say: impl Fn(&str),
) -> Result<Check, Refusal> {
    let started = fleet.start(start(fleet.state().fresh_id()?, settings, program)).await?;
    let id = started.record.spec.id.clone();
    let record = follow(fleet, started.record, say).await?;
    if record.state.ended().is_none() {
        let stopped = kill::stop(fleet, &id, Duration::ZERO, Some("the doctor gave up".to_owned())).await?;
        let at = view_of(fleet, &record, Detail::Brief).state;
        let last = view_of(fleet, &stopped, Detail::Brief).state;
        let message = format!("{id} was still {at} after {} s; it is {last} now", PATIENCE.as_secs());
        return Ok(Check::problem("rehearsal", message, look_at(&id)));
    }
    Ok(verdict(fleet, &record))
}

fn start(id: RunId, settings: &Settings, program: PathBuf) -> Start {
    let mut limits = Limits::from(settings);
    // What costs nothing is held against no budget.
    (limits.each.cap, limits.each.unpriced) = (Cap::default(), Unpriced::Warn);
    (limits.all.server, limits.all.day) = (None, None);
    let config = ConfigChoice::Rehearsal("@rehearsal".to_owned());
    let spec = RunSpec {
        group: Some("doctor".to_owned()),
        timeout: PATIENCE,
        ..RunSpec::plain(id, QUESTION, config, settings.project.clone().unwrap_or_default(), program)
    };
    Start {
        spec,
        config: None,
        keys: Keys::default(),
        asked: Cap::default(),
        limits,
        request: QUESTION.to_owned(),
        request_key: None,
        fresh: true,
        share: None,
    }
}

/// The run at its end, or as it is when patience is; each change is told.
async fn follow(fleet: &Fleet, mut record: RunRecord, say: impl Fn(&str)) -> Result<RunRecord, Refusal> {
    let deadline = Instant::now() + PATIENCE;
    let selection = Selection::Runs(vec![record.spec.id.clone()]);
    while record.state.ended().is_none() && Instant::now() < deadline {
        say(&one_line(&view_of(fleet, &record, Detail::Brief)));
        let since = Some(Cursor::of(std::slice::from_ref(&record)));
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = fleet.wait(&selection, Until::Change, since, left, std::future::pending()).await?;
        record = waited.sight.runs.into_iter().next().unwrap_or(record);
    }
    Ok(record)
}

fn verdict(fleet: &Fleet, record: &RunRecord) -> Check {
    let id = &record.spec.id;
    let run = view_of(fleet, record, Detail::Full);
    let succeeded = record.state.ended().is_some_and(|ending| ending.outcome == Outcome::Succeeded);
    if succeeded && run.answer_chars.is_some_and(|chars| chars > 0) {
        return Check::ok("rehearsal", format!("{id} succeeded in {} s with an answer", run.elapsed_s));
    }
    let why = run.problem.map(|problem| format!(": {} ({}; {})", problem.message, problem.code, problem.hint));
    Check::problem("rehearsal", format!("{id} {}{}", run.state, why.unwrap_or_default()), look_at(id))
}

fn look_at(id: &RunId) -> String {
    format!("look at `massgen-mcp result {id} --part errors` and `massgen-mcp logs {id}`")
}
