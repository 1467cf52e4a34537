//! Checks of single parameters: ranges, ids, budgets, timeouts and labels. A value that is out of range is refused with its
//! range. Pure.

use std::time::Duration;

use crate::massgen::text;
use crate::refusal::Refusal;
use crate::run::{Cap, RunId, Usd};
use crate::settings::Limits;

/// The longest request_key, in characters.
const MAX_KEY_CHARS: usize = 200;

/// The smallest and the largest budget, in US dollars.
const MIN_BUDGET_USD: f64 = 0.000_001;
const MAX_BUDGET_USD: f64 = 1e9;

/// Checks that a number is in a range.
pub(super) fn check_range(field: &str, value: f64, min: f64, max: f64) -> Result<f64, Refusal> {
    if (min..=max).contains(&value) { Ok(value) } else { Err(Refusal::out_of_range(field, value, min, max)) }
}

/// Parses a run id; a model may add whitespace around it.
pub(super) fn parse_run_id(text: &str) -> Result<RunId, Refusal> {
    Ok(text.trim().parse::<RunId>()?)
}

/// The timeout of a run: the requested one in seconds, or the operator's default.
pub(super) fn check_timeout(requested: Option<f64>, limits: &Limits) -> Result<Duration, Refusal> {
    match requested {
        Some(seconds) => {
            Ok(Duration::from_secs_f64(check_range("timeout_s", seconds, 1.0, limits.max_timeout.as_secs_f64())?))
        }
        None => Ok(limits.timeout),
    }
}

/// The most that a call lets its runs spend.
pub(super) fn parse_cap(dollars: Option<f64>, count: Option<u64>) -> Result<Cap, Refusal> {
    Ok(Cap { usd: dollars.map(parse_budget).transpose()?, tokens: count })
}

fn parse_budget(dollars: f64) -> Result<Usd, Refusal> {
    let budget_usd = check_range("budget_usd", dollars, MIN_BUDGET_USD, MAX_BUDGET_USD)?;
    Usd::from_f64(budget_usd)
        .ok_or_else(|| Refusal::out_of_range("budget_usd", dollars, MIN_BUDGET_USD, MAX_BUDGET_USD))
}

pub(super) fn check_request_key(key: String) -> Result<String, Refusal> {
    if (1..=MAX_KEY_CHARS).contains(&key.chars().count()) {
        return Ok(key);
    }
    Err(Refusal::new(
        "out_of_range",
        format!("`request_key` must have 1 to {MAX_KEY_CHARS} characters"),
        "choose a shorter one",
    ))
}

pub(super) fn check_group_name(group: String) -> Result<String, Refusal> {
    let is_valid = (1..=64).contains(&group.chars().count()) && text::safe_name(&group) == group;
    let refusal = || {
        Refusal::new(
            "group_invalid",
            "`group` must be 1 to 64 characters without control and hidden characters",
            "choose a short label",
        )
    };
    if is_valid { Ok(group) } else { Err(refusal()) }
}
