//! Cached sessions, and reads of those that are not cached.
//!
//! A cached record counts only while it was true within the staleness bound. It was true when it was read and, unless
//! it was revoked, up to the position of the revocation feed ([`crate::cache::revocation_feed`]). Otherwise the
//! database is read. So a feed that is cut off costs time, never correctness.

mod entries;
mod fill;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::cache::meters::CacheMeters;
use crate::cache::progress::RevocationProgress;
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::freshness::Freshness;
use crate::model::ids::SessionKey;
use crate::model::revocation::Revocation;
use crate::model::session::Session;
use crate::model::watermark::Watermark;
use crate::store::pool::Database;
use entries::SessionEntries;
use fill::Fills;

pub use entries::FillStamp;

/// Reads sessions by key. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct SessionReader(Arc<Inner>);

struct Inner {
    db: Database,
    entries: Arc<SessionEntries>,
    progress: RevocationProgress,
    fills: Fills,
    bound: Duration,
    meters: CacheMeters,
}

/// A session as of a moment.
pub struct Reading {
    /// `None` = it does not exist.
    pub session: Option<Session>,
    /// A cache hit: the database was not read.
    pub cached: bool,
    /// It is true of this moment, if not of a later one.
    pub true_at: Instant,
    /// It includes everything below this.
    pub watermark: Watermark,
}

impl SessionReader {
    /// A reader of `db` that caches sessions in up to `bytes` and uses nothing older than `bound`; zero = it always
    /// reads.
    pub fn new(
        db: Database,
        progress: RevocationProgress,
        bound: Duration,
        bytes: u64,
        metrics: &Metrics,
    ) -> SessionReader {
        let (meters, entries) = (CacheMeters::new(metrics), Arc::new(SessionEntries::new(bytes)));
        let (count, weigh) = (entries.clone(), entries.clone());
        let help = "Sessions in the cache.";
        metrics.sampled("session_cache_entries", help, move || count.size().0 as f64);
        let help = "Memory of the cached sessions in bytes, about.";
        metrics.sampled("session_cache_bytes", help, move || weigh.size().1 as f64);
        SessionReader(Arc::new(Inner {
            db,
            entries,
            progress,
            fills: Fills::default(),
            bound,
            meters,
        }))
    }

    /// The greatest age of a record that is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The session, if it is cached as recently as `freshness` demands.
    pub fn get_cached(&self, key: &SessionKey, freshness: Freshness) -> Option<Reading> {
        let found = self.0.find(key, freshness, Instant::now()).ok()?;
        self.0.meters.hits.inc();
        Some(found)
    }

    /// The session, as `freshness` demands.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self, key: &SessionKey, freshness: Freshness) -> Result<Reading> {
        let asked = Instant::now();
        let mut miss = None;
        loop {
            match self.0.find(key, freshness, asked) {
                Ok(reading) => {
                    // A caller that joined a fill was counted before.
                    if miss.is_none() {
                        self.0.meters.hits.inc();
                    }
                    return Ok(reading);
                }
                Err(why) if miss.is_none() => {
                    why(&self.0.meters).inc();
                    miss = Some(why);
                }
                Err(_) => {}
            }
            // A fill that began before this call may be older than the caller demands. The record that it cached may do
            // all the same.
            let joined = fill::join(&self.0, key, asked).await;
            if let Some(reading) = joined.inspect_err(|_| self.0.meters.unavailable.inc())? {
                return Ok(reading);
            }
        }
    }

    /// Taken before a transaction reads what is then passed to [`SessionReader::insert`].
    pub fn stamp(&self) -> FillStamp {
        self.0.entries.stamp()
    }

    /// Caches a session as a committed transaction wrote it. The transaction still had the session locked at `read_at`.
    pub fn insert(&self, stamp: FillStamp, session: &Session, read_at: Instant) {
        if !self.0.bound.is_zero() {
            self.0.entries.insert(stamp, &session.key, Some(session), read_at);
        }
    }

    /// Invalidates what is revoked.
    pub fn invalidate(&self, revocation: &Revocation) {
        #[cfg(debug_assertions)]
        if crate::broken::is("deaf") {
            return;
        }
        self.0.entries.invalidate(revocation);
    }

    /// The same as [`SessionReader::invalidate`], without a reference to the database.
    pub fn invalidator(&self) -> impl Fn(&Revocation) + Send + Sync + 'static {
        let entries = self.0.entries.clone();
        move |revocation| entries.invalidate(revocation)
    }

    /// Invalidates everything.
    pub fn invalidate_all(&self) {
        self.0.entries.invalidate_all();
    }

    /// How many sessions are cached, and in how many bytes.
    pub fn size(&self) -> (usize, u64) {
        self.0.entries.size()
    }

    /// Checks that the database answers and takes writes, whatever the load of the pool.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.0.db.ping().await
    }
}

impl Inner {
    /// The cached record, if it is recent enough; else the reason of the miss.
    fn find(&self, key: &SessionKey, freshness: Freshness, now: Instant) -> Result<Reading, Miss> {
        #[cfg(debug_assertions)]
        let freshness = match freshness {
            Freshness::Strong if crate::broken::is("strong-cached") => Freshness::Bounded,
            asked => asked,
        };
        let (most, least) = match freshness {
            Freshness::Strong => return Err(|meters| &meters.strong),
            Freshness::Bounded => (self.bound, Watermark::default()),
            Freshness::Within(age) => (self.bound.min(age), Watermark::default()),
            Freshness::AtLeast(watermark) => (self.bound, watermark),
        };
        // First the position of the feed, then the record: the other order could miss a revocation.
        let (followed, watermark) = self.progress.through();
        let entries = self.entries.find(key, now).ok_or::<Miss>(|meters| &meters.cold)?;
        let true_at = followed.map_or(entries.read_at, |followed| followed.max(entries.read_at));
        if now.saturating_duration_since(true_at) >= most || watermark < least {
            return Err(|meters| &meters.stale);
        }
        Ok(Reading { session: entries.session, cached: true, true_at, watermark })
    }
}

/// The counter of a miss.
type Miss = fn(&CacheMeters) -> &IntCounter;
