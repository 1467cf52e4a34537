//! Reports about runs and experiments: text for a model, an HTML page for people.
//! It formats the given data and reads no run.

pub mod answer_diff;
pub mod page;
pub mod run;
