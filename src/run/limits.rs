//! The limits and the lineage of a run: amounts, caps, parents. Pure arithmetic, in whole millionths of a dollar
//! and whole tokens, so that sums and comparisons are exact.

use std::collections::BTreeMap;
use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::path::PathBuf;

use super::RunId;

/// US dollars, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Usd(pub u64);

impl Usd {
    /// Converts an amount in dollars, rounded up to a millionth; `None` if it is negative or not finite.
    pub fn from_f64(dollars: f64) -> Option<Usd> {
        (dollars.is_finite() && dollars >= 0.0).then(|| Usd((dollars * 1e6 - 1e-3).ceil().max(0.0) as u64))
    }

    /// In dollars.
    pub fn as_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.6}", self.as_f64());
        let whole = text.trim_end_matches('0');
        let cents = whole.split_once('.').map_or(0, |(_, cents)| cents.len());
        write!(f, "${}{}", whole, "0".repeat(2_usize.saturating_sub(cents)))
    }
}

/// The spend of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spend {
    /// The priced part: by MassGen, or by the operator's price table.
    pub usd: Usd,
    /// Input and output tokens.
    pub tokens: u64,
    /// Whether some of the tokens have no price, so that `usd` is too low.
    pub is_unpriced: bool,
}

impl Spend {
    /// The maximum of dollars and of tokens, separately: spend never decreases.
    #[must_use]
    pub fn component_max(self, before: Spend) -> Spend {
        Spend { usd: self.usd.max(before.usd), tokens: self.tokens.max(before.tokens), ..self }
    }

    /// The dollars; `None` if they are 0 and some tokens have no price.
    pub fn known_usd(self) -> Option<Usd> {
        (self.usd > Usd(0) || !self.is_unpriced).then_some(self.usd)
    }
}

impl Add for Spend {
    type Output = Spend;

    fn add(self, other: Spend) -> Spend {
        Spend {
            usd: Usd(self.usd.0.saturating_add(other.usd.0)),
            tokens: self.tokens.saturating_add(other.tokens),
            is_unpriced: self.is_unpriced || other.is_unpriced,
        }
    }
}

impl Sum for Spend {
    fn sum<I: Iterator<Item = Spend>>(all: I) -> Spend {
        all.fold(Spend::default(), Add::add)
    }
}

/// The runs of a day together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DailySummary {
    /// The day by UTC, such as `2026-11-27`.
    pub day: String,
    /// The runs that ended on it or are live, including removed ones.
    pub runs: u64,
    /// The live and queued runs.
    pub live: u64,
    /// The spend of all of them.
    pub spent: Spend,
}

/// The most that may be spent; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cap {
    /// In dollars.
    pub usd: Option<Usd>,
    /// In tokens.
    pub tokens: Option<u64>,
}

impl Cap {
    /// The stricter of both, for dollars and tokens separately.
    #[must_use]
    pub fn component_min(self, other: Cap) -> Cap {
        Cap { usd: min_of_some(self.usd, other.usd), tokens: min_of_some(self.tokens, other.tokens) }
    }

    /// The rest of the cap after this spend.
    #[must_use]
    pub fn remaining(self, spent: Spend) -> Cap {
        Cap {
            usd: self.usd.map(|limit| Usd(limit.0.saturating_sub(spent.usd.0))),
            tokens: self.tokens.map(|limit| limit.saturating_sub(spent.tokens)),
        }
    }

    /// The used percentage; 0 without a limit.
    pub fn percent_used(self, spent: Spend) -> u64 {
        let percent_of = |spent: u64, limit: u64| {
            let percent = u128::from(spent) * 100 / u128::from(limit.max(1));
            u64::try_from(percent).unwrap_or(u64::MAX)
        };
        let usd = self.usd.map_or(0, |limit| percent_of(spent.usd.0, limit.0));
        usd.max(self.tokens.map_or(0, |limit| percent_of(spent.tokens, limit)))
    }
}

fn min_of_some<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// How tokens without a MassGen price are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unpriced {
    /// They are shown as unknown.
    #[default]
    Warn,
    /// The run is stopped.
    Deny,
    /// The operator's price table is used.
    Estimate,
}

/// The price of a model in the operator's table, per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelPrice {
    /// The price of input.
    pub input: Usd,
    /// The price of output.
    pub output: Usd,
}

