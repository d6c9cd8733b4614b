//! The activity feed for watchers. One reader serves all watchers of a replica, while there are any. A watcher that
//! begins or resumes reads by itself until it meets the reader.

mod ring;
mod watch;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::error::{Error, Outage, Result};
use crate::model::feed::{Horizon, Position, Span};
use crate::store::pool::Database;
use crate::store::{alerts, feed};
use crate::supervise::Tasks;
use ring::Ring;

pub use ring::{ActivityBatch, Backlog};
pub use watch::{Pick, Subscription};

/// Activities per batch, about: a transaction is never split.
const BATCH: u32 = 500;
/// A batch that takes more bytes is followed by one of fewer activities.
const LARGE: usize = 4 << 20;
/// The most concurrent reads by watchers themselves: most connections are for requests.
const OWN_READS: usize = 2;

/// How watchers are served.
#[derive(Debug, Clone, Copy)]
pub struct WatchSettings {
    /// How often the reader polls.
    pub poll: Duration,
    /// The silence after which a watcher gets a heartbeat, unless its request states another.
    pub heartbeat: Duration,
    /// How long a watcher with a full buffer may leave a message unread.
    pub patience: Duration,
    /// How long the reader may fail before its watches end.
    pub outage: Duration,
    /// The buffer for watchers that lag.
    pub backlog: Backlog,
    /// The most watchers.
    pub watchers: usize,
    /// The most gateways that follow revocations.
    pub gateways: usize,
}

impl Default for WatchSettings {
    fn default() -> WatchSettings {
        WatchSettings {
            poll: Duration::from_millis(200),
            heartbeat: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            outage: Duration::from_secs(5),
            backlog: Backlog { activities: 20_000, bytes: 64 << 20 },
            watchers: 2_000,
            gateways: 1_000,
        }
    }
}

/// Serves watchers. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    db: Database,
    settings: WatchSettings,
    tasks: Tasks,
    /// The ring of the running reader. Its watchers own it, so that the reader ends with the last of them.
    current: Mutex<Weak<Ring>>,
    slots: Arc<Semaphore>,
    own_reads: Semaphore,
    reads: AtomicU64,
    /// Activities of the next batch.
    limit: AtomicU32,
}

impl Hub {
    /// For watchers of `db`, whose reader is one of `tasks`.
    pub fn new(db: Database, settings: WatchSettings, tasks: Tasks) -> Hub {
        Hub(Arc::new(Inner {
            db,
            settings,
            tasks,
            current: Mutex::default(),
            slots: Arc::new(Semaphore::new(settings.watchers)),
            own_reads: Semaphore::new(OWN_READS),
            reads: AtomicU64::new(0),
            limit: AtomicU32::new(BATCH),
        }))
    }

    /// A watcher of what `pick` picks, from a position on; without one, from now on.
    ///
    /// # Errors
    /// [`Error::InvalidCursor`] if nothing was committed there yet, [`Error::Overloaded`],
    /// [`Error::Unavailable`].
    pub async fn watch<E>(&self, from: Option<Position>, pick: Pick<E>) -> Result<Subscription<E>> {
        let slot = self.0.slots.clone().try_acquire_owned().map_err(|_| Error::Overloaded)?;
        let now = {
            // Many watchers may connect at once, as when another replica stops.
            let _turn = self.0.db.within(async { Ok(self.0.own_reads.acquire().await) }).await?;
            self.0.now().await?
        };
        #[cfg(debug_assertions)]
        if from.is_some() && crate::broken::is("refuses-cursors") && crate::broken::first() {
            return Err(Error::InvalidCursor);
        }
        let from = match from {
            None => Position::After(now.bounded()),
            // A watcher at this position would wait for ever.
            Some(from) if Span::new(from.end().clone(), now).is_none() => {
                return Err(Error::InvalidCursor);
            }
            Some(from) => from,
        };
        Ok(Subscription::new(self.0.clone(), self.ring(), slot, from, pick))
    }

    /// How often activities were read from the table, by the reader and by watchers.
    pub fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::Relaxed)
    }

    /// True while a reader runs.
    pub fn is_reading(&self) -> bool {
        self.lock().strong_count() > 0
    }

    /// The ring of the running reader. Starts a reader if there is none.
    fn ring(&self) -> Arc<Ring> {
        let mut current = self.lock();
        if let Some(ring) = current.upgrade().filter(|ring| !ring.has_ended()) {
            return ring;
        }
        let ring = Arc::new(Ring::new(self.0.settings.backlog));
        *current = Arc::downgrade(&ring);
        self.0.tasks.spawn_once("watch_reader", run(self.0.clone(), Arc::downgrade(&ring)));
        ring
    }

    fn lock(&self) -> MutexGuard<'_, Weak<Ring>> {
        // Nothing panics while holding it.
        self.0.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The reader: polls until the last watcher is gone, or reads have failed for too long.
