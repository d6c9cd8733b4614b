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
    let (start, end) = (time(check, "start_time", asked.start), time(check, "end_time", asked.end));
    if !check.is_sound() {
        return None;
    }
    let end = end.unwrap_or(now);
    let Some(start) = start.or_else(|| end.checked_sub_signed(Duration::hours(24))) else {
        check.broken("end_time", "must have 24 hours before it");
        return None;
    };
    let bucket = bucket.unwrap_or(hour);
    let window = Window::new(start, end, bucket);
    let before = check.count();
    for (field, at) in [("start_time", window.start), ("end_time", window.end)] {
        if !(1..=9999).contains(&at.year()) {
            check.broken(field, "must lie in the years 1 to 9999, moved to the full hour");
        }
    }
    if check.count() > before {
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
    if bucket < hour || Duration::hours(bucket.num_hours()) != bucket {
        check.broken("bucket", "must be a multiple of one hour");
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
