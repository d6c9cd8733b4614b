//! Rate limits: a token bucket for each principal and method, in bounded memory.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};

use crate::caller::permissions::METHODS;
use crate::error::{Error, Result};

/// The most principals with buckets of their own, some 10 MB. All further principals share one set of buckets.
const MOST: usize = 2048;

/// The buckets of all principals.
pub struct Rates(Option<Inner>);

struct Inner {
    quota: Quota,
    principals: RwLock<HashMap<String, Arc<Row>>>,
    /// The shared buckets of principals beyond [`MOST`].
    others: Arc<Row>,
}

/// The buckets of a principal, by path.
type Row = HashMap<String, RateBucket>;

type RateBucket =
    RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

impl Rates {
    /// Allows `most` calls per second of one principal to one method, also as a burst; 0 means no limit.
    pub fn per_second(most: u32) -> Rates {
        Rates(NonZeroU32::new(most).map(|most| {
            let quota = Quota::per_second(most);
            Inner { quota, principals: RwLock::default(), others: Arc::new(row(quota)) }
        }))
    }

    /// Counts a call of `principal` to `path`.
    ///
    /// # Errors
    /// [`Error::RateLimited`] if the bucket is empty.
    pub fn count(&self, principal: &str, path: &str) -> Result<()> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let row = inner.row(principal);
        // Every method that needs a permission has a bucket.
        let Some(bucket) = row.get(path) else { return Ok(()) };
        let wait = |until: NotUntil<_>| until.wait_time_from(MonotonicClock.now());
        bucket.check().map_err(|until| Error::RateLimited(wait(until)))
    }
}

impl Inner {
    fn row(&self, principal: &str) -> Arc<Row> {
        let rows = self.principals.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.get(principal) {
            return row.clone();
        }
        drop(rows);
        let mut rows = self.principals.write().unwrap_or_else(PoisonError::into_inner);
        if rows.len() >= MOST && !rows.contains_key(principal) {
            return self.others.clone();
        }
        rows.entry(principal.to_owned()).or_insert_with(|| Arc::new(row(self.quota))).clone()
    }
}

fn row(quota: Quota) -> Row {
    let bucket = || RateLimiter::direct_with_clock(quota, MonotonicClock);
    METHODS.iter().map(|(method, _)| (format!("/{method}"), bucket())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDATE: &str = "/sessiond.v1.SessionService/ValidateSession";
    const CREATE: &str = "/sessiond.v1.SessionService/CreateSession";

    #[test]
    fn a_principal_has_a_bucket_for_each_method() {
        let rates = Rates::per_second(2);
        let counted = |principal, path| rates.count(principal, path).is_ok();
        assert!(counted("a", VALIDATE) && counted("a", VALIDATE));
        let Err(Error::RateLimited(wait)) = rates.count("a", VALIDATE) else {
            panic!("it is empty");
        };
        assert!(wait <= std::time::Duration::from_millis(500), "{wait:?}");
        assert!(counted("a", CREATE), "another method");
        assert!(counted("b", VALIDATE), "another principal");
    }

    #[test]
    fn principals_beyond_the_limit_share_their_buckets() {
        let rates = Rates::per_second(1);
        for number in 0..MOST {
            assert!(rates.count(&number.to_string(), VALIDATE).is_ok());
        }
        assert!(rates.count("one more", VALIDATE).is_ok());
        assert!(rates.count("another", VALIDATE).is_err());
        assert!(rates.count("0", CREATE).is_ok(), "who has one keeps it");
        let inner = rates.0.as_ref().unwrap();
        assert_eq!(inner.principals.read().unwrap().len(), MOST);
    }

    #[test]
    fn zero_means_no_limit() {
        let rates = Rates::per_second(0);
        assert!((0..1000).all(|_| rates.count("a", VALIDATE).is_ok()));
    }
}
