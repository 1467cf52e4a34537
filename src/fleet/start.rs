//! Starts a run: checks the caller, the permission and the budget; then makes its folder, its lock and its supervisor.
//! All decisions are made while the ledger is locked, so that several servers together keep the operator's limits.

use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::answer_basis::BasisFiles;
use super::conversation::SessionFiles;
use super::{Fleet, FleetError, blocking, launcher};
use crate::ledger::{Admission, AdmissionDecision, AdmissionRequest, BudgetShare, Ledger, RequestIdentity};
use crate::massgen::broken_import;
use crate::massgen::pages::hex;
use crate::massgen::text::error_chain;
use crate::registry::{FAILED_IMPORTS_FOLDER, InitialFiles, OwnerLock, RegistryError, RunFolder, StateFolder};
use crate::run::{
    Allowance, Cap, GlobalLimits, Lineage, ModelPrice, Origin, Outcome, Problem, RunId, RunRecord, RunSpec, Unpriced,
    Usd,
};
use crate::settings::{Settings, UnknownCost};
use crate::supervisor::group;

/// The request for a run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The requested spec; the start adds its lineage and its cap.
    pub spec: RunSpec,
    /// The checked config, without the question: its name in the run's folder, and its text. `None` for a rehearsal.
    pub config: Option<(&'static str, String)>,
    /// Keys that the config contained, by the variables that pass them to MassGen.
    pub keys: ConfigKeys,
    /// The most that the agent wants it to spend.
    pub requested_cap: Cap,
    /// The operator's limits.
    pub limits: StartLimits,
    /// The agent's full request, in one text: identical requests have the same text.
    pub request: String,
    /// The agent's key for the request.
    pub request_key: Option<String>,
    /// Whether an identical recent request may start a second run.
    pub fresh: bool,
    /// Its share of the budget of an experiment.
    pub share: Option<BudgetShare>,
}

/// Keys by the variables that hold them. Never shown.
#[derive(Clone, Default)]
pub struct ConfigKeys(pub Vec<(String, String)>);

impl std::fmt::Debug for ConfigKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

/// The operator's limits, in the types of runs.
#[derive(Debug, Clone)]
pub struct StartLimits {
    /// The limits of each run.
    pub per_run: Allowance,
    /// The limits of all runs together.
    pub global: GlobalLimits,
}

/// A run that was started, now or earlier.
#[derive(Debug)]
pub struct StartedRun {
    /// The run.
    pub record: RunRecord,
    /// Whether the same request had started it earlier.
    pub is_reused: bool,
}

/// A permanent refusal: a recursive or too deep start, or a MassGen that does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Too many generations.
    #[error("runs may be nested {most} deep, and this one would be the generation below")]
    TooDeep {
        /// The most.
        most: u32,
    },
    /// An ancestor runs the same config and question.
    #[error("{ancestor}, which this run would be part of, has the same config and the same question")]
    SameAsAncestor {
        /// The ancestor.
        ancestor: RunId,
    },
    /// MassGen cannot be imported.
    #[error("{}", .0.message)]
    BrokenImport(Box<Problem>),
}

impl From<&Settings> for StartLimits {
    fn from(settings: &Settings) -> StartLimits {
        let (limits, spending) = (&settings.limits, &settings.spending);
        let usd = |dollars: f64| Usd::from_f64(dollars).unwrap_or_default();
        let price = |price: crate::settings::Price| ModelPrice { input: usd(price.input), output: usd(price.output) };
        let prices = spending.prices.iter().map(|(model, known)| (model.to_owned(), price(known)));
        StartLimits {
            per_run: Allowance {
                cap: Cap { usd: spending.budget_usd.map(usd), tokens: spending.max_tokens },
                unpriced: match spending.unknown_cost {
                    UnknownCost::Warn => Unpriced::Warn,
                    UnknownCost::Deny => Unpriced::Deny,
                    UnknownCost::Estimate => Unpriced::Estimate,
                },
                prices: prices.collect(),
                slots: limits.max_runs,
                depth: limits.max_depth,
                tree_runs: limits.max_tree_runs,
            },
            global: GlobalLimits {
                slots: limits.max_runs,
                queue: limits.max_queue,
                tree_runs: limits.max_tree_runs,
                starts_per_minute: limits.starts_per_minute,
                server_usd: spending.server_budget_usd.map(usd),
                day_usd: spending.day_budget_usd.map(usd),
            },
        }
    }
}

