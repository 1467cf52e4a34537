//! kill_run: stops some runs, a group, or all live runs, and reports each result. An experiment is stopped first, so
//! that it starts no more runs meanwhile. The answer is bounded: it lists the first receipts, with failed stops before
//! the others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::caller::Caller;
use super::client::Client;
use super::context::ServerContext;
use super::fields::{check_range, parse_run_id};
use super::params::KillRun;
use super::selections::{self, LIST_RUNS_HINT};
use super::wait_limits::AllowedWait;
use super::{answer_hints, progress};
use crate::fleet::{Fleet, LATEST_COUNT, Selection, WaitUntil};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord, StopRequest};
use crate::view::{self, ReceiptView};

/// The longest reason, in characters.
const MAX_REASON_CHARS: usize = 200;
/// The longest grace period.
const MAX_GRACE_S: f64 = 60.0;
/// How long a forced stop takes after the grace period, nested runs included.
const FORCE_TIMEOUT: Duration = Duration::from_secs(20);
/// The most receipts that an answer lists.
const MAX_RECEIPTS: usize = 20;

/// The answer of kill_run.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KillView {
    /// One receipt per run, as many as the client shows; a large group lists only runs that were active.
    receipts: Vec<ReceiptView>,
    /// The other runs, counted by state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    others: BTreeMap<String, usize>,
    /// If a stop is still in progress: how to see its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    hint: Option<String>,
}

/// Stops the selected runs, and waits for their ends.
pub(super) async fn stop(context: &ServerContext, request: KillRun, caller: Caller) -> Result<KillView, Refusal> {
    let fleet = &context.fleet;
    let stop_request = parse_stop_request(&request)?;
    let selection = parse_selection(context, request.run_id, request.run_ids, request.group, request.all)?;
    let AllowedWait { max: timeout, note } =
        context.wait_limits.allowed_wait(stop_request.grace + FORCE_TIMEOUT, context.settings.max_wait);
    let deadline = Instant::now() + timeout;
    let Caller { cancelled, progress, client, .. } = caller;
    let experiments = open_experiments(fleet, &selection).await?;
    // List planned runs first: a run that starts between the two queries is then in at least one of the lists.
    let planned = unstarted_runs(fleet, &experiments).await?;
    let before = fleet.snapshot(&selection).await;
    let before = before.map_err(|error| Refusal::from(error).with_effect("nothing was stopped"))?.runs;
    check_none_is_planned(fleet, &selection, &before)?;
    let had_ended = ended_runs(&before);
    let experiments = stop_experiments(fleet, experiments, &stop_request).await?;
    let named = name_live_runs(fleet, &selection, &before);
    let snapshot = selections::check_found(&named, fleet.snapshot(&named).await?)?;
    let is_large = matches!(selection, Selection::Group(_)) && snapshot.runs.len() > LATEST_COUNT;
    let is_left_out = |run: &RunRecord| fleet.is_planned(run) || (is_large && had_ended.contains(&run.spec.id));
    let (mut others, named): (Vec<_>, Vec<_>) = snapshot.runs.into_iter().partition(is_left_out);
    let stopping = join_all(
        named
            .iter()
            .map(|run| stop_run(context, run, &stop_request, timeout, had_ended.contains(&run.spec.id), &cancelled)),
    );
    let mut stops = progress::report_while(context, progress, &selection, timeout, stopping).await;
    let left = deadline.saturating_duration_since(Instant::now());
    let (not_started, started) = wait_for_drivers(context, &experiments, left, &cancelled).await?;
    let late_runs = runs_started_since(&started, &planned, &named);
    others.retain(|run| late_runs.iter().all(|late| late.spec.id != run.spec.id));
    stops.extend(late_runs.into_iter().map(StopOutcome::from_record));
    if matches!(selection, Selection::Live { .. }) {
        others.extend(not_started);
    }
    stops.sort_by_key(|stop| stop.has_ended);
    let is_stopping = stops.iter().any(|stop| stop.receipt.state == "stopping");
    let hint =
        is_stopping.then(|| "a stop is still under way: call check_status with wait_s to see its end".to_owned());
    let hint =
        answer_hints::join_hints([hint, note.filter(|_| is_stopping), other_clients_hint(fleet, &selection).await?]);
    Ok(build_answer(fleet, stops, &others, hint, client))
}

