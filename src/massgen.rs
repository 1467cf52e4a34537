//! Everything this program knows about MassGen: how to find, start and set it up, which files it writes and what they mean. Readers
//! tolerate damaged files and stay inside the run's folder. Nothing here signals a process or writes a run record.

pub mod answers;
pub mod basis;
pub mod broken_import;
pub mod configs;
pub mod copy;
pub mod docker;
pub mod environment;
pub mod events;
pub mod files;
pub mod flags;
pub mod inbox;
pub mod installation;
pub mod launch;
pub mod layout;
pub mod names;
pub mod outcome;
pub mod pages;
pub mod priced_models;
pub mod program;
pub mod reasons;
pub mod references;
pub mod run_config;
pub mod session;
pub mod setup;
pub mod status;
pub mod text;
pub mod timeline;
pub mod variables;
pub mod vote_poll;
pub mod warnings;

/// The MassGen version that this program is written and tested against, that `massgen-mcp setup` installs, and that the comments in this
/// module describe. `scripts/lock` reads it from this line. docs/extending.md says how to support another version.
pub const VERSION: &str = "0.1.97";