impl Fleet {
    /// Starts a run, unless the same request did. When this returns, the run is on disk, its supervisor is live, and the run is
    /// queued, or waits for the import of a warm process, or MassGen's process is recorded, or its ending is.
    pub async fn start(&self, start: StartRequest) -> Result<StartedRun, FleetError> {
        let (keys, spec) = (start.keys.0.clone(), start.spec.clone());
        // Done before the ledger is locked: copying a workspace may take long.
        let history = match &start.spec.continuation {
            Some(continued) => Some(self.stage_session(continued).await?),
            None => None,
        };
        let basis = match &start.spec.basis {
            Some(basis) => Some(self.stage_basis(basis).await?),
            None => None,
        };
        let fleet = self.clone();
        let (id, made) = match blocking(move || fleet.admit(start, history, basis)).await?? {
            (id, Admission::New { made }) => (id, Some(made)),
            (_, Admission::Duplicate(known)) => (known, None),
        };
        let is_reused = made.is_none();
        if let Some((folder, lock)) = made {
            self.ensure_warm_process(&spec).await;
            let owner =
                launcher::OwnerProcess { subcommand: "supervise", folder: folder.path(), log: folder.supervisor_log() };
            launcher::launch(&self.program, owner, lock, keys).await?;
        }
        Ok(StartedRun { record: self.run_record(&id).await?, is_reused })
    }

    /// What the ledger would grant a start, without starting.
    pub async fn preview_start(&self, start: StartRequest) -> Result<AdmissionDecision, FleetError> {
        let fleet = self.clone();
        let decision = blocking(move || {
            fleet.check_no_experiment_member(&start)?;
            let (request, _spec) = fleet.admission_request(&start)?;
            Ok::<_, FleetError>(Ledger::new(&fleet.state).preview(&request)?)
        });
        decision.await?
    }

    fn admit(
        &self,
        start: StartRequest,
        history: Option<SessionFiles>,
        basis: Option<BasisFiles>,
    ) -> Result<(RunId, Admission<(RunFolder, OwnerLock)>), FleetError> {
        if let Some(problem) =
            broken_import::known_problem(&start.spec.program, &self.state.root().join(FAILED_IMPORTS_FOLDER))
        {
            return Err(StartError::BrokenImport(Box::new(problem)).into());
        }
        if start.share.is_none() && start.spec.origin.experiment.is_none() {
            self.check_no_experiment_member(&start)?;
        }
        let (request, mut spec) = self.admission_request(&start)?;
        let session = history.as_ref().map(SessionFiles::session);
        let effective = self.effective_config(&start, basis.as_ref())?;
        let config = effective.as_ref().map(|(name, text)| (*name, text.as_str()));
        let basis_folder = basis.as_ref().map(BasisFiles::folder);
        let initial_files = InitialFiles { config, session: session.as_deref(), basis: basis_folder.as_deref() };
        let admission = Ledger::new(&self.state).admit(&request, |cap| {
            spec.allowance.cap = cap;
            // A run of an experiment is planned long before it starts. Take the time while the ledger is locked, so that runs
            // appear in the order of their creation: a cursor relies on that order.
            spec.created = Timestamp::now();
            let made = self.state.create(&spec, initial_files)?;
            if let Some(parent) = &spec.lineage.parent {
                self.state.run_folder(parent).record_child(&spec.id)?;
            }
            if let Some(answer_basis) = &spec.basis
                && let Err(error) = self.state.run_folder(&answer_basis.run).record_dependent(&spec.id)
            {
                tracing::warn!(run = %answer_basis.run, error = error_chain(&error), "that it was built on could not be noted");
            }
            Ok::<_, RegistryError>(made)
        })?;
        Ok((request.id, admission))
    }

