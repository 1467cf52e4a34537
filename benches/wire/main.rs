//! The server as a client sees it, over standard input and output: `cargo bench --bench wire` prints one JSON object per line,
//! with the name of what was measured, its unit, how often, the median and the 99th percentile, what is wanted (`target`) and,
//! where it can be, the median of a bare server asked in turns with this one (`bare`) and the ratio of both.
//! It needs nothing but the build, reaches nothing beyond this machine, and leaves no process and no file behind.

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

/// How many ended runs are on disk, one measuring after the other.
const ON_DISK: [usize; 4] = [1, 10, 100, 1_000];
/// How many runs live, one measuring after the other.
const LIVE: [usize; 3] = [1, 10, 50];

fn main() -> anyhow::Result<ExitCode> {
    // `cargo test --benches` starts it as well, without this flag, and wants no numbers.
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
