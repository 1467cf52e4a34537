//! One scale for the times in a run's files: seconds from the start of its coordination. MassGen writes some times as seconds since 1970
//! and others in local time without a zone. The run itself shows the difference between the two. Pure.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::massgen::layout::Layout;

/// Time zone offsets are multiples of a quarter of an hour.
const QUARTER_S: f64 = 900.0;
/// The upper limit of a run's length in seconds; a later time is damaged data.
const MAX_RUN_S: f64 = 1e8;

/// Converts both kinds of times to seconds from the start.
pub(super) struct TimelineClock {
    start: Option<f64>,
    /// The local time at the start, read as UTC.
    local_start: f64,
}

impl TimelineClock {
    /// `start`: when MassGen began to coordinate, since 1970. `first`: the local time of the first event, which comes within moments of the
    /// start. Without it, the log folder's name serves, which is some seconds older.
    pub(super) fn new(start: Option<f64>, first: Option<f64>, layout: &Layout) -> TimelineClock {
        let name = layout.log.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let first_time = first.or_else(|| parse_timestamp(name.strip_prefix("log_")?));
        let Some(start) = start else {
            return TimelineClock { start: None, local_start: first_time.unwrap_or_default() };
        };
        let zone = first_time.map_or(0.0, |first_time| ((first_time - start) / QUARTER_S).round() * QUARTER_S);
        TimelineClock { start: Some(start), local_start: start + zone }
    }

    pub(super) fn start(&self) -> Option<f64> {
        self.start
    }

    /// Converts seconds since 1970.
    pub(super) fn since_unix(&self, time: f64) -> f64 {
        clamp_seconds(time - self.start.unwrap_or(time))
    }

    /// Converts a local time from [`parse_local`] or [`parse_timestamp`].
    pub(super) fn since_local(&self, time: f64) -> f64 {
        clamp_seconds(time - self.local_start)
    }
}

fn clamp_seconds(seconds: f64) -> f64 {
    if seconds.is_nan() { 0.0 } else { seconds.clamp(0.0, MAX_RUN_S) }
}

/// Parses `2026-11-23T14:38:07.554440` as UTC.
pub(super) fn parse_local(text: &str) -> Option<f64> {
    unix_seconds(text.parse().ok()?)
}

/// Parses `20261123_143808_103921` as UTC.
pub(super) fn parse_timestamp(name: &str) -> Option<f64> {
    let (seconds_part, micros) = name.rsplit_once('_')?;
    let seconds_part = unix_seconds(DateTime::strptime("%Y%m%d_%H%M%S", seconds_part).ok()?)?;
    Some(seconds_part + f64::from(micros.parse::<u32>().ok()?.min(999_999)) / 1e6)
}

fn unix_seconds(time: DateTime) -> Option<f64> {
    let time = Offset::UTC.to_timestamp(time).ok()?;
    Some(time.as_microsecond() as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(log: &str) -> Layout {
        Layout { log: log.into(), turn: "t".into(), attempt: "a".into() }
    }

    #[test]
    fn local_times_of_any_zone_are_relative_to_the_start() {
        let utc = parse_timestamp("20261123_143807_500000").expect("a stamp");
        assert_eq!(parse_local("2026-11-23T14:38:07.500000"), Some(utc));
        for zone in [0.0, 3600.0, -12_600.0, 20_700.0] {
            let clock = TimelineClock::new(Some(utc), Some(utc + zone + 0.3), &layout("logs/log_1"));
            assert!((clock.since_local(utc + zone + 2.0) - 2.0).abs() < 1e-6, "zone {zone}");
            assert!((clock.since_unix(utc + 2.0) - 2.0).abs() < 1e-6);
        }
    }

    #[test]
    fn without_events_the_log_folder_gives_the_zone_and_without_a_start_the_first_event_is_the_start() {
        let utc = parse_timestamp("20261123_143807_500000").expect("a stamp");
        let clock = TimelineClock::new(Some(utc + 3_601.0), None, &layout("logs/log_20261123_143807_500000"));
        assert!((clock.since_local(utc + 3.0) - 2.0).abs() < 1e-6);
        let clock = TimelineClock::new(None, Some(utc), &layout("logs/log_1"));
        assert_eq!((clock.start(), clock.since_local(utc + 2.0)), (None, 2.0));
    }

    #[test]
    fn damaged_times_are_missing_or_bounded() {
        for bad in ["", "_", "20261123", "2026_1", "99999999_999999_1", "20261123_143807_x"] {
            assert_eq!(parse_timestamp(bad), None, "{bad}");
        }
        let clock = TimelineClock::new(Some(5.0), Some(5.0), &layout("l"));
        assert_eq!(
            (clock.since_unix(f64::NAN), clock.since_unix(1e300), clock.since_local(-1e300)),
            (0.0, MAX_RUN_S, 0.0)
        );
    }
}
