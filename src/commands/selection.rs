//! Selects the runs of a command: the arguments, and the handling of empty groups and unreadable records.

use super::output::print_error;
use crate::fleet::{Selection, Snapshot};
use crate::refusal::Refusal;
use crate::run::{RunId, RunRecord};

/// The runs that a command applies to.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct RunSelector {
    /// The runs, by their run_id (`massgen-mcp runs` lists them).
    #[arg(value_name = "RUN_ID")]
    runs: Vec<String>,
    /// All runs with this label.
    #[arg(long)]
    group: Option<String>,
}

impl RunSelector {
    pub(super) fn selection(&self) -> Result<Selection, Refusal> {
        match &self.group {
            Some(group) => Ok(Selection::Group(group.clone())),
            None => {
                let mut unique = std::collections::HashSet::new();
                let ids = self.runs.iter().map(|text| parse_run_id(text)).collect::<Result<Vec<_>, _>>()?;
                Ok(Selection::Runs(ids.into_iter().filter(|id| unique.insert(id.clone())).collect()))
            }
        }
    }
}

pub(super) fn parse_run_id(text: &str) -> Result<RunId, Refusal> {
    Ok(text.trim().parse::<RunId>()?)
}

/// The records of the selected runs. A group without runs is an error, and so is an unreadable record if no other run was found; further unreadable
/// records are reported on standard error and skipped.
pub(super) fn found_records(selection: &Selection, mut snapshot: Snapshot) -> Result<Vec<RunRecord>, Refusal> {
    if snapshot.runs.is_empty()
        && let Some((_, error)) = snapshot.unreadable.pop()
    {
        return Err(error.into());
    }
    for (_, error) in snapshot.unreadable {
        print_error(error.into(), false);
    }
    match selection {
        Selection::Group(group) if snapshot.runs.is_empty() => Err(Refusal::unknown_group(group)),
        Selection::Group(_) | Selection::Runs(_) | Selection::Latest | Selection::Live { .. } => Ok(snapshot.runs),
    }
}
