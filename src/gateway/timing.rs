//! The time of the service, and the age of the last message: never too young.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::DateTime;

use crate::clock::Time;

/// Microseconds of the service's clock, over this machine's monotonic clock; its wall clock does not matter.
///
/// The service named its time after a question was sent, so that time is not after the moment of the answer, and not
/// before the moment of the question: counting from the question gives a clock that is ahead of the service's, by at most
/// how long the question took. By that clock the age of a message comes out too great rather than too small, however
/// long a message was under way.
///
/// That holds while both clocks go on as they did. They drift, and the service's may be set; so the question is asked again
/// now and then, and soon where a message shows that the clock is off. Until then a message counts from no later than when
/// it arrived.
#[derive(Default)]
pub(super) struct Timing {
    base: OnceLock<Instant>,
    /// From the base to the service's epoch; `i64::MIN` = unknown.
    ahead: AtomicI64,
    /// Everything that was committed before this time of the service is known; 0 = nothing is.
    checked: AtomicI64,
}

impl Timing {
    /// The service named this time in answer to a question sent at `asked`.
    pub fn answered(&self, asked: Instant, time: Time) {
        let ahead = time.timestamp_micros() - self.since_base(asked);
        self.ahead.store(ahead, Ordering::Release);
    }

    /// Everything that was committed before `time` is known, by a message that arrived at `moment`.
    pub fn checked(&self, time: Time, moment: Instant) {
        let time = time.timestamp_micros();
        // First: a reader in between takes the state for too old, not for too young.
        self.ahead.fetch_max(time - self.since_base(moment), Ordering::AcqRel);
        self.checked.store(time, Ordering::Release);
    }

    /// How far a message that names `time`, and arrived at `moment`, shows this clock to be behind the service's.
    pub fn behind(&self, time: Time, moment: Instant) -> Duration {
        let behind = time.timestamp_micros() - self.micros(moment);
        Duration::from_micros(u64::try_from(behind).unwrap_or(0))
    }

    /// The service's time, or a little later; `None` before anything is known.
    pub fn now(&self, moment: Instant) -> Option<Time> {
        if self.checked.load(Ordering::Acquire) == 0 {
            return None;
        }
        DateTime::from_timestamp_micros(self.micros(moment))
    }

    /// How old what is known is, at most.
    pub fn age(&self, moment: Instant) -> Duration {
        let age = self.micros(moment) - self.checked.load(Ordering::Acquire);
        Duration::from_micros(u64::try_from(age).unwrap_or(0))
    }

    fn micros(&self, moment: Instant) -> i64 {
        self.ahead.load(Ordering::Acquire) + self.since_base(moment)
    }

    fn since_base(&self, moment: Instant) -> i64 {
        // Back by a while, so that whatever is measured lies behind it.
        let base =
            self.base.get_or_init(|| moment.checked_sub(Duration::from_secs(60)).unwrap_or(moment));
        i64::try_from(moment.saturating_duration_since(*base).as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_under_way_for_long_is_old_when_it_arrives() {
        let (timing, start) = (Timing::default(), Instant::now());
        let at = |millis: i64| DateTime::from_timestamp_millis(1_000_000 + millis).expect("a time");
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(timing.now(start), None);
        // Asked at 0; the service answered at some moment up to 30, when the answer came.
        timing.answered(start, at(10));
        timing.checked(at(10), after(30));
        assert_eq!(timing.age(after(30)), Duration::from_millis(30));
        assert!(timing.now(after(30)) >= Some(at(30)));
        // Said at 500, held up until 2000.
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
        // Said at 600, by a clock that was set forward by 30 s.
        assert_eq!(timing.behind(at(30_600), after(600)), Duration::from_secs(30));
        timing.checked(at(30_600), after(600));
        assert_eq!(timing.age(after(1600)), Duration::from_secs(1));
        // Back again: too old, until the question is asked anew.
        timing.checked(at(700), after(700));
        assert_eq!(timing.age(after(700)), Duration::from_secs(30));
        timing.answered(after(800), at(810));
        timing.checked(at(810), after(820));
        assert_eq!(timing.age(after(820)), Duration::from_millis(20));
    }
}
