//! The state that the callers share: sessions with their tokens, alerts, requests to repeat.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use sessiond::grpc::pb;
use uuid::Uuid;

use crate::call::Call;
use crate::rng::Rng;
use crate::users::{TENANTS, USERS};

/// The number of requests kept for repetition.
const REQUESTS: usize = 64;
/// The number of alerts kept for each tenant.
const ALERTS: usize = 64;

#[derive(Debug, Clone)]
pub struct Known {
    pub id: Uuid,
    pub device: Uuid,
    /// When the first answer contained it.
    pub since: Instant,
    pub tokens: Vec<Pair>,
    /// The watermark in the answer that ended it.
    pub watermark: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Pair {
    pub generation: u32,
    pub access: String,
    pub refresh: String,
}

#[derive(Default)]
struct Shelves {
    /// For each user, oldest first.
    sessions: [Vec<Known>; USERS.len()],
    /// For each tenant, with the user concerned, oldest first.
    alerts: [Vec<(usize, Uuid)>; TENANTS.len()],
    requests: Vec<Call>,
    conflicts: Vec<(usize, pb::SessionConflict)>,
}

/// Shared by all callers.
#[derive(Default)]
pub struct Directory(Mutex<Shelves>);

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Shelves> {
        self.0.lock().expect("nobody panics while looking")
    }

    /// A session of the user, preferably a recent one.
    pub fn session(&self, who: usize, rng: &mut Rng) -> Option<Known> {
        let shelves = self.lock();
        recent(&shelves.sessions[who], 6, rng).cloned()
    }

    /// A session of the user of this age.
    pub fn aged(&self, who: usize, age: Range<Duration>, rng: &mut Rng) -> Option<Known> {
        let shelves = self.lock();
        let aged = |known: &&Known| age.contains(&known.since.elapsed());
        let aged: Vec<&Known> = shelves.sessions[who].iter().rev().filter(aged).collect();
        (!aged.is_empty()).then(|| aged[rng.below(aged.len())].clone())
    }

    pub fn find(&self, who: usize, id: Uuid) -> Option<Known> {
        self.lock().sessions[who].iter().rfind(|known| known.id == id).cloned()
    }

    /// The newest sessions of each user.
    pub fn newest(&self, of_each: usize) -> Vec<(usize, Known)> {
        let shelves = self.lock();
        let of = |(who, known): (usize, &Vec<Known>)| {
            known
                .iter()
                .rev()
                .take(of_each)
                .map(move |known| (who, known.clone()))
                .collect::<Vec<_>>()
        };
        shelves.sessions.iter().enumerate().flat_map(of).collect()
    }

    pub fn learn_tokens(&self, who: usize, id: Uuid, device: Uuid, pair: Pair) {
        let mut shelves = self.lock();
        let sessions = &mut shelves.sessions[who];
        let known = match sessions.iter().rposition(|known| known.id == id) {
            Some(place) => &mut sessions[place],
            None => {
                let since = Instant::now();
                sessions.push(Known { id, device, since, tokens: Vec::new(), watermark: None });
                sessions.last_mut().expect("just pushed")
            }
        };
        if !known.tokens.iter().any(|held| held.access == pair.access) {
            known.tokens.push(pair);
        }
    }

    pub fn learn_watermark(&self, who: usize, id: Uuid, watermark: String) {
        let mut shelves = self.lock();
        if let Some(known) = shelves.sessions[who].iter_mut().rfind(|known| known.id == id) {
            known.watermark = Some(watermark);
        }
    }

    pub fn alert(&self, tenant: usize, rng: &mut Rng) -> Option<(usize, Uuid)> {
        recent(&self.lock().alerts[tenant], 8, rng).copied()
    }

    pub fn learn_alert(&self, tenant: usize, who: usize, id: Uuid) {
        let mut shelves = self.lock();
        let alerts = &mut shelves.alerts[tenant];
        if !alerts.contains(&(who, id)) {
            alerts.push((who, id));
        }
        let surplus = alerts.len().saturating_sub(ALERTS);
        alerts.drain(..surplus);
    }

    /// A request that was sent before.
    pub fn request(&self, rng: &mut Rng) -> Option<Call> {
        recent(&self.lock().requests, 16, rng).cloned()
    }

    pub fn learn_request(&self, call: &Call) {
        let mut shelves = self.lock();
        shelves.requests.push(call.clone());
        let surplus = shelves.requests.len().saturating_sub(REQUESTS);
        shelves.requests.drain(..surplus);
    }

    /// A conflict of this user that no caller has settled.
    pub fn take_conflict(&self, who: usize) -> Option<pb::SessionConflict> {
        let mut shelves = self.lock();
        let place = shelves.conflicts.iter().rposition(|(of, _)| *of == who)?;
        Some(shelves.conflicts.swap_remove(place).1)
    }

    pub fn learn_conflict(&self, who: usize, conflict: pb::SessionConflict) {
        let mut shelves = self.lock();
        shelves.conflicts.push((who, conflict));
        let surplus = shelves.conflicts.len().saturating_sub(REQUESTS);
        shelves.conflicts.drain(..surplus);
    }
}

/// One of the last `few` two times out of three, else any.
fn recent<'a, T>(all: &'a [T], few: usize, rng: &mut Rng) -> Option<&'a T> {
    let from = if rng.chance(66) { all.len().saturating_sub(few) } else { 0 };
    let choice = rng.next();
    let some = &all[from..];
    (!some.is_empty()).then(|| &some[(choice % some.len() as u64) as usize])
}
