//! The caller's deadline.

use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The longest that a call works.
const MOST: Duration = Duration::from_secs(30);
/// The time reserved for the response to reach the caller, at most.
const MARGIN: Duration = Duration::from_millis(200);

/// How long a call may work so that its response arrives before the caller's deadline: four fifths of the timeout, or
/// the timeout less 200 ms if that is longer; 30 s at most.
pub fn budget(metadata: &MetadataMap) -> Duration {
    within(stated(metadata).unwrap_or(Duration::MAX))
}

/// Whether a call with this timeout has a smaller budget than one without a timeout.
pub fn is_short(timeout: Duration) -> bool {
    within(timeout) < MOST
}

fn within(timeout: Duration) -> Duration {
    (timeout - MARGIN.min(timeout / 5)).min(MOST)
}

/// The timeout that the caller states, if any.
pub fn stated(metadata: &MetadataMap) -> Option<Duration> {
    metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?))
}

/// The same from plain HTTP headers.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?))
}

/// Parses `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: u64 = digits.parse().ok().filter(|_| digits.len() <= 8)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(timeout: Option<&'static str>) -> Duration {
        let mut metadata = MetadataMap::new();
        if let Some(timeout) = timeout {
            metadata.insert("grpc-timeout", timeout.parse().expect("ASCII"));
        }
        budget(&metadata)
    }

    #[test]
    fn an_answer_leaves_before_the_deadline() {
        assert_eq!(of(Some("2S")), Duration::from_millis(1_800));
        assert_eq!(of(Some("500m")), Duration::from_millis(400));
        assert_eq!(of(Some("500000u")), Duration::from_millis(400));
        assert_eq!(of(Some("50000000n")), Duration::from_millis(40));
        assert_eq!(of(Some("0n")), Duration::ZERO);
    }

    #[test]
    fn a_call_works_for_30_seconds_at_most() {
        for timeout in [None, Some("1M"), Some("99999999H"), Some("31S"), Some("S"), Some("1x")] {
            assert_eq!(of(timeout), MOST, "{timeout:?}");
        }
        assert_eq!(of(Some("123456789S")), MOST);
        assert!(is_short(MOST));
        assert!(!is_short(MOST + MARGIN));
    }
}
