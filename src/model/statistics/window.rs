//! The window of a request, cut into buckets.

use chrono::Duration;

use crate::clock::Time;
use crate::model::statistics::{Counts, OpenCounts, hour_of};

/// The longest window.
pub const LONGEST: Duration = Duration::days(93);
/// The most buckets of an answer.
pub const MAX_BUCKETS: i64 = 1000;

/// Some time, of whole hours: not empty, and within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub start: Time,
    pub end: Time,
    /// Whole hours; the last bucket may be shorter.
    pub bucket: Duration,
}

/// The counts of a window, and the present totals.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    pub window: Window,
    pub standing: OpenCounts,
    pub total: Counts,
    /// One after the other, also where nothing happened.
    pub buckets: Vec<Bucket>,
    /// Everything that was decided before this time is counted.
    pub as_of: Time,
}

/// A part of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    pub start: Time,
    pub end: Time,
    pub counts: Counts,
}

/// What is stored of a window.
pub struct Stored {
    pub standing: OpenCounts,
    /// The hours in which something was counted, ascending: those of the window, and the next after it.
    pub hours: Vec<(Time, Counts)>,
    pub as_of: Time,
}

impl Window {
    /// The hours from that of `start` to the end of the last one that `end` reaches into.
    pub fn new(start: Time, end: Time, bucket: Duration) -> Window {
        let last = hour_of(end);
        let end = if last < end { last + Duration::hours(1) } else { last };
        Window { start: hour_of(start), end, bucket }
    }

    /// How many buckets it has.
    pub fn buckets(&self) -> i64 {
        let (length, bucket) = ((self.end - self.start).num_hours(), self.bucket.num_hours());
        if bucket <= 0 { 0 } else { (length + bucket - 1) / bucket }
    }

    /// Adds up what is stored.
    pub fn sum(self, stored: Stored) -> Figures {
        let Stored { standing, hours, as_of } = stored;
        // Where nothing was counted, nothing changed: the level is that before the next hour, or the present one.
        let from = |at: Time| hours.partition_point(|(hour, _)| *hour < at);
        let before =
            |at: Time| hours.get(from(at)).map_or(standing.live, |(_, next)| next.level.first);
        let mut total = Counts::from(before(self.start));
        let mut buckets = Vec::new();
        let mut start = self.start;
        while start < self.end {
            let end = (start + self.bucket).min(self.end);
            // A bucket that has not begun has no sessions yet.
            let live = if start <= as_of { before(start) } else { 0 };
            let mut counts = Counts::from(live);
            for (_, hour) in &hours[from(start)..from(end)] {
                counts.add(hour);
                total.add(hour);
            }
            buckets.push(Bucket { start, end, counts });
            start = end;
        }
        Figures { window: self, standing, total, buckets, as_of }
    }
}