    /// The request to the ledger, and the parts of the run's spec that are known before the ledger grants it.
    pub(super) fn admission_request(&self, start: &StartRequest) -> Result<(AdmissionRequest, RunSpec), FleetError> {
        let mut spec = start.spec.clone();
        let mut global_limits = start.limits.global;
        spec.allowance = start.limits.per_run.clone();
        // The runs of an experiment belong to the server that received the request.
        let or_own = |name: String, own: &str| if name.is_empty() { own.to_owned() } else { name };
        spec.origin = Origin {
            server: or_own(spec.origin.server, server_id()),
            client: or_own(spec.origin.client, client_id()),
            project: spec.project.clone(),
            request_hash: hash(&[&start.request]),
            key_hash: start.request_key.as_ref().map(|key| hash(&[key])),
            experiment: spec.origin.experiment,
        };
        if let Some(parent) = &self.parent {
            self.apply_parent_limits(parent, &mut spec)?;
            global_limits.tree_runs = spec.allowance.tree_runs;
        }
        let request = AdmissionRequest {
            id: spec.id.clone(),
            lineage: spec.lineage.clone(),
            requested_cap: start.requested_cap,
            max_cap: spec.allowance.cap,
            global_limits,
            share: start.share.clone(),
            server: spec.origin.server.clone(),
            identity: RequestIdentity {
                request_hash: spec.origin.request_hash.clone(),
                content_hash: content_hash(&spec),
                key_hash: spec.origin.key_hash.clone(),
                client: (!start.fresh).then(|| client_id().to_owned()),
            },
        };
        Ok((request, spec))
    }

    /// Makes the run a child of its parent: a server that an agent started cannot exceed the limits of its tree.
    fn apply_parent_limits(&self, parent: &RunId, spec: &mut RunSpec) -> Result<(), FleetError> {
        let parent_spec = self.state.load(parent)?.spec;
        let allowance = &mut spec.allowance;
        allowance.depth = allowance.depth.min(parent_spec.allowance.depth);
        allowance.tree_runs = allowance.tree_runs.min(parent_spec.allowance.tree_runs);
        allowance.cap = allowance.cap.component_min(parent_spec.allowance.cap);
        (allowance.unpriced, allowance.prices) = (parent_spec.allowance.unpriced, parent_spec.allowance.prices);
        let depth = parent_spec.lineage.depth + 1;
        if depth > allowance.depth {
            return Err(StartError::TooDeep { most: allowance.depth }.into());
        }
        let Origin { server, client, project, .. } = parent_spec.origin;
        spec.origin = Origin { server, client, project, ..std::mem::take(&mut spec.origin) };
        spec.lineage = Lineage { parent: Some(parent.clone()), root: parent_spec.lineage.root, depth };
        self.check_not_repeated(parent, spec)
    }

    fn check_not_repeated(&self, parent: &RunId, spec: &RunSpec) -> Result<(), FleetError> {
        let mut next = Some(parent.clone());
        while let Some(ancestor) = next {
            let ancestor_spec = self.state.load(&ancestor)?.spec;
            let same_question =
                ancestor_spec.question.trim() == spec.question.trim() && ancestor_spec.basis == spec.basis;
            if ancestor_spec.config_hash == spec.config_hash && same_question {
                return Err(StartError::SameAsAncestor { ancestor }.into());
            }
            next = ancestor_spec.lineage.parent;
        }
        Ok(())
    }
}

/// The medians of earlier successful runs of a config.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// The number of runs.
    pub runs: usize,
    /// Seconds from start to end.
    pub took_s: u64,
    /// US dollars, if known.
    pub cost_usd: Option<f64>,
    /// Input and output tokens.
    pub tokens: u64,
}

/// How many of the latest runs a forecast reads.
const MAX_FORECAST_RUNS: usize = 300;

impl Fleet {
    /// The medians of the latest runs of the same config; `None` without such runs.
    pub async fn forecast(&self, config_hash: &str) -> Result<Option<Forecast>, FleetError> {
        let (state, hash) = (self.state.clone(), config_hash.to_owned());
        Ok(blocking(move || forecasts(&state, &[&hash])).await??.pop().flatten())
    }
}

