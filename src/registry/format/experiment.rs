//! plan.json and progress.json, version 1: an experiment as it is on disk. An arm holds a spec.json; the text of its config is in
//! a separate file.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::ending::ProblemFile;
use super::{VERSION, duration_from_secs, spec_from_json, spec_to_json, to_json};
use crate::experiment::{Arm, CloseReason, ExperimentPlan, ExperimentProgress, PlannedRun};
use crate::run::{Cap, GlobalLimits, RunId, Usd};

#[derive(Serialize, Deserialize)]
struct PlanFile {
    version: u32,
    id: String,
    group: String,
    created: jiff::Timestamp,
    arms: Vec<ArmFile>,
    questions: Vec<String>,
    /// Name, arm, question, repeat.
    runs: Vec<(String, usize, usize, u32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget_microusd: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keep: Option<usize>,
    rules: GlobalLimitsFile,
    asked: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    client: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ArmFile {
    label: String,
    spec: Box<RawValue>,
    /// The name of the config in a run's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expected_microusd: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    takes_s: Option<f64>,
}

#[derive(Serialize, Deserialize)]
struct GlobalLimitsFile {
    slots: u32,
    queue: u32,
    tree_runs: u32,
    starts_per_minute: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    server_microusd: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    day_microusd: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct ProgressFile {
    version: u32,
    started: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    refused: BTreeMap<String, ProblemFile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed: Option<ClosedFile>,
}

#[derive(Serialize, Deserialize)]
struct ClosedFile {
    why: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    at: jiff::Timestamp,
}

/// The name of an arm's config file in the experiment's folder.
fn config_file_name(arm: usize) -> String {
    format!("config-{}", arm + 1)
}

/// The arms' config files: their names and texts.
pub(in crate::registry) fn plan_configs(plan: &ExperimentPlan) -> impl Iterator<Item = (String, &str)> {
    let all = plan.arms.iter().enumerate();
    all.filter_map(|(place, arm)| Some((config_file_name(place), arm.config.as_ref()?.1.as_str())))
}

pub(in crate::registry) fn plan_to_json(plan: &ExperimentPlan) -> io::Result<Vec<u8>> {
    let arm = |arm: &Arm| {
        Ok(ArmFile {
            label: arm.label.clone(),
            spec: raw_json(&spec_to_json(&arm.spec)?)?,
            config: arm.config.as_ref().map(|(name, _)| name.clone()),
            expected_microusd: arm.expected_cost.map(|usd| usd.0),
            takes_s: arm.expected_duration.map(|takes| takes.as_secs_f64()),
        })
    };
    let runs = plan.runs.iter().map(|run| (run.id.to_string(), run.arm, run.question, run.repeat));
    to_json(&PlanFile {
        version: VERSION,
        id: plan.id.clone(),
        group: plan.group.clone(),
        created: plan.created,
        arms: plan.arms.iter().map(arm).collect::<io::Result<_>>()?,
        questions: plan.questions.clone(),
        runs: runs.collect(),
        budget_microusd: plan.budget.usd.map(|usd| usd.0),
        max_tokens: plan.budget.tokens,
        keep: plan.keep,
        rules: GlobalLimitsFile::from(plan.global_limits),
        asked: plan.request_hash.clone(),
        key: plan.key_hash.clone(),
        client: plan.client.clone(),
        parent: plan.parent.as_ref().map(RunId::to_string),
    })
}

/// `text` reads an arm's config file.
pub(in crate::registry) fn plan_from_json(
    bytes: &[u8],
    text: impl Fn(&str) -> io::Result<String>,
) -> Result<ExperimentPlan, serde_json::Error> {
    let file: PlanFile = serde_json::from_slice(bytes)?;
    let arm = |(place, arm): (usize, ArmFile)| {
        let config = arm.config.map(|name| text(&config_file_name(place)).map(|text| (name, text)));
        Ok(Arm {
            label: arm.label,
            spec: spec_from_json(arm.spec.get().as_bytes())?,
            config: config.transpose().map_err(serde::de::Error::custom)?,
            expected_cost: arm.expected_microusd.map(Usd),
            expected_duration: arm.takes_s.map(duration_from_secs),
        })
    };
    let run = |(id, arm, question, repeat): (String, usize, usize, u32)| {
        let id = id.parse().map_err(serde::de::Error::custom)?;
        Ok(PlannedRun { id, arm, question, repeat })
    };
    Ok(ExperimentPlan {
        id: file.id,
        group: file.group,
        created: file.created,
        arms: file.arms.into_iter().enumerate().map(arm).collect::<Result<_, serde_json::Error>>()?,
        questions: file.questions,
        runs: file.runs.into_iter().map(run).collect::<Result<_, serde_json::Error>>()?,
        budget: Cap { usd: file.budget_microusd.map(Usd), tokens: file.max_tokens },
        keep: file.keep,
        global_limits: file.rules.into(),
        request_hash: file.asked,
        key_hash: file.key,
        client: file.client,
        parent: file.parent.and_then(|id| id.parse().ok()),
    })
}

pub(in crate::registry) fn progress_to_json(progress: &ExperimentProgress) -> io::Result<Vec<u8>> {
    let refused = progress.start_problems.iter().map(|(id, problem)| (id.to_string(), ProblemFile::from(problem)));
    to_json(&ProgressFile {
        version: VERSION,
        started: progress.started.iter().map(RunId::to_string).collect(),
        refused: refused.collect(),
        closed: progress.closed.as_ref().map(|(why, at)| close_to_file(why, *at)),
    })
}

pub(in crate::registry) fn progress_from_json(bytes: &[u8]) -> Result<ExperimentProgress, serde_json::Error> {
    let file: ProgressFile = serde_json::from_slice(bytes)?;
    let refused = file.refused.into_iter().filter_map(|(id, problem)| Some((id.parse().ok()?, problem.into())));
    Ok(ExperimentProgress {
        started: file.started.iter().filter_map(|id| id.parse().ok()).collect(),
        start_problems: refused.collect(),
        closed: file.closed.map(|closed| (close_from_label(&closed.why, closed.reason), closed.at)),
    })
}

fn close_to_file(why: &CloseReason, at: jiff::Timestamp) -> ClosedFile {
    let (label, reason) = match why {
        CloseReason::AllRun => ("done", None),
        CloseReason::EnoughSucceeded => ("enough", None),
        CloseReason::BudgetExhausted => ("spent", None),
        CloseReason::Stopped { reason } => ("stopped", reason.clone()),
    };
    ClosedFile { why: label.to_owned(), reason, at }
}

fn close_from_label(label: &str, reason: Option<String>) -> CloseReason {
    match label {
        "done" => CloseReason::AllRun,
        "enough" => CloseReason::EnoughSucceeded,
        "spent" => CloseReason::BudgetExhausted,
        _ => CloseReason::Stopped { reason },
    }
}

impl From<GlobalLimits> for GlobalLimitsFile {
    fn from(rules: GlobalLimits) -> GlobalLimitsFile {
        GlobalLimitsFile {
            slots: rules.slots,
            queue: rules.queue,
            tree_runs: rules.tree_runs,
            starts_per_minute: rules.starts_per_minute,
            server_microusd: rules.server_usd.map(|usd| usd.0),
            day_microusd: rules.day_usd.map(|usd| usd.0),
        }
    }
}

impl From<GlobalLimitsFile> for GlobalLimits {
    fn from(file: GlobalLimitsFile) -> GlobalLimits {
        GlobalLimits {
            slots: file.slots,
            queue: file.queue,
            tree_runs: file.tree_runs,
            starts_per_minute: file.starts_per_minute,
            server_usd: file.server_microusd.map(Usd),
            day_usd: file.day_microusd.map(Usd),
        }
    }
}

fn raw_json(bytes: &[u8]) -> io::Result<Box<RawValue>> {
    Ok(serde_json::from_slice(bytes)?)
}
