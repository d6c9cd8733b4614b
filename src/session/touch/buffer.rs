//! The activity in memory, and the part of it that a flush is writing. Pure.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::BATCH;
use crate::model::ids::SessionKey;
use crate::store::sessions::Touch;

/// The most sessions in the buffer, about 50 MB, also while flushes fail. Activity of further
/// sessions is dropped until their next validation; this never extends an idle timeout.
const CAPACITY: usize = 262_144;

/// How long written activity stays in the buffer, since a read that began before the write may end
/// after it. Longer than a read takes.
const RECENT: Duration = Duration::from_secs(2);
/// The most written entries, about 10 MB.
const MAX_RECENT: usize = 65_536;

/// The unwritten and the recently written activity.
#[derive(Default)]
pub(super) struct TouchBuffer {
    fresh: Noted,
    /// Being written; in use until the write is committed.
    flushing: Noted,
    /// Of `flushing`: rows that failed alone, not because of a lock, and are written apart from the others.
    stuck: VecDeque<Uuid>,
    /// Of `flushing`: rows that other transactions have locked.
    locked: VecDeque<Uuid>,
    /// Written activity, with the time of the write.
    recent: HashMap<Uuid, (Instant, Touch)>,
    /// The same entries, oldest first.
    recent_order: VecDeque<(Instant, Uuid)>,
}

/// By session id, which is unique and cheap to hash.
type Noted = HashMap<Uuid, TouchEntry>;

pub(super) type TouchEntry = (SessionKey, Touch);

impl TouchBuffer {
    /// Inserts a touch, if there is room.
    pub fn note(&mut self, key: &SessionKey, touch: Touch) {
        if self.len() < CAPACITY || self.fresh.contains_key(&key.session) {
            merge(&mut self.fresh, key, touch);
        } else if self.flushing.contains_key(&key.session) {
            merge(&mut self.flushing, key, touch);
        }
    }

    /// The rows of a flush, in the order of the keys, and a batch of the stuck ones.
    pub fn begin(&mut self) -> (Vec<TouchEntry>, Vec<TouchEntry>) {
        self.forget_recent(Instant::now());
        // They are among the other rows.
        self.locked.clear();
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

    /// Evicts the written rows, a little later.
    pub fn written(&mut self, chunk: &[TouchEntry]) {
        let now = Instant::now();
        for (key, touch) in chunk {
            self.recent.insert(key.session, (now, *touch));
            self.recent_order.push_back((now, key.session));
            // More activity may have been inserted meanwhile.
            if self.flushing.get(&key.session).is_some_and(|(_, noted)| noted == touch) {
                self.flushing.remove(&key.session);
            }
        }
        if !self.stuck.is_empty() {
            let written: HashSet<Uuid> = chunk.iter().map(|(key, _)| key.session).collect();
            self.stuck.retain(|id| !written.contains(id));
        }
        self.forget_recent(now);
    }

    fn forget_recent(&mut self, now: Instant) {
        while let Some((at, id)) = self.recent_order.front().copied()
            && (now.saturating_duration_since(at) >= RECENT || self.recent_order.len() > MAX_RECENT)
        {
            self.recent_order.pop_front();
            if self.recent.get(&id).is_some_and(|(written, _)| *written == at) {
                self.recent.remove(&id);
            }
        }
    }

    /// Marks a row that failed alone as stuck, or evicts it unless it is to be `kept`.
    pub fn set_apart(&mut self, session: Uuid, kept: bool) {
        self.stuck.retain(|id| *id != session);
        if kept {
            self.stuck.push_back(session);
        } else {
            self.flushing.remove(&session);
        }
    }

    /// The locked rows, at most a batch, in turn.
    pub fn take_locked(&mut self) -> Vec<TouchEntry> {
        let most = self.locked.len().min(BATCH as usize);
        let ids = self.locked.drain(..most);
        ids.filter_map(|id| self.flushing.get(&id).cloned()).collect()
    }

    /// Adds rows that other transactions have locked.
    pub fn add_locked(&mut self, locked: &[TouchEntry]) {
        self.locked.extend(locked.iter().map(|(key, _)| key.session));
    }

    /// Whether there are locked rows.
    pub fn has_locked(&self) -> bool {
        !self.locked.is_empty()
    }

    /// The number of sessions with unwritten activity.
    pub fn len(&self) -> usize {
        self.fresh.len() + self.flushing.len()
    }

    /// The touches of a session.
    pub fn of(&self, session: &Uuid) -> impl Iterator<Item = &Touch> {
        let noted = [&self.fresh, &self.flushing].map(|map| map.get(session));
        let recent = self.recent.get(session).map(|(_, touch)| touch);
        noted.into_iter().flatten().map(|(_, touch)| touch).chain(recent)
    }
}

fn merge(map: &mut Noted, key: &SessionKey, touch: Touch) {
    let (_, entry) = map.entry(key.session).or_insert_with(|| (key.clone(), touch));
    entry.last_active_at = entry.last_active_at.max(touch.last_active_at);
    entry.generation = entry.generation.max(touch.generation);
}

#[cfg(test)]
mod tests {
    use chrono::Duration;

    use super::*;
    use crate::clock::Time;
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
        let mut buffer = TouchBuffer::default();
        let capacity = CAPACITY as u128;
        for round in 0..3 {
            for session in 0..capacity {
                buffer.note(&key(round * capacity / 2 + session), touch(1));
            }
            buffer.begin();
            assert_eq!(buffer.len(), CAPACITY);
        }
        buffer.note(&key(0), touch(2));
        buffer.note(&key(capacity), touch(2));
        assert_eq!(buffer.flushing[&key(0).session].1, touch(2));
        assert!(!buffer.fresh.contains_key(&key(capacity).session));
        assert_eq!(buffer.len(), CAPACITY);
    }

    #[test]
    fn what_is_noted_during_a_write_is_written_next_and_what_is_stuck_apart() {
        let mut buffer = TouchBuffer::default();
        (0..3).for_each(|session| buffer.note(&key(session), touch(1)));
        let (batch, stuck) = buffer.begin();
        assert_eq!((batch.len(), stuck.len()), (3, 0));
        merge(&mut buffer.flushing, &key(0), touch(2));
        buffer.set_apart(key(1).session, true);
        buffer.written(&[batch[0].clone(), batch[2].clone()]);
        assert_eq!(buffer.begin(), (vec![(key(0), touch(2))], vec![(key(1), touch(1))]));
        buffer.written(&[(key(0), touch(2)), (key(1), touch(1))]);
        assert_eq!((buffer.flushing.len(), buffer.stuck.len()), (0, 0));
    }

    #[test]
    fn what_was_written_is_still_told_to_who_read_before_that() {
        let mut buffer = TouchBuffer::default();
        buffer.note(&key(0), touch(1));
        let (batch, _) = buffer.begin();
        buffer.written(&batch);
        assert_eq!(buffer.of(&key(0).session).collect::<Vec<_>>(), [&touch(1)]);
        assert_eq!(buffer.len(), 0, "it is written");
        buffer.forget_recent(Instant::now() + RECENT);
        assert_eq!(buffer.of(&key(0).session).count(), 0);
        let many: Vec<TouchEntry> =
            (0..MAX_RECENT as u128 + 1).map(|n| (key(n), touch(1))).collect();
        buffer.written(&many);
        assert_eq!((buffer.recent.len(), buffer.recent_order.len()), (MAX_RECENT, MAX_RECENT));
    }
}
