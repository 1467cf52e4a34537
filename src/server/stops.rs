//! kill_run: some runs, a group, or all that go on, and how each stop went. An experiment is stopped first, so that it starts nothing more
//! meanwhile. The answer has one size: of many stops the first are told one by one, those that did not succeed before all others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::calls::{Caller, Desk, SEE, parsed, ranged};
use super::hints;
use super::overview::named;
use super::params::KillRun;
use super::patience::Wait;
use crate::fleet::{LATEST, Selection, Until};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord, StopAsk};
use crate::view::{self, ReceiptView};

/// The longest reason, in characters.
const MOST_REASON: usize = 200;
/// The longest grace period.
const MOST_GRACE: f64 = 60.0;
/// What forcing a stop takes on top of the grace period, nested runs included.
const FORCE_TIME: Duration = Duration::from_secs(20);
/// The most stops that are told one by one.
const MOST_RECEIPTS: usize = 20;

/// What kill_run gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Killed {
    /// One for each run; of a large group for each that was at work, and of many for the first: as many as the client shows.
    receipts: Vec<ReceiptView>,
    /// The other runs, by state.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    others: BTreeMap<String, usize>,
    /// Where a stop is still under way: how to see its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    hint: Option<String>,
}

impl Desk {
    pub(super) async fn kill_run(&self, asked: KillRun, caller: Caller) -> Result<Killed, Refusal> {
        let grace = Duration::from_secs_f64(ranged("grace_s", asked.grace_s, 0.0, MOST_GRACE)?);
        let selection = self.to_stop(asked.run_id, asked.run_ids, asked.group, asked.all)?;
        let ask =
            StopAsk { grace, reason: asked.reason.map(|reason| text::line(&reason, MOST_REASON)), tree: asked.tree };
        let Wait { most: patience, note } = self.patience.wait(grace + FORCE_TIME, self.settings.most_wait);
        let deadline = Instant::now() + patience;
        let Caller { cancelled, progress, client, .. } = caller;
        let experiments = self.experiments(&selection).await?;
        // First, so that a run which is started between these looks is in one of them.
        let planned = self.not_started(&experiments).await?;
        let before = self.fleet.look_all(&selection).await?.runs;
        let had_ended = ended(&before);
        let experiments = self.stop_experiments(experiments, &ask).await?;
        let told = self.as_it_was(&selection, &before);
        let sight = self.known(&told, self.fleet.look_all(&told).await?)?;
        let is_large = matches!(selection, Selection::Group(_)) && sight.runs.len() > LATEST;
        let is_left_out =
            |run: &RunRecord| self.fleet.is_planned(run) || (is_large && had_ended.contains(&run.spec.id));
        let (mut others, told): (Vec<_>, Vec<_>) = sight.runs.into_iter().partition(is_left_out);
        let stopping = join_all(
            told.iter().map(|run| self.stop(run, &ask, patience, had_ended.contains(&run.spec.id), &cancelled)),
        );
        let mut stops = self.telling(progress, &selection, patience, stopping).await;
        let left = deadline.saturating_duration_since(Instant::now());
        let (not_started, started) = self.over(&experiments, left, &cancelled).await?;
        let late = late(&started, &planned, &told);
        others.retain(|run| late.iter().all(|late| late.spec.id != run.spec.id));
        stops.extend(late.into_iter().map(Stop::of));
        if matches!(selection, Selection::Live { .. }) {
            others.extend(not_started);
        }
        stops.sort_by_key(|stop| stop.is_over);
        let is_under_way = stops.iter().any(|stop| stop.receipt.state == "stopping");
        let hint =
            is_under_way.then(|| "a stop is still under way: call check_status with wait_s to see its end".to_owned());
        let hint = hints::joined([hint, note.filter(|_| is_under_way), self.foreign(&selection).await?]);
        let untold = stops.split_off(MOST_RECEIPTS.min(stops.len()));
        let mut counted = BTreeMap::new();
        let states = untold.into_iter().map(|stop| stop.receipt.state).chain(others.iter().map(|run| self.word(run)));
        states.for_each(|state| *counted.entry(state).or_insert(0) += 1);
        let receipts = stops.into_iter().map(|stop| stop.receipt).collect();
        let mut killed = Killed { receipts, others: counted, hint };
        client.fit(&mut killed, |killed| {
            let counted = if killed.receipts.len() > 1 { killed.receipts.pop() } else { None };
            counted.map(|receipt| *killed.others.entry(receipt.state).or_insert(0) += 1).is_some()
        });
        Ok(killed)
    }

    fn to_stop(
        &self,
        run_id: Option<String>,
        run_ids: Option<Vec<String>>,
        group: Option<String>,
        all: bool,
    ) -> Result<Selection, Refusal> {
        match (run_id, run_ids, group, all) {
            (Some(id), None, None, false) => Ok(Selection::Runs(vec![parsed(&id)?])),
            (None, Some(ids), None, false) => named(&ids),
            (None, None, Some(group), false) => Ok(Selection::Group(group)),
            (None, None, None, true) => {
                Ok(self.fleet.own_live(self.settings.project_folder().unwrap_or(Path::new(""))))
            }
            (_, _, _, _) => {
                let message = "give exactly one of `run_id`, `run_ids`, `group` and `all`";
                Err(Refusal::new("selection_unclear", message, SEE))
            }
        }
    }

