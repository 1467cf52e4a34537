//! Tests of the whole program from outside: real processes, real signals, the real protocol and, where stated, the real MassGen.
//! They wait for conditions and never for time, use no network except loopback, and leave no process or file.

#![expect(
    clippy::duplicate_mod,
    reason = "the same tests hold for cold starts and, as modules named *_warm, for warm ones"
)]

mod architecture;
mod argument_properties;
mod arguments;
mod bad_input;
mod building;
mod cli;
mod client_limits;
mod client_timeouts;
mod comparing;
mod configs;
mod continuing;
mod costs;
mod examples;
mod experiments;
mod failures;
mod faults;
mod governed;
mod groups;
mod installs;
mod lab;
mod launched;
mod layouts;
mod live_runs;
mod loop_on_massgen;
#[path = "loop_on_massgen.rs"]
mod loop_on_massgen_warm;
mod meta_agent;
mod model;
mod odd_answers;
mod owners;
mod pages;
mod processes;
mod progress;
mod properties;
mod provenance;
mod providers;
mod prune;
mod quiet_runs;
mod raw;
mod ready_answers;
mod reports;
mod repository;
mod resources;
mod run_warnings;
mod schemas;
mod set_up;
mod settings;
mod starts;
mod status;
mod steering;
mod tasks;
mod ten_tasks;
mod warm;
mod warm_environments;
mod warnings;
