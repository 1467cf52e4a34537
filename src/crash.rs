//! Crash points: places where a debug build kills itself, so that tests can interrupt a start at every step.
//! `MASSGEN_MCP_CRASH_AT` names a point; a release build has none.

/// All points, in the order in which a start passes them: first the server's, then the supervisor's.
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

/// Kills this process with SIGKILL if the environment names this point.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    debug_assert!(POINTS.contains(&name), "{name} is in the list");
    if std::env::var_os("MASSGEN_MCP_CRASH_AT").is_some_and(|requested| requested == name) {
        let _unreachable = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Does nothing in a release build.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}
