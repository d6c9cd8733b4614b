//! Time and identifiers: the only place that reads the wall clock or makes an id.
//!
//! Everything else receives `now` as a parameter, so that tests drive time by hand.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use chrono::{DateTime, Duration, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

/// A source of time with microsecond resolution (what Postgres stores), and of ids.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    source: Source,
    /// Keeps UUIDv7s of one process in order within a millisecond, so that sorting by id is
    /// sorting by creation (RFC 9562, section 6.2).
    context: Mutex<ContextV7>,
}

enum Source {
    System,
    /// Microseconds since the Unix epoch.
    Manual(AtomicI64),
}

/// A point in time. UTC, microseconds.
pub type Time = DateTime<Utc>;

impl Clock {
    /// The wall clock of this machine.
    pub fn system() -> Clock {
        Clock::new(Source::System)
    }

    /// A clock that stands still until [`Clock::advance`] moves it. For tests.
    pub fn manual(start: Time) -> Clock {
        Clock::new(Source::Manual(AtomicI64::new(start.timestamp_micros())))
    }

    fn new(source: Source) -> Clock {
        Clock(Arc::new(Inner { source, context: Mutex::new(ContextV7::new()) }))
    }

    /// The time now, cut to the microsecond so that a value survives the database unchanged.
    pub fn now(&self) -> Time {
        let micros = match &self.0.source {
            Source::System =>
            {
                #[expect(clippy::disallowed_methods, reason = "this is the clock")]
                Utc::now().timestamp_micros()
            }
            Source::Manual(micros) => micros.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_micros(micros).expect("the clock stands within chrono's range")
    }

    /// Moves a manual clock forward; a negative `by` moves it back.
    ///
    /// # Panics
    /// On a system clock.
    pub fn advance(&self, by: Duration) {
        let Source::Manual(micros) = &self.0.source else {
            panic!("only a manual clock can be moved");
        };
        let by = by.num_microseconds().expect("a step of less than 290,000 years");
        micros.fetch_add(by, Ordering::SeqCst);
    }

    /// A new UUIDv7 at the clock's time. Ids of one clock sort in the order they were made.
    pub fn new_id(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        let context = self.0.context.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        Uuid::new_v7(Timestamp::from_unix(&*context, seconds, now.timestamp_subsec_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_clock_sort_in_the_order_they_were_made() {
        let clock = Clock::manual(DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap());
        let ids: Vec<Uuid> = (0..10_000).map(|_| clock.new_id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(DateTime::from_timestamp_micros(5).unwrap());
        assert_eq!(clock.now().timestamp_micros(), 5);
        clock.advance(Duration::seconds(1));
        assert_eq!(clock.now().timestamp_micros(), 1_000_005);
    }
}
