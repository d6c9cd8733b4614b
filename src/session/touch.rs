//! The bounded buffer of last activity: validation writes here, never to the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use chrono::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Time;
use crate::error::Result;
use crate::model::ids::SessionKey;
use crate::model::session::{Session, State};
use crate::store::pool::Database;
use crate::store::sessions::{self, Touch};

/// The most sessions held between two flushes, about 50 MB. Further ones are not noted, and their
/// last activity is then that of their next validation: the idle timeout never grows by it.
const CAPACITY: usize = 262_144;
/// Rows per statement of a flush.
const BATCH: usize = 500;
/// Activity this close to what the row already says is not worth a write. With a short idle timeout
/// it is: there, a tenth of it.
const COARSE: Duration = Duration::seconds(1);

/// What was seen of sessions since the last flush. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Touches {
    db: Database,
    seen: Arc<Mutex<Seen>>,
    urgent: Arc<Notify>,
    settled_after: Duration,
}

#[derive(Default)]
struct Seen {
    fresh: Noted,
    /// On its way to the database, and still to be counted until it is there.
    flushing: Noted,
}

/// By session id, which is enough to tell sessions apart and quickly hashed.
type Noted = HashMap<Uuid, (SessionKey, Touch)>;

impl Touches {
    /// An empty buffer in front of this database, flushed every `flush`. Replicas serve cached sessions up to `bound`
    /// after their last look at the revocations.
    pub fn new(db: Database, flush: std::time::Duration, bound: std::time::Duration) -> Touches {
        // A flush may fail once, and what a replica validated by its cache comes with the one after.
        let settled_after = Duration::from_std(flush * 2 + bound).unwrap_or(Duration::MAX);
        Touches { db, seen: Arc::default(), urgent: Arc::default(), settled_after }
    }

    /// How long after an idle deadline no replica holds unwritten activity from before it.
    pub fn settled_after(&self) -> Duration {
        self.settled_after
    }

    /// Notes that an access token of `generation` was used for `session` at `now`.
    pub fn note(&self, session: &Session, generation: u32, now: Time) {
        let confirms = generation > session.chain.confirmed;
        let coarse = session.idle_timeout.map_or(COARSE, |idle| COARSE.min(idle / 10));
        if !confirms && now - session.last_active_at < coarse {
            return;
        }
        // Others would soon take it for idle: they only know what is written.
        if session.idle_expires_at().is_some_and(|deadline| deadline - now < self.settled_after) {
            self.urgent.notify_one();
        }
        let mut seen = self.lock();
        let full = seen.fresh.len() >= CAPACITY && !seen.fresh.contains_key(&session.key.session);
        if !full {
            let touch = Touch { last_active_at: now, generation };
            merge(&mut seen.fresh, &session.key, touch);
        }
    }

    /// How many sessions are noted and not written yet.
    pub fn backlog(&self) -> usize {
        let seen = self.lock();
        seen.fresh.len() + seen.flushing.len()
    }

    /// Waits until something was noted that others must know before the next flush is due.
    pub async fn urgent(&self) {
        self.urgent.notified().await;
    }

    /// Adds to `session`, as read from the database, what is noted here and not yet there.
    pub fn overlay(&self, session: &mut Session) {
        let seen = self.lock();
        for map in [&seen.fresh, &seen.flushing] {
            let noted = map.get(&session.key.session);
            if let Some((_, touch)) = noted.filter(|_| session.state == State::Active) {
                session.last_active_at = session.last_active_at.max(touch.last_active_at);
                let generation = touch.generation.min(session.chain.generation);
                session.chain.confirmed = session.chain.confirmed.max(generation);
            }
        }
    }

    /// When the session was last noted, if it is not written yet.
    pub fn last_active(&self, session: &SessionKey) -> Option<Time> {
        let seen = self.lock();
        let noted = [&seen.fresh, &seen.flushing].map(|map| map.get(&session.session));
        noted.into_iter().flatten().map(|(_, touch)| touch.last_active_at).max()
    }

    /// Writes what is noted. What could not be written stays for the next time.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn flush(&self) -> Result<()> {
        let mut batch: Vec<(SessionKey, Touch)> = {
            let mut seen = self.lock();
            let fresh = std::mem::take(&mut seen.fresh);
            for (key, touch) in fresh.into_values() {
                merge(&mut seen.flushing, &key, touch);
            }
            seen.flushing.values().cloned().collect()
        };
        batch.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        for chunk in batch.chunks(BATCH) {
            let rows: Vec<(&SessionKey, Touch)> = chunk.iter().map(|(k, t)| (k, *t)).collect();
            self.db
                .within(async { sessions::touch(&mut *self.db.acquire().await?, &rows).await })
                .await?;
            let mut seen = self.lock();
            for (key, _) in chunk {
                seen.flushing.remove(&key.session);
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while holding it, and the maps are whole between any two calls.
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn merge(map: &mut Noted, key: &SessionKey, touch: Touch) {
    let (_, entry) = map.entry(key.session).or_insert_with(|| (key.clone(), touch));
    entry.last_active_at = entry.last_active_at.max(touch.last_active_at);
    entry.generation = entry.generation.max(touch.generation);
}
