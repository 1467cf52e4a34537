//! The client side of experiments: starts one, resumes an interrupted one, lists its runs that have not started, stops it.
//! The driver of an experiment starts the runs; this module never does.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::start::{client_id, forecasts, hash, is_own, server_id};
use super::{ConfigKeys, Fleet, FleetError, Forecast, Selection, StartLimits, StartRequest, blocking, launcher};
use crate::experiment::{Arm, CloseReason, ExperimentPlan, PlannedRun, RunGrid};
use crate::ledger::{BudgetShare, DEDUP_WINDOW, Ledger, LedgerError};
use crate::registry::{Experiment, ExperimentFolder, OwnerLock, RegistryError, StateFolder, initial_record};
use crate::run::{Cap, Ending, Exit, Moment, Origin, Outcome, RunId, RunRecord, RunState, Spend, StopRequest, Usd};

/// The most runs of an experiment.
pub const MAX_EXPERIMENT_RUNS: usize = 1_000;

/// The request for an experiment.
#[derive(Debug, Clone)]
pub struct ExperimentRequest {
    /// The label of its runs; generated if none is given.
    pub group: Option<String>,
    /// Its arms: the name of each and a start for it; the question of that start is ignored.
    pub arms: Vec<(String, StartRequest)>,
    /// The question for each arm.
    pub questions: Vec<String>,
    /// How many times each arm gets the question; at least 1.
    pub repeat: u32,
    /// The number of successes after which no more runs start.
    pub keep: Option<usize>,
    /// The budget of all runs together.
    pub budget: Cap,
    /// The agent's full request, in one text.
    pub request: String,
    /// The agent's key for the request.
    pub request_key: Option<String>,
    /// Whether an identical recent request may start a second experiment.
    pub fresh: bool,
}

/// An experiment that was started, now or earlier.
#[derive(Debug)]
pub struct StartedExperiment {
    /// The experiment.
    pub experiment: Experiment,
    /// Whether the same request had started it earlier.
    pub is_reused: bool,
    /// Whether it was interrupted and resumes now.
    pub is_resumed: bool,
}

/// An experiment and whether its driver is live.
#[derive(Debug)]
pub struct ExperimentStatus {
    /// Its progress.
    pub experiment: Experiment,
    /// Whether its driver is live.
    pub has_live_driver: bool,
}

/// Why an experiment was not started.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// Other runs have this label.
    #[error("the group `{0}` is in use by other runs")]
    GroupTaken(String),
    /// The same key was given with another request.
    #[error("the request_key belongs to another request, which began {0}")]
    KeyReused(String),
    /// The run is planned and not started, so it cannot be changed separately.
    #[error("{run} waits for its turn in the experiment `{group}`")]
    RunIsPlanned {
        /// The run.
        run: RunId,
        /// Its group.
        group: String,
    },
    /// A single run was requested with the label of an experiment.
    #[error("the group `{0}` is an experiment, which has its own runs")]
    GroupIsExperiment(String),
}

impl Fleet {
    /// Starts an experiment, or resumes it if the same request started it and it has no live driver any more. When this
    /// returns, the plan is on disk and its driver is live.
    pub async fn start_experiment(&self, request: ExperimentRequest) -> Result<StartedExperiment, FleetError> {
        let keys = request.arms.iter().enumerate().flat_map(|(arm, (_, start))| arm_keys(arm, start)).collect();
        let fleet = self.clone();
        let (folder, lock, is_reused) = blocking(move || fleet.create_or_resume(&request)).await??;
        let is_resumed = is_reused && lock.is_some();
        if let Some(lock) = lock {
            let owner = launcher::OwnerProcess { subcommand: "conduct", folder: folder.path(), log: folder.log() };
            launcher::launch(&self.program, owner, lock, keys).await?;
        }
        let experiment = blocking(move || folder.load()).await??;
        Ok(StartedExperiment { experiment, is_reused, is_resumed })
    }

