//! Runs of real MassGen with the scripted model, as an agent has them: `cargo bench --bench massgen` prints one JSON object per line.
//! `-- tokens` is what a run costs an agent to read and write, by this server and by what it would use without it; `-- starts` what
//! a run takes of time, processor and memory, started cold, warm, and by hand; `--quick` leaves out what takes longest.
//! It needs the MassGen that `massgen-mcp setup` installs, reaches nothing beyond this machine, and leaves nothing behind.

mod agent;
mod figures;
mod peers;
mod processes;
mod starts;
mod tokens;
mod world;

use anyhow::Context;

use self::world::Place;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| args.iter().any(|arg| arg == word);
    // `cargo test --benches` starts it as well, without this flag, and wants no numbers.
    if !has("--bench") {
        return Ok(());
    }
    let (place, quick) = (Place::find()?, has("--quick"));
    if has("tokens") || !has("starts") {
        tokens::measure(&place, quick).await.context("tokens")?;
    }
    if has("starts") || !has("tokens") {
        starts::measure(&place, quick).await.context("starts")?;
    }
    Ok(())
}