async fn run(inner: Arc<Inner>, ring: Weak<Ring>) {
    let _end = EndOf(ring.clone());
    let mut at: Option<Horizon> = None;
    let mut failing: Option<Instant> = None;
    loop {
        let more = match inner.poll(at.clone(), &ring).await {
            Ok((seen, more)) => {
                (at, failing) = (Some(seen), None);
                more
            }
            Err(error) => {
                tracing::warn!(%error, "the feed of the watchers cannot be read");
                if failing.get_or_insert_with(Instant::now).elapsed() >= inner.settings.outage {
                    return publish(&ring, |ring| ring.end(outage(error)));
                }
                false
            }
        };
        if !more {
            tokio::time::sleep(inner.settings.poll).await;
        }
        if ring.strong_count() == 0 {
            return;
        }
    }
}

/// A reader that panics must not leave its watchers waiting.
struct EndOf(Weak<Ring>);

impl Drop for EndOf {
    fn drop(&mut self) {
        publish(&self.0, |ring| ring.end(Outage::Unreachable("the reader has ended".to_owned())));
    }
}

impl Inner {
    async fn now(&self) -> Result<Horizon> {
        self.db.within(async { feed::now(&mut *self.db.acquire().await?).await }).await
    }

    /// Polls once for what follows `seen`; without it, begins now. Returns the new position, and true if more may
    /// follow.
    async fn poll(&self, seen: Option<Horizon>, ring: &Weak<Ring>) -> Result<(Horizon, bool)> {
        let Some(seen) = seen else {
            let now = self.now().await?.bounded();
            publish(ring, |ring| ring.advance(now.clone()));
            return Ok((now, false));
        };
        let glance = async { feed::glance(&mut *self.db.acquire().await?, &seen).await };
        let (now, next_batch) = self.db.within(glance).await?;
        let now = now.bounded();
        if !next_batch {
            publish(ring, |ring| ring.advance(now.clone()));
            return Ok((now, false));
        }
        let (batch, more) = self.read(seen, now).await?;
        let end = batch.span.to().clone();
        publish(ring, |ring| match batch.activities.is_empty() {
            true => ring.advance(end.clone()),
            false => ring.push(batch),
        });
        Ok((end, more))
    }

    /// The first activities between two horizons, and true if there may be more.
    async fn read(&self, from: Horizon, to: Horizon) -> Result<(ActivityBatch, bool)> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let limit = self.limit.load(Ordering::Relaxed);
        let reading = async {
            let mut conn = self.db.acquire().await?;
            let (span, activities) = feed::read_until(&mut conn, from, to, limit).await?;
            let more = activities.len() >= limit as usize;
            let alerts = alerts::of_activities(&mut conn, &activities).await?;
            Ok((ActivityBatch::new(span, activities, alerts), more))
        };
        let (batch, more) = self.db.within(reading).await?;
        self.limit.store(next_limit(limit, batch.bytes), Ordering::Relaxed);
        Ok((batch, more))
    }

    /// All of a span that was read before.
    async fn read_again(&self, span: Span) -> Result<ActivityBatch> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let reading = async {
            let mut conn = self.db.acquire().await?;
            let activities = feed::span_of(&mut conn, &span).await?;
            let alerts = alerts::of_activities(&mut conn, &activities).await?;
            Ok(ActivityBatch::new(span, activities, alerts))
        };
        self.db.within(reading).await
    }
}

/// Alerts with many notes are large, so a large batch is followed by a shorter one.
fn next_limit(limit: u32, bytes: usize) -> u32 {
    if bytes > LARGE { (limit / 2).max(1) } else { BATCH.min(limit * 2) }
}

fn publish(ring: &Weak<Ring>, what: impl FnOnce(&Ring)) {
    if let Some(ring) = ring.upgrade() {
        what(&ring);
    }
}

fn outage(error: Error) -> Outage {
    match error {
        Error::Unavailable(outage) => outage,
        other => Outage::Unreachable(other.to_string()),
    }
}

#[test]
fn large_batches_are_followed_by_shorter_ones_and_small_ones_by_longer() {
    let shrunk = std::iter::successors(Some(BATCH), |limit| Some(next_limit(*limit, LARGE + 1)));
    assert_eq!(shrunk.take(11).last(), Some(1));
    assert_eq!(next_limit(1, LARGE), 2);
    assert_eq!(next_limit(400, LARGE), BATCH);
}
