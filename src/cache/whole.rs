//! Small tables that are known as a whole: keys, and who may call. Every replica uses them at each call, and a change
//! counts everywhere within the staleness bound.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use crate::cache::seen::Seen;
use crate::error::{Error, Result};
use crate::model::revocation::{KNOWN_FOR, Subject};
use crate::store::pool::Database;

/// The bound where validation always reads the database: a table need not be read at every call.
const BOUND: Duration = Duration::from_secs(1);

/// Between two reads for who asks for something newer than is known: what callers make up must not keep the database
/// busy.
const PACE: Duration = Duration::from_millis(20);

/// Counts what was heard about the tables. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub struct Changes {
    pub keys: Change,
    pub callers: Change,
}

/// Counts what was heard about one of them.
#[derive(Clone, Default)]
pub struct Change(Arc<AtomicU64>);

/// A table as it was read. Cheap to clone; clones share what they know.
pub struct Whole<T>(Arc<Inner<T>>);

struct Inner<T> {
    db: Database,
    read: Read<T>,
    seen: Seen,
    bound: Duration,
    changes: Change,
    known: RwLock<Option<Known<T>>>,
    /// One read at a time; who waited for it takes what it found, if that will do, or how it failed.
    reading: tokio::sync::Mutex<Failed>,
}

/// The last read that failed, and when it did.
type Failed = Option<(Instant, Error)>;

type Read<T> =
    Box<dyn Fn(Database) -> Pin<Box<dyn Future<Output = Result<T>> + Send>> + Send + Sync>;

struct Known<T> {
    value: Arc<T>,
    read_at: Instant,
    /// The changes that had been heard of when the read began.
    changes: u64,
}

impl<T> Clone for Whole<T> {
    fn clone(&self) -> Whole<T> {
        Whole(self.0.clone())
    }
}

impl Changes {
    /// A revocation of this was heard of.
    pub(super) fn note(&self, subject: &Subject) {
        let changed = match subject {
            Subject::Key(_) => &self.keys,
            Subject::Callers => &self.callers,
            Subject::Session(_) | Subject::Device(_) | Subject::User(_) | Subject::Tenant => return,
        };
        changed.0.fetch_add(1, Ordering::AcqRel);
    }

    /// Anything may have changed.
    pub(super) fn note_all(&self) {
        self.note(&Subject::Key(String::new()));
        self.note(&Subject::Callers);
    }
}

impl<T> Whole<T> {
    /// A table as `read` finds it. What is heard of `changes` counts at once, the rest within `bound`.
    pub fn new<F>(
        db: Database,
        seen: Seen,
        bound: Duration,
        changes: Change,
        read: impl Fn(Database) -> F + Send + Sync + 'static,
    ) -> Whole<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let read: Read<T> = Box::new(move |db| Box::pin(read(db)));
        let bound = if bound.is_zero() { BOUND } else { bound };
        let (known, reading) = (RwLock::default(), tokio::sync::Mutex::default());
        Whole(Arc::new(Inner { db, read, seen, bound, changes, known, reading }))
    }

    /// How old may be what is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The table, true of a moment not longer ago than the bound. Reads it only if nothing so recent is known.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self) -> Result<Arc<T>> {
        self.get_within(self.0.bound).await
    }

    /// The same where more is asked for than the bound.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get_within(&self, bound: Duration) -> Result<Arc<T>> {
        let asked = Instant::now();
        if let Some(known) = self.known_within(bound) {
            return Ok(known);
        }
        let mut failed = self.0.reading.lock().await;
        match self.known_within(bound) {
            Some(known) => Ok(known),
            None => self.read(asked, &mut failed).await,
        }
    }

    /// The table, true of a moment from now on. Who asks together shares a read, and waits for it a little.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn anew(&self) -> Result<Arc<T>> {
        let asked = Instant::now();
        let mut failed = self.0.reading.lock().await;
        if let Some((value, read_at)) = self.last() {
            if read_at >= asked {
                return Ok(value);
            }
            tokio::time::sleep(PACE.saturating_sub(read_at.elapsed())).await;
        }
        self.read(asked, &mut failed).await
    }

    /// What was read last, however long ago.
    pub fn latest(&self) -> Option<Arc<T>> {
        self.last().map(|(value, _)| value)
    }

    /// For who asked then and waited for a turn. A read that failed meanwhile failed for all who waited: a queue of
    /// them must not ask one by one a database that does not answer.
    async fn read(&self, asked: Instant, failed: &mut Failed) -> Result<Arc<T>> {
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.again());
        }
        let (read_at, changes) = (Instant::now(), self.0.changes.0.load(Ordering::Acquire));
        let reading = self.0.db.within((self.0.read)(self.0.db.clone())).await;
        let value = Arc::new(reading.inspect_err(|error| {
            *failed = Some((Instant::now(), error.again()));
        })?);
        let known = Known { value: value.clone(), read_at, changes };
        *self.0.known.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(known);
        Ok(value)
    }

    fn last(&self) -> Option<(Arc<T>, Instant)> {
        let known = self.0.known.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        known.as_ref().map(|known| (known.value.clone(), known.read_at))
    }

    /// What is known recently enough.
    pub fn known(&self) -> Option<Arc<T>> {
        self.known_within(self.0.bound)
    }

    fn known_within(&self, bound: Duration) -> Option<Arc<T>> {
        // First how far changes were followed, then whether there were any.
        let followed = self.0.seen.through().0;
        let known = self.0.known.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = known.as_ref()?;
        let now = Instant::now();
        let true_at = followed.map_or(known.read_at, |followed| followed.max(known.read_at));
        let age = |since: Instant| now.saturating_duration_since(since);
        let fresh = known.changes == self.0.changes.0.load(Ordering::Acquire)
            && age(true_at) < bound
            && age(known.read_at) < KNOWN_FOR;
        fresh.then(|| known.value.clone())
    }
}
