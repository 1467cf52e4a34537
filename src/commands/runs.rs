//! `massgen-mcp runs` and `massgen-mcp status`: print the current state of runs, as text or as the JSON of the tools.

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

/// The runs to list.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct RunsArgs {
    /// Only runs with this label; default: the latest 20.
    #[arg(long)]
    group: Option<String>,
    /// Only running and waiting runs.
    #[arg(long, conflicts_with = "group")]
    live: bool,
    /// Print JSON: {"runs": […], "today": {…}}, each run as check_status shows it.
    #[arg(long)]
    pub(super) json: bool,
}

/// The runs to show with all details.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct StatusArgs {
    #[command(flatten)]
    selector: RunSelector,
    /// Print JSON: {"runs": […]}, each run as check_status shows it with detail full.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn runs(fleet: &Fleet, args: &RunsArgs) -> Result<ExitCode, Refusal> {
    let default_selection = if args.live { fleet.live_selection() } else { Selection::Latest };
    let selection = args.group.clone().map_or(default_selection, Selection::Group);
    let records = found_records(&selection, fleet.snapshot(&selection).await?)?;
    let runs: Vec<RunView> = records.iter().map(|record| list_view(fleet, record)).collect();
    let today = fleet.today().await.map(TodayView::from);
    if args.json {
        print_json(json!({"runs": runs, "today": today}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    if runs.is_empty() {
        print_line(if args.live { "no run goes on" } else { "no runs yet" });
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

/// The view of a run in a list.
fn list_view(fleet: &Fleet, record: &RunRecord) -> RunView {
    let question = fleet.secrets().mask(&record.spec.question);
    view_of(fleet, record, Detail::Brief).into_list_entry(record, &question, &clock::now())
}

/// The totals of the day, in one line.
fn today_line(TodayView { day, runs, live, tokens, cost_usd, cost_unknown }: &TodayView) -> String {
    let cost = match (cost_usd, cost_unknown) {
        (Some(usd), Some(true)) => format!("more than ${usd:.4}"),
        (Some(usd), _) => format!("${usd:.4}"),
        (None, _) => "cost unknown".to_owned(),
    };
    format!("{day}: {runs} runs, {live} of them live; {cost}, {tokens} tokens")
}

pub(super) async fn status(fleet: &Fleet, args: &StatusArgs) -> Result<ExitCode, Refusal> {
    let selection = args.selector.selection()?;
    let records = found_records(&selection, fleet.snapshot(&selection).await?)?;
    let runs: Vec<_> = records.iter().map(|record| view_of(fleet, record, Detail::Full)).collect();
    if args.json {
        print_json(json!({"runs": runs}), fleet.secrets());
        return Ok(ExitCode::SUCCESS);
    }
    for (index, run) in runs.iter().enumerate() {
        if index > 0 {
            print_line("");
        }
        for line in fact_lines(run) {
            print_sanitized(&line, fleet.secrets());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All facts about a run, one per line.
pub(super) fn fact_lines(run: &RunView) -> Vec<String> {
    let Ok(Value::Object(mut facts)) = serde_json::to_value(run) else { return Vec::new() };
    let details = facts.shift_remove("details");
    let mut lines = Vec::new();
    for (name, value) in &facts {
        push_value_lines(name, value, 0, &mut lines);
    }
    let detail_fields = details.as_ref().and_then(Value::as_object).into_iter().flatten();
    for (name, value) in detail_fields.filter(|(name, value)| facts.get(*name) != Some(*value)) {
        // The lines above show the state of each agent; `numbers` are its counts.
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
