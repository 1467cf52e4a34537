//! What an experiment is: its arms, its questions, every run that it may come to, and how far it has come. The plan is made once
//! and never changed; only its conductor says how far it is.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::run::{Cap, GlobalLimits, Problem, RunId, RunSpec, Usd};

/// An experiment as it was asked for (`plan.json`).
#[derive(Debug, Clone, PartialEq)]
pub struct ExperimentPlan {
    /// Its name in the ledger; no other experiment ever has it.
    pub id: String,
    /// The label of all its runs, which no other runs have.
    pub group: String,
    /// When it was asked for, by the wall clock.
    pub created: Timestamp,
    /// What is compared: a config, with one variant of it where there are several.
    pub arms: Vec<Arm>,
    /// What each arm is asked.
    pub questions: Vec<String>,
    /// Every run, in the order in which they start.
    pub runs: Vec<PlannedRun>,
    /// What all of them together may spend.
    pub budget: Cap,
    /// How many successes are enough.
    pub keep: Option<usize>,
    /// What the operator allowed all runs when it was asked for.
    pub global_limits: GlobalLimits,
    /// SHA-256 of all that was asked for.
    pub request_hash: String,
    /// SHA-256 of the agent's key for it.
    pub key_hash: Option<String>,
    /// Which client asked.
    pub client: String,
    /// The run that the server which was asked is part of.
    pub parent: Option<RunId>,
}

/// A config, with one variant of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// How it is told from the others.
    pub label: String,
    /// What its runs have in common; the name and the question are each run's own.
    pub spec: RunSpec,
    /// What was checked of a config file: its name in a run's folder, and its text.
    pub config: Option<(String, String)>,
    /// What earlier runs of the same config cost at the median.
    pub expected_cost: Option<Usd>,
    /// How long they took at the median.
    pub expected_duration: Option<Duration>,
}

/// A run that is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRun {
    /// Its name from the beginning.
    pub id: RunId,
    /// Its arm, by its place.
    pub arm: usize,
    /// Its question, by its place.
    pub question: usize,
    /// Which time it is that this arm is asked this, from 1.
    pub repeat: u32,
}

/// How far an experiment has come (`progress.json`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExperimentProgress {
    /// The runs that were started; some may have been removed since.
    pub started: Vec<RunId>,
    /// Those that could not be started, and why.
    pub start_problems: BTreeMap<RunId, Problem>,
    /// Why it is over, and since when.
    pub closed: Option<(CloseReason, Timestamp)>,
}

/// Why an experiment starts nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CloseReason {
    /// Every run has had its turn.
    AllRun,
    /// As many have succeeded as were wanted.
    EnoughSucceeded,
    /// The budget has not enough left for another run.
    BudgetExhausted,
    /// A stop was requested.
    Stopped {
        /// Why, in the words of the caller.
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

    /// How long a run takes, by earlier runs of its configs.
    pub fn expected_duration(&self) -> Option<Duration> {
        let mut known: Vec<Duration> = self.arms.iter().filter_map(|arm| arm.expected_duration).collect();
        known.sort_unstable();
        known.get(known.len() / 2).copied()
    }

    /// What all of it would cost, by earlier runs; nothing where some config was never run.
    pub fn expected_cost(&self) -> Option<Usd> {
        let of = |run: &PlannedRun| Some(self.arms.get(run.arm)?.expected_cost?.0);
        self.runs.iter().map(of).sum::<Option<u64>>().map(Usd)
    }
}
