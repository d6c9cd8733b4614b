//! The session cache: reads sessions, from memory where that is fresh enough.
//!
//! A cached session counts only while it was certainly true less than the staleness bound ago: when it was read, or, as
//! long as no revocation concerned it, up to where the revocation feed was read ([`crate::cache::revocation_feed`]).
//! Otherwise it is a miss, and the database is read. So a feed that is cut off costs time, never truth.

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
    /// It includes everything below.
    pub watermark: Watermark,
}

impl SessionReader {
    /// A reader of `db` that caches up to `bytes` of sessions and uses nothing older than `bound`; zero = every read goes
    /// to the database.
    pub fn new(
        db: Database,
        progress: RevocationProgress,
        bound: Duration,
        bytes: u64,
        metrics: &Metrics,
    ) -> SessionReader {
        let (meters, entries) = (CacheMeters::new(metrics), Arc::new(SessionEntries::new(bytes)));
        let (count, weigh) = (entries.clone(), entries.clone());
        let help = "Cached sessions.";
        metrics.sampled("session_cache_entries", help, move || count.size().0 as f64);
        let help = "Memory of the cached sessions, about, in bytes.";
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

    /// The staleness bound: the greatest age of a cached session that is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The session, if it is cached as `freshness` demands.
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
                    // A call that joined another one's read was counted with it.
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
            // A read that began before this call may show less than the caller demands; the entry that it inserted may do
            // all the same.
            let joined = fill::join(&self.0, key, asked).await;
            if let Some(reading) = joined.inspect_err(|_| self.0.meters.unavailable.inc())? {
                return Ok(reading);
            }
        }
    }

    /// Taken before a transaction reads the session that is then given to [`SessionReader::insert`].
    pub fn stamp(&self) -> FillStamp {
        self.0.entries.stamp()
    }

    /// Caches a session as a committed transaction wrote it; the transaction still held it at `read_at`.
    pub fn insert(&self, stamp: FillStamp, session: &Session, read_at: Instant) {
        if !self.0.bound.is_zero() {
            self.0.entries.insert(stamp, &session.key, Some(session), read_at);
        }
    }

    /// Invalidates what the revocation concerns.
    pub fn invalidate(&self, revocation: &Revocation) {
        #[cfg(debug_assertions)]
        if crate::broken::is("deaf") {
            return;
        }
        self.0.entries.invalidate(revocation);
    }

    /// The same as [`SessionReader::invalidate`], as a function that does not own the database.
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
    /// The cached session, if it is fresh enough; else the counter of the miss.
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
        // First how far the feed was read, then the entries that it left.
        let (followed, watermark) = self.progress.through();
        let entries = self.entries.find(key, now).ok_or::<Miss>(|meters| &meters.cold)?;
        let true_at = followed.map_or(entries.read_at, |followed| followed.max(entries.read_at));
        if now.saturating_duration_since(true_at) >= most || watermark < least {
            return Err(|meters| &meters.stale);
        }
        Ok(Reading { session: entries.session, cached: true, true_at, watermark })
    }
}

/// Which counter a miss counts in.
type Miss = fn(&CacheMeters) -> &IntCounter;
