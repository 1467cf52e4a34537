//! `massgen-mcp runs` and `massgen-mcp status`: runs as they are now, for people in lines, for programs as the tools show them.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::output::{EXIT_CODES, print_json, print_line, print_sanitized};
use super::selection::{RunSelector, found_records};
use super::summary::{summary_line, view_of};
use crate::clock;
use crate::fleet::{Fleet, Selection};
use crate::refusal::Refusal;
use crate::run::RunRecord;
use crate::view::list::TodayView;
use crate::view::{Detail, RunView, json};

/// Which runs to list.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunsArgs {
    /// Only those with this label; otherwise the latest 20.
    #[arg(long)]
    group: Option<String>,
    /// Only those that go on or wait.
    #[arg(long, conflicts_with = "group")]
    live: bool,
    /// Tell it as JSON: {"runs": […], "today": {…}}, each as check_status shows it.
    #[arg(long)]
    pub(super) json: bool,
}

/// Of which runs to show everything.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct StatusArgs {
    #[command(flatten)]
    selector: RunSelector,
    /// Tell it as JSON: {"runs": […]}, each as check_status shows it with detail full.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn runs(fleet: &Fleet, how: &RunsArgs) -> Result<ExitCode, Refusal> {
    let all = if how.live { fleet.live_selection() } else { Selection::Latest };
    let selection = how.group.clone().map_or(all, Selection::Group);
    let records = found_records(&selection, fleet.snapshot(&selection).await?)?;
    let runs: Vec<RunView> = records.iter().map(|record| list_view(fleet, record)).collect();
    let today = fleet.today().await.map(TodayView::from);
    if how.json {
        print_json(json!({"runs": runs, "today": today}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        print_line(if how.live { "no run goes on" } else { "no runs yet" });
    }
    for run in &runs {
        let label = run.group.as_ref().map(|group| format!("[{group}] ")).unwrap_or_default();
        let (config, question) = (run.config.as_deref().unwrap_or("?"), run.question.as_deref().unwrap_or("?"));
        print_sanitized(&format!("{}\n             {label}{config}: {question}", summary_line(run)), fleet.secrets());
    }
    if let Some(today) = today.filter(|today| today.runs > 0) {
        print_line(today_line(&today));
    }
    Ok(ExitCode::SUCCESS)
}

/// A run as a list shows it.
fn list_view(fleet: &Fleet, record: &RunRecord) -> RunView {
    let asked = fleet.secrets().mask(&record.spec.question);
    view_of(fleet, record, Detail::Brief).into_list_entry(record, &asked, &clock::now())
}

/// The runs of the day in one line.
fn today_line(TodayView { day, runs, live, tokens, cost_usd, cost_unknown }: &TodayView) -> String {
    let money = match (cost_usd, cost_unknown) {
        (Some(usd), Some(true)) => format!("more than ${usd:.4}"),
        (Some(usd), _) => format!("${usd:.4}"),
        (None, _) => "cost unknown".to_owned(),
    };
    format!("{day}: {runs} runs, {live} of them live; {money}, {tokens} tokens")
}

pub(super) async fn status(fleet: &Fleet, how: &StatusArgs) -> Result<ExitCode, Refusal> {
    let selection = how.selector.selection()?;
    let records = found_records(&selection, fleet.snapshot(&selection).await?)?;
    let runs: Vec<_> = records.iter().map(|record| view_of(fleet, record, Detail::Full)).collect();
    if how.json {
        print_json(json!({"runs": runs}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    for (place, run) in runs.iter().enumerate() {
        if place > 0 {
            print_line("");
        }
        for line in fact_lines(run) {
            print_sanitized(&line, fleet.secrets());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Everything about a run, a fact in each line.
pub(super) fn fact_lines(run: &RunView) -> Vec<String> {
    let Ok(Value::Object(mut facts)) = serde_json::to_value(run) else { return Vec::new() };
    let details = facts.shift_remove("details");
    let mut lines = Vec::new();
    for (name, value) in &facts {
        push_value_lines(name, value, 0, &mut lines);
    }
    let more = details.as_ref().and_then(Value::as_object).into_iter().flatten();
    for (name, value) in more.filter(|(name, value)| facts.get(*name) != Some(*value)) {
        // What each agent is at was told above; here are its numbers.
        push_value_lines(if name == "agents" { "numbers" } else { name }, value, 0, &mut lines);
    }
    lines
}

fn push_value_lines(name: &str, value: &Value, depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) => {
            lines.push(format!("{indent}{name}:"));
            fields.iter().for_each(|(name, value)| push_value_lines(name, value, depth + 1, lines));
        }
        Value::Array(list) => {
            let words: Vec<_> = list.iter().map(value_text).collect();
            lines.push(format!("{indent}{name}: {}", words.join(", ")));
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {
            lines.push(format!("{indent}{name}: {}", value_text(value)));
        }
    }
}

fn value_text(value: &Value) -> String {
    value.as_str().map_or_else(|| json::to_json_text(value).unwrap_or_default(), str::to_owned)
}
