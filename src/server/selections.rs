//! The runs that a call selects, and whether they exist.

use std::collections::HashSet;

use super::fields::parse_run_id;
use crate::fleet::{Fleet, Selection, Snapshot};
use crate::refusal::Refusal;
use crate::run::RunId;

/// The most runs that one call may name.
const MAX_RUNS: usize = 100;

/// The hint if a call does not say which run it means.
pub(super) const LIST_RUNS_HINT: &str = "call check_status without arguments to see the latest runs";

/// The runs that a call selects: named runs, a group, all live runs, or the latest.
pub(super) fn parse(
    fleet: &Fleet,
    run_id: Option<String>,
    run_ids: Option<Vec<String>>,
    group: Option<String>,
    live: bool,
) -> Result<Selection, Refusal> {
    match (run_id, run_ids, group, live) {
        (None, None, None, false) => Ok(Selection::Latest),
        (None, None, None, true) => Ok(fleet.live_selection()),
        (Some(id), None, None, false) => Ok(Selection::Runs(vec![parse_run_id(&id)?])),
        (None, Some(ids), None, false) => parse_ids(&ids),
        (None, None, Some(group), false) => Ok(Selection::Group(group)),
        (_, _, _, true) => {
            let message = "`live` is about all runs, and some were named";
            Err(Refusal::new("selection_unclear", message, "leave out either `live` or the names"))
        }
        (_, _, _, false) => {
            let message = "`run_id`, `run_ids` and `group` exclude each other";
            Err(Refusal::new("selection_unclear", message, "give at most one of them"))
        }
    }
}

/// The runs that a call names, without duplicates.
pub(super) fn parse_ids(ids: &[String]) -> Result<Selection, Refusal> {
    if ids.len() > MAX_RUNS {
        let message = format!("`run_ids` has {} entries", ids.len());
        return Err(Refusal::new(
            "out_of_range",
            message,
            format!("name at most {MAX_RUNS} runs, or give their `group`"),
        ));
    }
    let mut named: Vec<RunId> = ids.iter().map(|id| parse_run_id(id)).collect::<Result<_, _>>()?;
    let mut unique = HashSet::new();
    named.retain(|id| unique.insert(id.clone()));
    Ok(Selection::Runs(named))
}

/// Refuses a group without runs, and a single run whose record cannot be read.
pub(super) fn check_found(selection: &Selection, mut snapshot: Snapshot) -> Result<Snapshot, Refusal> {
    match selection {
        Selection::Group(group) if snapshot.runs.is_empty() => Err(Refusal::unknown_group(group)),
        Selection::Runs(_) if snapshot.runs.is_empty() => match snapshot.unreadable.pop() {
            Some((_, error)) => Err(error.into()),
            None => Ok(snapshot),
        },
        Selection::Runs(_) | Selection::Group(_) | Selection::Latest | Selection::Live { .. } => Ok(snapshot),
    }
}
