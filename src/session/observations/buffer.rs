//! What is noted in memory: bounded as a whole, by session, and for what nobody vouches for. Pure.

use std::collections::{BTreeMap, HashSet, VecDeque};

use chrono::Duration;
use uuid::Uuid;

use super::{Observation, ObservationKey};
use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::ids::SessionKey;

/// The most keys, and the most observations that wait for the database: some 10 MB each.
const CAPACITY: usize = 8192;
/// The most keys of forged tokens, whose senders choose them freely.
const FORGED: usize = 256;
/// The most contexts of one session.
const CONTEXTS: usize = 16;
/// How long what comes again is only counted.
const PAUSE: Duration = Duration::minutes(1);
/// How long a context that was entered is remembered here; from then on the database is asked.
const KNOWN: Duration = Duration::hours(1);

/// What was noted.
#[derive(Default)]
pub(super) struct ObservationBuffer {
    keys: BTreeMap<ObservationKey, BufferedObservation>,
    /// Waits for the database, oldest first.
    pub ready: VecDeque<Observation>,
    /// Found full, so nobody looks for room again until the next flush.
    full: bool,
    dropped: u64,
}

struct BufferedObservation {
    /// To be entered; `None` = it was, a short time ago.
    observation: Option<Observation>,
    /// When the next may be entered.
    due: Time,
}

impl ObservationBuffer {
    /// Notes what `make` makes, with its witness, or counts it.
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

    /// Moves what is due at `now`, or `all`, to `ready`, and forgets what is over.
    pub fn collect(&mut self, now: Time, all: bool) {
        self.full = false;
        // What is due later than anything is put off was put off by a clock that was ahead.
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

    /// The oldest that are ready, at most `most`, but what is of the sessions `without`.
    pub fn next(&self, without: &HashSet<Uuid>, most: usize) -> Vec<Observation> {
        let of = |observation: &Observation| observation.witness.as_ref().map(|key| key.session);
        let free =
            |observation: &&Observation| of(observation).is_none_or(|id| !without.contains(&id));
        self.ready.iter().filter(free).take(most).cloned().collect()
    }

    /// How many were dropped since it was last asked.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Whether a new key fits. Contexts that were entered make room.
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
