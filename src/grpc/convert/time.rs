//! Timestamps and durations, checked before they are converted to chrono's types.

use chrono::{DateTime, Duration};

use crate::clock::Time;
use crate::grpc::convert::check::Check;

/// Year 1 to year 9999, the range of protobuf timestamps.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// The range of protobuf durations, 10,000 years.
const MAX_DURATION: i64 = 315_576_000_000;

/// A timestamp as a protobuf message.
pub fn to_pb(time: Time) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

/// A duration as a protobuf message.
pub fn duration_to_pb(duration: Duration) -> prost_types::Duration {
    prost_types::Duration { seconds: duration.num_seconds(), nanos: duration.subsec_nanos() }
}

/// Parses a timestamp of a request, truncated to the microsecond.
pub fn time(check: &mut Check, field: &str, time: Option<prost_types::Timestamp>) -> Option<Time> {
    let time = time?;
    let nanos = u32::try_from(time.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let parsed = nanos
        .filter(|_| SECONDS.contains(&time.seconds))
        .and_then(|nanos| DateTime::from_timestamp(time.seconds, nanos / 1_000 * 1_000))
        .ok_or_else(|| "must be a valid timestamp from year 1 to 9999".to_owned());
    check.take(field, parsed)
}

/// Parses a duration of a request, truncated to the microsecond.
pub fn duration(
    check: &mut Check,
    field: &str,
    duration: Option<prost_types::Duration>,
) -> Option<Duration> {
    let duration = duration?;
    let same_sign = duration.seconds.signum() * i64::from(duration.nanos.signum()) >= 0;
    let valid = (-MAX_DURATION..=MAX_DURATION).contains(&duration.seconds)
        && (-999_999_999..=999_999_999).contains(&duration.nanos)
        && same_sign;
    let parsed = valid
        .then(|| {
            Duration::seconds(duration.seconds)
                + Duration::microseconds(i64::from(duration.nanos / 1_000))
        })
        .ok_or_else(|| "must be a valid duration".to_owned());
    check.take(field, parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(seconds: i64, nanos: i32) -> Option<Time> {
        time(&mut Check::default(), "t", Some(prost_types::Timestamp { seconds, nanos }))
    }

    fn length(seconds: i64, nanos: i32) -> Option<Duration> {
        duration(&mut Check::default(), "d", Some(prost_types::Duration { seconds, nanos }))
    }

    #[test]
    fn timestamps_stay_in_range() {
        assert!(parse(253_402_300_799, 999_999_999).is_some());
        assert!(parse(253_402_300_800, 0).is_none());
        assert!(parse(-62_135_596_800, 0).is_some());
        assert!(parse(-62_135_596_801, 0).is_none());
        assert!(parse(0, -1).is_none());
        assert!(parse(0, 1_000_000_000).is_none());
        assert!(parse(i64::MAX, i32::MAX).is_none());
    }

    #[test]
    fn durations_stay_in_range() {
        assert_eq!(length(1, 500_000_000), Some(Duration::milliseconds(1500)));
        assert_eq!(length(-1, -1_000), Some(Duration::microseconds(-1_000_001)));
        assert!(length(1, -1).is_none());
        assert!(length(i64::MAX, 0).is_none());
        assert!(length(i64::MIN + 1, 0).is_none());
    }
}