    /// The group of the existing experiment that the request would return. It starts nothing; an error if the group or the key is
    /// taken.
    pub async fn preview_experiment(&self, request: ExperimentRequest) -> Result<Option<String>, FleetError> {
        let fleet = self.clone();
        blocking(move || match fleet.find_duplicate(&request)? {
            Some(experiment) => Ok(Some(experiment.plan.group)),
            None => fleet.check_startable(&request).map(|()| None),
        })
        .await?
    }

    /// The spend of an experiment, plus the reservations of its live runs.
    pub async fn experiment_charge(&self, experiment: &str) -> Result<Spend, FleetError> {
        let (ledger, experiment) = (Ledger::new(&self.state), experiment.to_owned());
        Ok(blocking(move || ledger.experiment_charge(&experiment)).await??)
    }

    /// Prevents further starts in the experiment of a group, and returns whether there was an open one; its driver stops live runs.
    /// An experiment without a driver is closed here.
    pub async fn stop_experiment(&self, selection: &Selection, stop_request: &StopRequest) -> Result<bool, FleetError> {
        let Selection::Group(group) = selection else { return Ok(false) };
        let (folder, stop_request) = (self.state.experiment(group), stop_request.clone());
        blocking(move || {
            if !folder.path().exists() || folder.load()?.progress.closed.is_some() {
                return Ok(false);
            }
            folder.request_stop(&stop_request)?;
            if let Some(lock) = take_abandoned(&folder.load()?)? {
                let mut progress = folder.load()?.progress;
                progress
                    .closed
                    .get_or_insert_with(|| (CloseReason::Stopped { reason: stop_request.reason }, Timestamp::now()));
                folder.save(&progress, &lock)?;
            }
            Ok(true)
        })
        .await?
    }

    /// The groups of the running experiments that this process may stop together: for a process that is part of a run, those that
    /// this run started (those of its descendants end with their runs). With the project `own`, only those that its client requested
    /// there.
    pub async fn live_experiments(&self, own: Option<&Path>) -> Result<Vec<Selection>, FleetError> {
        let (state, parent, own) = (self.state.clone(), self.parent.clone(), own.map(Path::to_owned));
        let is_in_scope = move |experiment: &Experiment| {
            let plan = &experiment.plan;
            let is_requested_in = |project: &PathBuf| plan.arms.iter().any(|arm| is_own(&arm.spec.origin, project));
            let is_selected =
                if parent.is_some() { plan.parent == parent } else { own.as_ref().is_none_or(is_requested_in) };
            experiment.progress.closed.is_none() && is_selected
        };
        let found =
            blocking(move || state.list_experiments().into_iter().filter(is_in_scope).collect::<Vec<_>>()).await?;
        Ok(found.into_iter().map(|experiment| Selection::Group(experiment.plan.group)).collect())
    }

    /// Whether its experiment has planned this run and not started it.
    pub fn is_planned(&self, run: &RunRecord) -> bool {
        run.spec.origin.experiment.is_some() && !self.run_folder(&run.spec.id).path().exists()
    }

    /// Refuses the group or key of an experiment for a single run: the budget and the end of the experiment would not include that run.
    pub(super) fn check_no_experiment_member(&self, start: &StartRequest) -> Result<(), ExperimentError> {
        let group = start.spec.group.as_ref();
        if let Some(taken) = group.filter(|group| self.state.experiment(group).path().exists()) {
            return Err(ExperimentError::GroupIsExperiment(taken.clone()));
        }
        let Some(key) = start.request_key.as_ref().map(|key| hash(&[key])) else { return Ok(()) };
        let experiment = self
            .state
            .list_experiments()
            .into_iter()
            .find(|experiment| experiment.plan.key_hash.as_ref() == Some(&key));
        experiment.map_or(Ok(()), |experiment| Err(ExperimentError::KeyReused(experiment.plan.group)))
    }

    /// Refuses a request for a planned run: it has no folder to write the request to.
    pub fn check_is_started(&self, run: &RunRecord) -> Result<(), ExperimentError> {
        if !self.is_planned(run) {
            return Ok(());
        }
        let group = run.spec.group.clone().unwrap_or_default();
        Err(ExperimentError::RunIsPlanned { run: run.spec.id.clone(), group })
    }

