//! The types of an experiment: one request for many runs, of several configs, variants and questions, with repeats.
//! Pure: nothing here reads a clock, a file or a process.

pub mod forecast;
mod plan;
mod step;
pub mod table;

pub use plan::{Arm, CloseReason, ExperimentPlan, ExperimentProgress, PlannedRun};
pub use step::{NextStep, ProgressCounts, RunGrid, next_step};
