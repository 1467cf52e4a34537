//! A run's limits, spend and lineage as spec.json and run.json hold them: dollars as whole millionths.
//! Fields that an older version did not write read as no limit, no parent, nothing spent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{from_label, to_label};
use crate::run::{Allowance, AnswerBasis, Cap, Continuation, Lineage, ModelPrice, Origin, RunId, Spend, Unpriced, Usd};

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct AllowanceFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    budget_microusd: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u64>,
    unpriced: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    prices_microusd: BTreeMap<String, (u64, u64)>,
    slots: u32,
    depth: u32,
    tree_runs: u32,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LineageFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    depth: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ContinuationFile {
    run: String,
    turn: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct AnswerBasisFile {
    run: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    #[serde(default)]
    agent: String,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct SpendFile {
    microusd: u64,
    tokens: u64,
    unpriced: bool,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OriginFile {
    server: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    client: String,
    #[serde(skip_serializing_if = "is_no_path")]
    project: PathBuf,
    asked: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    experiment: Option<String>,
}

impl From<&Origin> for OriginFile {
    fn from(origin: &Origin) -> OriginFile {
        let Origin { server, client, project, request_hash: asked, key_hash: key, experiment } = origin.clone();
        OriginFile { server, client, project, asked, key, experiment }
    }
}

impl From<OriginFile> for Origin {
    fn from(file: OriginFile) -> Origin {
        let OriginFile { server, client, project, asked, key, experiment } = file;
        Origin { server, client, project, request_hash: asked, key_hash: key, experiment }
    }
}

fn is_no_path(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

const UNPRICED_LABELS: &[(&str, Unpriced)] =
    &[("warn", Unpriced::Warn), ("deny", Unpriced::Deny), ("estimate", Unpriced::Estimate)];

impl From<&Allowance> for AllowanceFile {
    fn from(allowance: &Allowance) -> AllowanceFile {
        let prices = allowance.prices.iter().map(|(model, price)| (model.clone(), (price.input.0, price.output.0)));
        AllowanceFile {
            budget_microusd: allowance.cap.usd.map(|usd| usd.0),
            max_tokens: allowance.cap.tokens,
            unpriced: to_label(UNPRICED_LABELS, allowance.unpriced),
            prices_microusd: prices.collect(),
            slots: allowance.slots,
            depth: allowance.depth,
            tree_runs: allowance.tree_runs,
        }
    }
}

impl From<AllowanceFile> for Allowance {
    fn from(file: AllowanceFile) -> Allowance {
        let price = |(input, output)| ModelPrice { input: Usd(input), output: Usd(output) };
        Allowance {
            cap: Cap { usd: file.budget_microusd.map(Usd), tokens: file.max_tokens },
            unpriced: from_label(UNPRICED_LABELS, &file.unpriced).unwrap_or_default(),
            prices: file.prices_microusd.into_iter().map(|(model, both)| (model, price(both))).collect(),
            slots: file.slots,
            depth: file.depth,
            tree_runs: file.tree_runs,
        }
    }
}

impl From<&Lineage> for LineageFile {
    fn from(lineage: &Lineage) -> LineageFile {
        let parent = lineage.parent.as_ref().map(RunId::to_string);
        let root = parent.is_some().then(|| lineage.root.to_string());
        LineageFile { parent, root, depth: lineage.depth }
    }
}

impl LineageFile {
    /// The lineage of the run `own`; one without a valid run name counts as none.
    pub(super) fn into_lineage(self, own: &RunId) -> Lineage {
        let known = |name: Option<String>| name.and_then(|name| name.parse().ok());
        match (known(self.parent), known(self.root)) {
            (Some(parent), Some(root)) => Lineage { parent: Some(parent), root, depth: self.depth },
            (_, _) => Lineage::new_root(own),
        }
    }
}

impl From<&Continuation> for ContinuationFile {
    fn from(continued: &Continuation) -> ContinuationFile {
        ContinuationFile { run: continued.run.to_string(), turn: continued.turn }
    }
}

impl ContinuationFile {
    /// `None` if it has no valid run name.
    pub(super) fn into_continuation(self) -> Option<Continuation> {
        Some(Continuation { run: self.run.parse().ok()?, turn: self.turn })
    }
}

impl From<&AnswerBasis> for AnswerBasisFile {
    fn from(from: &AnswerBasis) -> AnswerBasisFile {
        AnswerBasisFile { run: from.run.to_string(), answer: from.answer.clone(), agent: from.agent.clone() }
    }
}

impl AnswerBasisFile {
    /// `None` if it has no valid run name.
    pub(super) fn into_answer_basis(self) -> Option<AnswerBasis> {
        Some(AnswerBasis { run: self.run.parse().ok()?, answer: self.answer, agent: self.agent })
    }
}

impl From<Spend> for SpendFile {
    fn from(spent: Spend) -> SpendFile {
        SpendFile { microusd: spent.usd.0, tokens: spent.tokens, unpriced: spent.is_unpriced }
    }
}

impl From<SpendFile> for Spend {
    fn from(file: SpendFile) -> Spend {
        Spend { usd: Usd(file.microusd), tokens: file.tokens, is_unpriced: file.unpriced }
    }
}
