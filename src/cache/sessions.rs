//! Sessions known by heart, and read where they are not.
//!
//! What is known counts only while it is known to have been true not longer ago than the staleness bound: when it was
//! read, or, as long as nothing revoked it, up to where the revocations were followed ([`crate::cache::revocation_feed`]).
//! Otherwise the database is asked. So a feed that is cut off costs time, never truth.

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

/// Reads sessions by key. Cheap to clone; clones share what they know.
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
    /// The database was not asked.
    pub cached: bool,
    /// It is true of this moment, if not of a later one.
    pub true_at: Instant,
    /// It includes everything below.
    pub watermark: Watermark,
}

impl SessionReader {
    /// A reader of `db` that knows up to `bytes` of sessions by heart and uses nothing older than `bound`; zero = it
    /// always reads.
    pub fn new(
        db: Database,
        progress: RevocationProgress,
        bound: Duration,
        bytes: u64,
        metrics: &Metrics,
    ) -> SessionReader {
        let (meters, entries) = (CacheMeters::new(metrics), Arc::new(SessionEntries::new(bytes)));
        let (count, weigh) = (entries.clone(), entries.clone());
        let help = "Sessions known by heart.";
        metrics.sampled("session_cache_entries", help, move || count.size().0 as f64);
        let help = "Memory of the sessions known by heart, about.";
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

    /// How old may be what is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The session, if it is known by heart as `freshness` demands.
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
                    // Whoever joined somebody's read was counted with it.
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
            // Somebody's read that began before this call may tell less than the caller must be told; what it kept
            // may do all the same.
            let joined = fill::join(&self.0, key, asked).await;
            if let Some(reading) = joined.inspect_err(|_| self.0.meters.unavailable.inc())? {
                return Ok(reading);
            }
        }
    }

    /// To be taken before a transaction reads what is then given to [`SessionReader::insert`].
    pub fn stamp(&self) -> FillStamp {
        self.0.entries.stamp()
    }

    /// Keeps a session as a transaction wrote it that has committed; it still held the session at `read_at`.
    pub fn insert(&self, stamp: FillStamp, session: &Session, read_at: Instant) {
        if !self.0.bound.is_zero() {
            self.0.entries.insert(stamp, &session.key, Some(session), read_at);
        }
    }

    /// Forgets what is revoked.
    pub fn invalidate(&self, revocation: &Revocation) {
        #[cfg(debug_assertions)]
        if crate::broken::is("deaf") {
            return;
        }
        self.0.entries.invalidate(revocation);
    }

    /// The same as [`SessionReader::invalidate`], without holding on to the database.
    pub fn invalidator(&self) -> impl Fn(&Revocation) + Send + Sync + 'static {
        let entries = self.0.entries.clone();
        move |revocation| entries.invalidate(revocation)
    }

    /// Forgets everything.
    pub fn invalidate_all(&self) {
        self.0.entries.invalidate_all();
    }

    /// How many sessions are known by heart, and in how many bytes.
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
    /// What is known by heart, if it will do; else what counts as the reason.
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
        // First how far revocations were followed, then what they left.
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
