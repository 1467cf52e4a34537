//! The manifest of a group of runs: the hashes of its arms and questions, each run with the hash of its manifest, and the total
//! cost. The driver of an experiment stores it at the end; before that, and for other groups, it is built on request.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{MANIFEST_VERSION, Manifest, ManifestCosts, ManifestQuestion, ManifestVersions, collect, hash};
use crate::experiment::{Arm, ExperimentPlan, ExperimentProgress};
use crate::massgen::configs::{Needs, Tree};
use crate::registry::{MANIFEST_FILE, StateFolder};
use crate::run::{RunId, RunRecord, Usd};
use crate::secrets::Secrets;

/// The manifest of a group. Fields that a newer version adds are ignored.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupManifest {
    /// The version of this format.
    pub version: u32,
    /// Whether all its runs have ended.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Its label.
    pub group: String,
    /// The programs that produced the runs.
    pub versions: ManifestVersions,
    /// The request, if the group is an experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub experiment: Option<ManifestExperiment>,
    /// Its runs; for an experiment, including runs that were not started.
    pub runs: Vec<ManifestRun>,
    /// The spend of all runs and their descendants.
    pub costs: ManifestCosts,
}

/// The request for an experiment.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestExperiment {
    /// When it was requested, RFC 3339.
    pub created: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// SHA-256 of the full request.
    pub asked: String,
    /// The budget of all runs, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_usd: Option<f64>,
    /// The number of successes after which it stops.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<usize>,
    /// The run whose agent requested it.
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
    /// Its label.
    pub name: String,
    /// SHA-256 of its config with its overrides, without the question.
    pub config_hash: String,
    /// The model of each agent.
    pub models: BTreeMap<String, String>,
}

/// A run of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestRun {
    /// The run.
    pub run_id: String,
    /// The name of its state, or `not_started`.
    pub state: String,
    /// The index of its arm, from 0, if the group is an experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arm: Option<usize>,
    /// The index of its question, from 0, if the group is an experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub question: Option<usize>,
    /// The number of the repeat of this arm and question, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat: Option<u32>,
    /// When its supervisor started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
    /// When its end was observed, if it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// SHA-256 of its manifest.json, if it has one; further facts about the run are there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_sha256: Option<String>,
}

impl GroupManifest {
    /// Builds the manifest of a group from its current state.
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
        // Planned runs are in planned order; runs that share only a label, in the order of their starts.
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

    /// Parses a manifest of any version.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or a field does not have the type of any version.
    pub fn from_json(bytes: &[u8]) -> Result<GroupManifest, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The text that is stored and shown.
    pub fn to_json(&self) -> String {
        // This cannot fail: all keys of its maps are texts.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn manifest_experiment(
    plan: &ExperimentPlan,
    progress: &ExperimentProgress,
    state: &StateFolder,
    secrets: &Secrets,
) -> ManifestExperiment {
    let arm = |(index, arm): (usize, &Arm)| ManifestArm {
        name: arm.label.clone(),
        config_hash: arm.spec.config_hash.clone(),
        models: arm_models(index, plan, state, secrets),
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

/// The models of an arm, from its checked config. A rehearsal's config is generated in its run, so the models come from the first
/// manifest of its runs.
fn arm_models(index: usize, plan: &ExperimentPlan, state: &StateFolder, secrets: &Secrets) -> BTreeMap<String, String> {
    let config = plan.arms.get(index).and_then(|arm| arm.config.as_ref());
    let tree = config.and_then(|(name, text)| Tree::parse_file(Path::new(name), text).ok());
    let manifest_paths =
        plan.runs.iter().filter(|run| run.arm == index).map(|run| state.run_folder(&run.id).path().join(MANIFEST_FILE));
    let mut manifests = manifest_paths.filter_map(|path| Manifest::from_json(&std::fs::read(path).ok()?).ok());
    let known = tree.map(|tree| collect::agent_models(Needs::from_config(&tree), secrets));
    known.or_else(|| manifests.next().map(|manifest| manifest.models)).unwrap_or_default()
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
