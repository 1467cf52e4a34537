//! Crash points: places where a debug build kills itself with SIGKILL, so that tests can interrupt a start or an experiment at every
//! step. `MASSGEN_MCP_CRASH_AT` names the point. `MASSGEN_MCP_CRASH_MARKER` names a file that gets a line with the point and the
//! pid before the process dies, so that a test can assert that the crash happened. A release build has no crash points.

/// The points of a start, in the order in which it passes them: first those of the process that starts the run, then those of the
/// run's supervisor.
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

/// The points of an experiment driver, in the order in which it passes them. A driver passes the points of a start as well.
pub const DRIVER_POINTS: [&str; 4] = ["plan-loaded", "run-started", "experiment-ending", "experiment-closed"];

/// Kills this process if the environment names this point.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    debug_assert!(POINTS.contains(&name) || DRIVER_POINTS.contains(&name), "{name} is in the list");
    if std::env::var_os("MASSGEN_MCP_CRASH_AT").is_some_and(|wanted| wanted == name) {
        leave_marker(name);
        let _unreachable = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}

/// Adds a line to the marker file. If that fails, the line is missing and the test that waits for it fails.
#[cfg(debug_assertions)]
fn leave_marker(name: &str) {
    use std::io::Write;
    let Some(path) = std::env::var_os("MASSGEN_MCP_CRASH_MARKER") else { return };
    let line = format!("{name} {}\n", std::process::id());
    let marker = std::fs::File::options().create(true).append(true).open(path);
    if let Err(error) = marker.and_then(|mut marker| marker.write_all(line.as_bytes())) {
        tracing::error!(%error, name, "the marker of a crash could not be written");
    }
}

/// A release build has no crash points.
#[cfg(not(debug_assertions))]
pub(crate) fn point(_name: &str) {}
