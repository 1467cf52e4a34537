//! The types of an experiment: one request for many runs, of several configs, variants and questions, with repeats.
//! Pure: nothing here reads a clock, a file or a process.

pub mod forecast;
mod next_action;
mod plan;
pub mod table;

pub use next_action::{NextAction, ProgressCounts, RunGrid, next_action};
pub use plan::{Arm, CloseReason, ExperimentPlan, ExperimentProgress, PlannedRun};
