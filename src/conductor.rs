//! The process that conducts one experiment: starts its runs one after another as there is room and money, stops the rest where
//! enough have succeeded or somebody asks, says why it is over. Each run has its supervisor, which goes on should this one die.
//! It speaks no protocol and signals no process.

use std::collections::BTreeSet;
use std::future::pending;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep_until};

use crate::experiment::{Close, Planned, Progress, Step, Tally, next};
use crate::fleet::{Fleet, FleetError, NotStarted, start_of};
use crate::ledger::{LedgerError, Share};
use crate::massgen::text;
use crate::registry::{Experiment, ExperimentFolder, RegistryError, RunLock, StateFolder};
use crate::run::{Outcome, Problem, Retry, RunId, StopAsk};
use crate::secrets::Secrets;
use crate::supervisor::READY;
use crate::watch::{Seat, Watcher};

/// How long a start is put off where the ledger says that it has to wait for others, and does not say how long.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a start is put off where the disk does not take it.
const DISK_PAUSE: Duration = Duration::from_secs(10);
/// How long a supervisor takes to go once its run is over; it is looked again after that.
const LEAVE: Duration = Duration::from_millis(50);
/// How long the stop of a run may take, beyond its grace period, before it is left to its supervisor.
const FORCE_TIME: Duration = Duration::from_secs(30);
/// The grace period of runs that are no longer wanted.
const GRACE: Duration = Duration::from_secs(5);

