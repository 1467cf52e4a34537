//! Runs and experiments explained: a report for a model, a page for people.
//! It draws what it is given; it looks at no run by itself.

pub mod answer_diff;
pub mod page;
pub mod run;
