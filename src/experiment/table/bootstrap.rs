//! A mean and how far it can be trusted: the bootstrap by percentiles, which takes nothing for granted about how values are spread.
//! The same values give the same interval, in whatever order they come; nothing here is random.

use super::Mean;

/// So many means are drawn, which differ little at the ends from one seed to the next.
const RESAMPLES: usize = 2000;

/// From so many values on, so many of the drawn means lie outside at either end. By the letter it would be 50 of 2,000, which is
/// too narrow for few values: of five such an interval misses the truth in one case of six, not of twenty. So the ends are taken
/// where a t-interval has them, at the share Φ(-t·√(n/(n-1))) of means, rounded down (the expanded percentile interval of
/// Hesterberg, 2015). Of four values that is less than one mean of 2,000: such few cannot tell.
const TAIL_COUNTS: [(usize, usize); 14] = [
    (MIN_SAMPLE_SIZE, 1),
    (6, 4),
    (7, 8),
    (8, 11),
    (9, 14),
    (10, 17),
    (12, 21),
    (15, 26),
    (20, 31),
    (30, 37),
    (50, 42),
    (100, 46),
    (200, 48),
    (400, 49),
];

/// Below this no interval is told.
pub(super) const MIN_SAMPLE_SIZE: usize = 5;

/// Any number would do, as long as it stays.
const SEED: u64 = 0x6d61_7373_6765_6e00;

/// Of finite values; none where there is no value.
pub(super) fn mean_with_interval(mut values: Vec<f64>) -> Option<Mean> {
    values.sort_unstable_by(f64::total_cmp);
    (!values.is_empty()).then(|| Mean { n: values.len(), mean: average(&values), interval: interval(&values) })
}

/// The mean by itself.
pub(super) fn mean_value(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    (!values.is_empty()).then(|| average(&values))
}

/// Of sorted values, since a sum of fractions depends on their order.
fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let (_, outside) = TAIL_COUNTS.iter().rev().find(|(enough, _)| *enough <= values.len())?;
    let mut means = resample_means(values);
    let mut at = |place: usize| *means.select_nth_unstable_by(place, f64::total_cmp).1;
    Some((at(*outside), at(RESAMPLES - 1 - outside)))
}

/// Means of as many values, each drawn from all of them.
fn resample_means(values: &[f64]) -> Vec<f64> {
    let mut dice = fastrand::Rng::with_seed(SEED);
    let mut drawn = vec![0.0; values.len()];
    let one = |_| {
        drawn.fill_with(|| values[dice.usize(..values.len())]);
        average(&drawn)
    };
    (0..RESAMPLES).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_mean_and_no_interval() {
        assert_eq!(mean_with_interval(vec![]), None);
        assert_eq!(mean_with_interval(vec![3.0]), Some(Mean { n: 1, mean: 3.0, interval: None }));
        assert_eq!(mean_with_interval(vec![1.0, 2.0, 3.0, 6.0]), Some(Mean { n: 4, mean: 3.0, interval: None }));
    }

    #[test]
    fn equal_values_have_an_interval_of_no_width() {
        assert_eq!(mean_with_interval(vec![7.5; 5]), Some(Mean { n: 5, mean: 7.5, interval: Some((7.5, 7.5)) }));
    }

    #[test]
    fn the_interval_is_the_one_that_theory_gives() {
        // Of 0..=100: the mean's standard error is 2.90, and 1.96 of them each way are 5.7.
        let (low, high) =
            mean_with_interval((0..=100).map(f64::from).collect()).and_then(|mean| mean.interval).expect("interval");
        assert!((low - 44.3).abs() < 0.6 && (high - 55.7).abs() < 0.6, "{low} to {high}");
    }

    #[test]
    fn few_values_have_wide_intervals() {
        // Of 1..=5 a t-interval is 1.04 to 4.96; means of five of them reach that far in 1 case of 1,000.
        let (low, high) =
            mean_with_interval((1..=5).map(f64::from).collect()).and_then(|mean| mean.interval).expect("interval");
        assert!((1.0..=1.4).contains(&low) && (4.6..=5.0).contains(&high), "{low} to {high}");
        assert!(TAIL_COUNTS.is_sorted() && TAIL_COUNTS.iter().all(|(_, outside)| *outside < RESAMPLES / 40));
    }

    #[test]
    fn the_order_of_values_says_nothing() {
        let values = vec![0.1, 0.7, 0.2, 1e9, 0.3, 5.5];
        assert_eq!(mean_with_interval(values.iter().rev().copied().collect()), mean_with_interval(values));
    }
}
