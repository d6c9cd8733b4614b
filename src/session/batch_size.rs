//! How work in batches gets past a row that fails: the batch shrinks, down to one row, and a row
//! that fails alone is set aside for a while.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Outage};

/// The most rows that one reader sets aside.
const MAX_ASIDE: usize = 1000;
/// How long a row is set aside.
pub(super) const ASIDE_FOR: Duration = Duration::minutes(10);

/// Rows per batch: halved when a batch fails, doubled when one succeeds.
pub(super) struct BatchSize {
    most: u32,
    now: AtomicU32,
}

impl BatchSize {
    /// Begins with `most`.
    pub fn new(most: u32) -> BatchSize {
        BatchSize { most, now: AtomicU32::new(most) }
    }

    /// The size of the next batch: 1 or more.
    pub fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    /// A batch of `size` succeeded.
    pub fn grow(&self, size: u32) {
        self.now.store(self.most.min(size.saturating_mul(2)), Ordering::Relaxed);
    }

    /// The next batch has one row.
    pub fn one_by_one(&self) {
        self.now.store(1, Ordering::Relaxed);
    }

    /// A batch of `size` failed; true if a smaller one may succeed.
    pub fn shrink(&self, size: u32, error: &Error) -> bool {
        let smaller = size > 1 && is_about_rows(error);
        if smaller {
            self.now.store(size / 2, Ordering::Relaxed);
        }
        smaller
    }
}

/// True for an error that a row of the batch may cause, rather than the database.
pub(super) fn is_about_rows(error: &Error) -> bool {
    use Outage::{Locked, Raced, Timeout};
    matches!(error, Error::Unavailable(Locked(_) | Raced(_) | Timeout) | Error::Internal(_))
}

/// The rows that failed alone, and until when each is skipped. In memory, because another replica may succeed.
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

    /// The rows to skip at `now`.
    pub fn at(&self, now: Time) -> Vec<Uuid> {
        let mut aside = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Never longer than `ASIDE_FOR`, even if the clock was ahead at the insert.
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
