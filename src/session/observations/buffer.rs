//! The observations in memory: bounded in total, by session, and for unauthenticated input. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use chrono::Duration;
use uuid::Uuid;

use super::{Observation, ObservationKey};
use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::ids::SessionKey;

/// The most keys, and the most observations ready for the database: some 10 MB each.
const CAPACITY: usize = 8192;
/// The most keys of forged tokens, whose content the sender chooses.
const FORGED: usize = 256;
/// The most contexts of one session.
const CONTEXTS: usize = 16;
/// How long repetitions are only counted.
const PAUSE: Duration = Duration::minutes(1);
/// How long the key of a written context is cached; after that a flush asks the database.
const KNOWN: Duration = Duration::hours(1);

/// The buffer.
#[derive(Default)]
pub(super) struct ObservationBuffer {
    keys: BTreeMap<ObservationKey, BufferedObservation>,
    /// Ready for the database, oldest first.
    pub ready: VecDeque<Observation>,
    /// True if the buffer was full, so that no insert searches for room until the next flush.
    full: bool,
    dropped: u64,
}

struct BufferedObservation {
    /// The pending observation; `None` = it was written a short time ago.
    observation: Option<Observation>,
    /// When the next observation is due.
    due: Time,
}

impl ObservationBuffer {
    /// Inserts the observation that `make` returns, with its witness, or counts a repetition.
    pub fn note(
        &mut self,
        key: ObservationKey,
        now: Time,
        make: impl FnOnce() -> (Activity, Option<SessionKey>),
    ) {
        let observation = |key: ObservationKey| {
            let (activity, witness) = make();
            Observation { key, activity, witness, count: 1 }
        };
        if let Some(entry) = self.keys.get_mut(&key) {
            match &mut entry.observation {
                Some(noted) => noted.count = noted.count.saturating_add(1),
                None if key.is_context() => {}
                None => entry.observation = Some(observation(key)),
            }
        } else if self.has_room(&key) {
            let entry =
                BufferedObservation { observation: Some(observation(key.clone())), due: now };
            self.keys.insert(key, entry);
        } else {
            self.dropped += 1;
        }
    }

    /// Moves the observations that are due at `now`, or `all`, to `ready`, and evicts expired keys.
    pub fn collect(&mut self, now: Time, all: bool) {
        self.full = false;
        // An entry due later than the longest delay was inserted while the clock was ahead.
        let waits = |due: Time| due > now && due <= now + KNOWN;
        for (key, entry) in &mut self.keys {
            if (!waits(entry.due) || all)
                && let Some(observation) = entry.observation.take()
            {
                entry.due = now + if key.is_context() { KNOWN } else { PAUSE };
                match self.ready.len() < CAPACITY {
                    true => self.ready.push_back(observation),
                    false => self.dropped += 1,
                }
            }
        }
        self.keys.retain(|_, entry| entry.observation.is_some() || waits(entry.due));
    }

    /// The oldest ready observations, at most `most`, except for those of the sessions `without`.
    pub fn next(&self, without: &HashSet<Uuid>, most: usize) -> Vec<Observation> {
        let of = |observation: &Observation| observation.witness.as_ref().map(|key| key.session);
        let free =
            |observation: &&Observation| of(observation).is_none_or(|id| !without.contains(&id));
        self.ready.iter().filter(free).take(most).cloned().collect()
    }

    /// The number of drops since the last call.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether a new key fits. Evicts written contexts to make room.
    fn has_room(&mut self, key: &ObservationKey) -> bool {
        let fits = match key {
            ObservationKey::Context(session, _) => self.contexts(*session) < CONTEXTS,
            ObservationKey::Forged(..) => {
                let forged =
                    self.keys.keys().filter(|key| matches!(key, ObservationKey::Forged(..)));
                forged.count() < FORGED
            }
            ObservationKey::Expired(_) | ObservationKey::Limit(..) => true,
        };
        if fits && !self.full && self.keys.len() >= CAPACITY {
            self.keys.retain(|key, entry| entry.observation.is_some() || !key.is_context());
            self.full = self.keys.len() >= CAPACITY;
        }
        fits && !self.full
    }

    fn contexts(&self, session: Uuid) -> usize {
        let from = ObservationKey::Context(session, (None, None));
        let of_session = |key: &ObservationKey| matches!(key, ObservationKey::Context(other, _) if *other == session);
        self.keys.range(from..).take_while(|(key, _)| of_session(key)).count()
    }
}

#[cfg(test)]
mod tests;
