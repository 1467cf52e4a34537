//! The cost of idle servers and supervisors, and of those with frequent changes that wake no waiter.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::field::Field;
use crate::figures::Figure;
use crate::life::mib;
use crate::process;

/// The duration of an idle measurement. A supervisor examines a quiet run for the first time after ten seconds.
const IDLE: Duration = Duration::from_secs(5);
/// The duration of a measurement with frequent changes.
const WORK: Duration = Duration::from_secs(10);
const BUSY_RUNS: usize = 50;
/// The time after which pending work is done.
const SETTLED: Duration = Duration::from_secs(1);

/// A server after one call, with all runs on disk and no live run.
pub(crate) fn server_alone(field: &Field<'_>) -> anyhow::Result<()> {
    let mut server = field.server()?;
    server.call("check_status", &json!({}))?;
    let woken = woken(&[server.pid()])?;
    server.end()?;
    Figure::new("wake-ups of a server in 5 s", "times").wanted(0.0).tell(&woken, &[])
}

/// Supervisors of runs that have just become idle.
pub(crate) fn supervisors_alone(field: &Field<'_>) -> anyhow::Result<()> {
    let woken = woken(&field.supervisors())?;
    Figure::new("wake-ups of a supervisor in 5 s", "times").at("live", woken.len()).wanted(0.0).tell(&woken, &[])
}

/// A client that waits for idle runs, and the memory of their supervisors.
pub(crate) fn supervisors(field: &Field<'_>) -> anyhow::Result<()> {
    let mut server = field.server()?;
    server.ask("check_status", &json!({"wait_s": 30, "until": "all_done"}))?;
    let supervisors = field.supervisors();
    let woken_server = woken(&[server.pid()])?;
    Figure::new("wake-ups of a waiting server in 5 s", "times")
        .at("live", supervisors.len())
        .wanted(0.0)
        .tell(&woken_server, &[])?;
    let memory = supervisors.iter().map(|pid| Ok(mib(process::private(*pid)?))).collect::<anyhow::Result<Vec<_>>>()?;
    Figure::new("private memory of a supervisor", "MiB").wanted(2.0).tell(&memory, &[])?;
    server.end()
}

/// The number of wake-ups of each process in an idle period.
fn woken(pids: &[u32]) -> anyhow::Result<Vec<f64>> {
    std::thread::sleep(SETTLED);
    let before = all(pids, process::sleeps)?;
    std::thread::sleep(IDLE);
    Ok(all(pids, process::sleeps)?.iter().zip(before).map(|(after, before)| after - before).collect())
}

fn all(pids: &[u32], what: fn(u32) -> anyhow::Result<f64>) -> anyhow::Result<Vec<f64>> {
    pids.iter().map(|pid| what(*pid)).collect()
}

/// Runs that rewrite status.json every two seconds, as MassGen does, and a client that waits for their end.
pub(crate) fn busy(field: &mut Field<'_>) -> anyhow::Result<()> {
    let mut script = Field::working()?;
    let statuses = script.lines().last().unwrap_or_default().to_owned();
    for second in (0..60).step_by(2) {
        script += &format!("sleep 2\n{}\n", later(&statuses, second)?);
    }
    let asked = field.asked(&script)?;
    field.start_all(BUSY_RUNS, &asked)?;
    let mut server = field.server()?;
    server.ask("check_status", &json!({"wait_s": 30, "until": "all_done"}))?;
    std::thread::sleep(SETTLED);
    let (own, supervisors) = ([server.pid()], field.supervisors());
    let sum = |pids: &[u32]| Ok::<f64, anyhow::Error>(all(pids, process::busy)?.iter().sum());
    let (begun, before) = (Instant::now(), [sum(&own)?, sum(&supervisors)?]);
    std::thread::sleep(WORK);
    let percent = |after: f64, before: f64| (after - before) / begun.elapsed().as_secs_f64() / 10.0;
    let (own, supervisors) = (percent(sum(&own)?, before[0]), percent(sum(&supervisors)?, before[1]));
    server.end()?;
    let figure = |name| Figure::new(name, "% of a core").at("live", BUSY_RUNS);
    figure("server while status.json is rewritten every 2 s").tell(&[own], &[])?;
    figure("server and supervisors while status.json is rewritten every 2 s")
        .wanted(3.0)
        .tell(&[own + supervisors], &[])
}

/// The same status some time later, with a longer time and more tokens.
fn later(command: &str, seconds: u64) -> anyhow::Result<String> {
    let mut status: Value = serde_json::from_str(command.trim_start_matches("status "))?;
    status["meta"]["elapsed_seconds"] = json!(seconds);
    status["costs"]["total_input_tokens"] = json!(10_000 + seconds);
    Ok(format!("status {status}"))
}