/// A planned run cannot be stopped alone: its experiment would start it later.
fn check_none_is_planned(fleet: &Fleet, selection: &Selection, runs: &[RunRecord]) -> Result<(), Refusal> {
    if !matches!(selection, Selection::Runs(_)) {
        return Ok(());
    }
    let checked =
        runs.iter().filter(|run| run.state.ending().is_none()).try_for_each(|run| fleet.check_is_started(run));
    checked.map_err(|error| Refusal::from(error).with_effect("nothing was stopped"))
}

fn parse_stop_request(request: &KillRun) -> Result<StopRequest, Refusal> {
    Ok(StopRequest {
        grace: Duration::from_secs_f64(check_range("grace_s", request.grace_s, 0.0, MAX_GRACE_S)?),
        reason: request.reason.as_deref().map(|reason| text::single_line(reason, MAX_REASON_CHARS)),
        tree: request.tree,
    })
}

/// Lists the first receipts, as many as the client shows, and counts the other runs by state.
fn build_answer(
    fleet: &Fleet,
    mut stops: Vec<StopOutcome>,
    others: &[RunRecord],
    hint: Option<String>,
    client: Client,
) -> KillView {
    let omitted = stops.split_off(MAX_RECEIPTS.min(stops.len()));
    let mut counted = BTreeMap::new();
    let states =
        omitted.into_iter().map(|stop| stop.receipt.state).chain(others.iter().map(|run| final_state(fleet, run)));
    states.for_each(|state| *counted.entry(state).or_insert(0) += 1);
    let receipts = stops.into_iter().map(|stop| stop.receipt).collect();
    let mut killed = KillView { receipts, others: counted, hint };
    client.fit(&mut killed, |killed| {
        let counted = if killed.receipts.len() > 1 { killed.receipts.pop() } else { None };
        counted.map(|receipt| *killed.others.entry(receipt.state).or_insert(0) += 1).is_some()
    });
    killed
}

fn parse_selection(
    context: &ServerContext,
    run_id: Option<String>,
    run_ids: Option<Vec<String>>,
    group: Option<String>,
    all: bool,
) -> Result<Selection, Refusal> {
    match (run_id, run_ids, group, all) {
        (Some(id), None, None, false) => Ok(Selection::Runs(vec![parse_run_id(&id)?])),
        (None, Some(ids), None, false) => selections::parse_ids(&ids),
        (None, None, Some(group), false) => Ok(Selection::Group(group)),
        (None, None, None, true) => {
            Ok(context.fleet.own_live_selection(context.settings.project_folder().unwrap_or(Path::new(""))))
        }
        (_, _, _, _) => {
            let message = "give exactly one of `run_id`, `run_ids`, `group` and `all`";
            Err(Refusal::new("selection_unclear", message, LIST_RUNS_HINT))
        }
    }
}

/// Names the live runs explicitly: a run that the experiment's driver has stopped meanwhile would otherwise be
/// missing.
fn name_live_runs(fleet: &Fleet, selection: &Selection, before: &[RunRecord]) -> Selection {
    match selection {
        Selection::Live { .. } => {
            let started = before.iter().filter(|run| !fleet.is_planned(run));
            Selection::Runs(started.map(|run| run.spec.id.clone()).collect())
        }
        Selection::Runs(_) | Selection::Latest | Selection::Group(_) => selection.clone(),
    }
}

/// The open experiments that a selection stops.
async fn open_experiments(fleet: &Fleet, selection: &Selection) -> Result<Vec<Selection>, Refusal> {
    Ok(match selection {
        Selection::Group(_) => vec![selection.clone()],
        Selection::Live { own, .. } => fleet.live_experiments(own.as_deref()).await?,
        Selection::Runs(_) | Selection::Latest => Vec::new(),
    })
}

/// The runs of experiments that have not started yet.
async fn unstarted_runs(fleet: &Fleet, experiments: &[Selection]) -> Result<BTreeSet<RunId>, Refusal> {
    let mut planned = BTreeSet::new();
    for experiment in experiments {
        let runs = fleet.snapshot(experiment).await?.runs;
        planned.extend(runs.iter().filter(|run| fleet.is_planned(run)).map(|run| run.spec.id.clone()));
    }
    Ok(planned)
}

