//! The common parts of statistics: the time window, and names in the order of their counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use chrono::{Datelike, Duration};

use crate::clock::Time;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::time::{duration, time};
use crate::model::statistics::window::{LONGEST, MAX_BUCKETS, Window};

/// The most names of a kind in the response for one bucket.
pub const IN_A_BUCKET: usize = 10;

/// The time window that a request for statistics states.
pub struct RequestedWindow {
    pub start: Option<prost_types::Timestamp>,
    pub end: Option<prost_types::Timestamp>,
    pub bucket: Option<prost_types::Duration>,
}

/// Checks a window: by default the last 24 hours, hour by hour.
pub fn window(check: &mut Check, asked: RequestedWindow, now: Time) -> Option<Window> {
    let hour = Duration::hours(1);
    let bucket = duration(check, "bucket", asked.bucket);
    let is_whole = |b: Duration| b >= hour && Duration::hours(b.num_hours()) == b;
    let has_whole_hours = bucket.is_none_or(is_whole);
    const WHOLE: &str = "must be a multiple of one hour";
    let (start, end) = (time(check, "start_time", asked.start), time(check, "end_time", asked.end));
    if !check.is_sound() {
        if !has_whole_hours {
            check.broken("bucket", WHOLE);
        }
        return None;
    }
    let end = end.unwrap_or(now);
    // Without start_time the window is 24 hours long, so end_time alone decides where it starts.
    let (start_field, start_rule) = match start {
        Some(_) => ("start_time", "must lie in the years 1 to 9999, moved to the full hour"),
        None => ("end_time", "must have 24 hours before it in the years 1 to 9999"),
    };
    let Some(start) = start.or_else(|| end.checked_sub_signed(Duration::hours(24))) else {
        check.broken(start_field, start_rule);
        return None;
    };
    let bucket = bucket.unwrap_or(hour);
    let window = Window::new(start, end, bucket);
    let before = check.count();
    if !(1..=9999).contains(&window.start.year()) {
        check.broken(start_field, start_rule);
    }
    if !(1..=9999).contains(&window.end.year()) {
        check.broken("end_time", "must lie in the years 1 to 9999, moved to the full hour");
    }
    if check.count() > before {
        if !has_whole_hours {
            check.broken("bucket", WHOLE);
        }
        return None;
    }
    let days = LONGEST.num_days();
    let too_long = window.end - window.start > LONGEST;
    match asked.end {
        Some(_) if end <= start => check.broken("end_time", "must be after start_time"),
        Some(_) if too_long => {
            check.broken("end_time", format!("must be at most {days} days after start_time"));
        }
        None if end <= start => check.broken("start_time", "must be in the past"),
        None if too_long => {
            check.broken("start_time", format!("must be at most {days} days ago"));
        }
        _ => {}
    }
    if !has_whole_hours {
        check.broken("bucket", WHOLE);
    } else if window.buckets() > MAX_BUCKETS {
        check.broken("bucket", format!("must cut the time into at most {MAX_BUCKETS} buckets"));
    }
    Some(window)
}

/// At most `most` names with their counts, highest first.
pub fn most_frequent(
    counts: &BTreeMap<String, u64>,
    most: usize,
) -> impl Iterator<Item = (String, u64)> {
    let mut sorted: Vec<(&String, u64)> = counts.iter().map(|(name, n)| (name, *n)).collect();
    sorted.sort_by_key(|(_, n)| Reverse(*n));
    sorted.into_iter().take(most).map(|(name, n)| (name.clone(), n))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn broken(start: Option<i64>, end: Option<i64>, bucket: Option<i64>) -> Vec<String> {
        let at = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
        let bucket = bucket.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let asked = RequestedWindow { start: start.map(at), end: end.map(at), bucket };
        let mut check = Check::default();
        window(&mut check, asked, chrono::DateTime::UNIX_EPOCH);
        match check.done() {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            _ => Vec::new(),
        }
    }

    #[test]
    fn a_violation_names_a_field_that_is_stated() {
        const FIRST: i64 = -62_135_596_800;
        const LAST: i64 = 253_402_300_799;
        assert!(broken(None, Some(FIRST + 86_400), None).is_empty());
        assert_eq!(broken(None, Some(FIRST + 86_399), None), ["end_time"]);
        assert_eq!(broken(None, Some(FIRST - 1), None), ["end_time"]);
        assert_eq!(broken(None, Some(LAST), None), ["end_time"]);
        assert_eq!(broken(Some(FIRST - 1), Some(FIRST), None), ["start_time"]);
        assert_eq!(broken(Some(1), None, None), ["start_time"]);
        assert_eq!(broken(None, Some(FIRST - 1), Some(5)), ["end_time", "bucket"]);
        assert_eq!(broken(Some(1), Some(0), Some(5)), ["end_time", "bucket"]);
        assert_eq!(broken(Some(FIRST - 1), Some(LAST + 1), None), ["start_time", "end_time"]);
    }
}
