//! How often a line may be logged that callers can cause.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// At most so many lines a second, and a count of those left out. One for each kind of line.
pub struct LineQuota {
    per_second: u32,
    /// The second that `lines` is about.
    second: AtomicU64,
    lines: AtomicU32,
    omitted: AtomicU64,
}

impl LineQuota {
    /// `per_second` lines a second.
    pub const fn new(per_second: u32) -> LineQuota {
        let (second, omitted) = (AtomicU64::new(0), AtomicU64::new(0));
        LineQuota { per_second, second, lines: AtomicU32::new(0), omitted }
    }

    /// `Some` if the line may be logged: with the number of lines that were left out since the last one.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(START.elapsed().as_secs())
    }

    fn admit_at(&self, second: u64) -> Option<u64> {
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        if self.lines.fetch_add(1, Ordering::Relaxed) < self.per_second {
            Some(self.omitted.swap(0, Ordering::Relaxed))
        } else {
            self.omitted.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_quota_are_counted_and_reported_with_the_next() {
        let quota = LineQuota::new(2);
        let admitted: Vec<_> = [7, 7, 7, 7, 8, 8, 8, 9].map(|second| quota.admit_at(second)).into();
        assert_eq!(admitted, [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
