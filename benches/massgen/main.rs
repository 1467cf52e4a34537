//! Runs of real MassGen with the scripted model: `cargo bench --bench massgen` prints one JSON object per line. `-- tokens` measures the
//! tokens that a run costs an agent, with this server and with the alternatives; `-- starts` measures time, CPU and memory of runs that
//! are started cold, warm and by hand; `--quick` leaves out the longest measurements.
//! It needs the MassGen that `massgen-mcp setup` installs, uses no network except loopback, and leaves no process or file.

mod agent;
mod figures;
mod peers;
mod processes;
mod starts;
mod tokens;
mod workspace;

use anyhow::Context;

use self::workspace::Programs;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    // `cargo test --benches` starts this program without the flag; it needs no measurements.
    if !has("--bench") {
        return Ok(());
    }
    let (programs, quick) = (Programs::find()?, has("--quick"));
    if has("tokens") || !has("starts") {
        tokens::measure(&programs, quick).await.context("tokens")?;
    }
    if has("starts") || !has("tokens") {
        starts::measure(&programs, quick).await.context("starts")?;
    }
    Ok(())
}
