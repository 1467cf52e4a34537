//! The receipt of a stop. Pure.

use schemars::JsonSchema;
use serde::Serialize;

use crate::run::{Ending, Force, Outcome, RunRecord};

/// The result of a stop, as kill_run shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ReceiptView {
    /// The run id.
    pub run_id: String,
    /// killed when this stop ended it; another end when it came first; stopping when it is not over yet.
    pub state: String,
    /// True: the run had ended before this call, which did nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "bool")]
    pub already_ended: Option<bool>,
    /// Seconds from the request to the last check.
    pub took_s: f64,
    /// none, SIGINT, SIGTERM or SIGKILL: the strongest that was needed.
    pub force: &'static str,
    /// Number of processes that the run had.
    pub processes: u32,
    /// Processes that could not be killed; normally empty.
    pub survivors: Vec<String>,
    /// What read_result can still return.
    pub readable: String,
}

/// The receipt if a stop could not be requested.
pub fn failed_receipt(record: &RunRecord, reason: &str) -> ReceiptView {
    ReceiptView { readable: format!("not stopped: {reason}"), ..receipt(record) }
}

/// The receipt of a stop.
pub fn receipt(record: &RunRecord) -> ReceiptView {
    let ending = record.state.ending();
    let report = ending.and_then(|ending| ending.stop.as_ref());
    let survivors = report.map(|report| report.survivors.iter().map(|s| format!("{} {}", s.pid, s.name)).collect());
    let took = report.map(|report| report.duration).unwrap_or_default();
    ReceiptView {
        run_id: record.spec.id.to_string(),
        state: record.state.as_str().to_owned(),
        already_ended: None,
        took_s: (took.as_secs_f64() * 1000.0).round() / 1000.0,
        force: report.map_or("none", |report| force_label(report.force)),
        processes: report.map(|report| report.processes).unwrap_or_default(),
        survivors: survivors.unwrap_or_default(),
        readable: readable_parts(ending),
    }
}

/// The receipt if the run had ended before: this stop did nothing, and the receipt does not report an earlier stop.
pub fn ended_receipt(record: &RunRecord) -> ReceiptView {
    let is_over = Some(record.state.ending().is_some()).filter(|has_ended| *has_ended);
    ReceiptView {
        already_ended: is_over,
        took_s: 0.0,
        force: force_label(Force::None),
        processes: 0,
        survivors: Vec::new(),
        ..receipt(record)
    }
}

fn readable_parts(ending: Option<&Ending>) -> String {
    match ending {
        None => "the stop is still under way; look again".to_owned(),
        Some(ending) => match &ending.answer {
            Some(answer) if ending.outcome == Outcome::Succeeded => {
                format!("the final answer, {} characters", answer.chars)
            }
            Some(answer) => format!("the best answer so far, {} characters", answer.chars),
            None => "no answer; parts `log` and `errors`".to_owned(),
        },
    }
}

fn force_label(force: Force) -> &'static str {
    match force {
        Force::None => "none",
        Force::Interrupt => "SIGINT",
        Force::Terminate => "SIGTERM",
        Force::Kill => "SIGKILL",
    }
}
