//! The bounded buffer of last activity: validation writes here, never to the database.

use std::collections::{HashMap, HashSet, VecDeque};
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

/// The most sessions held, about 50 MB, also while flushes fail. Further ones are not noted, and their
/// last activity is then that of their next validation: the idle timeout never grows by it.
const CAPACITY: usize = 262_144;
/// Rows per statement of a flush.
const BATCH: u32 = 500;
/// The most that one flush finds stuck: if more fail alone, the database does.
const MOST_FAILED: usize = 8;
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
    size: Arc<BatchSize>,
    passed_over: IntCounter,
}

#[derive(Default)]
struct Seen {
    fresh: Noted,
    /// On its way to the database, and still to be counted until it is there.
    flushing: Noted,
    /// Of those, what failed alone and is written apart from the others.
    stuck: VecDeque<Uuid>,
}

/// By session id, which is enough to tell sessions apart and quickly hashed.
type Noted = HashMap<Uuid, Entry>;

type Entry = (SessionKey, Touch);

impl Touches {
    /// An empty buffer in front of this database, flushed every `flush`. Replicas serve cached sessions up to `bound`
    /// after their last look at the revocations. What cannot be written is counted in `passed_over`.
    pub fn new(
        db: Database,
        flush: std::time::Duration,
        bound: std::time::Duration,
        passed_over: IntCounter,
    ) -> Touches {
        // A flush may fail once, and what a replica validated by its cache comes with the one after.
        let settled_after = Duration::from_std(flush * 2 + bound).unwrap_or(Duration::MAX);
        let (seen, urgent) = (Arc::default(), Arc::default());
        let size = Arc::new(BatchSize::new(BATCH));
        Touches { db, seen, urgent, settled_after, size, passed_over }
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
        self.lock().note(&session.key, Touch { last_active_at: now, generation });
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

    /// Writes what is noted. What could not be written stays for the next time; what fails alone holds up no other.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn flush(&self) -> Result<()> {
        let (batch, stuck) = self.lock().begin();
        let (mut rest, mut failed) = (&batch[..], 0);
        while let Some((key, _)) = rest.first() {
            let size = self.size.now();
            let (chunk, behind) = rest.split_at(rest.len().min(size as usize));
            match self.write(chunk).await {
                Ok(()) => self.size.grow(size),
                Err(error) if self.size.shrink(chunk.len() as u32, &error) => continue,
                Err(error) if is_about_rows(&error) && failed < MOST_FAILED => {
                    failed += 1;
                    self.pass_over(key, &error);
                }
                Err(error) => return Err(error),
            }
            rest = behind;
        }
        self.flush_stuck(&stuck).await
    }

    /// Tries those that were stuck all at once, and then one of them, since others may hold its lock no more.
    async fn flush_stuck(&self, stuck: &[Entry]) -> Result<()> {
        let Some(first) = stuck.first() else { return Ok(()) };
        match self.write(stuck).await {
            Err(error) if is_about_rows(&error) => {}
            other => return other,
        }
        match self.write(std::slice::from_ref(first)).await {
            Err(error) if is_about_rows(&error) => {
                self.pass_over(&first.0, &error);
                Ok(())
            }
            other => other,
        }
    }

    async fn write(&self, chunk: &[Entry]) -> Result<()> {
        let rows: Vec<(&SessionKey, Touch)> = chunk.iter().map(|(k, t)| (k, *t)).collect();
        let writing = async { sessions::touch(&mut *self.db.acquire().await?, &rows).await };
        self.db.within(writing).await?;
        self.lock().written(chunk);
        Ok(())
    }

