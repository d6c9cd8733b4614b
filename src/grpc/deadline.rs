//! How long the caller waits for an answer.

use std::time::Duration;

use http::HeaderMap;
use tonic::metadata::MetadataMap;

/// The longest that one call goes on working.
const MOST: Duration = Duration::from_secs(30);
/// What an answer takes to get there, at most.
const MARGIN: Duration = Duration::from_millis(200);

/// How long a call may go on working, so that its answer arrives before the caller's deadline: that
/// less a fifth of it, or less 200 ms where that is enough; 30 s at most.
pub fn budget(metadata: &MetadataMap) -> Duration {
    within(stated(metadata).unwrap_or(Duration::MAX))
}

/// Whether a call that may take so long works for less time than one that may take any.
pub fn is_short(timeout: Duration) -> bool {
    within(timeout) < MOST
}

fn within(timeout: Duration) -> Duration {
    (timeout - MARGIN.min(timeout / 5)).min(MOST)
}

/// How long the caller says that it waits, if it does.
pub fn stated(metadata: &MetadataMap) -> Option<Duration> {
    metadata.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?))
}

/// The same of headers that are no metadata yet.
pub fn of(headers: &HeaderMap) -> Option<Duration> {
    headers.get("grpc-timeout").and_then(|value| timeout(value.to_str().ok()?))
}

/// `grpc-timeout`: up to eight digits and a unit.
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
