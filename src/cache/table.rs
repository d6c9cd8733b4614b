//! Small tables that are cached entirely: keys and callers. Every replica uses them at each call. A change takes effect
//! on all replicas within the staleness bound.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use crate::cache::progress::RevocationProgress;
use crate::error::{Error, Result};
use crate::model::revocation::{CACHED_FOR, Subject};
use crate::store::pool::Database;

/// The bound where validation always reads the database: a table need not be read at every call.
const BOUND: Duration = Duration::from_secs(1);

/// The shortest time between two reads for requests that need something newer than the cache has: forged ids must not
/// keep the database busy.
const RELOAD_INTERVAL: Duration = Duration::from_millis(20);

/// Counts the revocations that concern the tables. Cheap to clone; clones share the counts.
#[derive(Clone, Default)]
pub struct TableVersions {
    pub keys: TableVersion,
    pub callers: TableVersion,
}

/// Counts the revocations that concern one table.
#[derive(Clone, Default)]
pub struct TableVersion(Arc<AtomicU64>);

/// A table as it was read. Cheap to clone; clones share the cache.
pub struct TableCache<T>(Arc<Inner<T>>);

struct Inner<T> {
    db: Database,
    read: ReadTable<T>,
    progress: RevocationProgress,
    bound: Duration,
    versions: TableVersion,
    cached: RwLock<Option<CachedTable<T>>>,
    /// One read at a time. Requests that waited for it share its result, if that is recent enough, or its error.
    reading: tokio::sync::Mutex<LastFailure>,
}

/// The last read that failed, and when it did.
type LastFailure = Option<(Instant, Error)>;

type ReadTable<T> =
    Box<dyn Fn(Database) -> Pin<Box<dyn Future<Output = Result<T>> + Send>> + Send + Sync>;

struct CachedTable<T> {
    value: Arc<T>,
    read_at: Instant,
    /// The number of changes that the feed had reported when the read began.
    versions: u64,
}

impl<T> Clone for TableCache<T> {
    fn clone(&self) -> TableCache<T> {
        TableCache(self.0.clone())
    }
}

impl TableVersions {
    /// The feed reported a revocation of this subject.
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

impl<T> TableCache<T> {
    /// A table as `read` finds it. A change that `versions` counts takes effect at once, any other within `bound`.
    pub fn new<F>(
        db: Database,
        progress: RevocationProgress,
        bound: Duration,
        versions: TableVersion,
        read: impl Fn(Database) -> F + Send + Sync + 'static,
    ) -> TableCache<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let read: ReadTable<T> = Box::new(move |db| Box::pin(read(db)));
        let bound = if bound.is_zero() { BOUND } else { bound };
        let (cached, reading) = (RwLock::default(), tokio::sync::Mutex::default());
        TableCache(Arc::new(Inner { db, read, progress, bound, versions, cached, reading }))
    }

    /// The greatest age of a table that is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The table, true of a moment not longer ago than the bound. Reads it only if the cache has nothing so recent.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self) -> Result<Arc<T>> {
        self.get_within(self.0.bound).await
    }

    /// The same with another bound than that of the table.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get_within(&self, bound: Duration) -> Result<Arc<T>> {
        let asked = Instant::now();
        if let Some(cached) = self.cached_within(bound) {
            return Ok(cached);
        }
        let mut failed = self.0.reading.lock().await;
        match self.cached_within(bound) {
            Some(cached) => Ok(cached),
            None => self.read(asked, &mut failed).await,
        }
    }

    /// The table, true of a moment from now on. Requests at the same time share a read, which waits up to 20 ms.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn reload(&self) -> Result<Arc<T>> {
        let asked = Instant::now();
        let mut failed = self.0.reading.lock().await;
        if let Some((value, read_at)) = self.last() {
            if read_at >= asked {
                return Ok(value);
            }
            tokio::time::sleep(RELOAD_INTERVAL.saturating_sub(read_at.elapsed())).await;
        }
        self.read(asked, &mut failed).await
    }

    /// The table as it was read last, however long ago.
    pub fn latest(&self) -> Option<Arc<T>> {
        self.last().map(|(value, _)| value)
    }

    /// Reads for a request from `asked` that waited for its turn. A read that failed meanwhile fails for all requests
    /// that waited: they must not query one by one a database that does not answer.
    async fn read(&self, asked: Instant, failed: &mut LastFailure) -> Result<Arc<T>> {
        if let Some((_, error)) = failed.as_ref().filter(|(at, _)| *at >= asked) {
            return Err(error.again());
        }
        let (read_at, versions) = (Instant::now(), self.0.versions.0.load(Ordering::Acquire));
        let reading = self.0.db.within((self.0.read)(self.0.db.clone())).await;
        let value = Arc::new(reading.inspect_err(|error| {
            *failed = Some((Instant::now(), error.again()));
        })?);
        let cached = CachedTable { value: value.clone(), read_at, versions };
        *self.0.cached.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(cached);
        Ok(value)
    }

    fn last(&self) -> Option<(Arc<T>, Instant)> {
        let cached = self.0.cached.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        cached.as_ref().map(|cached| (cached.value.clone(), cached.read_at))
    }

    /// The cached table, if it is recent enough.
    pub fn cached(&self) -> Option<Arc<T>> {
        self.cached_within(self.0.bound)
    }

    fn cached_within(&self, bound: Duration) -> Option<Arc<T>> {
        // First the position of the feed, then the changes: the other order could miss one.
        let followed = self.0.progress.through().0;
        let cached = self.0.cached.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let cached = cached.as_ref()?;
        let now = Instant::now();
        let true_at = followed.map_or(cached.read_at, |followed| followed.max(cached.read_at));
        let age = |since: Instant| now.saturating_duration_since(since);
        let fresh = cached.versions == self.0.versions.0.load(Ordering::Acquire)
            && age(true_at) < bound
            && age(cached.read_at) < CACHED_FOR;
        fresh.then(|| cached.value.clone())
    }
}