/// Asks the drivers of experiments to start no more runs; returns the experiments that had not ended.
async fn stop_experiments(
    fleet: &Fleet,
    selections: Vec<Selection>,
    stop_request: &StopRequest,
) -> Result<Vec<Selection>, Refusal> {
    let mut stopped = Vec::new();
    for experiment in selections {
        if fleet.stop_experiment(&experiment, stop_request).await? {
            stopped.push(experiment);
        }
    }
    Ok(stopped)
}

/// Waits until the drivers of experiments have recorded the end; returns the runs that were never started, and
/// those that were.
async fn wait_for_drivers(
    context: &ServerContext,
    experiments: &[Selection],
    timeout: Duration,
    cancelled: &CancellationToken,
) -> Result<(Vec<RunRecord>, Vec<RunRecord>), Refusal> {
    let wait = |experiment| {
        context.fleet.wait(
            experiment,
            WaitUntil::AllEnded,
            None,
            timeout,
            context.wait_until_cancelled(cancelled.clone()),
        )
    };
    let mut runs = Vec::new();
    for waited in join_all(experiments.iter().map(wait)).await {
        runs.extend(waited?.snapshot.runs);
    }
    Ok(runs.into_iter().partition(|run| context.fleet.is_planned(run)))
}

/// After a stop of all runs of this client: reports live runs of other clients, and how to stop them.
async fn other_clients_hint(fleet: &Fleet, selection: &Selection) -> Result<Option<String>, Refusal> {
    if !matches!(selection, Selection::Live { own: Some(_), .. }) {
        return Ok(None);
    }
    let own_ids: BTreeSet<_> = fleet.snapshot(selection).await?.runs.into_iter().map(|run| run.spec.id).collect();
    let live_runs = fleet.snapshot(&fleet.live_selection()).await?.runs;
    let count = live_runs.iter().filter(|run| run.state.ending().is_none() && !own_ids.contains(&run.spec.id)).count();
    Ok((count > 0).then(|| {
        format!(
            "live runs of other clients or projects go on: {count}; to stop them, name them in run_ids \
             (check_status with live lists them)"
        )
    }))
}

async fn stop_run(
    context: &ServerContext,
    run: &RunRecord,
    stop_request: &StopRequest,
    timeout: Duration,
    had_ended: bool,
    cancelled: &CancellationToken,
) -> StopOutcome {
    let cancellation = context.wait_until_cancelled(cancelled.clone());
    match context.fleet.stop(&run.spec.id, stop_request.clone(), timeout, cancellation).await {
        Ok(record) if had_ended => StopOutcome { has_ended: true, receipt: view::ended_receipt(&record) },
        Ok(record) => StopOutcome::from_record(&record),
        Err(error) => {
            StopOutcome { has_ended: false, receipt: view::failed_receipt(run, Refusal::from(error).message()) }
        }
    }
}

/// The state after the stop. A run that was only planned will not be started.
fn final_state(fleet: &Fleet, run: &RunRecord) -> String {
    if fleet.is_planned(run) { "not_started".to_owned() } else { run.state.as_str().to_owned() }
}

/// The runs that an experiment has started since `planned` was read, except those in the answer already. The driver
/// starts runs until it sees the stop request, and then stops those runs itself.
fn runs_started_since<'a>(
    started: &'a [RunRecord],
    planned: &BTreeSet<RunId>,
    reported: &[RunRecord],
) -> Vec<&'a RunRecord> {
    let is_reported = |run: &RunRecord| reported.iter().any(|reported| reported.spec.id == run.spec.id);
    started.iter().filter(|run| planned.contains(&run.spec.id) && !is_reported(run)).collect()
}

/// The runs that have ended.
fn ended_runs(runs: &[RunRecord]) -> BTreeSet<RunId> {
    runs.iter().filter(|run| run.state.ending().is_some()).map(|run| run.spec.id.clone()).collect()
}

/// The outcome of stopping a run.
struct StopOutcome {
    has_ended: bool,
    receipt: ReceiptView,
}

impl StopOutcome {
    fn from_record(record: &RunRecord) -> StopOutcome {
        StopOutcome { has_ended: record.state.ending().is_some(), receipt: view::receipt(record) }
    }
}
