//! The cost of idle servers and supervisors, and of those with frequent changes that wake no waiter.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::figures::Figure;
use crate::process;
use crate::startup::mib;
use crate::testbed::Testbed;

/// The duration of an idle measurement. A supervisor examines a quiet run for the first time after ten seconds.
const IDLE: Duration = Duration::from_secs(5);
/// The duration of a measurement with frequent changes.
const WORK: Duration = Duration::from_secs(10);
const BUSY_RUNS: usize = 50;
/// The time after which pending work is done.
const SETTLED: Duration = Duration::from_secs(1);

/// A server after one call, with all runs on disk and no live run.
pub(crate) fn server_alone(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    server.call("check_status", &json!({}))?;
    let woken = woken(&[server.pid()])?;
    server.end()?;
    Figure::new("wake-ups of a server in 5 s", "times").target(0.0).print(&woken, &[])
}

/// Supervisors of runs that have just become idle.
pub(crate) fn supervisors_alone(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let woken = woken(&testbed.supervisors())?;
    Figure::new("wake-ups of a supervisor in 5 s", "times").at("live", woken.len()).target(0.0).print(&woken, &[])
}

/// A client that waits for idle runs, and the memory of their supervisors.
pub(crate) fn supervisors(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    server.ask("check_status", &json!({"wait_s": 30, "until": "all_done"}))?;
    let supervisors = testbed.supervisors();
    let woken_server = woken(&[server.pid()])?;
    Figure::new("wake-ups of a waiting server in 5 s", "times")
        .at("live", supervisors.len())
        .target(0.0)
        .print(&woken_server, &[])?;
    let memory = supervisors.iter().map(|pid| Ok(mib(process::private(*pid)?))).collect::<anyhow::Result<Vec<_>>>()?;
    Figure::new("private memory of a supervisor", "MiB").target(2.0).print(&memory, &[])?;
    server.end()
}

/// The number of wake-ups of each process in an idle period.
fn woken(pids: &[u32]) -> anyhow::Result<Vec<f64>> {
    std::thread::sleep(SETTLED);
    let before = all(pids, process::sleeps)?;
    std::thread::sleep(IDLE);
    Ok(all(pids, process::sleeps)?.iter().zip(before).map(|(after, before)| after - before).collect())
}

fn all(pids: &[u32], counter: fn(u32) -> anyhow::Result<f64>) -> anyhow::Result<Vec<f64>> {
    pids.iter().map(|pid| counter(*pid)).collect()
}

/// Runs that rewrite status.json every two seconds, as MassGen does, and a client that waits for their end.
pub(crate) fn busy(testbed: &mut Testbed<'_>) -> anyhow::Result<()> {
    let mut script = Testbed::working()?;
    let statuses = script.lines().last().unwrap_or_default().to_owned();
    for second in (0..60).step_by(2) {
        script += &format!("sleep 2\n{}\n", advanced(&statuses, second)?);
    }
    let arguments = testbed.arguments(&script)?;
    testbed.start_all(BUSY_RUNS, &arguments)?;
    let mut server = testbed.server()?;
    server.ask("check_status", &json!({"wait_s": 30, "until": "all_done"}))?;
    std::thread::sleep(SETTLED);
    let (own, supervisors) = ([server.pid()], testbed.supervisors());
    let sum = |pids: &[u32]| Ok::<f64, anyhow::Error>(all(pids, process::busy)?.iter().sum());
    let (started, before) = (Instant::now(), [sum(&own)?, sum(&supervisors)?]);
    std::thread::sleep(WORK);
    let percent = |after: f64, before: f64| (after - before) / started.elapsed().as_secs_f64() / 10.0;
    let (own, supervisors) = (percent(sum(&own)?, before[0]), percent(sum(&supervisors)?, before[1]));
    server.end()?;
    let figure = |name| Figure::new(name, "% of a core").at("live", BUSY_RUNS);
    figure("server while status.json is rewritten every 2 s").print(&[own], &[])?;
    figure("server and supervisors while status.json is rewritten every 2 s")
        .target(3.0)
        .print(&[own + supervisors], &[])
}

/// The same status some time later, with a longer time and more tokens.
fn advanced(command: &str, seconds: u64) -> anyhow::Result<String> {
    let mut status: Value = serde_json::from_str(command.trim_start_matches("status "))?;
    status["meta"]["elapsed_seconds"] = json!(seconds);
    status["costs"]["total_input_tokens"] = json!(10_000 + seconds);
    Ok(format!("status {status}"))
}
