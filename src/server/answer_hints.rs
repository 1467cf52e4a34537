//! The hints of an answer: the next step, and how long the wait was. Pure.

use crate::run::{RunId, RunRecord};

/// The most runs that a hint names.
const MAX_NAMED_RUNS: usize = 3;

/// The hint if the client would cut the answer and runs are left out.
pub(super) const LEFT_OUT_HINT: &str =
    "left_out: runs for which there is no room here; name them in run_ids, fewer at a time";

/// How to get what does not fit into a tool's answer.
pub(super) fn remaining_hint(tool: &str) -> &'static str {
    match tool {
        "check_status" => {
            "name one run at a time; read_result has more of its agents: parts answers, errors and log, in pages"
        }
        "run_massgen" => {
            "after a start check_status with the group tells the rest; for a dry run name fewer configs or variants"
        }
        "list_configs" => "ask with a smaller limit",
        _ => "check_status tells the rest",
    }
}

/// Joins several hints into one; `None` if there are none.
pub(super) fn join_hints<const N: usize>(hints: [Option<String>; N]) -> Option<String> {
    let hints: Vec<String> = hints.into_iter().flatten().collect();
    (!hints.is_empty()).then(|| hints.join(". "))
}

/// Names the runs that have an answer and only have to exit: the caller need not wait for them.
pub(super) fn ready_hint<'a>(runs: impl IntoIterator<Item = &'a RunRecord>) -> Option<String> {
    let ready = run_names(runs.into_iter().filter(|run| run.is_ending()).map(|run| &run.spec.id))?;
    Some(format!("answer ready: call read_result ({ready}); MassGen's process has only to end"))
}

/// Explains a wait for any end that returned at once because some runs had already ended: the same wait would return at
/// once again.
pub(super) fn already_ended_hint<'a>(runs: impl IntoIterator<Item = &'a RunRecord>) -> Option<String> {
    let runs: Vec<&RunRecord> = runs.into_iter().collect();
    let ended = runs.iter().filter(|run| run.state.ending().is_some());
    let ended =
        run_names(ended.map(|run| &run.spec.id)).filter(|_| runs.iter().any(|run| run.state.ending().is_none()))?;
    Some(format!("already over: {ended}; to wait for the next end pass since"))
}

fn run_names<'a>(ids: impl Iterator<Item = &'a RunId>) -> Option<String> {
    let all: Vec<String> = ids.map(ToString::to_string).collect();
    let more = all.len().saturating_sub(MAX_NAMED_RUNS);
    let more = (more > 0).then(|| format!("{more} more"));
    let named: Vec<String> = all.into_iter().take(MAX_NAMED_RUNS).chain(more).collect();
    (!named.is_empty()).then(|| named.join(", "))
}