    /// The folder of the experiment, its lock if a driver has to be started, and whether the experiment existed before.
    fn create_or_resume(
        &self,
        request: &ExperimentRequest,
    ) -> Result<(ExperimentFolder, Option<OwnerLock>, bool), FleetError> {
        let _lock = self.state.lock_experiments()?;
        if let Some(experiment) = self.find_duplicate(request)? {
            let lock = take_abandoned(&experiment)?;
            return Ok((experiment.folder, lock, true));
        }
        self.check_startable(request)?;
        let plan = self.build_plan(request)?;
        let (folder, lock) = self.state.create_experiment(&plan)?;
        Ok((folder, Some(lock), false))
    }

    /// The experiment that the same request has started, if any.
    fn find_duplicate(&self, request: &ExperimentRequest) -> Result<Option<Experiment>, FleetError> {
        let (request_hash, key) = (hash(&[&request.request]), request.request_key.as_ref().map(|key| hash(&[key])));
        let all = self.state.list_experiments();
        if let Some(experiment) = all.iter().find(|experiment| key.is_some() && experiment.plan.key_hash == key) {
            if experiment.plan.request_hash == request_hash {
                return Ok(Some(experiment.clone()));
            }
            return Err(ExperimentError::KeyReused(experiment.plan.group.clone()).into());
        }
        if let Some(run) = key.as_ref().map(|key| Ledger::new(&self.state).run_for_key(key)).transpose()?.flatten() {
            return Err(ExperimentError::KeyReused(run.to_string()).into());
        }
        if let Some(group) = &request.group {
            let has_group = |experiment: &&Experiment| experiment.plan.group == *group;
            return match all.into_iter().find(|experiment| has_group(&experiment)) {
                Some(experiment) if experiment.plan.request_hash == request_hash && key.is_none() && !request.fresh => {
                    Ok(Some(experiment))
                }
                Some(_) => Err(ExperimentError::GroupTaken(group.clone()).into()),
                None => Ok(None),
            };
        }
        let is_recent_duplicate = |experiment: &Experiment| {
            let age = Duration::try_from(Timestamp::now().duration_since(experiment.plan.created));
            experiment.plan.request_hash == request_hash
                && experiment.plan.client == client_id()
                && (age.is_ok_and(|age| age <= DEDUP_WINDOW) || is_interrupted(experiment))
        };
        Ok(all.into_iter().find(|experiment| key.is_none() && !request.fresh && is_recent_duplicate(experiment)))
    }

    /// Refuses a group that already has single runs.
    fn check_group_is_free(&self, request: &ExperimentRequest) -> Result<(), FleetError> {
        let Some(group) = &request.group else { return Ok(()) };
        let has_group = |id: &RunId| self.state.load(id).is_ok_and(|run| run.spec.group.as_ref() == Some(group));
        match self.state.list()?.iter().any(has_group) {
            true => Err(ExperimentError::GroupTaken(group.clone()).into()),
            false => Ok(()),
        }
    }

    /// Refuses the experiment if a permanent problem prevents all its runs; the driver waits for temporary problems to pass.
    fn check_startable(&self, request: &ExperimentRequest) -> Result<(), FleetError> {
        self.check_group_is_free(request)?;
        for (_, start) in &request.arms {
            for question in &request.questions {
                let mut start = start.clone();
                start.spec.question.clone_from(question);
                let (mut admission, _spec) = self.admission_request(&start)?;
                // Request at most the per-run cap from the ledger, not the experiment's whole budget.
                let max_cap = request.budget.component_min(admission.max_cap);
                admission.requested_cap =
                    Cap { usd: request.budget.usd.and(max_cap.usd), tokens: request.budget.tokens.and(max_cap.tokens) };
                match Ledger::new(&self.state).preview(&admission) {
                    Ok(_) => {}
                    Err(error) if is_transient(&error) => {}
                    Err(error) => return Err(error.into()),
                }
                if self.parent.is_none() {
                    // Without a parent run, nothing depends on the question.
                    break;
                }
            }
        }
        Ok(())
    }

