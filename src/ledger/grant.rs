//! How much of the budgets that it draws on a run is granted. Pure.

use std::fmt;

use super::LedgerError;
use crate::run::{Cap, RunId, Usd};

/// A budget that runs draw on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pool {
    /// What is left of the run that starts it.
    Parent(RunId),
    /// What one server may spend.
    Server,
    /// What may be spent in a day.
    Day,
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pool::Parent(id) => write!(f, "the budget of {id}, which starts it,"),
            Pool::Server => f.write_str("the budget of this server"),
            Pool::Day => f.write_str("the budget of this day"),
        }
    }
}

/// Less than this is as good as nothing: a cent.
const LEAST_USD: Usd = Usd(10_000);
/// The same in tokens.
const LEAST_TOKENS: u64 = 100;

/// What a run may spend: what it asks for, where that is allowed and there; and where it asks for nothing, what it is allowed, but
/// no more than half of what is left, so that the first of several does not take all.
pub(super) fn grant(asked: Cap, allowed: Cap, pools: &[(Pool, Cap)]) -> Result<Cap, LedgerError> {
    let usd = |pool: &Cap| pool.usd;
    let tokens = |pool: &Cap| pool.tokens;
    Ok(Cap {
        usd: granted(asked.usd, allowed.usd, LEAST_USD, &left(pools, usd), |most| Usd(most.0 / 2), Usd::to_string)?,
        tokens: granted(
            asked.tokens,
            allowed.tokens,
            LEAST_TOKENS,
            &left(pools, tokens),
            |most| most / 2,
            |count| format!("{count} tokens"),
        )?,
    })
}

fn left<T>(pools: &[(Pool, Cap)], part: impl Fn(&Cap) -> Option<T>) -> Vec<(&Pool, T)> {
    pools.iter().filter_map(|(pool, cap)| Some((pool, part(cap)?))).collect()
}

fn granted<T: Copy + Ord>(
    asked: Option<T>,
    allowed: Option<T>,
    least: T,
    pools: &[(&Pool, T)],
    half: impl Fn(T) -> T,
    told: impl Fn(&T) -> String,
) -> Result<Option<T>, LedgerError> {
    if let (Some(asked), Some(most)) = (asked, allowed)
        && asked > most
    {
        return Err(LedgerError::NotAllowed { asked: told(&asked), most: told(&most) });
    }
    let short = pools.iter().find(|(_, left)| asked.unwrap_or(least) > *left);
    if let Some((pool, left)) = short {
        let asked = asked.map_or_else(|| "some".to_owned(), |asked| told(&asked));
        return Err(LedgerError::Short { pool: (*pool).clone(), left: told(left), asked });
    }
    let share = pools.iter().map(|(_, left)| half(*left)).chain(allowed).min();
    Ok(asked.or(share))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(dollars: u64) -> Cap {
        Cap { usd: Some(Usd(dollars * 1_000_000)), tokens: None }
    }

    #[test]
    fn who_asks_gets_it_or_a_no() {
        let day = |left| vec![(Pool::Day, usd(left))];
        assert_eq!(grant(usd(3), usd(5), &day(3)).expect("granted"), usd(3));
        assert!(matches!(grant(usd(6), usd(5), &day(9)), Err(LedgerError::NotAllowed { .. })));
        assert!(matches!(grant(usd(4), usd(5), &day(3)), Err(LedgerError::Short { pool: Pool::Day, .. })));
        assert_eq!(grant(usd(4), Cap::default(), &[]).expect("no limit"), usd(4));
    }

    #[test]
    fn who_does_not_ask_gets_what_is_allowed_but_leaves_half_to_others() {
        assert_eq!(grant(Cap::default(), usd(5), &[(Pool::Day, usd(100))]).expect("granted"), usd(5));
        assert_eq!(grant(Cap::default(), usd(5), &[(Pool::Day, usd(4))]).expect("granted"), usd(2));
        assert_eq!(grant(Cap::default(), Cap::default(), &[]).expect("no limit"), Cap::default());
        let nothing = grant(Cap::default(), usd(5), &[(Pool::Server, usd(0))]);
        assert!(matches!(nothing, Err(LedgerError::Short { pool: Pool::Server, .. })));
    }
}