    /// The runs that go on, by their names: one that its conductor has stopped by now would be missing.
    fn as_it_was(&self, selection: &Selection, before: &[RunRecord]) -> Selection {
        match selection {
            Selection::Live { .. } => {
                let started = before.iter().filter(|run| !self.fleet.is_planned(run));
                Selection::Runs(started.map(|run| run.spec.id.clone()).collect())
            }
            Selection::Runs(_) | Selection::Latest | Selection::Group(_) => selection.clone(),
        }
    }

    /// The open experiments that a selection stops.
    async fn experiments(&self, selection: &Selection) -> Result<Vec<Selection>, Refusal> {
        Ok(match selection {
            Selection::Group(_) => vec![selection.clone()],
            Selection::Live { own, .. } => self.fleet.open_experiments(own.as_deref()).await?,
            Selection::Runs(_) | Selection::Latest => Vec::new(),
        })
    }

    /// The runs of experiments that are not started yet.
    async fn not_started(&self, experiments: &[Selection]) -> Result<BTreeSet<RunId>, Refusal> {
        let mut planned = BTreeSet::new();
        for experiment in experiments {
            let runs = self.fleet.look_all(experiment).await?.runs;
            planned.extend(runs.iter().filter(|run| self.fleet.is_planned(run)).map(|run| run.spec.id.clone()));
        }
        Ok(planned)
    }

    /// Asks the drivers of experiments to start nothing more; the experiments that had not ended.
    async fn stop_experiments(&self, open: Vec<Selection>, ask: &StopAsk) -> Result<Vec<Selection>, Refusal> {
        let mut stopped = Vec::new();
        for experiment in open {
            if self.fleet.stop_experiment(&experiment, ask).await? {
                stopped.push(experiment);
            }
        }
        Ok(stopped)
    }

    /// Waits until the drivers of experiments have recorded their end; the runs that were never started, and those that were.
    async fn over(
        &self,
        experiments: &[Selection],
        patience: Duration,
        cancelled: &CancellationToken,
    ) -> Result<(Vec<RunRecord>, Vec<RunRecord>), Refusal> {
        let wait =
            |experiment| self.fleet.wait(experiment, Until::AllDone, None, patience, self.given_up(cancelled.clone()));
        let mut runs = Vec::new();
        for waited in join_all(experiments.iter().map(wait)).await {
            runs.extend(waited?.sight.runs);
        }
        Ok(runs.into_iter().partition(|run| self.fleet.is_planned(run)))
    }

    /// After a stop of all runs of this client: that other clients have live runs, and how to stop them.
    async fn foreign(&self, selection: &Selection) -> Result<Option<String>, Refusal> {
        if !matches!(selection, Selection::Live { own: Some(_), .. }) {
            return Ok(None);
        }
        let own: BTreeSet<_> = self.fleet.look_all(selection).await?.runs.into_iter().map(|run| run.spec.id).collect();
        let all = self.fleet.look_all(&self.fleet.live()).await?.runs;
        let count = all.iter().filter(|run| run.state.ended().is_none() && !own.contains(&run.spec.id)).count();
        Ok((count > 0).then(|| {
            format!(
                "live runs of other clients or projects go on: {count}; to stop them, name them in run_ids \
                 (check_status with live lists them)"
            )
        }))
    }

    async fn stop(
        &self,
        run: &RunRecord,
        ask: &StopAsk,
        patience: Duration,
        had_ended: bool,
        cancelled: &CancellationToken,
    ) -> Stop {
        let given_up = self.given_up(cancelled.clone());
        match self.fleet.stop(&run.spec.id, ask.clone(), patience, given_up).await {
            Ok(record) if had_ended => Stop { is_over: true, receipt: view::ended_receipt(&record) },
            Ok(record) => Stop::of(&record),
            Err(error) => Stop { is_over: false, receipt: view::failed_receipt(run, Refusal::from(error).message()) },
        }
    }

    /// A run that was only planned will not be started any more.
    fn word(&self, run: &RunRecord) -> String {
        if self.fleet.is_planned(run) { "not_started".to_owned() } else { run.state.word().to_owned() }
    }
}

/// The runs that an experiment has started since `planned` was seen and that are not among those told: it starts runs until it sees
/// the request, and stops those itself.
fn late<'a>(started: &'a [RunRecord], planned: &BTreeSet<RunId>, told: &[RunRecord]) -> Vec<&'a RunRecord> {
    let is_told = |run: &RunRecord| told.iter().any(|told| told.spec.id == run.spec.id);
    started.iter().filter(|run| planned.contains(&run.spec.id) && !is_told(run)).collect()
}

/// Those that are over by now.
fn ended(runs: &[RunRecord]) -> BTreeSet<RunId> {
    runs.iter().filter(|run| run.state.ended().is_some()).map(|run| run.spec.id.clone()).collect()
}

/// How the stop of a run went.
struct Stop {
    is_over: bool,
    receipt: ReceiptView,
}

impl Stop {
    fn of(record: &RunRecord) -> Stop {
        Stop { is_over: record.state.ended().is_some(), receipt: view::receipt(record) }
    }
}
