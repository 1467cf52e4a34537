//! Computes how much a run is granted from the budgets that it draws on. Pure.

use std::fmt;

use super::LedgerError;
use crate::run::{Cap, RunId, Usd};

/// A budget that runs draw on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetPool {
    /// The rest of the budget of the run that starts it.
    Parent(RunId),
    /// The budget of one server.
    Server,
    /// The budget of one day.
    Day,
    /// The budget of all runs of an experiment.
    Experiment(Box<BudgetShare>),
}

/// A run's share of its experiment's budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetShare {
    /// The experiment, by its name in the ledger.
    pub experiment: String,
    /// The budget of all runs of the experiment together.
    pub budget: Cap,
    /// The number of runs that can start now and divide the rest; at least 1.
    pub divisor: u32,
    /// The known cost of such a run. With less, the run would be stopped before its end, and its spend would be wasted.
    pub expected_usd: Option<Usd>,
}

impl BudgetPool {
    /// The share of a run that requests no amount. For an experiment, the rest is divided among the runs that can start now, or
    /// the share is twice the known cost of a run if that is more. Otherwise it is half, so that the first run does not take all.
    fn default_share_usd(&self, left: Usd) -> Usd {
        match self {
            BudgetPool::Parent(_) | BudgetPool::Server | BudgetPool::Day => Usd(left.0 / 2),
            BudgetPool::Experiment(share) => {
                let double_expected = share.expected_usd.map_or(0, |expected| expected.0.saturating_mul(2));
                Usd((left.0 / u64::from(share.divisor.max(1))).max(double_expected).min(left.0))
            }
        }
    }

    fn default_share_tokens(&self, left: u64) -> u64 {
        match self {
            BudgetPool::Parent(_) | BudgetPool::Server | BudgetPool::Day => left / 2,
            BudgetPool::Experiment(share) => left / u64::from(share.divisor.max(1)),
        }
    }

    /// The minimum that is worth granting. A run of an experiment needs a quarter more than the known cost of such a run: with less,
    /// a run of that cost would be requested to finish, and with exactly that cost it would be stopped at its end.
    fn min_usd(&self) -> Usd {
        match self {
            BudgetPool::Parent(_) | BudgetPool::Server | BudgetPool::Day => MIN_USD,
            BudgetPool::Experiment(share) => {
                let expected = share.expected_usd.unwrap_or_default();
                Usd(expected.0.saturating_add(expected.0 / 4)).max(MIN_USD)
            }
        }
    }
}

impl fmt::Display for BudgetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BudgetPool::Parent(id) => write!(f, "the budget of {id}, which starts it,"),
            BudgetPool::Server => f.write_str("the budget of this server"),
            BudgetPool::Day => f.write_str("the budget of this day"),
            BudgetPool::Experiment(_) => f.write_str("the budget of the experiment"),
        }
    }
}

/// The minimum that is worth granting: a cent.
const MIN_USD: Usd = Usd(10_000);
/// The same minimum in tokens.
const MIN_TOKENS: u64 = 100;

/// The limit of a run's spend: the requested amount, if it is allowed and available. A run that requests no amount gets what it is
/// allowed, limited to its share of the rest.
pub(super) fn grant(requested: Cap, allowed: Cap, pools: &[(BudgetPool, Cap)]) -> Result<Cap, LedgerError> {
    let usd: Vec<Remaining<Usd>> = pools.iter().filter_map(|(pool, cap)| Some(remaining_usd(pool, cap.usd?))).collect();
    let tokens: Vec<Remaining<u64>> =
        pools.iter().filter_map(|(pool, cap)| Some(remaining_tokens(pool, cap.tokens?))).collect();
    Ok(Cap {
        usd: grant_amount(requested.usd, allowed.usd, &usd, Usd::to_string)?,
        tokens: grant_amount(requested.tokens, allowed.tokens, &tokens, |count| format!("{count} tokens"))?,
    })
}

/// The rest of a budget.
struct Remaining<'a, T> {
    pool: &'a BudgetPool,
    amount: T,
    /// The minimum for a run that requests no amount.
    min: T,
    /// The share of such a run.
    default_share: T,
}

fn remaining_usd(pool: &BudgetPool, left: Usd) -> Remaining<'_, Usd> {
    Remaining { pool, amount: left, min: pool.min_usd(), default_share: pool.default_share_usd(left) }
}

fn remaining_tokens(pool: &BudgetPool, left: u64) -> Remaining<'_, u64> {
    Remaining { pool, amount: left, min: MIN_TOKENS, default_share: pool.default_share_tokens(left) }
}

