//! When an experiment will be over, as far as the runs that have ended tell. Pure: a guess from durations, told as one number;
//! it never asks a clock, and nothing is decided by it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The time until all runs are over, if each takes as long as the median of those that `ended`, or `prior` while none has.
///
/// `elapsed` is how long each live run has taken so far, `waiting` how many have still to start, and `at_once` how many may be
/// live at the same time; 0 is no limit. Nothing where there is no duration to go by.
pub fn ends_in(
    ended: &[Duration],
    prior: Option<Duration>,
    elapsed: &[Duration],
    waiting: usize,
    at_once: usize,
) -> Option<Duration> {
    if elapsed.is_empty() && waiting == 0 {
        return Some(Duration::ZERO);
    }
    let typical = median(ended).or(prior)?;
    // A run that has taken longer than most is about to end, but not at once.
    let left = |elapsed: &Duration| typical.saturating_sub(*elapsed).max(typical / 10);
    Some(schedule(elapsed.iter().map(left).collect(), typical, waiting, at_once))
}

/// Each waiting run starts when the first slot is free; the last one to end is the end of all.
fn schedule(mut live: Vec<Duration>, typical: Duration, waiting: usize, at_once: usize) -> Duration {
    let most = live.len() + waiting;
    let slots = if at_once == 0 { most } else { at_once.min(most) };
    live.sort_unstable();
    // Where more are live than may be, the first to end make no room.
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
    let (below, above) = (sorted.get(sorted.len().checked_sub(1)? / 2)?, sorted.get(sorted.len() / 2)?);
    Some(*below + (*above - *below) / 2)
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
            ("overdue is a tenth", &[100], None, &[5000], 0, 1, Some(10)),
            ("and then the next starts", &[100], None, &[5000], 1, 1, Some(110)),
            ("more are live than may be", &[100], None, &[90, 50, 20], 1, 1, Some(180)),
            ("nothing takes no time", &[0], None, &[3], 7, 1, Some(0)),
            ("far too many", &[u64::MAX], None, &[], 3, 1, Some(u64::MAX)),
        ];
        for (case, ended, prior, live, waiting, at_once, wanted) in cases {
            let prior = prior.map(Duration::from_secs);
            let told = ends_in(&seconds(ended), prior, &seconds(live), *waiting, *at_once);
            assert_eq!(told.map(|end| end.as_secs()), *wanted, "{case}");
        }
    }
}
