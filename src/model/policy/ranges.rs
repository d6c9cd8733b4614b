//! Which values a policy may hold, on every level: the command line's and the protocol's.

use chrono::Duration;

/// The most sessions that a limit may allow.
pub const MAX_SESSIONS: u32 = 10_000;

const DAY: i64 = 86_400;

/// The values that a duration may have.
pub struct Range {
    /// As people read it.
    pub rule: &'static str,
    /// Seconds.
    min: i64,
    /// Seconds.
    max: i64,
    /// Zero is valid as well.
    or_zero: bool,
}

/// Zero = never by idleness.
pub const IDLE_TIMEOUT: Range = Range::new("0s, or 1s to 365d", 1, 365 * DAY, true);
pub const ABSOLUTE_TIMEOUT: Range = Range::new("1s to 365d", 1, 365 * DAY, false);
pub const ACCESS_TOKEN_TTL: Range = Range::new("1s to 24h", 1, DAY, false);
pub const REFRESH_GRACE: Range = Range::new("0s to 5m", 0, 300, false);
pub const LOST_RESPONSE_WINDOW: Range = Range::new("0s to 24h", 0, DAY, false);

impl Range {
    /// From `min` to `max` seconds.
    pub const fn new(rule: &'static str, min: i64, max: i64, or_zero: bool) -> Range {
        Range { rule, min, max, or_zero }
    }

    /// The most, in seconds.
    pub const fn max_seconds(&self) -> i64 {
        self.max
    }

    /// True if `duration` may be set.
    pub fn holds(&self, duration: Duration) -> bool {
        let fits =
            duration >= Duration::seconds(self.min) && duration <= Duration::seconds(self.max);
        fits || (self.or_zero && duration.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_edges_fit_and_one_beyond_does_not() {
        let bit = Duration::microseconds(1);
        for (range, min, max) in [
            (&IDLE_TIMEOUT, Duration::seconds(1), Duration::days(365)),
            (&ABSOLUTE_TIMEOUT, Duration::seconds(1), Duration::days(365)),
            (&ACCESS_TOKEN_TTL, Duration::seconds(1), Duration::hours(24)),
            (&REFRESH_GRACE, Duration::zero(), Duration::minutes(5)),
            (&LOST_RESPONSE_WINDOW, Duration::zero(), Duration::hours(24)),
        ] {
            assert!(range.holds(min) && range.holds(max), "{}", range.rule);
            assert!(!range.holds(min - bit) && !range.holds(max + bit), "{}", range.rule);
        }
        assert!(IDLE_TIMEOUT.holds(Duration::zero()));
        assert!(!ABSOLUTE_TIMEOUT.holds(Duration::zero()));
    }
}
