//! The bounded buffer of last activity: validation writes here, never to the database.

mod buffer;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::Duration;
use prometheus::IntCounter;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::ids::SessionKey;
use crate::model::session::{Session, State};
use crate::session::batch_size::{BatchSize, is_about_rows};
use crate::store::pool::Database;
use crate::store::sessions::{self, Touch};
use buffer::{TouchBuffer, TouchEntry};

/// Rows per statement of a flush.
const BATCH: u32 = 500;
/// The most rows that fail alone in one flush: if more fail, the cause is the database.
const MAX_FAILED: usize = 8;
/// Delays before locked rows are retried in the same flush; transactions of this service are over by then.
const PAUSES: [std::time::Duration; 2] =
    [std::time::Duration::from_millis(20), std::time::Duration::from_millis(100)];
/// Activity within this time of the stored one is not written. With a short idle timeout the limit
/// is a tenth of the timeout.
const COARSE: Duration = Duration::seconds(1);

/// The activity of sessions since the last flush. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Touches {
    db: Database,
    buffer: Arc<Mutex<TouchBuffer>>,
    urgent: Arc<Notify>,
    settled_after: Duration,
    size: Arc<BatchSize>,
    skipped_rows: IntCounter,
}

impl Touches {
    /// An empty buffer for this database, flushed every `flush`. Replicas serve cached sessions up
    /// to `bound` after their last read of the revocation feed. Rows that cannot be written are
    /// counted in `skipped_rows`.
    pub fn new(
        db: Database,
        flush: std::time::Duration,
        bound: std::time::Duration,
        skipped_rows: IntCounter,
    ) -> Touches {
        // One flush may fail, and activity of a cached session is written by the next one.
        let settled_after = Duration::from_std(flush * 2 + bound).unwrap_or(Duration::MAX);
        let (buffer, urgent) = (Arc::default(), Arc::default());
        let size = Arc::new(BatchSize::new(BATCH));
        Touches { db, buffer, urgent, settled_after, size, skipped_rows }
    }

    /// The time after an idle deadline until no replica holds unwritten activity from before it.
    pub fn settled_after(&self) -> Duration {
        self.settled_after
    }

    /// Inserts that an access token of `generation` was used for `session` at `now`.
    pub fn note(&self, session: &Session, generation: u32, now: Time) {
        let confirms = generation > session.chain.confirmed;
        let coarse = session.idle_timeout.map_or(COARSE, |idle| COARSE.min(idle / 10));
        if !confirms && now - session.last_active_at < coarse {
            return;
        }
        // Other replicas know only what is written, and would soon find the session idle.
        if session.idle_expires_at().is_some_and(|deadline| deadline - now < self.settled_after) {
            self.urgent.notify_one();
        }
        self.lock().note(&session.key, Touch { last_active_at: now, generation });
    }

    /// The number of sessions with unwritten activity.
    pub fn backlog(&self) -> usize {
        self.lock().len()
    }

    /// Waits for activity that other replicas need before the next flush is due.
    pub async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Adds unwritten activity to `session`, as read from the database.
    pub fn overlay(&self, session: &mut Session) {
        let buffer = self.lock();
        for touch in buffer.of(&session.key.session) {
            if session.state == State::Active {
                session.last_active_at = session.last_active_at.max(touch.last_active_at);
                let generation = touch.generation.min(session.chain.generation);
                session.chain.confirmed = session.chain.confirmed.max(generation);
            }
        }
    }

    /// The last activity of the session in the buffer, if it is not written yet.
    pub fn last_active(&self, session: &SessionKey) -> Option<Time> {
        self.lock().of(&session.session).map(|touch| touch.last_active_at).max()
    }

    /// Writes the buffer. Rows that could not be written are retried at the next flush. They delay
    /// no other, whether they fail alone or another transaction has them locked.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn flush(&self) -> Result<()> {
        let (batch, stuck) = self.lock().begin();
        let mut locked = self.write_each(&batch).await?;
        for pause in PAUSES {
            if !locked.is_empty() {
                tokio::time::sleep(pause).await;
                locked = self.write_each(&locked).await?;
            }
        }
        if let Some((key, _)) = locked.first() {
            let (count, first) = (locked.len(), key.session);
            if !self.has_locked() {
                tracing::warn!(count, %first, "sessions are locked; their last activity is kept");
            }
            self.skipped_rows.inc_by(count as u64);
            self.lock().add_locked(&locked);
        }
        self.flush_stuck(&stuck).await
    }

    /// Retries the rows that the last flush found locked, because other replicas find their sessions idle meanwhile.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn retry_locked(&self) -> Result<()> {
        let batch = self.lock().take_locked();
        let locked = self.write_each(&batch).await?;
        self.lock().add_locked(&locked);
        Ok(())
    }

    /// Whether the last flush left locked rows.
    pub fn has_locked(&self) -> bool {
        self.lock().has_locked()
    }

    /// Writes `batch`, chunk by chunk, and returns the locked rows.
    async fn write_each(&self, batch: &[TouchEntry]) -> Result<Vec<TouchEntry>> {
        let (mut rest, mut failed, mut locked) = (batch, 0, Vec::new());
        while let Some((key, _)) = rest.first() {
            let size = self.size.now();
            let (chunk, behind) = rest.split_at(rest.len().min(size as usize));
            match self.write(chunk).await {
                Ok(skipped) => {
                    self.size.grow(size);
                    locked.extend(skipped);
                }
                Err(error) if self.size.shrink(chunk.len() as u32, &error) => continue,
                Err(error) if is_about_rows(&error) && failed < MAX_FAILED => {
                    failed += 1;
                    self.pass_over(key, &error);
                }
                Err(error) => return Err(error),
            }
            rest = behind;
        }
        Ok(locked)
    }

    /// Retries the stuck rows together, and then one of them, because another may be the cause.
    async fn flush_stuck(&self, stuck: &[TouchEntry]) -> Result<()> {
        let Some(first) = stuck.first() else { return Ok(()) };
        match self.write(stuck).await {
            Err(error) if is_about_rows(&error) => {}
            other => return other.map(drop),
        }
        match self.write(std::slice::from_ref(first)).await {
            Err(error) if is_about_rows(&error) => {
                self.pass_over(&first.0, &error);
                Ok(())
            }
            other => other.map(drop),
        }
    }

    /// Returns the locked rows: they are not written, and stay in the buffer.
    async fn write(&self, chunk: &[TouchEntry]) -> Result<Vec<TouchEntry>> {
        let rows: Vec<(&SessionKey, Touch)> = chunk.iter().map(|(k, t)| (k, *t)).collect();
        let writing = async { sessions::touch(&mut *self.db.acquire().await?, &rows).await };
        let locked: HashSet<Uuid> = self.db.within(writing).await?.into_iter().collect();
        if locked.is_empty() {
            self.lock().written(chunk);
            return Ok(Vec::new());
        }
        let is_locked = |(key, _): &TouchEntry| locked.contains(&key.session);
        let (locked, written): (Vec<TouchEntry>, Vec<TouchEntry>) =
            chunk.iter().cloned().partition(is_locked);
        self.lock().written(&written);
        Ok(locked)
    }

    fn pass_over(&self, key: &SessionKey, error: &Error) {
        tracing::warn!(%error, session = %key.session, "last activity of a session cannot be written");
        self.skipped_rows.inc();
        // With any other error a retry would fail the same way.
        self.lock().set_apart(key.session, matches!(error, Error::Unavailable(_)));
    }

    fn lock(&self) -> MutexGuard<'_, TouchBuffer> {
        // No code panics while it holds the lock, so the maps are consistent.
        self.buffer.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