    fn build_plan(&self, request: &ExperimentRequest) -> Result<ExperimentPlan, FleetError> {
        let id = self.state.new_id()?.as_str().replace("mg-", "ex-");
        let group = request.group.clone().unwrap_or_else(|| id.clone());
        let hashes: Vec<&str> = request.arms.iter().map(|(_, start)| start.spec.config_hash.as_str()).collect();
        let forecasts = forecasts(&self.state, &hashes)?;
        let arm = |((label, start), forecast): (&(String, StartRequest), Option<Forecast>)| {
            let mut spec = start.spec.clone();
            spec.group = Some(group.clone());
            spec.allowance = start.limits.per_run.clone();
            spec.origin = Origin {
                server: server_id().to_owned(),
                client: client_id().to_owned(),
                project: spec.project.clone(),
                experiment: Some(id.clone()),
                ..Origin::default()
            };
            let config = start.config.as_ref().map(|(name, text)| ((*name).to_owned(), text.clone()));
            let expected_cost =
                forecast.and_then(|forecast| Usd::from_f64(forecast.cost_usd?)).filter(|usd| *usd > Usd(0));
            let expected_duration = forecast.map(|forecast| Duration::from_secs(forecast.took_s));
            Arm { label: label.clone(), spec, config, expected_cost, expected_duration }
        };
        let grid = RunGrid { arms: request.arms.len(), questions: request.questions.len(), repeat: request.repeat };
        let run = |(arm, question, repeat)| Ok(PlannedRun { id: self.state.new_id()?, arm, question, repeat });
        Ok(ExperimentPlan {
            arms: request.arms.iter().zip(forecasts).map(arm).collect(),
            questions: request.questions.clone(),
            runs: grid.in_order().map(run).collect::<Result<_, RegistryError>>()?,
            created: Timestamp::now(),
            budget: request.budget,
            keep: request.keep,
            global_limits: request.arms.first().map(|(_, start)| start.limits.global).unwrap_or_default(),
            request_hash: hash(&[&request.request]),
            key_hash: request.request_key.as_ref().map(|key| hash(&[key])),
            client: client_id().to_owned(),
            parent: self.parent.clone(),
            id,
            group,
        })
    }
}

/// Whether an open experiment has lost its driver.
fn is_interrupted(experiment: &Experiment) -> bool {
    experiment.progress.closed.is_none() && !experiment.folder.has_live_driver()
}

/// The lock of an open experiment that has lost its driver; `None` if it has a driver, if that is unknown, or if it is closed.
fn take_abandoned(experiment: &Experiment) -> Result<Option<OwnerLock>, RegistryError> {
    let (folder, path) = (&experiment.folder, experiment.folder.lock());
    if !is_interrupted(experiment) {
        return Ok(None);
    }
    let taken = OwnerLock::try_take(&path).map_err(|source| RegistryError::Io { operation: "lock", path, source })?;
    // The driver may have closed the experiment before its lock became free.
    let is_closed = taken.is_some() && folder.load()?.progress.closed.is_some();
    Ok(taken.filter(|_| !is_closed))
}

/// Whether the problem may pass without a change by the caller.
fn is_transient(error: &LedgerError) -> bool {
    match error {
        LedgerError::TooManyStarts { .. } | LedgerError::QueueFull(_) => true,
        LedgerError::TreeFull(max_runs) => *max_runs > 0,
        LedgerError::Registry(_)
        | LedgerError::KeyReused(_)
        | LedgerError::ParentStopping(_)
        | LedgerError::AboveRunCap { .. }
        | LedgerError::NewerVersion { .. }
        | LedgerError::InsufficientBudget { .. } => false,
    }
}

/// The name prefix of a driver's variables that hold the keys of an arm's config.
fn arm_key_prefix(arm: usize) -> String {
    format!("MASSGEN_MCP_ARM_{}_", arm + 1)
}

fn arm_keys(arm: usize, start: &StartRequest) -> Vec<(String, String)> {
    let named = start.keys.0.iter();
    named.map(|(name, value)| (format!("{}{name}", arm_key_prefix(arm)), value.clone())).collect()
}