/// The results of the latest runs of some configs, one by one.
pub(super) fn forecasts(state: &StateFolder, hashes: &[&str]) -> Result<Vec<Option<Forecast>>, RegistryError> {
    let ids = state.latest(MAX_FORECAST_RUNS)?;
    let records: Vec<RunRecord> = ids.iter().filter_map(|id| state.load(id).ok()).collect();
    let forecast = |hash: &&str| forecast_from(records.iter().filter(|record| record.spec.config_hash == **hash));
    Ok(hashes.iter().map(forecast).collect())
}

fn forecast_from<'a>(records: impl Iterator<Item = &'a RunRecord>) -> Option<Forecast> {
    let ended = records.filter_map(|record| Some((record, record.state.ending()?)));
    let succeeded: Vec<_> = ended.filter(|(_, ending)| ending.outcome == Outcome::Succeeded).collect();
    let mut times: Vec<u64> = succeeded.iter().map(|(_, ending)| ending.duration.as_secs()).collect();
    let mut tokens: Vec<u64> = succeeded.iter().map(|(record, _)| record.total_spent().tokens).collect();
    let priced = succeeded.iter().filter(|(record, _)| !record.total_spent().is_unpriced);
    let mut costs: Vec<u64> = priced.map(|(record, _)| record.total_spent().usd.0).collect();
    let cost_usd = median(&mut costs).map(|micro| Usd(micro).as_f64());
    Some(Forecast { runs: succeeded.len(), took_s: median(&mut times)?, cost_usd, tokens: median(&mut tokens)? })
}

fn median(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// The fingerprint of a request: a changed config or question file makes the same words a different request.
fn content_hash(spec: &RunSpec) -> String {
    hash(&[
        &spec.origin.request_hash,
        &spec.question,
        &spec.config_hash,
        &format!("{:?} {:?}", spec.config, spec.timeout),
        &spec.project.to_string_lossy(),
        &spec.program.to_string_lossy(),
    ])
}

/// SHA-256 of several texts, with their boundaries.
pub(super) fn hash(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.len().to_le_bytes());
        hash.update(text.as_bytes());
    }
    hex(&hash.finalize())
}

/// The identity of this process, distinct from a later one with the same pid.
pub(super) fn server_id() -> &'static str {
    static SERVER: OnceLock<String> = OnceLock::new();
    SERVER.get_or_init(|| process_name(std::process::id()))
}

/// Whether this process's client requested it in `project`, through this or an earlier server. If the client is unknown (in
/// a container the server may be the first process), only this server's own runs match; this also holds for old records.
pub(super) fn is_own(origin: &Origin, project: &Path) -> bool {
    let is_same_client = !client_id().is_empty() && origin.client == client_id();
    origin.server == server_id() || (is_same_client && origin.project == project)
}

/// The process that started this one: a client that restarts its server is the same client.
pub(super) fn client_id() -> &'static str {
    static CLIENT: OnceLock<String> = OnceLock::new();
    CLIENT.get_or_init(|| process_name(std::os::unix::process::parent_id()))
}

fn process_name(pid: u32) -> String {
    let identity = group::identify(pid);
    identity
        .map(|identity| format!("{} {} {}", identity.boot_id, identity.pid, identity.start_ticks))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_this_server_and_of_its_client_in_this_project_are_own() {
        let origin = |server: &str, client: &str, project: &str| Origin {
            server: server.to_owned(),
            client: client.to_owned(),
            project: project.into(),
            ..Origin::default()
        };
        let (server, client) = (server_id(), client_id());
        for (origin, expected) in [
            (origin(server, client, "/p"), true),
            (origin("an earlier server", client, "/p"), true),
            (origin("an earlier server", client, "/q"), false),
            (origin("another server", "another client", "/p"), false),
            // The client is unknown, as in a container and in old records.
            (origin(server, "", "/p"), true),
            (origin("another server", "", "/p"), false),
        ] {
            assert_eq!(is_own(&origin, Path::new("/p")), expected, "{origin:?}");
        }
    }
}
