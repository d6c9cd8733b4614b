//! How what works in batches gets past what stops it: smaller batches, down to one, and then what fails alone
//! is set aside for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Outage};

/// The most that one reader sets aside.
const MAX_ASIDE: usize = 1000;
/// For how long it does.
pub(super) const ASIDE_FOR: Duration = Duration::minutes(10);

/// Rows a batch: halved when one fails, doubled when one works.
pub(super) struct BatchSize {
    most: u32,
    now: AtomicU32,
}

impl BatchSize {
    /// Begins with `most`.
    pub fn new(most: u32) -> BatchSize {
        BatchSize { most, now: AtomicU32::new(most) }
    }

    /// For the next batch: 1 or more.
    pub fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// A batch of `size` was done.
    pub fn grow(&self, size: u32) {
        self.now.store(self.most.min(size.saturating_mul(2)), Ordering::Relaxed);
    }

    /// The next batch is of one.
    pub fn one_by_one(&self) {
        self.now.store(1, Ordering::Relaxed);
    }

    /// A batch of `size` failed; true if a smaller one may do better.
    pub fn shrink(&self, size: u32, error: &Error) -> bool {
        let smaller = size > 1 && is_about_rows(error);
        if smaller {
            self.now.store(size / 2, Ordering::Relaxed);
        }
        smaller
    }
}

/// True for an error that may lie in the rows of a batch, not in the database as a whole.
pub(super) fn is_about_rows(error: &Error) -> bool {
    use Outage::{Locked, Raced, Timeout};
    matches!(error, Error::Unavailable(Locked(_) | Raced(_) | Timeout) | Error::Internal(_))
}

/// What failed alone, and until when it is left out. In memory: another replica may find it sound.
#[derive(Default)]
pub(super) struct Aside(Mutex<BTreeMap<Uuid, Time>>);

impl Aside {
    /// Sets `id` aside at `now`; false if there is no room.
    pub fn put(&self, id: Uuid, now: Time) -> bool {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = aside.len() < MAX_ASIDE || aside.contains_key(&id);
        if fits {
            aside.insert(id, now + ASIDE_FOR);
        }
        fits
    }

    /// What is to be left out at `now`.
    pub fn at(&self, now: Time) -> Vec<Uuid> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Not for longer, whatever the clock said then.
        aside.retain(|_, until| *until > now && *until <= now + ASIDE_FOR);
        aside.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_shrinks_to_one_and_grows_back() {
        let size = BatchSize::new(500);
        let slow = Error::Unavailable(Outage::Timeout);
        let mut tries = 0;
        while size.shrink(size.now(), &slow) {
            tries += 1;
        }
        assert_eq!((size.now(), tries), (1, 8));
        for _ in 0..9 {
            size.grow(size.now());
        }
        assert_eq!(size.now(), 500);
        assert!(
            !size.shrink(500, &Error::Unavailable(Outage::PoolExhausted)),
            "no row is to blame"
        );
        assert_eq!(size.now(), 500);
    }

    #[test]
    fn what_is_set_aside_comes_back_and_is_bounded() {
        let (aside, now) = (Aside::default(), Time::UNIX_EPOCH);
        for id in 0..1000 {
            assert!(aside.put(Uuid::from_u128(id), now));
        }
        assert!(!aside.put(Uuid::from_u128(1000), now));
        assert_eq!(aside.at(now).len(), 1000);
        assert_eq!(aside.at(now + ASIDE_FOR).len(), 0);
        assert!(aside.put(Uuid::from_u128(0), now + Duration::days(365)));
        assert_eq!(aside.at(now).len(), 0, "a clock was ahead");
    }
}