impl ModelPrice {
    /// The cost of these tokens, rounded up to a millionth of a dollar.
    pub fn cost(self, input: u64, output: u64) -> Usd {
        let price_of = |tokens: u64, price: Usd| u128::from(tokens) * u128::from(price.0);
        let micro_usd = (price_of(input, self.input) + price_of(output, self.output)).div_ceil(1_000_000);
        Usd(u64::try_from(micro_usd).unwrap_or(u64::MAX))
    }
}

/// The limits of a run, from the operator and the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowance {
    /// The most that it and all its descendants may spend.
    pub cap: Cap,
    /// How tokens without a price are handled.
    pub unpriced: Unpriced,
    /// The operator's prices by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// How many runs without a parent may be live at once; further runs wait in the queue. 0 is no limit.
    pub slots: u32,
    /// The maximum depth of runs below it, counted from the root.
    pub depth: u32,
    /// The maximum number of live runs below its root.
    pub tree_runs: u32,
}

/// The operator's limits for all runs of the state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GlobalLimits {
    /// Runs without a parent at once.
    pub slots: u32,
    /// Runs that may wait for a slot.
    pub queue: u32,
    /// Live runs below one root.
    pub tree_runs: u32,
    /// Starts in a minute.
    pub starts_per_minute: u32,
    /// The most that all runs of one server may spend.
    pub server_usd: Option<Usd>,
    /// The most that all runs may spend in a day (UTC).
    pub day_usd: Option<Usd>,
}

/// The requester of a run, and the hashes that identify a repeated request; never the agent's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// The server that started it.
    pub server: String,
    /// The process that started that server (boot, pid and start time): a client that restarts its server stays the same. Empty if unknown.
    pub client: String,
    /// The project of that server; a nested run has the project of its root. Empty without a project.
    pub project: PathBuf,
    /// SHA-256 of the agent's full request.
    pub request_hash: String,
    /// SHA-256 of the agent's key for the request.
    pub key_hash: Option<String>,
    /// The id, in the ledger, of the experiment that the run belongs to.
    pub experiment: Option<String>,
}

/// The position of a run among its ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The run whose agent started it.
    pub parent: Option<RunId>,
    /// The first of its ancestors; the run itself if it has none.
    pub root: RunId,
    /// 0 for a run without a parent.
    pub depth: u32,
}

impl Lineage {
    /// The lineage of a run that no other run started.
    pub fn new_root(id: &RunId) -> Lineage {
        Lineage { parent: None, root: id.clone(), depth: 0 }
    }
}

/// The conversation that a run continues. The run's own folder has all it needs: the previous run may be removed,
/// or continued again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// The previous run.
    pub run: RunId,
    /// The number of this run's turn; 2 or more.
    pub turn: u32,
}

/// The answer of an earlier run that a run builds on. The run has a copy of it in its own folder, so the earlier run may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBasis {
    /// The earlier run.
    pub run: RunId,
    /// The answer's label, such as `agent2.1`; a presented answer has none.
    pub answer: Option<String>,
    /// The agent that gave it.
    pub agent: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_and_short_in_text() {
        assert_eq!(Usd::from_f64(0.1), Some(Usd(100_000)));
        assert_eq!(Usd::from_f64(0.000_000_5), Some(Usd(1)), "what was spent is never rounded away");
        assert_eq!((Usd::from_f64(-1.0), Usd::from_f64(f64::NAN), Usd::from_f64(f64::INFINITY)), (None, None, None));
        let shown = [Usd(0), Usd(1_500_000), Usd(10_000_000), Usd(12_345)].map(|usd| usd.to_string());
        assert_eq!(shown, ["$0.00", "$1.50", "$10.00", "$0.012345"]);
        assert_eq!(ModelPrice { input: Usd(2_000_000), output: Usd(10_000_000) }.cost(1_000, 100), Usd(3_000));
    }

    #[test]
    fn the_stricter_cap_applies_and_no_rest_is_negative() {
        let (a, b) = (Cap { usd: Some(Usd(5)), tokens: None }, Cap { usd: Some(Usd(3)), tokens: Some(7) });
        assert_eq!(a.component_min(b), b);
        let spent = Spend { usd: Usd(4), tokens: 2, is_unpriced: false };
        assert_eq!(b.remaining(spent), Cap { usd: Some(Usd(0)), tokens: Some(5) });
        assert_eq!((b.percent_used(spent), a.percent_used(spent), Cap::default().percent_used(spent)), (133, 80, 0));
    }
}