/// A conductor that could not begin or end its work.
#[derive(Debug, thiserror::Error)]
pub enum ConductorError {
    /// Another conductor has the experiment, or it is over.
    #[error("`{}` has a conductor, or its experiment is over", .0.display())]
    Taken(PathBuf),
    /// The experiment could not be read or written.
    #[error("cannot keep the experiment")]
    Record(#[from] RegistryError),
    /// The runs could not be looked at.
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

/// The secrets that a conductor's log must not show.
pub fn secrets(folder: &Path) -> Secrets {
    let plan = ExperimentFolder::at(folder).load().ok().map(|experiment| experiment.plan);
    let env_file = plan.and_then(|plan| plan.arms.into_iter().find_map(|arm| arm.spec.env_file));
    let known = Secrets::from_environment(env_file.as_deref());
    known.or_else(|_| Secrets::from_environment(None)).unwrap_or_default()
}

/// Conducts the experiment in `folder` to its end. `me` is this program, to start supervisors with.
pub async fn conduct(folder: &Path, me: &Path) -> Result<(), ConductorError> {
    let failed = |operation| move |source| ConductorError::Io { operation, source };
    let taken = || ConductorError::Taken(folder.to_owned());
    // A process that leads a group already (started from a shell) cannot have a session of its own; it needs none then.
    let _leads_already = rustix::process::setsid();
    let folder_of = ExperimentFolder::at(folder);
    let lock =
        RunLock::inherited(&folder_of.lock()).map_err(failed("take the experiment's lock"))?.ok_or_else(taken)?;
    let experiment = folder_of.load()?;
    let state = folder_of.state().filter(|_| experiment.progress.closed.is_none()).ok_or_else(taken)?;
    let fleet = Fleet::new(state.clone(), me).with_secrets(secrets(folder)).within(experiment.plan.parent.clone());
    let mut conductor = Conductor::new(fleet, state, experiment, lock);
    // Whoever started this process reads no further, and may be gone.
    let _gone = writeln!(io::stdout(), "{READY}").and_then(|()| io::stdout().flush());
    conductor.conduct().await
}

struct Conductor {
    fleet: Fleet,
    state: StateFolder,
    experiment: Experiment,
    lock: RunLock,
    seat: Seat,
    /// Runs that are known to have ended.
    ended: BTreeSet<RunId>,
    succeeded: usize,
    is_short: bool,
    /// A run is over whose supervisor has not gone yet.
    is_one_leaving: bool,
    /// No start before then.
    put_off: Option<Instant>,
}

impl Conductor {
    fn new(fleet: Fleet, state: StateFolder, mut experiment: Experiment, lock: RunLock) -> Conductor {
        // A conductor before this one may have been killed between a start and its note of it.
        let begun = experiment.plan.runs.iter().map(|run| &run.id);
        let begun: Vec<RunId> = begun.filter(|id| state.folder(id).path().exists()).cloned().collect();
        let Progress { started, .. } = &mut experiment.progress;
        let missing: Vec<RunId> = begun.into_iter().filter(|id| !started.contains(id)).collect();
        started.extend(missing);
        let seat = Watcher::start().seat();
        let (ended, succeeded) = (BTreeSet::new(), 0);
        let (is_short, is_one_leaving, put_off) = (false, false, None);
        Conductor { fleet, state, experiment, lock, seat, ended, succeeded, is_short, is_one_leaving, put_off }
    }

    async fn conduct(&mut self) -> Result<(), ConductorError> {
        loop {
            let tally = self.look().await?;
            let ask = self.experiment.folder.stop_asked();
            let tally = Tally { is_stopped: ask.is_some(), ..tally };
            match next(tally, ask.as_ref().and_then(|ask| ask.reason.clone())) {
                Step::Start => self.start().await?,
                Step::Wait => self.wait().await,
                Step::Close(why) => return self.close(why).await,
                Step::StopRest(why) => {
                    self.stop_rest(&why, ask).await;
                    return self.close(why).await;
                }
            }
        }
    }

    /// Looks at the runs that live.
    async fn look(&mut self) -> Result<Tally, ConductorError> {
        self.is_one_leaving = false;
        for id in self.live() {
            let over = match self.fleet.look(&id).await {
                Ok(run) if run.state.ended().is_some() && self.is_held(&id) => {
                    self.is_one_leaving = true;
                    None
                }
                Ok(run) => run.state.ended().map(|ending| ending.outcome == Outcome::Succeeded),
                Err(FleetError::Registry(RegistryError::Unknown(_))) => Some(false),
                Err(error) => return Err(error.into()),
            };
            if let Some(has_succeeded) = over {
                self.ended.insert(id);
                self.succeeded += usize::from(has_succeeded);
                self.is_short = false;
            }
        }
        let plan = &self.experiment.plan;
        let live = self.live().len();
        let is_put_off = self.put_off.is_some_and(|until| until > Instant::now());
        let slots = if plan.parent.is_some() { plan.rules.tree_runs } else { plan.rules.slots };
        Ok(Tally {
            waiting: self.waiting().count(),
            live,
            succeeded: self.succeeded,
            keep: plan.keep,
            at_once: if is_put_off { 0 } else { slots as usize },
            is_stopped: false,
            is_short: self.is_short,
        })
    }

    /// Whether its supervisor has not gone yet: what it did not spend is given back with its last step.
    fn is_held(&self, id: &RunId) -> bool {
        RunLock::try_take(&self.state.folder(id).lock()).is_ok_and(|lock| lock.is_none())
    }

    fn live(&self) -> Vec<RunId> {
        let started = self.experiment.progress.started.iter();
        started.filter(|id| !self.ended.contains(*id)).cloned().collect()
    }

    fn waiting(&self) -> impl Iterator<Item = &Planned> {
        let Progress { started, refused, .. } = &self.experiment.progress;
        let plan = &self.experiment.plan;
        plan.runs.iter().filter(|run| !started.contains(&run.id) && !refused.contains_key(&run.id))
    }

    /// Starts the next run, or notes why it cannot be.
    async fn start(&mut self) -> Result<(), ConductorError> {
        let Some(planned) = self.waiting().next().cloned() else { return Ok(()) };
        let Some(start) = start_of(&self.experiment.plan, &planned, Some(self.share(&planned))) else { return Ok(()) };
        match self.fleet.start(start).await {
            Ok(_) => self.experiment.progress.started.push(planned.id),
            Err(error) => return self.not_started(planned.id, error),
        }
        Ok(self.experiment.folder.save(&self.experiment.progress, &self.lock)?)
    }

    /// What is left is divided among the runs that can start beside this one.
    fn share(&self, planned: &Planned) -> Share {
        let plan = &self.experiment.plan;
        let room = (plan.rules.slots as usize).saturating_sub(self.live().len()).min(self.waiting().count());
        Share {
            experiment: plan.id.clone(),
            budget: plan.budget,
            among: u32::try_from(room.max(1)).unwrap_or(u32::MAX),
            expected: plan.arms.get(planned.arm).and_then(|arm| arm.expected),
        }
    }

    fn not_started(&mut self, id: RunId, error: FleetError) -> Result<(), ConductorError> {
        let put_off = |pause: Duration| Some(Instant::now() + pause);
        match error {
            FleetError::Ledger(LedgerError::TooManyStarts { wait_s, .. }) => {
                self.put_off = put_off(Duration::from_secs(wait_s))
            }
            FleetError::Ledger(LedgerError::QueueFull(_) | LedgerError::TreeFull(1..)) => self.put_off = put_off(PAUSE),
            FleetError::Ledger(LedgerError::Short { .. }) => self.is_short = true,
            FleetError::Ledger(LedgerError::Registry(error)) | FleetError::Registry(error) => {
                tracing::warn!(error = text::chain(&error), "a run could not be put on disk; it is tried again");
                self.put_off = put_off(DISK_PAUSE);
            }
            // The run is on disk, and whoever looks at it brings it to its end.
            FleetError::Launch(error) if self.state.folder(&id).path().exists() => {
                tracing::warn!(error = text::chain(&error), "a run's supervisor gave up");
                self.experiment.progress.started.push(id);
                self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
            }
            // It will never be, so that the rest need not wait for it.
            error @ (FleetError::Launch(_)
            | FleetError::NotStarted(_)
            | FleetError::NotSteered(_)
            | FleetError::NotContinued(_)
            | FleetError::NotBegun(_)
            | FleetError::NotBuilt(_)
            | FleetError::Ledger(_)
            | FleetError::BrokenOff(_)) => {
                self.experiment.progress.refused.insert(id, problem(&error));
                self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
            }
        }
        Ok(())
    }

    /// Waits until something may have changed.
    async fn wait(&mut self) {
        let live = self.live().into_iter().map(|id| self.state.folder(&id).path().to_owned());
        let own = self.experiment.folder.path().to_owned();
        let is_new = live.chain([own]).fold(false, |is_new, folder| self.seat.add(&folder) | is_new);
        if is_new {
            // What happened before a seat was taken rang no bell.
            return;
        }
        let leaves = self.is_one_leaving.then(|| Instant::now() + LEAVE);
        let put_off = self.put_off.filter(|until| *until > Instant::now()).into_iter().chain(leaves).min();
        tokio::select! {
            () = self.seat.changed() => {}
            () = async { match put_off {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            } } => {}
        }
    }

    async fn stop_rest(&self, why: &Close, ask: Option<StopAsk>) {
        let reason = match why {
            Close::Stopped { reason } => reason.clone(),
            Close::Enough => Some(format!("{} succeeded, which is enough", self.succeeded)),
            Close::Done | Close::Spent => None,
        };
        let ask = ask.unwrap_or(StopAsk { grace: GRACE, reason, tree: true });
        let stops = self.live().into_iter().map(|id| {
            let ask = ask.clone();
            async move {
                let patience = ask.grace + FORCE_TIME;
                if let Err(error) = self.fleet.stop(&id, ask, patience, pending()).await {
                    tracing::warn!(run = %id, error = text::chain(&error), "a run could not be stopped");
                }
            }
        });
        futures_util::future::join_all(stops).await;
    }

    /// Says why it is over, and leaves the comparison and the manifest for whoever wants them outside of this program.
    async fn close(&mut self, why: Close) -> Result<(), ConductorError> {
        self.experiment.progress.closed = Some((why, Timestamp::now()));
        self.experiment.folder.save(&self.experiment.progress, &self.lock)?;
        if let Err(error) = self.fleet.table(&self.experiment.plan.group).await {
            tracing::warn!(error = text::chain(&error), "the table could not be written");
        }
        if let Err(error) = self.fleet.keep_group_manifest(&self.experiment.plan.group).await {
            tracing::warn!(error = text::chain(&error), "the manifest could not be written");
        }
        Ok(())
    }
}

/// Why a run of it was not to be. The words are for whoever reads the comparison.
fn problem(error: &FleetError) -> Problem {
    if let FleetError::NotStarted(NotStarted::Broken(problem)) = error {
        return (**problem).clone();
    }
    let hint = "the other runs of the experiment are not touched by it; start it alone with run_massgen to see more";
    Problem { retry: Some(Retry::No), ..Problem::new("not_started", &text::chain(error), hint) }
}
