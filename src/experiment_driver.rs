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

use crate::crash;
use crate::experiment::{CloseReason, ExperimentProgress, NextAction, PlannedRun, ProgressCounts, next_action};
use crate::fleet::{Fleet, FleetError, StartError, start_request};
use crate::ledger::{BudgetShare, LedgerError};
use crate::massgen::text;
use crate::registry::{Experiment, ExperimentFolder, Owner, OwnerLock, RegistryError, StateFolder, probe_owner};
use crate::run::{DEFAULT_GRACE, Outcome, Problem, Retry, RunId, Step, StopRequest};
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
        /// The operation that failed.
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

/// Drives the experiment in `folder` to its end. `program` is this program, used to start supervisors.
pub async fn drive(folder: &Path, program: &Path) -> Result<(), DriverError> {
    let io_error = |operation| move |source| DriverError::Io { operation, source };
    let locked = || DriverError::Locked(folder.to_owned());
    // A process that leads a group already (started from a shell) cannot have a session of its own; it needs none then.
    let _session = rustix::process::setsid();
    let experiment_folder = ExperimentFolder::from_path(folder);
    let lock = OwnerLock::inherited(&experiment_folder.lock())
        .map_err(io_error("take the experiment's lock"))?
        .ok_or_else(locked)?;
    let experiment = experiment_folder.load()?;
    let state = experiment_folder.state().filter(|_| experiment.progress.closed.is_none()).ok_or_else(locked)?;
    let fleet =
        Fleet::new(state.clone(), program).with_secrets(secrets(folder)).with_parent(experiment.plan.parent.clone());
    let mut driver = ExperimentDriver::new(fleet, state, experiment, lock);
    crash::point("plan-loaded");
    // A failed write does not matter: the process that started this one may have ended.
    let _written = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    driver.drive().await
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
        let on_disk = experiment.plan.runs.iter().map(|run| &run.id);
        let on_disk: Vec<RunId> = on_disk.filter(|id| state.run_folder(id).path().exists()).cloned().collect();
        let ExperimentProgress { started, .. } = &mut experiment.progress;
        let missing: Vec<RunId> = on_disk.into_iter().filter(|id| !started.contains(id)).collect();
        started.extend(missing);
        let subscription = Watcher::start().subscribe();
        let (ended, succeeded) = (BTreeSet::new(), 0);
        let (is_budget_short, is_supervisor_exiting, retry_at) = (false, false, None);
        ExperimentDriver {
            fleet,
            state,
            experiment,
            lock,
            subscription,
            ended,
            succeeded,
            is_budget_short,
            is_supervisor_exiting,
            retry_at,
        }
    }

    async fn drive(&mut self) -> Result<(), DriverError> {
        loop {
            let counts = self.refresh_counts().await?;
            let stop_request = self.experiment.folder.stop_request();
            let counts = ProgressCounts { is_stop_requested: stop_request.is_some(), ..counts };
            match next_action(counts, stop_request.as_ref().and_then(|stop_request| stop_request.reason.clone())) {
                NextAction::Start => self.start_next().await?,
                NextAction::Wait => self.wait_for_change().await,
                NextAction::Close(reason) => return self.close(reason).await,
                NextAction::CancelRemaining(reason) => {
                    self.cancel_remaining(&reason, stop_request).await;
                    return self.close(reason).await;
                }
            }
        }
    }

    /// Reads the live runs.
    async fn refresh_counts(&mut self) -> Result<ProgressCounts, DriverError> {
        self.is_supervisor_exiting = false;
        for id in self.live_runs() {
            let success = match self.fleet.run_record(&id).await {
                Ok(run) if run.state.ending().is_some() && self.is_locked(&id) => {
                    self.is_supervisor_exiting = true;
                    None
                }
                Ok(run) => run.state.ending().map(|ending| ending.outcome == Outcome::Succeeded),
                Err(FleetError::Registry(RegistryError::Unknown(_))) => Some(false),
                Err(error) => return Err(error.into()),
            };
            if let Some(has_succeeded) = success {
                self.ended.insert(id);
                self.succeeded += usize::from(has_succeeded);
                self.is_budget_short = false;
            }
        }
        let plan = &self.experiment.plan;
        let live = self.live_runs().len();
        let is_delayed = self.retry_at.is_some_and(|until| until > Instant::now());
        let slots = if plan.parent.is_some() { plan.global_limits.tree_runs } else { plan.global_limits.slots };
        Ok(ProgressCounts {
            waiting: self.pending_runs().count(),
            live,
            succeeded: self.succeeded,
            keep: plan.keep,
            max_live: if is_delayed { 0 } else { slots as usize },
            is_stop_requested: false,
            is_budget_short: self.is_budget_short,
        })
    }

    /// Whether its supervisor is still live: the supervisor returns the unused budget as its last step.
    fn is_locked(&self, id: &RunId) -> bool {
        matches!(probe_owner(&self.state.run_folder(id).lock()), Owner::Held)
    }

    fn live_runs(&self) -> Vec<RunId> {
        let started = self.experiment.progress.started.iter();
        started.filter(|id| !self.ended.contains(*id)).cloned().collect()
    }

    fn pending_runs(&self) -> impl Iterator<Item = &PlannedRun> {
        let ExperimentProgress { started, start_problems, .. } = &self.experiment.progress;
        let plan = &self.experiment.plan;
        plan.runs.iter().filter(|run| !started.contains(&run.id) && !start_problems.contains_key(&run.id))
    }

    /// Starts the next run, or records why it cannot start.
    async fn start_next(&mut self) -> Result<(), DriverError> {
        let Some(planned) = self.pending_runs().next().cloned() else { return Ok(()) };
        let Some(start) = start_request(&self.experiment.plan, &planned, Some(self.budget_share(&planned))) else {
            return Ok(());
        };
        match self.fleet.start(start).await {
            Ok(_) => {
                crash::point("run-started");
                self.experiment.progress.started.push(planned.id);
            }
            Err(error) => return self.record_refused(planned.id, error),
        }
        Ok(self.experiment.folder.save(&self.experiment.progress, &self.lock)?)
    }

    /// Divides the remaining budget among the runs that can start together with this one.
    fn budget_share(&self, planned: &PlannedRun) -> BudgetShare {
        let plan = &self.experiment.plan;
        let free_slots =
            (plan.global_limits.slots as usize).saturating_sub(self.live_runs().len()).min(self.pending_runs().count());
        BudgetShare {
            experiment: plan.id.clone(),
            budget: plan.budget,
            divisor: u32::try_from(free_slots.max(1)).unwrap_or(u32::MAX),
            expected_usd: plan.arms.get(planned.arm).and_then(|arm| arm.expected_cost),
        }
    }

    fn record_refused(&mut self, id: RunId, error: FleetError) -> Result<(), DriverError> {
        let retry_after = |pause: Duration| Some(Instant::now() + pause);
        match error {
            FleetError::Ledger(LedgerError::TooManyStarts { wait_s, .. }) => {
                self.retry_at = retry_after(Duration::from_secs(wait_s))
            }
            FleetError::Ledger(LedgerError::QueueFull(_) | LedgerError::TreeFull(1..)) => {
                self.retry_at = retry_after(RETRY_DELAY)
            }
            FleetError::Ledger(LedgerError::InsufficientBudget { .. }) => self.is_budget_short = true,
            FleetError::Ledger(LedgerError::Registry(error)) | FleetError::Registry(error) => {
                tracing::warn!(error = text::error_chain(&error), "a run could not be put on disk; it is tried again");
                self.retry_at = retry_after(DISK_RETRY_DELAY);
            }
            // The run is on disk; the next process that looks at it finalizes it.
            FleetError::Launch(error) if self.state.run_folder(&id).path().exists() => {
                tracing::warn!(error = text::error_chain(&error), "a run's supervisor gave up");
                self.experiment.progress.started.push(id);
                self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
            }
            // A permanent error: record the run as refused and continue with the rest.
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
        let experiment_folder = self.experiment.folder.path().to_owned();
        let is_new = live
            .chain([experiment_folder])
            .fold(false, |is_new, folder| self.subscription.watch_folder(&folder) | is_new);
        if is_new {
            // Events before the watch was added are lost, so the caller checks once more.
            return;
        }
        let exit_check_at = self.is_supervisor_exiting.then(|| Instant::now() + SUPERVISOR_EXIT_WAIT);
        let wake_at = self.retry_at.filter(|until| *until > Instant::now()).into_iter().chain(exit_check_at).min();
        tokio::select! {
            () = self.subscription.changed() => {}
            () = async { match wake_at {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            } } => {}
        }
    }

    async fn cancel_remaining(&self, close_reason: &CloseReason, stop_request: Option<StopRequest>) {
        let reason = match close_reason {
            CloseReason::Stopped { reason } => reason.clone(),
            CloseReason::EnoughSucceeded => Some(format!("{} succeeded, which is enough", self.succeeded)),
            CloseReason::AllRun | CloseReason::BudgetExhausted => None,
        };
        let stop_request = stop_request.unwrap_or(StopRequest { grace: DEFAULT_GRACE, reason, tree: true });
        let stops = self.live_runs().into_iter().map(|id| {
            let stop_request = stop_request.clone();
            async move {
                let timeout = stop_request.grace + FORCE_TIMEOUT;
                if let Err(error) = self.fleet.stop(&id, stop_request, timeout, pending()).await {
                    tracing::warn!(run = %id, error = text::error_chain(&error), "a run could not be stopped");
                }
            }
        });
        futures_util::future::join_all(stops).await;
    }

    /// Records why it ended, and writes the comparison and the manifest for other programs.
    async fn close(&mut self, reason: CloseReason) -> Result<(), DriverError> {
        crash::point("experiment-ending");
        self.experiment.progress.closed = Some((reason, Timestamp::now()));
        self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
        crash::point("experiment-closed");
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
    let hint = Step::StartAlone;
    Problem { retry: Some(Retry::No), ..Problem::new("not_started", &text::error_chain(error), hint) }
}
