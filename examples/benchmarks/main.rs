//! Output of the benchmarks → BENCHMARKS.md and its plot: `cargo run --example benchmarks -- FOLDER`, which `scripts/compare` calls.
//! The folder contains `facts.tsv` (of the machine), `wire.jsonl`, `massgen.jsonl` and `pure.txt`. This program measures nothing and
//! keeps the text under *What was found*, which people write.

mod plot;
mod tables;

use std::path::Path;

use anyhow::Context;
use serde_json::Value;

/// The markers around the text that people write.
const MARKS: (&str, &str) = ("<!-- found: kept by hand -->", "<!-- found end -->");

fn main() -> anyhow::Result<()> {
    let folder = std::env::args_os().nth(1).context("give the folder of what was printed")?;
    let read = |name: &str| std::fs::read_to_string(Path::new(&folder).join(name)).with_context(|| name.to_owned());
    let (wire, massgen) = (lines(&read("wire.jsonl")?)?, lines(&read("massgen.jsonl")?)?);
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = project.join("BENCHMARKS.md");
    let before = std::fs::read_to_string(&document).unwrap_or_default();
    let found = found_text(&before).unwrap_or("\nNothing yet.\n\n");
    let (facts, pure) = (read("facts.tsv")?, read("pure.txt")?);
    let text = tables::document(&facts, &wire, &massgen, &pure, &format!("{}{found}{}", MARKS.0, MARKS.1));
    std::fs::write(&document, text)?;
    std::fs::write(project.join("docs/benchmarks.svg"), plot::growth(&wire)?)?;
    Ok(())
}

/// Parses the lines that are JSON objects; other lines are not measurements.
fn lines(text: &str) -> anyhow::Result<Vec<Value>> {
    let objects = text.lines().filter(|line| line.starts_with('{'));
    objects.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

fn found_text(document: &str) -> Option<&str> {
    let (_, rest) = document.split_once(MARKS.0)?;
    rest.split_once(MARKS.1).map(|(found, _)| found)
}
