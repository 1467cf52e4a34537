//! The driver process of one experiment: starts its runs as slots and budget allow, stops the rest when
//! enough have succeeded or a stop is requested, and records why it ended. Each run has its own supervisor, which outlives the driver.
//! It speaks no protocol and signals no process.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::experiment::{CloseReason, ExperimentProgress, NextStep, PlannedRun, ProgressCounts, next_step};
use crate::fleet::{Fleet, FleetError, StartError, start_request};
use crate::ledger::{BudgetShare, LedgerError};
use crate::massgen::text;
use crate::registry::{Experiment, ExperimentFolder, Owner, OwnerLock, RegistryError, StateFolder, probe_owner};
use crate::run::{Outcome, Problem, Retry, RunId, StopRequest};
use crate::secrets::Secrets;
use crate::supervisor::READY;
use crate::watch::{Subscription, Watcher};

/// How long a start is delayed if the ledger says to wait and does not say how long.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How long a start is delayed if the disk write fails.
const DISK_RETRY_DELAY: Duration = Duration::from_secs(10);
/// How long a supervisor takes to exit after its run ends; checked again after that.
const SUPERVISOR_EXIT_WAIT: Duration = Duration::from_millis(50);
/// How long the stop of a run may take, beyond its grace period, before it is left to its supervisor.
const FORCE_TIMEOUT: Duration = Duration::from_secs(30);
/// The grace period of runs that are no longer wanted.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// Why a driver could not begin or end its work.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Another driver has the experiment, or it has ended.
    #[error("`{}` has a conductor, or its experiment is over", .0.display())]
    Locked(PathBuf),
    /// The experiment could not be read or written.
    #[error("cannot keep the experiment")]
    Record(#[from] RegistryError),
    /// The runs could not be read.
    #[error("cannot look at the runs")]
    Fleet(#[from] FleetError),
    /// The operating system refused.
    #[error("cannot {operation}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The secrets that a driver's log must not show.
pub fn secrets(folder: &Path) -> Secrets {
    let plan = ExperimentFolder::from_path(folder).load().ok().map(|experiment| experiment.plan);
    let env_file = plan.and_then(|plan| plan.arms.into_iter().find_map(|arm| arm.spec.env_file));
    let known = Secrets::from_environment(env_file.as_deref());
    known.or_else(|_| Secrets::from_environment(None)).unwrap_or_default()
}

/// Drives the experiment in `folder` to its end. `me` is this program, used to start supervisors.
pub async fn drive(folder: &Path, me: &Path) -> Result<(), DriverError> {
    let failed = |operation| move |source| DriverError::Io { operation, source };
    let taken = || DriverError::Locked(folder.to_owned());
    // A process that leads a group already (started from a shell) cannot have a session of its own; it needs none then.
    let _leads_already = rustix::process::setsid();
    let folder_of = ExperimentFolder::from_path(folder);
    let lock =
        OwnerLock::inherited(&folder_of.lock()).map_err(failed("take the experiment's lock"))?.ok_or_else(taken)?;
    let experiment = folder_of.load()?;
    let state = folder_of.state().filter(|_| experiment.progress.closed.is_none()).ok_or_else(taken)?;
    let fleet = Fleet::new(state.clone(), me).with_secrets(secrets(folder)).with_parent(experiment.plan.parent.clone());
    let mut conductor = ExperimentDriver::new(fleet, state, experiment, lock);
    // The process that started this one reads no further and may have ended.
    let _gone = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    conductor.drive().await
}

struct ExperimentDriver {
    fleet: Fleet,
    state: StateFolder,
    experiment: Experiment,
    lock: OwnerLock,
    subscription: Subscription,
    /// Runs that are known to have ended.
    ended: BTreeSet<RunId>,
    succeeded: usize,
    is_budget_short: bool,
    /// A run has ended and its supervisor has not exited yet.
    is_supervisor_exiting: bool,
    /// No start before then.
    retry_at: Option<Instant>,
}

impl ExperimentDriver {
    fn new(fleet: Fleet, state: StateFolder, mut experiment: Experiment, lock: OwnerLock) -> ExperimentDriver {
        // An earlier driver may have been killed between a start and its record.
        let begun = experiment.plan.runs.iter().map(|run| &run.id);
        let begun: Vec<RunId> = begun.filter(|id| state.run_folder(id).path().exists()).cloned().collect();
        let ExperimentProgress { started, .. } = &mut experiment.progress;
        let missing: Vec<RunId> = begun.into_iter().filter(|id| !started.contains(id)).collect();
        started.extend(missing);
        let seat = Watcher::start().subscribe();
        let (ended, succeeded) = (BTreeSet::new(), 0);
        let (is_short, is_one_leaving, put_off) = (false, false, None);
        ExperimentDriver {
            fleet,
            state,
            experiment,
            lock,
            subscription: seat,
            ended,
            succeeded,
            is_budget_short: is_short,
            is_supervisor_exiting: is_one_leaving,
            retry_at: put_off,
        }
    }

    async fn drive(&mut self) -> Result<(), DriverError> {
        loop {
            let tally = self.refresh_counts().await?;
            let ask = self.experiment.folder.stop_request();
            let tally = ProgressCounts { is_stop_requested: ask.is_some(), ..tally };
            match next_step(tally, ask.as_ref().and_then(|ask| ask.reason.clone())) {
                NextStep::Start => self.start_next().await?,
                NextStep::Wait => self.wait_for_change().await,
                NextStep::Close(why) => return self.close(why).await,
                NextStep::CancelRemaining(why) => {
                    self.cancel_remaining(&why, ask).await;
                    return self.close(why).await;
                }
            }
        }
    }

    /// Reads the live runs.
    async fn refresh_counts(&mut self) -> Result<ProgressCounts, DriverError> {
        self.is_supervisor_exiting = false;
        for id in self.live_runs() {
            let over = match self.fleet.run_record(&id).await {
                Ok(run) if run.state.ending().is_some() && self.is_locked(&id) => {
                    self.is_supervisor_exiting = true;
                    None
                }
                Ok(run) => run.state.ending().map(|ending| ending.outcome == Outcome::Succeeded),
                Err(FleetError::Registry(RegistryError::Unknown(_))) => Some(false),
                Err(error) => return Err(error.into()),
            };
            if let Some(has_succeeded) = over {
                self.ended.insert(id);
                self.succeeded += usize::from(has_succeeded);
                self.is_budget_short = false;
            }
        }
        let plan = &self.experiment.plan;
        let live = self.live_runs().len();
        let is_put_off = self.retry_at.is_some_and(|until| until > Instant::now());
        let slots = if plan.parent.is_some() { plan.global_limits.tree_runs } else { plan.global_limits.slots };
        Ok(ProgressCounts {
            waiting: self.pending_runs().count(),
            live,
            succeeded: self.succeeded,
            keep: plan.keep,
            max_live: if is_put_off { 0 } else { slots as usize },
            is_stop_requested: false,
            is_budget_short: self.is_budget_short,
        })
    }

    /// Whether its supervisor has not gone yet: what it did not spend is given back with its last step.
    fn is_locked(&self, id: &RunId) -> bool {
        matches!(probe_owner(&self.state.run_folder(id).lock()), Owner::Held)
    }

    fn live_runs(&self) -> Vec<RunId> {
        let started = self.experiment.progress.started.iter();
        started.filter(|id| !self.ended.contains(*id)).cloned().collect()
    }

    fn pending_runs(&self) -> impl Iterator<Item = &PlannedRun> {
        let ExperimentProgress { started, start_problems: refused, .. } = &self.experiment.progress;
        let plan = &self.experiment.plan;
        plan.runs.iter().filter(|run| !started.contains(&run.id) && !refused.contains_key(&run.id))
    }

    /// Starts the next run, or records why it cannot start.
    async fn start_next(&mut self) -> Result<(), DriverError> {
        let Some(planned) = self.pending_runs().next().cloned() else { return Ok(()) };
        let Some(start) = start_request(&self.experiment.plan, &planned, Some(self.budget_share(&planned))) else {
            return Ok(());
        };
        match self.fleet.start(start).await {
            Ok(_) => self.experiment.progress.started.push(planned.id),
            Err(error) => return self.record_refused(planned.id, error),
        }
        Ok(self.experiment.folder.save(&self.experiment.progress, &self.lock)?)
    }

    /// The remaining budget is divided among the runs that can start together with this one.
    fn budget_share(&self, planned: &PlannedRun) -> BudgetShare {
        let plan = &self.experiment.plan;
        let room =
            (plan.global_limits.slots as usize).saturating_sub(self.live_runs().len()).min(self.pending_runs().count());
        BudgetShare {
            experiment: plan.id.clone(),
            budget: plan.budget,
            divisor: u32::try_from(room.max(1)).unwrap_or(u32::MAX),
            expected_usd: plan.arms.get(planned.arm).and_then(|arm| arm.expected_cost),
        }
    }

    fn record_refused(&mut self, id: RunId, error: FleetError) -> Result<(), DriverError> {
        let put_off = |pause: Duration| Some(Instant::now() + pause);
        match error {
            FleetError::Ledger(LedgerError::TooManyStarts { wait_s, .. }) => {
                self.retry_at = put_off(Duration::from_secs(wait_s))
            }
            FleetError::Ledger(LedgerError::QueueFull(_) | LedgerError::TreeFull(1..)) => {
                self.retry_at = put_off(RETRY_DELAY)
            }
            FleetError::Ledger(LedgerError::InsufficientBudget { .. }) => self.is_budget_short = true,
            FleetError::Ledger(LedgerError::Registry(error)) | FleetError::Registry(error) => {
                tracing::warn!(error = text::error_chain(&error), "a run could not be put on disk; it is tried again");
                self.retry_at = put_off(DISK_RETRY_DELAY);
            }
            // The run is on disk; the next process that looks at it finalizes it.
            FleetError::Launch(error) if self.state.run_folder(&id).path().exists() => {
                tracing::warn!(error = text::error_chain(&error), "a run's supervisor gave up");
                self.experiment.progress.started.push(id);
                self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
            }
            // A permanent error: record the run as refused and go on with the rest.
            error @ (FleetError::Launch(_)
            | FleetError::Start(_)
            | FleetError::Steer(_)
            | FleetError::Continue(_)
            | FleetError::Experiment(_)
            | FleetError::Basis(_)
            | FleetError::Ledger(_)
            | FleetError::Interrupted(_)) => {
                self.experiment.progress.start_problems.insert(id, start_problem(&error));
                self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
            }
        }
        Ok(())
    }

    /// Waits until something may have changed.
    async fn wait_for_change(&mut self) {
        let live = self.live_runs().into_iter().map(|id| self.state.run_folder(&id).path().to_owned());
        let own = self.experiment.folder.path().to_owned();
        let is_new = live.chain([own]).fold(false, |is_new, folder| self.subscription.watch_folder(&folder) | is_new);
        if is_new {
            // Events before the watch was added are lost, so the caller checks once more.
            return;
        }
        let leaves = self.is_supervisor_exiting.then(|| Instant::now() + SUPERVISOR_EXIT_WAIT);
        let put_off = self.retry_at.filter(|until| *until > Instant::now()).into_iter().chain(leaves).min();
        tokio::select! {
            () = self.subscription.changed() => {}
            () = async { match put_off {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            } } => {}
        }
    }

    async fn cancel_remaining(&self, why: &CloseReason, ask: Option<StopRequest>) {
        let reason = match why {
            CloseReason::Stopped { reason } => reason.clone(),
            CloseReason::EnoughSucceeded => Some(format!("{} succeeded, which is enough", self.succeeded)),
            CloseReason::AllRun | CloseReason::BudgetExhausted => None,
        };
        let ask = ask.unwrap_or(StopRequest { grace: CANCEL_GRACE, reason, tree: true });
        let stops = self.live_runs().into_iter().map(|id| {
            let ask = ask.clone();
            async move {
                let patience = ask.grace + FORCE_TIMEOUT;
                if let Err(error) = self.fleet.stop(&id, ask, patience, pending()).await {
                    tracing::warn!(run = %id, error = text::error_chain(&error), "a run could not be stopped");
                }
            }
        });
        futures_util::future::join_all(stops).await;
    }

    /// Records why it ended, and writes the comparison and the manifest for other programs.
    async fn close(&mut self, why: CloseReason) -> Result<(), DriverError> {
        self.experiment.progress.closed = Some((why, Timestamp::now()));
        self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
        if let Err(error) = self.fleet.export_comparison(&self.experiment.plan.group).await {
            tracing::warn!(error = text::error_chain(&error), "the table could not be written");
        }
        if let Err(error) = self.fleet.save_group_manifest(&self.experiment.plan.group).await {
            tracing::warn!(error = text::error_chain(&error), "the manifest could not be written");
        }
        Ok(())
    }
}

/// The problem that a comparison shows for a run that was never started.
fn start_problem(error: &FleetError) -> Problem {
    if let FleetError::Start(StartError::BrokenImport(problem)) = error {
        return (**problem).clone();
    }
    let hint = "the other runs of the experiment are not touched by it; start it alone with run_massgen to see more";
    Problem { retry: Some(Retry::No), ..Problem::new("not_started", &text::error_chain(error), hint) }
}
