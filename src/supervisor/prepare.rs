//! Prepares a run to start: the folders and links that MassGen needs, its config, its environment and its command line.
//! It starts no process and writes no record.

use std::ffi::OsString;

use super::agent_facts::AgentFacts;
use super::run_config;
use super::{SupervisorError, io_error};
use crate::massgen::configs;
use crate::massgen::environment;
use crate::massgen::launch::{self, Launch, LaunchFolders};
use crate::massgen::{program, session};
use crate::registry::RunFolder;
use crate::rehearsal::Rehearsal;
use crate::run::{ConfigChoice, RunSpec};
use crate::secrets;

/// Prevents network access by a rehearsal: the endpoint accepts any key, so the user's own key is not sent to it, and MassGen's price
/// requests go to a closed port.
const OFFLINE_VARIABLES: [(&str, &str); 7] = [
    ("OPENAI_API_KEY", "rehearsal"),
    ("HTTPS_PROXY", "http://127.0.0.1:9"),
    ("https_proxy", "http://127.0.0.1:9"),
    ("HTTP_PROXY", "http://127.0.0.1:9"),
    ("http_proxy", "http://127.0.0.1:9"),
    ("NO_PROXY", "127.0.0.1,localhost"),
    ("no_proxy", "127.0.0.1,localhost"),
];

/// A run that is ready to start. Its rehearsal endpoint is served until this is dropped.
pub(super) struct PreparedRun {
    pub(super) launch: Launch,
    pub(super) agents: AgentFacts,
    _rehearsal: Option<Rehearsal>,
    /// The conversation that the run continues, linked where MassGen expects it.
    _session: Option<session::SessionLink>,
}

/// Prepares the run in `folder`.
pub(super) async fn prepare(folder: &RunFolder, spec: &RunSpec) -> Result<PreparedRun, SupervisorError> {
    std::os::unix::fs::symlink(program::scripts(&spec.program), folder.bin())
        .map_err(io_error("link the program's folder"))?;
    launch::prepare_project(spec, &folder.work()).map_err(io_error("start MassGen"))?;
    let config = run_config::prepare_config(folder, spec).await?;
    let (bin, logs, work, inbox) = (folder.bin(), folder.logs(), folder.work(), folder.inbox());
    let folders = LaunchFolders { bin: &bin, logs: &logs, work: &work, inbox: &inbox };
    let launch = launch::build_launch(spec, folders, &config.path, config.own_timeout, environment(spec)?);
    let session = spec
        .continuation
        .as_ref()
        .map(|_| session::SessionLink::create(&launch.cwd, spec.id.as_str(), &folder.session()));
    let session = session.transpose().map_err(io_error("link the conversation so far"))?;
    Ok(PreparedRun { launch, agents: config.agents, _rehearsal: config.rehearsal, _session: session })
}

/// The variables that MassGen gets from our environment and from the env file; in a rehearsal no key at all.
///
/// # Errors
///
/// The env file cannot be used.
pub fn environment(spec: &RunSpec) -> Result<Vec<(OsString, OsString)>, SupervisorError> {
    if matches!(spec.config, ConfigChoice::Rehearsal(_)) {
        let mut env = environment::without_keys(std::env::vars_os());
        OFFLINE_VARIABLES.iter().for_each(|(name, value)| environment::set_variable(&mut env, name, value));
        return Ok(env);
    }
    let file = spec.env_file.as_deref().map(secrets::read_env_file).transpose()?.unwrap_or_default();
    // The operator lists variables in the env file so that MassGen gets them.
    let mut listed: Vec<String> = file.iter().map(|(name, _)| name).chain(&spec.pass_env).cloned().collect();
    listed.push(format!("{}*", configs::SECRET_VARIABLE_PREFIX));
    Ok(environment::select(environment::merge(std::env::vars_os(), &file).into_iter(), &listed))
}
