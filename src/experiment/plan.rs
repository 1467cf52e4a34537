//! The plan of an experiment (its arms, questions and runs) and its progress. The plan is written once and never changed; only
//! the experiment driver writes the progress.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::run::{Cap, GlobalLimits, Problem, RunId, RunSpec, Usd};

/// The request for an experiment (`plan.json`).
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentPlan {
    /// Its id in the ledger; never reused.
    pub id: String,
    /// The label of its runs; no other runs have it.
    pub group: String,
    /// When it was requested, by the wall clock.
    pub created: Timestamp,
    /// The arms to compare: each is a config, with one of its variants if it has several.
    pub arms: Vec<Arm>,
    /// The questions for each arm.
    pub questions: Vec<String>,
    /// All runs, in starting order.
    pub runs: Vec<PlannedRun>,
    /// The most that all runs together may spend.
    pub budget: Cap,
    /// The number of successes after which the experiment stops.
    pub keep: Option<usize>,
    /// The operator's limits at the time of the request.
    pub global_limits: GlobalLimits,
    /// SHA-256 of the full request.
    pub request_hash: String,
    /// SHA-256 of the agent's key for the request.
    pub key_hash: Option<String>,
    /// The client that requested it.
    pub client: String,
    /// The run that contains the server which received the request.
    pub parent: Option<RunId>,
}

/// A config, with one variant of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Its label, distinct from those of the other arms.
    pub label: String,
    /// The spec that its runs share; the id and the question are set for each run.
    pub spec: RunSpec,
    /// The checked config, without a question: its name in a run's folder, and its text.
    pub config: Option<(String, String)>,
    /// The median cost of earlier runs of the same config.
    pub expected_cost: Option<Usd>,
    /// Their median duration.
    pub expected_duration: Option<Duration>,
}

/// A planned run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Its id, set when the plan is written.
    pub id: RunId,
    /// The index of its arm.
    pub arm: usize,
    /// The index of its question.
    pub question: usize,
    /// The number of the repeat of this arm and question, from 1.
    pub repeat: u32,
}

/// The progress of an experiment (`progress.json`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExperimentProgress {
    /// The started runs; some may have been removed since.
    pub started: Vec<RunId>,
    /// The runs that could not be started, with the problem.
    pub start_problems: BTreeMap<RunId, Problem>,
    /// Why and when it ended.
    pub closed: Option<(CloseReason, Timestamp)>,
}

/// Why an experiment ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// All runs have ended or could not be started.
    AllRun,
    /// The requested number of runs has succeeded.
    EnoughSucceeded,
    /// The rest of the budget is too small for another run.
    BudgetExhausted,
    /// A stop was requested.
    Stopped {
        /// The caller's reason.
        reason: Option<String>,
    },
}

impl ExperimentPlan {
    /// The spec of a planned run.
    pub fn spec(&self, run: &PlannedRun) -> Option<RunSpec> {
        let arm = self.arms.get(run.arm)?;
        let question = self.questions.get(run.question)?.clone();
        let mut spec = RunSpec { id: run.id.clone(), question, ..arm.spec.clone() };
        if spec.lineage.parent.is_none() {
            spec.lineage.root = run.id.clone();
        }
        Some(spec)
    }

    /// The expected duration of a run, from earlier runs of its configs.
    pub fn expected_duration(&self) -> Option<Duration> {
        let mut known: Vec<Duration> = self.arms.iter().filter_map(|arm| arm.expected_duration).collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied()
    }

    /// The expected cost of all runs, from earlier runs; `None` if a config was never run.
    pub fn expected_cost(&self) -> Option<Usd> {
        let cost = |run: &PlannedRun| Some(self.arms.get(run.arm)?.expected_cost?.0);
        self.runs.iter().map(cost).sum::<Option<u64>>().map(Usd)
    }
}
