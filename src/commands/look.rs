//! `massgen-mcp runs` and `massgen-mcp status`: runs as they are now, for people in lines, for programs as the tools show them.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::people::{EXITS, Which, brief, known, say_clean, say_json, seen};
use super::say;
use crate::fleet::{Fleet, Selection};
use crate::massgen::text;
use crate::refusal::Refusal;
use crate::view::{Detail, RunView, notation};

/// Which runs to list.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Runs {
    /// Only those with this label; otherwise the latest 20.
    #[arg(long)]
    group: Option<String>,
    /// Tell it as JSON: {"runs": […]}, each as check_status shows it.
    #[arg(long)]
    pub(super) json: bool,
}

/// Of which runs to show everything.
#[derive(Debug, clap::Args)]
#[command(after_help = EXITS)]
pub struct Status {
    #[command(flatten)]
    which: Which,
    /// Tell it as JSON: {"runs": […]}, each as check_status shows it with detail full.
    #[arg(long)]
    pub(super) json: bool,
}

/// The longest question in a list, in characters.
const QUESTION: usize = 60;

pub(super) async fn runs(fleet: &Fleet, how: &Runs) -> Result<ExitCode, Refusal> {
    let selection = how.group.clone().map_or(Selection::Latest, Selection::Group);
    let records = known(&selection, fleet.look_all(&selection).await?)?;
    if how.json {
        let runs: Vec<_> = records.iter().map(|record| seen(fleet, record, Detail::Brief)).collect();
        say_json(json!({"runs": runs}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    if records.is_empty() {
        say("no runs yet");
    }
    for record in &records {
        let run = seen(fleet, record, Detail::Brief);
        let label = run.group.as_ref().map(|group| format!("[{group}] ")).unwrap_or_default();
        let asked = format!("{label}{}", text::line(&record.spec.question, QUESTION));
        say_clean(&format!("{}\n             {asked}", brief(&run)), fleet.secrets());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn status(fleet: &Fleet, how: &Status) -> Result<ExitCode, Refusal> {
    let selection = how.which.selection()?;
    let records = known(&selection, fleet.look_all(&selection).await?)?;
    let runs: Vec<_> = records.iter().map(|record| seen(fleet, record, Detail::Full)).collect();
    if how.json {
        say_json(json!({"runs": runs}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    for (place, run) in runs.iter().enumerate() {
        if place > 0 {
            say("");
        }
        for line in lines(run) {
            say_clean(&line, fleet.secrets());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything about a run, a fact in each line.
pub(super) fn lines(run: &RunView) -> Vec<String> {
    let Ok(Value::Object(mut facts)) = serde_json::to_value(run) else { return Vec::new() };
    let details = facts.shift_remove("details");
    let mut lines = Vec::new();
    for (name, value) in &facts {
        tell(name, value, 0, &mut lines);
    }
    let more = details.as_ref().and_then(Value::as_object).into_iter().flatten();
    for (name, value) in more.filter(|(name, value)| facts.get(*name) != Some(*value)) {
        // What each agent is at was told above; here are its numbers.
        tell(if name == "agents" { "numbers" } else { name }, value, 0, &mut lines);
    }
    lines
}

fn tell(name: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            lines.push(format!("{indent}{name}:"));
            fields.iter().for_each(|(name, value)| tell(name, value, depth + 1, lines));
        }
        Value::Array(list) => {
            let words: Vec<_> = list.iter().map(word).collect();
            lines.push(format!("{indent}{name}: {}", words.join(", ")));
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            lines.push(format!("{indent}{name}: {}", word(value)));
        }
    }
}

fn word(value: &Value) -> String {
    value.as_str().map_or_else(|| notation::text(value).unwrap_or_default(), str::to_owned)
}
