//! Crash points: places where a debug build kills itself, so that tests can break a start off at every step.
//! `MASSGEN_MCP_CRASH_AT` names one; a release build has none.

/// Every place, in the order in which a start passes them: first the server's, then the supervisor's.
pub const POINTS: [&str; 9] = [
    "folder-made",
    "lock-taken",
    "spec-written",
    "folder-named",
    "supervisor-started",
    "supervisor-began",
    "start-recorded",
    "massgen-started",
    "massgen-recorded",
];

/// Dies here, as by SIGKILL, where the environment asks for it.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is in the list");
    if std::env::var_os("MASSGEN_MCP_CRASH_AT").is_some_and(|wanted| wanted == name) {
        let _unreachable = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Nothing, in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}
