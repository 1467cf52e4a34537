//! The signs of activity of a run, read from its files and from /proc: sizes that grow, and what a quiet run seems to do.
//! `liveness` decides when to sample.

use std::path::{Path, PathBuf};

use super::group::{ProcessInfo, ProcessTree};
use super::liveness::GrowthCounters;
use super::proc_sampler;
use super::run_context::RunContext;
use crate::massgen::events;
use crate::massgen::layout::Layout;
use crate::registry::{STDERR_LOG, STDOUT_LOG};
use crate::run::{ActivityEvidence, Leader};

/// The sizes that grow while a run is active, without status.json: MassGen updates the time in it even when nothing happens.
pub(super) fn growth_counters(run: &RunContext, layout: Option<&Layout>) -> GrowthCounters {
    let size = |path: &Path| run.files.open_file(path).map(|(_, size)| size).unwrap_or_default();
    let outputs = layout.map(|layout| run.files.list(&layout.attempt.join("agent_outputs"))).unwrap_or_default();
    let of_file = |file: Option<PathBuf>| file.map(|file| size(&file)).unwrap_or_default();
    GrowthCounters([
        of_file(layout.and_then(|layout| layout.events(&run.files))),
        of_file(layout.and_then(|layout| layout.massgen_log(&run.files))),
        outputs.iter().map(|output| output.size).sum(),
        size(Path::new(STDOUT_LOG)),
        size(Path::new(STDERR_LOG)),
    ])
}

/// What a quiet run seems to do. `cpu_percent` is its use of one CPU since the last sample.
pub(super) fn evidence(
    run: &RunContext,
    layout: Option<&Layout>,
    tree: &ProcessTree,
    leader: &Leader,
    cpu_percent: u32,
) -> ActivityEvidence {
    let events = layout.and_then(|layout| layout.events(&run.files));
    let tail = events.and_then(|events| run.files.tail(&events, events::TAIL_BYTES).ok()).unwrap_or_default();
    let latest = events::recent_activity(&tail, &run.secrets);
    let count = |processes: &[ProcessInfo]| u32::try_from(processes.len()).unwrap_or(u32::MAX);
    ActivityEvidence {
        processes: count(&tree.own),
        cpu_percent,
        leader_state: proc_sampler::process_state(leader),
        connections: proc_sampler::connections(tree),
        tools: latest.open_tools,
        runs: count(&tree.nested_supervisors),
        last_event: latest.last_event,
        last_error: latest.last_error,
    }
}
