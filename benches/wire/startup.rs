//! The cost of a server and of a start.

use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use crate::figures::{Figure, ms};
use crate::process;
use crate::testbed::{Testbed, run_id};

const SERVERS: usize = 40;
const CALLS: usize = 50;
const STARTS: usize = 30;

/// The time from before the start of the process to the answer to `initialize`.
pub(crate) fn ready(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let (mut times, mut bare_times) = (Vec::new(), Vec::new());
    for _ in 0..SERVERS {
        let (server, bare) = (testbed.server()?, testbed.bare()?);
        times.push(ms(server.ready));
        bare_times.push(ms(bare.ready));
        server.end()?;
        bare.end()?;
    }
    Figure::new("ready", "ms").target(5.0).print(&times, &bare_times)
}

/// Memory after the first answer, and after some calls.
pub(crate) fn memory(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let (mut fresh, mut fresh_bare, mut used, mut used_bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SERVERS / 4 {
        let (mut server, mut bare) = (testbed.server()?, testbed.bare()?);
        fresh.push(mib(process::resident(server.pid())?));
        fresh_bare.push(mib(process::resident(bare.pid())?));
        for _ in 0..CALLS {
            server.call("check_status", &json!({"run_id": testbed.an_ended_run()}))?;
            bare.call("constant", &json!({}))?;
        }
        used.push(mib(process::resident(server.pid())?));
        used_bare.push(mib(process::resident(bare.pid())?));
        server.end()?;
        bare.end()?;
    }
    Figure::new("resident when ready", "MiB").target(10.0).print(&fresh, &fresh_bare)?;
    Figure::new("resident after calls", "MiB").at("calls", CALLS).print(&used, &used_bare)
}

/// The time to sync a small file and its folder to disk. A start does this at least three times.
pub(crate) fn disk(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut durations = Vec::new();
    for _ in 0..STARTS {
        let started = Instant::now();
        let path = testbed.put("synced", "a line")?;
        std::fs::File::open(&path)?.sync_all()?;
        std::fs::File::open(path.parent().context("a folder")?)?.sync_all()?;
        durations.push(ms(started.elapsed()));
        std::fs::remove_file(path)?;
    }
    Figure::new("a small file synced to the disk", "ms").print(&durations, &[])
}

/// The duration of run_massgen. At its answer the run is on disk, and its supervisor and MassGen's process are running.
pub(crate) fn start(testbed: &Testbed<'_>) -> anyhow::Result<()> {
    let mut server = testbed.server()?;
    let arguments = testbed.arguments(&format!("{}forever\n", Testbed::working()?))?;
    let mut durations = Vec::new();
    for _ in 0..STARTS {
        let (run, time) = server.call("run_massgen", &arguments)?;
        durations.push(ms(time));
        server.call("kill_run", &json!({"run_id": run_id(&run)?, "grace_s": 0}))?;
    }
    server.end()?;
    Figure::new("run_massgen answered", "ms").target(30.0).print(&durations, &[])
}

pub(crate) fn mib(kib: f64) -> f64 {
    kib / 1024.0
}
