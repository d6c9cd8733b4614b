//! What a principal has in use on this replica, and how often it calls.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, Quota, RateLimiter};
use tokio::sync::Semaphore;

use crate::caller::permissions::METHODS;
use crate::error::{Error, Result};
use crate::model::caller::usage::Usage;

/// The most calls of a principal at once whose requests or answers may be large.
pub const HEAVY_CALLS: usize = 8;

/// The account of one principal. It outlives changes of the principal, and ends with it.
pub struct Account {
    pub usage: Usage,
    /// Room for calls with large requests or answers.
    pub heavy: Arc<Semaphore>,
    quota: Option<Quota>,
    /// By the row of the method in [`METHODS`]; made at the first call.
    buckets: OnceLock<Box<[RateBucket]>>,
}

type RateBucket =
    RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// The accounts of all principals, by name. Cheap to clone; clones share them.
#[derive(Clone)]
pub struct Accounts {
    quota: Option<Quota>,
    accounts: Arc<Mutex<HashMap<String, Arc<Account>>>>,
}

impl Account {
    /// An account of a principal that may call each method `per_second` times a second, all at once or one by one;
    /// 0 = any number.
    pub fn new(per_second: u32) -> Account {
        Account::with(quota(per_second))
    }

    fn with(quota: Option<Quota>) -> Account {
        Account {
            usage: Usage::default(),
            heavy: Arc::new(Semaphore::new(HEAVY_CALLS)),
            quota,
            buckets: OnceLock::new(),
        }
    }

    /// Counts a call of the method with this row in [`METHODS`].
    ///
    /// # Errors
    /// [`Error::RateLimited`]: the principal called it too often.
    pub fn count(&self, method: usize) -> Result<()> {
        let Some(quota) = self.quota else { return Ok(()) };
        let bucket = |_: &_| RateLimiter::direct_with_clock(quota, MonotonicClock);
        let buckets = self.buckets.get_or_init(|| METHODS.iter().map(bucket).collect());
        let Some(bucket) = buckets.get(method) else { return Ok(()) };
        let wait = |until: NotUntil<_>| until.wait_time_from(MonotonicClock.now());
        bucket.check().map_err(|until| Error::RateLimited(wait(until)))
    }
}

impl Accounts {
    /// No accounts yet; each principal may call each method `per_second` times a second, 0 = any number.
    pub fn new(per_second: u32) -> Accounts {
        Accounts { quota: quota(per_second), accounts: Arc::default() }
    }

    /// The accounts of these principals, in order. Those of all others are forgotten.
    pub fn of<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<Arc<Account>> {
        let names: Vec<&str> = names.collect();
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let still: HashSet<&str> = names.iter().copied().collect();
        accounts.retain(|name, _| still.contains(name.as_str()));
        let account = |name: &&str| {
            let new = || Arc::new(Account::with(self.quota));
            accounts.entry((*name).to_owned()).or_insert_with(new).clone()
        };
        names.iter().map(account).collect()
    }
}

fn quota(per_second: u32) -> Option<Quota> {
    NonZeroU32::new(per_second).map(Quota::per_second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_a_bucket_for_each_method() {
        let accounts = Accounts::new(2);
        let [a, b] = &accounts.of(["a", "b"].into_iter())[..] else { panic!("two") };
        assert!(a.count(0).is_ok() && a.count(0).is_ok());
        let Err(Error::RateLimited(wait)) = a.count(0) else { panic!("it is empty") };
        assert!(wait <= std::time::Duration::from_millis(500), "{wait:?}");
        assert!(a.count(1).is_ok(), "another method");
        assert!(b.count(0).is_ok(), "another principal");
        assert!(a.count(METHODS.len()).is_ok(), "no method");
    }

    #[test]
    fn an_account_outlives_changes_and_ends_with_its_principal() {
        let accounts = Accounts::new(1);
        let first = accounts.of(["a"].into_iter()).remove(0);
        assert!(first.count(0).is_ok());
        let again = accounts.of(["b", "a"].into_iter()).remove(1);
        assert!(again.count(0).is_err(), "the same bucket");
        accounts.of(std::iter::empty());
        assert!(accounts.accounts.lock().unwrap().is_empty());
    }

    #[test]
    fn zero_is_no_limit() {
        let account = Account::new(0);
        assert!((0..1000).all(|_| account.count(0).is_ok()));
    }
}