fn grant_amount<T: Copy + Ord>(
    requested: Option<T>,
    allowed: Option<T>,
    pools: &[Remaining<'_, T>],
    format_amount: impl Fn(&T) -> String,
) -> Result<Option<T>, LedgerError> {
    if let (Some(requested), Some(max)) = (requested, allowed)
        && requested > max
    {
        return Err(LedgerError::AboveRunCap { asked: format_amount(&requested), most: format_amount(&max) });
    }
    if let Some(short_pool) = pools.iter().find(|pool| requested.unwrap_or(pool.min) > pool.amount) {
        let requested = requested.map_or_else(|| "some".to_owned(), |requested| format_amount(&requested));
        return Err(LedgerError::InsufficientBudget {
            pool: short_pool.pool.clone(),
            left: format_amount(&short_pool.amount),
            asked: requested,
        });
    }
    let share = pools.iter().map(|pool| pool.default_share).chain(allowed).min();
    Ok(requested.or(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(dollars: u64) -> Cap {
        Cap { usd: Some(Usd(dollars * 1_000_000)), tokens: None }
    }

    #[test]
    fn a_requested_amount_is_granted_or_refused() {
        let day = |left| vec![(BudgetPool::Day, usd(left))];
        assert_eq!(grant(usd(3), usd(5), &day(3)).expect("granted"), usd(3));
        assert!(matches!(grant(usd(6), usd(5), &day(9)), Err(LedgerError::AboveRunCap { .. })));
        assert!(matches!(
            grant(usd(4), usd(5), &day(3)),
            Err(LedgerError::InsufficientBudget { pool: BudgetPool::Day, .. })
        ));
        assert_eq!(grant(usd(4), Cap::default(), &[]).expect("no limit"), usd(4));
    }

    #[test]
    fn a_run_that_requests_no_amount_gets_at_most_half_of_what_is_left() {
        assert_eq!(grant(Cap::default(), usd(5), &[(BudgetPool::Day, usd(100))]).expect("granted"), usd(5));
        assert_eq!(grant(Cap::default(), usd(5), &[(BudgetPool::Day, usd(4))]).expect("granted"), usd(2));
        assert_eq!(grant(Cap::default(), Cap::default(), &[]).expect("no limit"), Cap::default());
        let refused = grant(Cap::default(), usd(5), &[(BudgetPool::Server, usd(0))]);
        assert!(matches!(refused, Err(LedgerError::InsufficientBudget { pool: BudgetPool::Server, .. })));
    }

    #[test]
    fn a_run_of_an_experiment_gets_its_share_or_its_expected_cost() {
        let pool = |divisor, expected| {
            let share = BudgetShare { experiment: "e".to_owned(), budget: usd(10), divisor, expected_usd: expected };
            move |left| vec![(BudgetPool::Experiment(Box::new(share.clone())), usd(left))]
        };
        let granted = |pools: &[(BudgetPool, Cap)]| grant(Cap::default(), usd(5), pools);
        assert_eq!(granted(&pool(5, None)(10)).expect("granted"), usd(2));
        assert_eq!(granted(&pool(1, None)(10)).expect("granted"), usd(5), "no more than a run is allowed");
        let expected_cost = Some(Usd(2_000_000));
        assert_eq!(granted(&pool(5, expected_cost)(10)).expect("granted"), usd(4), "room for one that costs more");
        assert_eq!(granted(&pool(5, expected_cost)(3)).expect("granted"), usd(3));
        for left in [1, 2] {
            let refused = granted(&pool(5, expected_cost)(left));
            assert!(matches!(refused, Err(LedgerError::InsufficientBudget { .. })), "it would be cut short");
        }
    }

    #[test]
    fn a_request_for_exactly_the_limit_or_the_rest_is_granted() {
        assert_eq!(grant(usd(5), usd(5), &[(BudgetPool::Day, usd(5))]).expect("granted"), usd(5));
        let refused = grant(Cap { usd: Some(Usd(5_000_001)), tokens: None }, usd(5), &[]).expect_err("refused");
        assert_eq!(refused.to_string(), "$5.000001 was asked for, and $5.00 is the most for a run");
    }

    /// The budget, the rest of its tokens, and the share of a run that requests no amount.
    #[test]
    fn a_run_that_requests_no_tokens_gets_its_share_of_what_is_left() {
        let experiment = |divisor| {
            let share = BudgetShare { experiment: "e".to_owned(), budget: usd(1), divisor, expected_usd: None };
            BudgetPool::Experiment(Box::new(share))
        };
        for (pool, left, expected) in [
            (BudgetPool::Parent(RunId::from_bytes([0; 5])), 1_001, Some(500)),
            (BudgetPool::Server, 1_001, Some(500)),
            (BudgetPool::Day, MIN_TOKENS, Some(50)),
            (BudgetPool::Day, MIN_TOKENS - 1, None),
            (experiment(4), 1_001, Some(250)),
            (experiment(1), 1_001, Some(1_001)),
            (experiment(0), 1_001, Some(1_001)),
        ] {
            let cap = Cap { usd: None, tokens: Some(left) };
            let granted = grant(Cap::default(), Cap::default(), &[(pool.clone(), cap)]);
            assert_eq!(granted.ok().and_then(|cap| cap.tokens), expected, "{left} tokens left of {pool}");
        }
    }

    #[test]
    fn a_refusal_names_the_budget() {
        let share = BudgetShare { experiment: "e".to_owned(), budget: usd(1), divisor: 1, expected_usd: None };
        for (pool, expected) in [
            (
                BudgetPool::Parent(RunId::from_bytes([0; 5])),
                "the budget of mg-00000000, which starts it, has $1.00 left",
            ),
            (BudgetPool::Server, "the budget of this server has $1.00 left"),
            (BudgetPool::Day, "the budget of this day has $1.00 left"),
            (BudgetPool::Experiment(Box::new(share)), "the budget of the experiment has $1.00 left"),
        ] {
            let refused = grant(usd(2), Cap::default(), &[(pool, usd(1))]).expect_err("refused").to_string();
            assert_eq!(refused, format!("{expected}, $2.00 was asked for"));
        }
    }
}
