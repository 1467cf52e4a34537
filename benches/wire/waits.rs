//! The latency from an event to the answer of a waiting call, and the cost of a large status.json.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::figures::{Figure, ms};
use crate::process;
use crate::testbed::{Testbed, run_id, wait_for_agents};

const CHANGES: usize = 50;
const ENDS: usize = 20;
const LARGE: usize = 2 << 20;
/// The time after which a sent call is waiting. The client cannot observe that.
const SETTLED: Duration = Duration::from_millis(30);

/// The time from the rename of a new status.json to the answer of the waiting check_status.
pub(crate) fn file_change(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    let (id, mut since) = start_run(testbed, &mut server)?;
    let mut durations = Vec::new();
    for number in 0..CHANGES {
        let status = status(number, 0);
        let (answer, time) = change(testbed, &mut server, &id, &since, &status)?;
        since = answer["cursor"].as_str().context("cursor")?.to_owned();
        durations.push(ms(time));
    }
    stop_run(server, &id)?;
    Figure::new("file change to waiter", "ms").target(20.0).print(&durations, &[])
}

/// The time from the kill of MassGen's process to the answer of the waiting check_status.
pub(crate) fn process_end(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    let mut durations = Vec::new();
    for _ in 0..ENDS {
        let (id, _) = start_run(testbed, &mut server)?;
        let massgen = testbed.massgen(&id)?;
        server.ask("check_status", &json!({"run_id": id, "wait_s": 20, "until": "all_done"}))?;
        std::thread::sleep(SETTLED);
        let ended = Instant::now();
        kill_process(massgen, Signal::KILL)?;
        let (answer, at) = server.answer()?;
        ensure!(answer["runs"][0]["state"] == "killed", "{answer}");
        durations.push(ms(at - ended));
    }
    server.end()?;
    Figure::new("process end to waiter", "ms").target(10.0).print(&durations, &[])
}

/// The supervisor reads a large status.json once per change; the server never reads it.
pub(crate) fn large_status(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    let (id, mut since) = start_run(testbed, &mut server)?;
    let (supervisor, arguments) = (testbed.supervisor(&id)?, json!({"run_id": id}));
    let small = calls(&mut server, &arguments)?;
    let (mut digesting, mut waiting) = (Vec::new(), Vec::new());
    for number in 0..CHANGES / 2 {
        let status = status(number, LARGE);
        let before = process::busy(supervisor)?;
        let (answer, time) = change(testbed, &mut server, &id, &since, &status)?;
        since = answer["cursor"].as_str().context("cursor")?.to_owned();
        std::thread::sleep(SETTLED);
        digesting.push(process::busy(supervisor)? - before);
        waiting.push(ms(time));
    }
    Figure::new("supervisor's work for a status.json of 2 MB", "ms").target(15.0).print(&digesting, &[])?;
    Figure::new("file change to waiter, status.json of 2 MB", "ms").print(&waiting, &[])?;
    unchanged(testbed, supervisor, &id)?;
    let large = calls(&mut server, &arguments)?;
    Figure::new("check_status with a status.json of 2 MB, by one of 11 KB", "times")
        .print(&[large.0 / small.0], &[])?;
    Figure::new("what check_status reads with a status.json of 2 MB", "bytes").print(&[large.1], &[])?;
    stop_run(server, &id)
}

/// A change of another file does not make the supervisor read status.json again.
fn unchanged(testbed: &Testbed<'_>, supervisor: u32, id: &str) -> anyhow::Result<()> {
    let mut read = Vec::new();
    for number in 0..10 {
        let before = process::read(supervisor)?;
        put(&testbed.attempt(id).join(format!("other-{number}.json")), "{}")?;
        std::thread::sleep(SETTLED);
        read.push(process::read(supervisor)? - before);
    }
    Figure::new("what the supervisor reads while that is unchanged", "bytes").target(65_536.0).print(&read, &[])
}

/// The median duration of a call in milliseconds, and the bytes that the server reads for it.
fn calls(server: &mut Client, arguments: &Value) -> anyhow::Result<(f64, f64)> {
    let before = process::read(server.pid())?;
    let mut durations = Vec::new();
    for _ in 0..200 {
        durations.push(ms(server.call("check_status", arguments)?.1));
    }
    durations.sort_by(f64::total_cmp);
    Ok((durations[100], (process::read(server.pid())? - before) / 200.0))
}

/// Starts a run that reports its agents; returns its id and the cursor.
fn start_run(testbed: &Testbed<'_>, server: &mut Client) -> anyhow::Result<(String, String)> {
    let arguments = testbed.arguments(&format!("{}forever\n", Testbed::working()?))?;
    let id = run_id(&server.call("run_massgen", &arguments)?.0)?;
    let since = wait_for_agents(server, &id)?;
    Ok((id, since))
}

fn change(
    testbed: &Testbed<'_>,
    server: &mut Client,
    id: &str,
    since: &str,
    status: &str,
) -> anyhow::Result<(Value, Duration)> {
    server.ask("check_status", &json!({"run_id": id, "wait_s": 20, "since": since}))?;
    std::thread::sleep(SETTLED);
    let changed = put(&testbed.attempt(id).join("status.json"), status)?;
    let (answer, at) = server.answer()?;
    Ok((answer, at - changed))
}

/// Replaces a file atomically; returns the time before the rename.
fn put(path: &Path, text: &str) -> anyhow::Result<Instant> {
    let draft = path.with_extension("tmp");
    std::fs::write(&draft, text)?;
    // Writeback to the disk would disturb the measurement.
    std::thread::sleep(Duration::from_millis(5));
    let now = Instant::now();
    std::fs::rename(draft, path)?;
    Ok(now)
}

/// A status.json with a new answer, of at least this number of bytes.
fn status(number: usize, bytes: usize) -> String {
    let round = json!({"round": 1, "agent": "agent_a", "tool": "read_file", "seconds": 0.25, "words": "of some length, as they are"});
    let rounds: Vec<&Value> = std::iter::repeat_n(&round, bytes / 110).collect();
    let agent = json!({"status": "answered", "answer_count": number + 2, "latest_answer_label": format!("agent1.{}", number + 2)});
    let mut agent = agent;
    agent["rounds"] = json!(rounds);
    json!({"coordination": {"phase": "initial_answer"}, "agents": {"agent_a": agent}}).to_string()
}

fn stop_run(mut server: Client, id: &str) -> anyhow::Result<()> {
    server.call("kill_run", &json!({"run_id": id, "grace_s": 0}))?;
    server.end()
}
