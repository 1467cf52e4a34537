//! massgen-mcp: an MCP server that lets agents start, follow, read and stop MassGen runs.
//! This list is the order of the modules; ARCHITECTURE.md is the guide. Each module uses only those above it in this list.

pub mod experiment;
pub mod run;

pub mod clock;
pub mod crash;
pub mod inherited_state;
pub mod pidfd;
pub mod secrets;
pub mod watch;

pub mod massgen;
pub mod registry;
pub mod rehearsal;
pub mod settings;
pub mod warm;

pub mod ledger;
pub mod provenance;
pub mod supervisor;

pub mod report;

pub mod fleet;

pub mod experiment_driver;
pub mod refusal;
pub mod view;

pub mod commands;
pub mod server;
