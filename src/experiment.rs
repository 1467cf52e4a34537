//! Our words for an experiment: many runs asked for at once, of several configs, variants and questions, some times over.
//! Pure: nothing here reads a clock, a file or a process.

pub mod forecast;
mod plan;
mod step;
pub mod table;

pub use plan::{Arm, CloseReason, ExperimentPlan, ExperimentProgress, PlannedRun};
pub use step::{NextStep, ProgressCounts, RunGrid, next_step};
