//! The text that identifies a request: an equal request of the same client while its run is live gets that run. Values that
//! equal the defaults are left out, so a call that spells out a default is the same request. Pure.

use std::time::Duration;

use serde_json::Value;

use super::params::RunMassgen;
use crate::fleet::StartLimits;
use crate::run::{Cap, Usd};
use crate::settings::Settings;

/// The limits of a run if the call does not set them.
#[derive(Debug, Default)]
pub(super) struct RequestDefaults {
    timeout: Duration,
    cap: Cap,
}

impl RequestDefaults {
    /// The limits of a run whose call names none. A run that draws on a shared budget gets a share of the rest, which
    /// is no fixed amount. So a call without a budget is not the same request as a call that names the operator's
    /// limit.
    pub(super) fn for_single_run(settings: &Settings, is_nested: bool) -> RequestDefaults {
        let spending = &settings.spending;
        let has_pool = is_nested || spending.server_budget_usd.is_some() || spending.day_budget_usd.is_some();
        let max_cap = StartLimits::from(settings).per_run.cap;
        let cap = Cap { usd: max_cap.usd.filter(|_| !has_pool), tokens: max_cap.tokens.filter(|_| !is_nested) };
        RequestDefaults { cap, ..RequestDefaults::for_experiment(settings) }
    }

    /// The defaults of a run in an experiment, where the budget applies to all runs.
    pub(super) fn for_experiment(settings: &Settings) -> RequestDefaults {
        RequestDefaults { timeout: settings.limits.timeout, cap: Cap::default() }
    }
}

/// A text that identifies the request. It excludes `request_key`, `fresh`, `dry_run` and `wait_s`.
pub(super) fn describe(request: &RunMassgen, defaults: &RequestDefaults) -> String {
    let mut json = serde_json::to_value(request).unwrap_or_default();
    if let Some(json) = json.as_object_mut() {
        // Omit unused parameters, so that a later version computes the same text for the same request. Omit defaults
        // for the same reason; a continued run takes the defaults of mode and context from the run before.
        let continues = request.continue_run.is_some();
        json.retain(|name, value| {
            let is_default = match name.as_str() {
                "mode" => !continues && value.as_str() == Some("full"),
                "context" => !continues && value.as_str() == Some("none"),
                "timeout_s" => value.as_f64() == Some(defaults.timeout.as_secs_f64()),
                "budget_usd" => value.as_f64().and_then(Usd::from_f64) == defaults.cap.usd,
                "max_tokens" => value.as_u64() == defaults.cap.tokens,
                "repeat" => value.as_u64() == Some(1),
                "variants" | "questions" => value.as_array().is_some_and(Vec::is_empty),
                "request_key" | "fresh" | "dry_run" | "wait_s" => true,
                _ => matches!(value, Value::Null | Value::Bool(false)),
            };
            !is_default && !value.is_null()
        });
        // Trim the question as `questions::check` does.
        for name in ["question", "questions"] {
            json.get_mut(name).map(trim_questions);
        }
    }
    json.to_string()
}

fn trim_questions(questions: &mut Value) {
    match questions {
        Value::String(question) => *question = question.trim().to_owned(),
        Value::Array(all) => all.iter_mut().for_each(trim_questions),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => {}
    }
}