/// The keys of an arm's config, as its driver received them.
pub fn arm_keys_from_env(arm: usize) -> ConfigKeys {
    let prefix = arm_key_prefix(arm);
    let all =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    ConfigKeys(all.filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), value))).collect())
}

/// The plans of experiments, for runs that have no folder because they were not started.
#[derive(Default)]
pub(super) struct ExperimentPlans(Vec<Experiment>);

impl ExperimentPlans {
    pub(super) fn for_group(state: &StateFolder, group: &str) -> ExperimentPlans {
        ExperimentPlans(state.experiment(group).load().into_iter().collect())
    }

    pub(super) fn all(state: &StateFolder) -> ExperimentPlans {
        ExperimentPlans(state.list_experiments())
    }

    pub(super) fn into_first(self) -> Option<Experiment> {
        self.0.into_iter().next()
    }

    /// The runs that were not started, in their planned order.
    pub(super) fn unstarted_runs(&self) -> impl Iterator<Item = &RunId> {
        self.0.iter().flat_map(|experiment| {
            let is_unstarted = |run: &&PlannedRun| !experiment.progress.started.contains(&run.id);
            experiment.plan.runs.iter().filter(is_unstarted).map(|run| &run.id)
        })
    }

    /// A run that was not started, as a record.
    pub(super) fn unstarted_record(&self, id: &RunId) -> Option<RunRecord> {
        self.0.iter().find_map(|experiment| {
            let planned = experiment.plan.runs.iter().find(|run| run.id == *id)?;
            let is_unstarted = !experiment.progress.started.contains(id);
            let spec = experiment.plan.spec(planned).filter(|_| is_unstarted)?;
            Some(RunRecord { state: unstarted_state(experiment, id), ..initial_record(spec) })
        })
    }
}

/// The state of a run that was not started.
fn unstarted_state(experiment: &Experiment, id: &RunId) -> RunState {
    let progress = &experiment.progress;
    let never_started = |outcome, wall| {
        let at = Moment { wall, boot_ms: 0, boot_id: String::new() };
        RunState::Ended(Ending {
            outcome,
            exit: Exit::NeverStarted,
            ended_at: at,
            duration: Duration::ZERO,
            answer: None,
            stop: None,
            warnings: Vec::new(),
        })
    };
    match (progress.start_problems.get(id), &progress.closed) {
        (Some(problem), closed) => {
            let at = closed.as_ref().map_or(experiment.plan.created, |(_, at)| *at);
            never_started(Outcome::Failed(problem.clone()), at)
        }
        (None, Some((why, at))) => {
            never_started(Outcome::Killed { reason: Some(not_started_message(why)), problem: None }, *at)
        }
        (None, None) => RunState::Queued,
    }
}

fn not_started_message(why: &CloseReason) -> String {
    let why = match why {
        CloseReason::AllRun => "its experiment is over",
        CloseReason::EnoughSucceeded => "enough others succeeded (keep)",
        CloseReason::BudgetExhausted => "the budget of its experiment was spent",
        CloseReason::Stopped { reason: Some(reason) } => reason,
        CloseReason::Stopped { reason: None } => "its experiment was stopped",
    };
    format!("not started: {why}")
}

/// The start of a planned run, as its driver requests it.
pub fn start_request(plan: &ExperimentPlan, planned: &PlannedRun, share: Option<BudgetShare>) -> Option<StartRequest> {
    let arm = plan.arms.get(planned.arm)?;
    let spec = plan.spec(planned)?;
    let config = arm
        .config
        .as_ref()
        .map(|(name, text)| (if name.ends_with(".json") { "config.json" } else { "config.yaml" }, text.clone()));
    Some(StartRequest {
        config,
        keys: arm_keys_from_env(planned.arm),
        requested_cap: Cap::default(),
        limits: StartLimits { per_run: spec.allowance.clone(), global: plan.global_limits },
        request: format!("{} {}", plan.id, planned.id),
        request_key: None,
        fresh: true,
        share,
        spec,
    })
}
