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
    /// An amount in dollars; none where it is negative or no number. Part of a millionth counts as a whole one.
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
    /// As far as MassGen, or the operator's price table, knows.
    pub usd: Usd,
    /// Input and output tokens.
    pub tokens: u64,
    /// Whether some of the tokens have no price, so that the dollars are too few.
    pub is_unpriced: bool,
}

impl Spend {
    /// The larger of both in each respect: what was spent does not come back.
    #[must_use]
    pub fn component_max(self, before: Spend) -> Spend {
        Spend { usd: self.usd.max(before.usd), tokens: self.tokens.max(before.tokens), ..self }
    }

    /// The dollars, where there are any or where it is known that there are none.
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

/// The most that may be spent; an empty value is no limit.
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
            usd: self.usd.map(|most| Usd(most.0.saturating_sub(spent.usd.0))),
            tokens: self.tokens.map(|most| most.saturating_sub(spent.tokens)),
        }
    }

    /// The used percentage; 0 without a limit.
    pub fn percent_used(self, spent: Spend) -> u64 {
        let of = |spent: u64, most: u64| {
            let percent = u128::from(spent) * 100 / u128::from(most.max(1));
            u64::try_from(percent).unwrap_or(u64::MAX)
        };
        let usd = self.usd.map_or(0, |most| of(spent.usd.0, most.0));
        usd.max(self.tokens.map_or(0, |most| of(spent.tokens, most)))
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

/// What a model costs by the operator's table, in millionths of a dollar for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelPrice {
    /// The price of input.
    pub input: Usd,
    /// The price of output.
    pub output: Usd,
}

impl ModelPrice {
    /// What so many tokens cost.
    pub fn cost(self, input: u64, output: u64) -> Usd {
        let part = |tokens: u64, price: Usd| u128::from(tokens) * u128::from(price.0);
        let whole = (part(input, self.input) + part(output, self.output)).div_ceil(1_000_000);
        Usd(u64::try_from(whole).unwrap_or(u64::MAX))
    }
}

/// The limits of a run, from the operator and the agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allowance {
    /// The most that it and all its descendants may spend.
    pub cap: Cap,
    /// What is done about tokens without a price.
    pub unpriced: Unpriced,
    /// The operator's prices by model.
    pub prices: BTreeMap<String, ModelPrice>,
    /// How many runs without a parent may be under way at once; it waits for its turn until then. 0 is no limit.
    pub slots: u32,
    /// How deep runs below it may be nested, counted from the root.
    pub depth: u32,
    /// How many live runs there may be below its root.
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
    /// What all runs of one server may spend.
    pub server_usd: Option<Usd>,
    /// What all runs may spend in a day (UTC).
    pub day_usd: Option<Usd>,
}

/// The requester of a run, and the hashes that identify a repeated request; never the agent's own words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origin {
    /// Which server started it.
    pub server: String,
    /// Which process started that server (boot, pid and start time): a client that restarts its server stays the same. Empty if unknown.
    pub client: String,
    /// The project of that server; a nested run has that of its root. Empty without a project.
    pub project: PathBuf,
    /// SHA-256 of all that the agent asked for.
    pub request_hash: String,
    /// SHA-256 of the key that the agent gave the request.
    pub key_hash: Option<String>,
    /// The experiment that it is a run of, by its name in the ledger.
    pub experiment: Option<String>,
}

/// The position of a run among its ancestors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// The run whose agent started it.
    pub parent: Option<RunId>,
    /// The first of its ancestors; itself where it has none.
    pub root: RunId,
    /// 0 of a run without a parent.
    pub depth: u32,
}

impl Lineage {
    /// Of a run that no other run started.
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
    /// Which turn this run is; 2 or more.
    pub turn: u32,
}

/// The answer of an earlier run that a run builds on. The run has a copy of it in its own folder: the earlier one may be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerBasis {
    /// The earlier run.
    pub run: RunId,
    /// The answer's label, such as `agent2.1`; a presented answer has none.
    pub answer: Option<String>,
    /// Whose it is.
    pub agent: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_exact_and_reads_well() {
        assert_eq!(Usd::from_f64(0.1), Some(Usd(100_000)));
        assert_eq!(Usd::from_f64(0.000_000_5), Some(Usd(1)), "what was spent is never rounded away");
        assert_eq!((Usd::from_f64(-1.0), Usd::from_f64(f64::NAN), Usd::from_f64(f64::INFINITY)), (None, None, None));
        let told = [Usd(0), Usd(1_500_000), Usd(10_000_000), Usd(12_345)].map(|usd| usd.to_string());
        assert_eq!(told, ["$0.00", "$1.50", "$10.00", "$0.012345"]);
        assert_eq!(ModelPrice { input: Usd(2_000_000), output: Usd(10_000_000) }.cost(1_000, 100), Usd(3_000));
    }

    #[test]
    fn the_stricter_cap_holds_and_nothing_falls_below_zero() {
        let (a, b) = (Cap { usd: Some(Usd(5)), tokens: None }, Cap { usd: Some(Usd(3)), tokens: Some(7) });
        assert_eq!(a.component_min(b), b);
        let spent = Spend { usd: Usd(4), tokens: 2, is_unpriced: false };
        assert_eq!(b.remaining(spent), Cap { usd: Some(Usd(0)), tokens: Some(5) });
        assert_eq!((b.percent_used(spent), a.percent_used(spent), Cap::default().percent_used(spent)), (133, 80, 0));
    }
}
