//! The server from the client's side, over stdio: `cargo bench --bench wire` prints one JSON object per line with the name of the
//! measurement, its unit, the number of samples, the median, the 99th percentile, the upper limit for the median (`target`) and, if
//! applicable, the median of a bare server measured alternately (`bare`) and the ratio of both.
//! It needs only the build, uses no network, and leaves no process or file.

mod calls;
mod client;
mod field;
mod figures;
mod life;
mod process;
mod programs;
mod quiet;
mod waits;

use std::process::ExitCode;

use anyhow::Context;

use self::field::Field;
use self::programs::Programs;

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
    let mut field = Field::new(&programs)?;
    for on_disk in ON_DISK {
        field.fill(on_disk).context("ended runs")?;
        calls::among_ended(&field, on_disk)?;
    }
    life::ready(&field)?;
    life::memory(&field)?;
    life::disk(&field)?;
    life::start(&field)?;
    waits::file_change(&field)?;
    waits::process_end(&field)?;
    waits::large_status(&field)?;
    quiet::server_alone(&field)?;
    field.live(LIVE[1])?;
    quiet::supervisors_alone(&field)?;
    field.end_all()?;
    for live in LIVE {
        field.live(live).context("live runs")?;
        calls::among_live(&field, live)?;
    }
    quiet::supervisors(&field)?;
    field.end_all()?;
    quiet::busy(&mut field)?;
    field.end_all()?;
    field.close()?;
    Ok(ExitCode::SUCCESS)
}
