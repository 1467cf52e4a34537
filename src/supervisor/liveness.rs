//! When to look at a run that has gone quiet: first after ten seconds, then ever more seldom, once a minute in the end. Pure.
//!
//! The supervisor looks, not who reads: work shows only between two looks, the run's processes are below the supervisor alone,
//! and a reader's answer must not wait for /proc. A run that gives signs of life is not looked at, so that the looks cost a
//! wake-up every ten seconds then, and one a minute while it is quiet.

use std::time::Duration;

use tokio::time::Instant;

use super::proc_sampler::CpuSample;
use crate::run::Moment;

/// How long a run is quiet before it is looked at.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// The second look, which is the first with something to compare with.
const SECOND_CHECK: Duration = Duration::from_secs(20);
/// From here on one a minute.
const CHECK_INTERVAL_S: u64 = 60;

/// How much there is of what grows while a run does anything: events, output, logs; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct GrowthCounters(pub(super) [u64; 5]);

/// The watch over one run.
#[derive(Debug)]
pub(super) struct LivenessMonitor {
    counters: GrowthCounters,
    /// The last sign of life.
    pub(super) since: Moment,
    started: Instant,
    /// When to look next.
    pub(super) next_check: Instant,
    /// The newest sample of this quiet.
    pub(super) last_sample: Option<CpuSample>,
}

impl LivenessMonitor {
    pub(super) fn new(now: Moment) -> LivenessMonitor {
        let began = Instant::now();
        LivenessMonitor {
            counters: GrowthCounters::default(),
            since: now,
            started: began,
            next_check: began + FIRST_CHECK,
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

    /// A look was taken: the next one is due later.
    pub(super) fn record_sample(&mut self, sample: CpuSample) {
        self.last_sample = Some(sample);
        self.next_check = self.started + next_check_after(self.started.elapsed());
    }
}

/// When the next look is due in a quiet that has lasted so long.
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
    fn looks_become_seldom_and_always_lie_ahead() {
        let due =
            [0, 9, 10, 19, 20, 59, 60, 119, 3_600].map(|quiet| next_check_after(Duration::from_secs(quiet)).as_secs());
        assert_eq!(due, [10, 10, 20, 20, 60, 60, 120, 120, 3_660]);
    }

    #[tokio::test]
    async fn a_sign_of_life_begins_the_watch_anew() {
        let at = |boot_ms| Moment { wall: jiff::Timestamp::UNIX_EPOCH, boot_ms, boot_id: "b".to_owned() };
        let mut vigil = LivenessMonitor::new(at(1));
        assert!(!vigil.observe(GrowthCounters::default(), false, at(2)));
        assert_eq!(vigil.since, at(1));
        assert!(vigil.observe(GrowthCounters([0, 7, 0, 0, 0]), false, at(3)));
        assert!(!vigil.observe(GrowthCounters([0, 7, 0, 0, 0]), false, at(4)));
        assert!(vigil.observe(GrowthCounters([0, 7, 0, 0, 0]), true, at(5)));
        assert_eq!(vigil.since, at(5));
    }
}
