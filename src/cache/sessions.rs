//! Sessions known by heart, and read where they are not.
//!
//! What is known counts only while it is known to have been true not longer ago than the staleness bound: when it was
//! read, or, as long as nothing revoked it, up to where the revocations were followed ([`crate::cache::tail`]).
//! Otherwise the database is asked. So a feed that is cut off costs time, never truth.

mod fill;
mod known;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::seen::Seen;
use crate::error::Result;
use crate::model::freshness::Freshness;
use crate::model::ids::SessionKey;
use crate::model::revocation::Revocation;
use crate::model::session::Session;
use crate::model::watermark::Watermark;
use crate::store::pool::Database;
use fill::Fills;
use known::Known;

pub use known::Mark;

/// Reads sessions by key. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct SessionReader(Arc<Inner>);

struct Inner {
    db: Database,
    known: Arc<Known>,
    seen: Seen,
    fills: Fills,
    bound: Duration,
}

/// A session as of a moment.
pub struct Reading {
    /// `None` = it does not exist.
    pub session: Option<Session>,
    /// The database was not asked.
    pub by_heart: bool,
    /// It is true of this moment, if not of a later one.
    pub true_at: Instant,
    /// It includes everything below.
    pub watermark: Watermark,
}

impl SessionReader {
    /// A reader of `db` that knows up to `bytes` of sessions by heart and uses nothing older than `bound`; zero = it
    /// always reads.
    pub fn new(db: Database, seen: Seen, bound: Duration, bytes: u64) -> SessionReader {
        let known = Arc::new(Known::new(bytes));
        SessionReader(Arc::new(Inner { db, known, seen, fills: Fills::default(), bound }))
    }

    /// How old may be what is used.
    pub fn bound(&self) -> Duration {
        self.0.bound
    }

    /// The session, as `freshness` demands.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn get(&self, key: &SessionKey, freshness: Freshness) -> Result<Reading> {
        let asked = Instant::now();
        loop {
            if let Some(reading) = self.0.find(key, freshness, asked) {
                return Ok(reading);
            }
            // Somebody's read that began before this call may tell less than the caller must be told; what it kept
            // may do all the same.
            if let Some(reading) = fill::join(&self.0, key, asked).await? {
                return Ok(reading);
            }
        }
    }

    /// To be taken before a transaction reads what is then given to [`SessionReader::keep`].
    pub fn mark(&self) -> Mark {
        self.0.known.mark()
    }

    /// Keeps a session as a transaction wrote it that has committed; it still held the session at `read_at`.
    pub fn keep(&self, mark: Mark, session: &Session, read_at: Instant) {
        if !self.0.bound.is_zero() {
            self.0.known.keep(mark, &session.key, Some(session), read_at);
        }
    }

    /// Forgets what is revoked.
    pub fn forget(&self, revocation: &Revocation) {
        self.0.known.forget(revocation);
    }

    /// The same as [`SessionReader::forget`], without holding on to the database.
    pub fn forgetter(&self) -> impl Fn(&Revocation) + Send + Sync + 'static {
        let known = self.0.known.clone();
        move |revocation| known.forget(revocation)
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.0.known.forget_all();
    }

    /// How many sessions are known by heart, and in how many bytes.
    pub fn size(&self) -> (usize, u64) {
        self.0.known.size()
    }

    /// Checks that the database answers.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        self.0.db.ping().await
    }
}

impl Inner {
    /// What is known by heart, if it will do.
    fn find(&self, key: &SessionKey, freshness: Freshness, now: Instant) -> Option<Reading> {
        let (most, least) = match freshness {
            Freshness::Strong => return None,
            Freshness::Bounded => (self.bound, Watermark::default()),
            Freshness::Within(age) => (self.bound.min(age), Watermark::default()),
            Freshness::AtLeast(watermark) => (self.bound, watermark),
        };
        // First how far revocations were followed, then what they left.
        let (followed, watermark) = self.seen.through();
        let known = self.known.find(key, now)?;
        let true_at = followed.map_or(known.read_at, |followed| followed.max(known.read_at));
        let fresh = now.saturating_duration_since(true_at) < most && watermark >= least;
        let session = known.session;
        fresh.then_some(Reading { session, by_heart: true, true_at, watermark })
    }
}
