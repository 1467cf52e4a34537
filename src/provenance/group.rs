//! What a group of runs was, in one document: its arms and questions by their hashes, each run with the hash of its own manifest, what
//! all of it cost. The driver of an experiment stores it at the end; an earlier request, or one for other runs, gets a new one.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{MANIFEST_VERSION, Manifest, ManifestCosts, ManifestQuestion, ManifestVersions, collect, hash};
use crate::experiment::{Arm, ExperimentPlan, ExperimentProgress};
use crate::massgen::configs::{Needs, Tree};
use crate::registry::{MANIFEST_FILE, StateFolder};
use crate::run::{RunId, RunRecord, Usd};
use crate::secrets::Secrets;

/// The manifest of a group. What a newer version adds is passed over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupManifest {
    /// Of this format.
    pub version: u32,
    /// Whether all its runs are over.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its label.
    pub group: String,
    /// Who made it.
    pub versions: ManifestVersions,
    /// Of an experiment: what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ManifestExperiment>,
    /// Its runs; of an experiment, those that were not started too.
    pub runs: Vec<ManifestRun>,
    /// What all of them spent, with all below them.
    pub costs: ManifestCosts,
}

/// What an experiment was asked for.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestExperiment {
    /// When it was asked for, RFC 3339.
    pub created: String,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// SHA-256 of all that was asked for.
    pub asked: String,
    /// US dollars for all runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// How many successes were enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// The run whose agent asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its arms.
    pub arms: Vec<ManifestArm>,
    /// Its questions.
    pub questions: Vec<ManifestQuestion>,
}

/// An arm of an experiment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestArm {
    /// How it is told from the others.
    pub name: String,
    /// SHA-256 of its config with its overrides, before the question.
    pub config_hash: String,
    /// Which model each agent uses.
    pub models: BTreeMap<String, String>,
}

/// A run of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestRun {
    /// The run.
    pub run_id: String,
    /// Its state's word, or `not_started`.
    pub state: String,
    /// Of an experiment: its arm, by its place from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<usize>,
    /// Its question, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<usize>,
    /// Which time it is that this arm is asked this, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// When its supervisor began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its end was seen, of one that was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// SHA-256 of its manifest.json, where it has one; the rest that is known of it stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
}

impl GroupManifest {
    /// What is known of a group now.
    pub fn for_group(
        group: &str,
        runs: &[RunRecord],
        experiment: Option<(&ExperimentPlan, &ExperimentProgress)>,
        state: &StateFolder,
        secrets: &Secrets,
    ) -> GroupManifest {
        let spent = runs.iter().map(RunRecord::total_spent).sum();
        let plan = experiment.map(|(plan, _)| plan);
        let mut facts: Vec<ManifestRun> = runs.iter().map(|run| manifest_run(run, plan, state)).collect();
        // In the order in which they were to start; of runs that only a label joins, in that in which they did.
        facts.reverse();
        facts.sort_by_key(|fact| (fact.repeat, fact.question, fact.arm));
        GroupManifest {
            version: MANIFEST_VERSION,
            is_final: runs.iter().all(|run| run.state.ending().is_some()),
            group: group.to_owned(),
            versions: runs.first().map(|run| collect::manifest_versions(&run.spec)).unwrap_or_default(),
            experiment: experiment.map(|(plan, progress)| manifest_experiment(plan, progress, state, secrets)),
            runs: facts,
            costs: collect::manifest_costs(spent),
        }
    }

    /// Reads one, of whatever version.
    ///
    /// # Errors
    ///
    /// Where it is no JSON, or a field has another type than every version gave it.
    pub fn from_json(bytes: &[u8]) -> Result<GroupManifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// As it is kept and shown.
    pub fn to_json(&self) -> String {
        // It holds no map with keys that are not text, so that it always serialises.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn manifest_experiment(
    plan: &ExperimentPlan,
    progress: &ExperimentProgress,
    state: &StateFolder,
    secrets: &Secrets,
) -> ManifestExperiment {
    let arm = |(place, arm): (usize, &Arm)| ManifestArm {
        name: arm.label.clone(),
        config_hash: arm.spec.config_hash.clone(),
        models: arm_models(place, plan, state, secrets),
    };
    ManifestExperiment {
        created: plan.created.to_string(),
        closed: progress.closed.as_ref().map(|(_, at)| at.to_string()),
        asked: plan.request_hash.clone(),
        budget_usd: plan.budget.usd.map(Usd::as_f64),
        keep: plan.keep,
        parent: plan.parent.as_ref().map(RunId::to_string),
        arms: plan.arms.iter().enumerate().map(arm).collect(),
        questions: plan.questions.iter().map(|text| collect::manifest_question(text)).collect(),
    }
}

/// By the config that was checked; of a rehearsal, whose config its run makes, by the first manifest that a run of it has left.
fn arm_models(place: usize, plan: &ExperimentPlan, state: &StateFolder, secrets: &Secrets) -> BTreeMap<String, String> {
    let config = plan.arms.get(place).and_then(|arm| arm.config.as_ref());
    let tree = config.and_then(|(name, text)| Tree::parse_file(Path::new(name), text).ok());
    let own =
        plan.runs.iter().filter(|run| run.arm == place).map(|run| state.run_folder(&run.id).path().join(MANIFEST_FILE));
    let mut left = own.filter_map(|path| Manifest::from_json(&std::fs::read(path).ok()?).ok());
    let known = tree.map(|tree| collect::agent_models(Needs::from_config(&tree), secrets));
    known.or_else(|| left.next().map(|manifest| manifest.models)).unwrap_or_default()
}

fn manifest_run(run: &RunRecord, plan: Option<&ExperimentPlan>, state: &StateFolder) -> ManifestRun {
    let planned = plan.and_then(|plan| plan.runs.iter().find(|planned| planned.id == run.spec.id));
    ManifestRun {
        run_id: run.spec.id.to_string(),
        state: if run.is_never_started() { "not_started".to_owned() } else { run.state.as_str().to_owned() },
        arm: planned.map(|planned| planned.arm),
        question: planned.map(|planned| planned.question),
        repeat: planned.map(|planned| planned.repeat),
        started: run.started.as_ref().map(|at| at.wall.to_string()),
        ended: run.state.ending().filter(|_| !run.is_never_started()).map(|ending| ending.ended_at.wall.to_string()),
        manifest_sha256: hash::manifest_sha256(&state.run_folder(&run.spec.id)),
    }
}
