//! Estimates when an experiment will end, from the durations of ended runs. The estimate is one number, is withdrawn once it has
//! passed, and affects no decision. Pure: it reads no clock.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The time until all runs have ended, if they take as long as the runs in `ended`, or as `prior` while none has ended. A waiting
/// run is expected to take the median; a live run, the median of the durations longer than its elapsed time.
///
/// `elapsed` is the time that each live run has taken so far, `waiting` the number of runs that have not started, and `max_live`
/// the most runs that may be live at the same time; 0 is no limit. `None` if no duration is known, or if a live run has taken
/// longer than all known durations: the previous estimate was wrong then.
pub fn remaining_time(
    ended: &[Duration],
    prior: Option<Duration>,
    elapsed: &[Duration],
    waiting: usize,
    max_live: usize,
) -> Option<Duration> {
    if elapsed.is_empty() && waiting == 0 {
        return Some(Duration::ZERO);
    }
    let typical = median(ended).or(prior)?;
    let known: Vec<Duration> = if ended.is_empty() { vec![typical] } else { ended.to_vec() };
    let remaining = |elapsed: &Duration| {
        let longer: Vec<Duration> = known.iter().filter_map(|took| took.checked_sub(*elapsed)).collect();
        median(&longer).filter(|remaining| !remaining.is_zero())
    };
    let live = elapsed.iter().map(remaining).collect::<Option<Vec<_>>>()?;
    Some(schedule(live, typical, waiting, max_live))
}

/// Starts each waiting run when the first slot is free; gives the end of the last run.
fn schedule(mut live: Vec<Duration>, typical: Duration, waiting: usize, max_live: usize) -> Duration {
    let total = live.len() + waiting;
    let slots = if max_live == 0 { total } else { max_live.min(total) };
    live.sort_unstable();
    // If more runs are live than allowed, the first to end free no slot.
    let surplus = live.len().saturating_sub(slots);
    let mut last = live.last().copied().unwrap_or_default();
    let mut free: BinaryHeap<_> = live.drain(surplus..).map(Reverse).collect();
    free.extend(std::iter::repeat_n(Reverse(Duration::ZERO), slots - free.len()));
    for _ in 0..waiting {
        let Some(Reverse(start)) = free.pop() else { break };
        let end = start.saturating_add(typical);
        last = last.max(end);
        free.push(Reverse(end));
    }
    last
}

fn median(durations: &[Duration]) -> Option<Duration> {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let (lower, upper) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(*lower + (*upper - *lower) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|s| Duration::from_secs(*s)).collect()
    }

    #[test]
    fn a_forecast_is_what_a_list_schedule_gives() {
        type Case<'a> = (&'a str, &'a [u64], Option<u64>, &'a [u64], usize, usize, Option<u64>);
        let cases: &[Case] = &[
            ("nothing is left", &[], None, &[], 0, 2, Some(0)),
            ("nothing to go by", &[], None, &[5], 3, 2, None),
            ("a prior will do", &[], Some(60), &[10], 0, 2, Some(50)),
            ("what was seen is better than a prior", &[100], Some(60), &[10], 0, 2, Some(90)),
            ("the middle of three", &[10, 500, 20], None, &[], 1, 1, Some(20)),
            ("the middle of two", &[10, 30], None, &[], 1, 1, Some(20)),
            ("one after the other", &[10], None, &[], 5, 1, Some(50)),
            ("two at a time", &[10], None, &[], 5, 2, Some(30)),
            ("more room than runs", &[10], None, &[], 5, 99, Some(10)),
            ("no limit", &[10], None, &[4], 5, 0, Some(10)),
            ("the longest live one ends last", &[100], None, &[90, 10, 50], 0, 3, Some(90)),
            ("a slot is free when the first has ended", &[100], None, &[90, 40], 1, 2, Some(110)),
            ("an idle slot is taken at once", &[100], None, &[50], 1, 2, Some(100)),
            ("what was passed is taken back", &[100], None, &[5000], 0, 1, None),
            ("as soon as it is", &[], Some(60), &[60], 0, 1, None),
            ("for all that wait as well", &[100], None, &[50, 5000], 1, 1, None),
            ("of those that took longer", &[10, 20, 500], None, &[15], 0, 1, Some(245)),
            ("but for the longest none did", &[10, 20, 500], None, &[600], 0, 1, None),
            ("more are live than may be", &[100], None, &[90, 50, 20], 1, 1, Some(180)),
            ("nothing takes no time", &[0], None, &[], 7, 1, Some(0)),
            ("far too many", &[u64::MAX], None, &[], 3, 1, Some(u64::MAX)),
        ];
        for (case, ended, prior, live, waiting, max_live, expected) in cases {
            let prior = prior.map(Duration::from_secs);
            let forecast = remaining_time(&seconds(ended), prior, &seconds(live), *waiting, *max_live);
            assert_eq!(forecast.map(|end| end.as_secs()), *expected, "{case}");
        }
    }
}
