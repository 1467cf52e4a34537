//! The server from the client's side, over stdio: `cargo bench --bench wire` prints one JSON object per line with the name of the
//! measurement, its unit, the number of samples, the median, the 99th percentile, the upper limit for the median (`target`) and, if
//! applicable, the median of a bare server measured alternately (`bare`) and the ratio of both.
//! It needs only the build, uses no network, and leaves no process or file.

mod calls;
mod client;
mod figures;
mod idle;
mod process;
mod programs;
mod startup;
mod testbed;
mod waits;

use std::process::ExitCode;

use anyhow::Context;

use self::programs::Programs;
use self::testbed::Testbed;

/// The numbers of ended runs on disk, one per measurement.
const ON_DISK: [usize; 4] = [1, 10, 100, 1_000];
/// The numbers of live runs, one per measurement.
const LIVE: [usize; 3] = [1, 10, 50];

fn main() -> anyhow::Result<ExitCode> {
    // `cargo test --benches` starts this program without the flag; it needs no measurements.
    if !std::env::args().any(|arg| arg == "--bench") {
        return Ok(ExitCode::SUCCESS);
    }
    let programs = Programs::build()?;
    let mut testbed = Testbed::new(&programs)?;
    for on_disk in ON_DISK {
        testbed.fill(on_disk).context("ended runs")?;
        calls::among_ended(&testbed, on_disk)?;
    }
    startup::ready(&testbed)?;
    startup::memory(&testbed)?;
    startup::disk(&testbed)?;
    startup::start(&testbed)?;
    waits::file_change(&testbed)?;
    waits::process_end(&testbed)?;
    waits::large_status(&testbed)?;
    idle::server_alone(&testbed)?;
    testbed.live(LIVE[1])?;
    idle::supervisors_alone(&testbed)?;
    testbed.end_all()?;
    for live in LIVE {
        testbed.live(live).context("live runs")?;
        calls::among_live(&testbed, live)?;
    }
    idle::supervisors(&testbed)?;
    testbed.end_all()?;
    idle::busy(&mut testbed)?;
    testbed.end_all()?;
    testbed.close()?;
    Ok(ExitCode::SUCCESS)
}
