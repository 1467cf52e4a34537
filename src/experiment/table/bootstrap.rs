//! A mean with its interval, by the percentile bootstrap, which assumes nothing about the distribution of the values.
//! The same values give the same interval in any order: the resampling uses a fixed seed.

use super::Mean;

/// The number of resampled means; with this many, the ends of the interval hardly depend on the seed.
const RESAMPLES: usize = 2000;

/// For each minimum number of values: how many resampled means lie outside the interval at either end. The plain percentile
/// method takes 50 of 2,000, which is too narrow for few values: with five values, that interval misses the true mean in one case
/// of six instead of twenty. So the ends are those of a t-interval, at the share Φ(-t·√(n/(n-1))) of means, rounded down (the
/// expanded percentile interval of Hesterberg, 2015). For four values this is less than one mean of 2,000, so four are too few.
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

/// The fewest values that get an interval.
pub(super) const MIN_SAMPLE_SIZE: usize = 5;

/// An arbitrary constant.
const SEED: u64 = 0x6d61_7373_6765_6e00;

/// The mean of finite values; `None` without values.
pub(super) fn mean_with_interval(mut values: Vec<f64>) -> Option<Mean> {
    values.sort_unstable_by(f64::total_cmp);
    (!values.is_empty()).then(|| Mean { n: values.len(), mean: average(&values), interval: interval(&values) })
}

/// The mean without an interval.
pub(super) fn mean_value(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    (!values.is_empty()).then(|| average(&values))
}

/// The average of sorted values: a floating-point sum depends on the order.
fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn interval(values: &[f64]) -> Option<(f64, f64)> {
    let (_, tail_count) = TAIL_COUNTS.iter().rev().find(|(min_count, _)| *min_count <= values.len())?;
    let mut means = resample_means(values);
    let mut mean_at = |index: usize| *means.select_nth_unstable_by(index, f64::total_cmp).1;
    Some((mean_at(*tail_count), mean_at(RESAMPLES - 1 - tail_count)))
}

/// The means of samples of the same size, drawn with replacement.
fn resample_means(values: &[f64]) -> Vec<f64> {
    let mut rng = fastrand::Rng::with_seed(SEED);
    let mut sample = vec![0.0; values.len()];
    let resample = |_| {
        sample.fill_with(|| values[rng.usize(..values.len())]);
        average(&sample)
    };
    (0..RESAMPLES).map(resample).collect()
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
    fn the_interval_agrees_with_theory() {
        // For 0..=100 the standard error of the mean is 2.90, and 1.96 of them are 5.7.
        let (low, high) =
            mean_with_interval((0..=100).map(f64::from).collect()).and_then(|mean| mean.interval).expect("interval");
        assert!((low - 44.3).abs() < 0.6 && (high - 55.7).abs() < 0.6, "{low} to {high}");
    }

    #[test]
    fn few_values_have_wide_intervals() {
        // For 1..=5 the t-interval is 1.04 to 4.96; resampled means reach that far in 1 case of 1,000.
        let (low, high) =
            mean_with_interval((1..=5).map(f64::from).collect()).and_then(|mean| mean.interval).expect("interval");
        assert!((1.0..=1.4).contains(&low) && (4.6..=5.0).contains(&high), "{low} to {high}");
        assert!(TAIL_COUNTS.is_sorted() && TAIL_COUNTS.iter().all(|(_, tail_count)| *tail_count < RESAMPLES / 40));
    }

    #[test]
    fn the_order_of_values_does_not_matter() {
        let values = vec![0.1, 0.7, 0.2, 1e9, 0.3, 5.5];
        assert_eq!(mean_with_interval(values.iter().rev().copied().collect()), mean_with_interval(values));
    }
}
