//! The cost of a server and of a start.

use std::time::Instant;

use anyhow::Context;
use serde_json::json;

use crate::field::{Field, named};
use crate::figures::{Figure, ms};
use crate::process;

const SERVERS: usize = 40;
const CALLS: usize = 50;
const STARTS: usize = 30;

/// The time from before the start of the process to the answer to `initialize`.
pub(crate) fn ready(field: &Field<'_>) -> anyhow::Result<()> {
    let (mut own, mut least) = (Vec::new(), Vec::new());
    for _ in 0..SERVERS {
        let (server, bare) = (field.server()?, field.bare()?);
        own.push(ms(server.ready));
        least.push(ms(bare.ready));
        server.end()?;
        bare.end()?;
    }
    Figure::new("ready", "ms").wanted(5.0).tell(&own, &least)
}

/// Memory after the first answer, and after some calls.
pub(crate) fn memory(field: &Field<'_>) -> anyhow::Result<()> {
    let (mut fresh, mut fresh_bare, mut used, mut used_bare) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..SERVERS / 4 {
        let (mut server, mut bare) = (field.server()?, field.bare()?);
        fresh.push(mib(process::resident(server.pid())?));
        fresh_bare.push(mib(process::resident(bare.pid())?));
        for _ in 0..CALLS {
            server.call("check_status", &json!({"run_id": field.an_ended_run()}))?;
            bare.call("constant", &json!({}))?;
        }
        used.push(mib(process::resident(server.pid())?));
        used_bare.push(mib(process::resident(bare.pid())?));
        server.end()?;
        bare.end()?;
    }
    Figure::new("resident when ready", "MiB").wanted(10.0).tell(&fresh, &fresh_bare)?;
    Figure::new("resident after calls", "MiB").at("calls", CALLS).tell(&used, &used_bare)
}

/// The time to sync a small file and its folder to disk. A start does this at least three times.
pub(crate) fn disk(field: &Field<'_>) -> anyhow::Result<()> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let begun = Instant::now();
        let path = field.put("synced", "a line")?;
        std::fs::File::open(&path)?.sync_all()?;
        std::fs::File::open(path.parent().context("a folder")?)?.sync_all()?;
        took.push(ms(begun.elapsed()));
        std::fs::remove_file(path)?;
    }
    Figure::new("a small file synced to the disk", "ms").tell(&took, &[])
}

/// The duration of run_massgen. At its answer the run is on disk, and its supervisor and MassGen's process are running.
pub(crate) fn start(field: &Field<'_>) -> anyhow::Result<()> {
    let mut server = field.server()?;
    let asked = field.asked(&format!("{}forever\n", Field::working()?))?;
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let (run, time) = server.call("run_massgen", &asked)?;
        took.push(ms(time));
        server.call("kill_run", &json!({"run_id": named(&run)?, "grace_s": 0}))?;
    }
    server.end()?;
    Figure::new("run_massgen answered", "ms").wanted(30.0).tell(&took, &[])
}

pub(crate) fn mib(kib: f64) -> f64 {
    kib / 1024.0
}
