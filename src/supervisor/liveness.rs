//! Decides when to sample a quiet run: first after ten seconds, then at growing intervals of up to a minute. Pure.
//!
//! The supervisor samples, not the reader: CPU use shows only between two samples, only the supervisor has the run's processes
//! below it, and a reader's answer must not wait for /proc. A run that shows activity is not sampled. The check then costs one
//! wake-up every ten seconds, and one a minute while the run is quiet.

use std::time::Duration;

use tokio::time::Instant;

use super::proc_sampler::CpuSample;
use crate::run::Moment;

/// How long a run is quiet before its first sample.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// The second sample, the first one that has an earlier sample to compare with.
const SECOND_CHECK: Duration = Duration::from_secs(20);
/// After that, one sample a minute.
const CHECK_INTERVAL_S: u64 = 60;

/// The sizes, in bytes, of what grows while a run is active: events, output, logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GrowthCounters(pub(super) [u64; 5]);

/// Monitors one run for activity.
#[derive(Debug)]
pub(super) struct LivenessMonitor {
    counters: GrowthCounters,
    /// The last activity.
    since: Moment,
    started: Instant,
    /// When to sample next.
    next_check: Instant,
    /// The newest sample of the current quiet period.
    last_sample: Option<CpuSample>,
}

impl LivenessMonitor {
    pub(super) fn new(now: Moment) -> LivenessMonitor {
        let start = Instant::now();
        LivenessMonitor {
            counters: GrowthCounters::default(),
            since: now,
            started: start,
            next_check: start + FIRST_CHECK,
            last_sample: None,
        }
    }

    /// Records the growth counters; `true` if they changed or the caller saw other activity.
    pub(super) fn observe(&mut self, signs: GrowthCounters, known_otherwise: bool, now: Moment) -> bool {
        let lives = known_otherwise || signs != self.counters;
        if lives {
            *self = LivenessMonitor { counters: signs, ..LivenessMonitor::new(now) };
        }
        lives
    }

    /// When to sample next, unless activity is observed before.
    pub(super) fn next_check(&self) -> Instant {
        self.next_check
    }

    /// Whether the run has been quiet until the next sample.
    pub(super) fn is_due(&self) -> bool {
        self.next_check <= Instant::now()
    }

    /// Records a sample and schedules the next one. If it is not the first one of a quiet period: since when the run is quiet, and how much
    /// of one CPU it wanted since the sample before, in percent.
    pub(super) fn record_sample(&mut self, sample: CpuSample) -> Option<(Moment, u32)> {
        let before = self.last_sample.replace(sample);
        self.next_check = self.started + next_check_after(self.started.elapsed());
        before.map(|before| (self.since.clone(), sample.percent_since(&before)))
    }
}

/// When the next sample is due after a quiet period of this length.
fn next_check_after(quiet: Duration) -> Duration {
    match quiet.as_secs() {
        0..10 => FIRST_CHECK,
        10..20 => SECOND_CHECK,
        seconds => Duration::from_secs((seconds / CHECK_INTERVAL_S + 1) * CHECK_INTERVAL_S),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_between_samples_grows_to_one_minute() {
        let due =
            [0, 9, 10, 19, 20, 59, 60, 119, 3_600].map(|quiet| next_check_after(Duration::from_secs(quiet)).as_secs());
        assert_eq!(due, [10, 10, 20, 20, 60, 60, 120, 120, 3_660]);
    }

    #[tokio::test]
    async fn activity_restarts_the_quiet_period() {
        let at = |boot_ms| Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms, boot_id: "b".to_owned() };
        let mut monitor = LivenessMonitor::new(at(1));
        assert!(!monitor.observe(GrowthCounters::default(), false, at(2)));
        assert_eq!(monitor.since, at(1));
        assert!(monitor.observe(GrowthCounters([0, 7, 0, 0, 0]), false, at(3)));
        assert!(!monitor.observe(GrowthCounters([0, 7, 0, 0, 0]), false, at(4)));
        assert!(monitor.observe(GrowthCounters([0, 7, 0, 0, 0]), true, at(5)));
        assert_eq!(monitor.since, at(5));
    }
}