    fn pass_over(&self, key: &SessionKey, error: &Error) {
        tracing::warn!(%error, session = %key.session, "last activity of a session cannot be written");
        self.passed_over.inc();
        let mut seen = self.lock();
        seen.stuck.retain(|id| *id != key.session);
        if matches!(error, Error::Unavailable(_)) {
            seen.stuck.push_back(key.session);
        } else {
            // It would be the same again.
            seen.flushing.remove(&key.session);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing panics while holding it, and the maps are whole between any two calls.
        self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Seen {
    fn note(&mut self, key: &SessionKey, touch: Touch) {
        if self.fresh.len() + self.flushing.len() < CAPACITY
            || self.fresh.contains_key(&key.session)
        {
            merge(&mut self.fresh, key, touch);
        } else if self.flushing.contains_key(&key.session) {
            merge(&mut self.flushing, key, touch);
        }
    }

    /// What is to be written now, in the order of the keys, and of what is stuck a batch.
    fn begin(&mut self) -> (Vec<Entry>, Vec<Entry>) {
        for (key, touch) in std::mem::take(&mut self.fresh).into_values() {
            merge(&mut self.flushing, &key, touch);
        }
        let apart: HashSet<Uuid> = self.stuck.iter().copied().collect();
        let free = self.flushing.iter().filter(|(id, _)| !apart.contains(id));
        let mut free: Vec<_> = free.map(|(_, noted)| noted.clone()).collect();
        free.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let stuck = self.stuck.iter().filter_map(|id| self.flushing.get(id).cloned());
        (free, stuck.take(BATCH as usize).collect())
    }

    fn written(&mut self, chunk: &[Entry]) {
        for (key, touch) in chunk {
            // More may have been noted meanwhile.
            if self.flushing.get(&key.session).is_some_and(|(_, noted)| noted == touch) {
                self.flushing.remove(&key.session);
            }
        }
        if !self.stuck.is_empty() {
            let written: HashSet<Uuid> = chunk.iter().map(|(key, _)| key.session).collect();
            self.stuck.retain(|id| !written.contains(id));
        }
    }
}

fn merge(map: &mut Noted, key: &SessionKey, touch: Touch) {
    let (_, entry) = map.entry(key.session).or_insert_with(|| (key.clone(), touch));
    entry.last_active_at = entry.last_active_at.max(touch.last_active_at);
    entry.generation = entry.generation.max(touch.generation);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{TenantId, UserId};

    fn key(session: u128) -> SessionKey {
        let (tenant, user) = (TenantId::parse("default").unwrap(), UserId::parse("ada").unwrap());
        SessionKey { tenant, user, session: Uuid::from_u128(session) }
    }

    fn touch(generation: u32) -> Touch {
        Touch {
            last_active_at: Time::UNIX_EPOCH + Duration::seconds(generation.into()),
            generation,
        }
    }

    #[test]
    fn it_is_bounded_while_nothing_can_be_written_and_goes_on_with_what_it_has() {
        let mut seen = Seen::default();
        let capacity = CAPACITY as u128;
        for round in 0..3 {
            for session in 0..capacity {
                seen.note(&key(round * capacity / 2 + session), touch(1));
            }
            seen.begin();
            assert_eq!(seen.fresh.len() + seen.flushing.len(), CAPACITY);
        }
        seen.note(&key(0), touch(2));
        seen.note(&key(capacity), touch(2));
        assert_eq!(seen.flushing[&key(0).session].1, touch(2));
        assert!(!seen.fresh.contains_key(&key(capacity).session));
        assert_eq!(seen.fresh.len() + seen.flushing.len(), CAPACITY);
    }

    #[test]
    fn what_is_noted_during_a_write_is_written_next_and_what_is_stuck_apart() {
        let mut seen = Seen::default();
        (0..3).for_each(|session| seen.note(&key(session), touch(1)));
        let (batch, stuck) = seen.begin();
        assert_eq!((batch.len(), stuck.len()), (3, 0));
        merge(&mut seen.flushing, &key(0), touch(2));
        seen.stuck.push_back(key(1).session);
        seen.written(&[batch[0].clone(), batch[2].clone()]);
        assert_eq!(seen.begin(), (vec![(key(0), touch(2))], vec![(key(1), touch(1))]));
        seen.written(&[(key(0), touch(2)), (key(1), touch(1))]);
        assert_eq!((seen.flushing.len(), seen.stuck.len()), (0, 0));
    }
}
