//! Time and identifiers: the only place that reads the wall clock or makes an id.
//!
//! Everything else receives `now` as a parameter, so that tests drive time by hand.

mod followed;
mod trust;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chrono::{DateTime, Duration, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

use followed::{Correction, Followed};
use trust::Turn;

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
    /// The microseconds are the error of this machine's wall clock, in tests.
    Followed(Followed, i64),
    /// Microseconds since the Unix epoch.
    Manual(AtomicI64),
}

/// A point in time. UTC, microseconds.
pub type Time = DateTime<Utc>;

impl Clock {
    /// The wall clock of this machine until the first [`Clock::follow`], and then the followed clock, carried on by the
    /// monotonic clock of this machine. Setting the wall clock then has no effect.
    pub fn system() -> Clock {
        Clock::system_off_by(Duration::zero())
    }

    /// The same on a machine whose wall clock is wrong by `error`.
    pub fn system_off_by(error: Duration) -> Clock {
        let error = error.num_microseconds().unwrap_or(i64::MAX);
        Clock::new(Source::Followed(Followed::starting(wall(error)), error))
    }

    /// A clock that stands still until [`Clock::advance`] moves it. For tests.
    pub fn manual(start: Time) -> Clock {
        Clock::new(Source::Manual(AtomicI64::new(start.timestamp_micros())))
    }

    fn new(source: Source) -> Clock {
        Clock(Arc::new(Inner { source, context: Mutex::new(ContextV7::new()) }))
    }

    /// The current time, cut to the microsecond so that a value survives the database unchanged.
    pub fn now(&self) -> Time {
        let micros = match &self.0.source {
            Source::Followed(followed, _) => followed.now(),
            Source::Manual(micros) => micros.load(Ordering::SeqCst),
        };
        time(micros)
    }

    /// The current time for actions that cannot be undone: `None` while the time is in doubt, because the followed
    /// clock was set, or is wrong. A manual clock is never in doubt.
    pub fn settled(&self) -> Option<Time> {
        match &self.0.source {
            Source::Followed(followed, _) => followed.settled().map(time),
            Source::Manual(_) => Some(self.now()),
        }
    }

    /// True unless the time is in doubt.
    pub fn is_settled(&self) -> bool {
        match &self.0.source {
            Source::Followed(followed, _) => followed.settled().is_some(),
            Source::Manual(_) => true,
        }
    }

    /// Takes a sample of the followed clock, which read `time` between two moments: that of the database, so that all
    /// replicas agree. The error is at most the round trip of the fastest recent sample, plus the drift of this machine
    /// since, even if its wall clock is set. No effect on a manual clock.
    pub fn follow(&self, before: Instant, time: Time, after: Instant) {
        let Source::Followed(followed, error) = &self.0.source else { return };
        let (stepped, turn) = followed.follow(before, time.timestamp_micros(), after, wall(*error));
        let by = match stepped {
            Correction::Stepped(by) => Duration::microseconds(by),
            _ => Duration::zero(),
        };
        let ahead = self.ahead_of_wall();
        match turn {
            Turn::Shaken => tracing::warn!(
                %by, %ahead,
                "time is in doubt: the clock of the database was set, or that of this machine is off; \
                 what cannot be undone waits"
            ),
            Turn::Settled => tracing::info!(%ahead, "time is no longer in doubt"),
            Turn::Same if by.abs() > REPORTED && followed.settled().is_some() => {
                tracing::warn!(%by, %ahead, "the clock of the database is followed");
            }
            Turn::Same => {}
        }
    }

    /// How far this clock is ahead of this machine's wall clock; zero for a manual clock.
    pub fn ahead_of_wall(&self) -> Duration {
        match &self.0.source {
            Source::Followed(followed, error) => {
                Duration::microseconds(followed.now().saturating_sub(wall(*error)))
            }
            Source::Manual(_) => Duration::zero(),
        }
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

/// Corrections beyond this are logged.
const REPORTED: Duration = Duration::seconds(1);

/// The wall clock of this machine, wrong by `error`, in microseconds since the Unix epoch.
fn wall(error: i64) -> i64 {
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    Utc::now().timestamp_micros().saturating_add(error)
}

fn time(micros: i64) -> Time {
    DateTime::from_timestamp_micros(micros).expect("the clock stands within chrono's range")
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
