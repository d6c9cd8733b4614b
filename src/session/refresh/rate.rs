//! The quota of refreshes of a session: one token bucket each, in memory of a fixed size.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{NotUntil, Quota, RateLimiter};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Buckets, 512 KiB in total. Sessions share them at random: with a million sessions that refresh
/// every five minutes, each bucket takes 3 a minute, and nobody can choose whose bucket to share.
const BUCKETS: usize = 65_536;
/// The time in which an empty bucket fills up.
const PERIOD: Duration = Duration::from_secs(60);

/// The buckets of all sessions.
pub struct Rate {
    limiter: Option<RateLimiter<usize, Buckets, MonotonicClock>>,
    seed: RandomState,
}

struct Buckets(Box<[InMemoryState]>);

impl StateStore for Buckets {
    type Key = usize;

    fn measure_and_replace<T, F, E>(&self, key: &usize, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[key % self.0.len()].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

impl Rate {
    /// At most `most` refreshes of a session a minute, all at once or one by one; 0 = no limit.
    pub fn per_minute(most: u32) -> Rate {
        let limiter = NonZeroU32::new(most).and_then(|most| {
            let quota = Quota::with_period(PERIOD / most.get())?.allow_burst(most);
            let buckets = (0..BUCKETS).map(|_| InMemoryState::default()).collect();
            Some(RateLimiter::new(quota, Buckets(buckets), MonotonicClock))
        });
        Rate { limiter, seed: RandomState::new() }
    }

    /// Counts a refresh of the session. Call it only after the token is verified, so that nobody
    /// else can use up the quota of the client.
    ///
    /// # Errors
    /// [`Error::RateLimited`]: the bucket is empty.
    pub fn count(&self, session: &Uuid) -> Result<()> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        // The modulus of 2^16 takes the low bits, which are as random as the others.
        let bucket = self.seed.hash_one(session) as usize;
        let wait = |until: NotUntil<_>| until.wait_time_from(MonotonicClock.now());
        limiter.check_key(&bucket).map_err(|until| Error::RateLimited(wait(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(rate: &Rate, session: u128) -> bool {
        rate.count(&Uuid::from_u128(session)).is_ok()
    }

    #[test]
    fn as_many_as_allowed_and_not_one_more() {
        let rate = Rate::per_minute(3);
        assert_eq!([1; 4].map(|session| counted(&rate, session)), [true, true, true, false]);
        let Err(Error::RateLimited(wait)) = rate.count(&Uuid::from_u128(1)) else {
            panic!("it is empty");
        };
        assert!(wait <= PERIOD / 3, "one drop takes so long: {wait:?}");
    }

    #[test]
    fn others_are_not_concerned() {
        let rate = Rate::per_minute(1);
        // Few of so many share one bucket.
        let served = (0..1000).filter(|session| counted(&rate, *session)).count();
        assert!(served > 950, "{served}");
    }

    #[test]
    fn none_is_no_limit() {
        let rate = Rate::per_minute(0);
        assert!((0..1000).all(|_| counted(&rate, 1)));
    }
}
