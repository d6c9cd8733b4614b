//! The service's time, and an upper bound of the age of the revocations.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::DateTime;

use crate::clock::Time;

/// Microseconds of the service's clock, over this machine's monotonic clock; its wall clock does not matter.
///
/// The service reads its time after the request was sent and before the answer arrived. A clock counted from the
/// request is therefore ahead of the service's, by at most the round trip. By that clock the age of a message comes
/// out too great rather than too small, however long the message was in flight.
///
/// That holds while both clocks run undisturbed. They drift, and the service's may be set, so the time is measured
/// again periodically, and soon if a message shows that the clock is off. Until then a message counts as no younger
/// than the time since it arrived.
/// it arrived.
#[derive(Default)]
pub(super) struct Timing {
    base: OnceLock<Instant>,
    /// The offset from the base to the service's epoch; `i64::MIN` = unknown.
    ahead: AtomicI64,
    /// Everything committed before this time of the service has arrived; 0 = nothing has.
    checked: AtomicI64,
}

impl Timing {
    /// The service named this time in answer to a request sent at `asked`.
    pub fn answered(&self, asked: Instant, time: Time) {
        let ahead = time.timestamp_micros() - self.since_base(asked);
        self.ahead.store(ahead, Ordering::Release);
    }

    /// Everything committed before `time` has arrived, with a message at `moment`.
    pub fn checked(&self, time: Time, moment: Instant) {
        let time = time.timestamp_micros();
        // In this order a concurrent reader takes the state for too old, never for too young.
        self.ahead.fetch_max(time - self.since_base(moment), Ordering::AcqRel);
        self.checked.store(time, Ordering::Release);
    }

    /// How far this clock is behind the service's, according to a message with `time` that arrived at `moment`.
    pub fn behind(&self, time: Time, moment: Instant) -> Duration {
        let behind = time.timestamp_micros() - self.micros(moment);
        Duration::from_micros(u64::try_from(behind).unwrap_or(0))
    }

    /// The service's time, or a little later; `None` before the first message.
    pub fn now(&self, moment: Instant) -> Option<Time> {
        if self.checked.load(Ordering::Acquire) == 0 {
            return None;
        }
        DateTime::from_timestamp_micros(self.micros(moment))
    }

    /// The greatest possible age of the revocations.
    pub fn age(&self, moment: Instant) -> Duration {
        let age = self.micros(moment) - self.checked.load(Ordering::Acquire);
        Duration::from_micros(u64::try_from(age).unwrap_or(0))
    }

    fn micros(&self, moment: Instant) -> i64 {
        self.ahead.load(Ordering::Acquire) + self.since_base(moment)
    }

    fn since_base(&self, moment: Instant) -> i64 {
        // Earlier by a minute, so that measured moments lie after it.
        let base =
            self.base.get_or_init(|| moment.checked_sub(Duration::from_secs(60)).unwrap_or(moment));
        i64::try_from(moment.saturating_duration_since(*base).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_long_in_flight_is_old_on_arrival() {
        let (timing, start) = (Timing::default(), Instant::now());
        let at = |millis: i64| DateTime::from_timestamp_millis(1_000_000 + millis).expect("a time");
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(timing.now(start), None);
        // Requested at 0; the service answered at some moment up to 30, when the answer arrived.
        timing.answered(start, at(10));
        timing.checked(at(10), after(30));
        assert_eq!(timing.age(after(30)), Duration::from_millis(30));
        assert!(timing.now(after(30)) >= Some(at(30)));
        // Sent at 500, delayed until 2000.
        timing.checked(at(500), after(2000));
        assert!(timing.age(after(2000)) >= Duration::from_millis(1500));
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_younger_than_since_it_arrived() {
        let (timing, start) = (Timing::default(), Instant::now());
        let at = |millis: i64| DateTime::from_timestamp_millis(1_000_000 + millis).expect("a time");
        let after = |millis| start + Duration::from_millis(millis);
        timing.answered(start, at(0));
        timing.checked(at(0), after(0));
        assert_eq!(timing.behind(at(400), after(500)), Duration::ZERO);
        // Sent at 600, by a clock that was set forward by 30 s.
        assert_eq!(timing.behind(at(30_600), after(600)), Duration::from_secs(30));
        timing.checked(at(30_600), after(600));
        assert_eq!(timing.age(after(1600)), Duration::from_secs(1));
        // Set back again: too old until the time is measured again.
        timing.checked(at(700), after(700));
        assert_eq!(timing.age(after(700)), Duration::from_secs(30));
        timing.answered(after(800), at(810));
        timing.checked(at(810), after(820));
        assert_eq!(timing.age(after(820)), Duration::from_millis(20));
    }
}
