//! The sessions known by heart, in bounded memory, and what must not be remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::record::{pack, unpack};
use crate::model::ids::SessionKey;
use crate::model::revocation::{KNOWN_FOR, Revocation, Subject, digest};
use crate::model::session::Session;

/// How long it is known that a session does not exist.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// The most of those, about 1 MB.
const MOST_UNKNOWN: usize = 10_000;
/// The most revocations of sessions remembered for reads that are under way, about 5 MB: more than can come while the
/// longest read lasts. If not, such reads are not kept.
const MOST_MARKS: usize = 65_536;
/// What an entry costs besides its bytes: its key, its place in the map and in the queue, the allocator.
const OVERHEAD: u64 = 120;
/// A guess at the size of an entry, to make room for as many from the start.
const USUAL: u64 = 400;

/// Sessions by their id.
pub(super) struct Known {
    sessions: Cache<Uuid, Kept, Bytes>,
    unknown: Cache<SessionKey, Instant>,
    marks: Mutex<Marks>,
}

/// A session as it was read.
#[derive(Clone)]
struct Kept {
    packed: Arc<[u8]>,
    read_at: Instant,
}

/// What is known of a session.
pub(super) struct Knowledge {
    /// `None` = it does not exist.
    pub session: Option<Session>,
    /// When the read of it began, or its transaction was still open.
    pub read_at: Instant,
}

/// A point among the revocations that were heard of. What is read later than it was taken may be kept, unless one that
/// concerns it was heard of since.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

#[derive(Default)]
struct Marks {
    heard: u64,
    /// When each session was revoked last.
    sessions: HashMap<Uuid, u64>,
    order: VecDeque<(Uuid, u64)>,
    /// What was read before this is not kept, whatever it is.
    floor: u64,
}

#[derive(Clone)]
struct Bytes;

impl Weighter<Uuid, Kept> for Bytes {
    fn weight(&self, _: &Uuid, kept: &Kept) -> u64 {
        kept.packed.len() as u64 + OVERHEAD
    }
}

impl Known {
    /// In at most so many bytes.
    pub fn new(bytes: u64) -> Known {
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        Known {
            sessions: Cache::with_weighter(items, bytes, Bytes),
            unknown: Cache::new(MOST_UNKNOWN),
            marks: Mutex::default(),
        }
    }

    /// What is known of it, if it was not too long ago.
    pub fn find(&self, key: &SessionKey, now: Instant) -> Option<Knowledge> {
        let fresh = |read_at: Instant, most| now.saturating_duration_since(read_at) < most;
        let kept = self.sessions.get(&key.session);
        if let Some(kept) = kept.filter(|kept| fresh(kept.read_at, KNOWN_FOR)) {
            // The id is that of a session of somebody else: not for this one to decide.
            let session = unpack(&kept.packed).filter(|session| session.key == *key)?;
            return Some(Knowledge { session: Some(session), read_at: kept.read_at });
        }
        let read_at = self.unknown.get(key).filter(|read_at| fresh(*read_at, UNKNOWN_FOR))?;
        Some(Knowledge { session: None, read_at })
    }

    /// To be taken before something is read.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().heard)
    }

    /// Keeps what was read after `mark`, unless it was revoked since: it may have been read before that.
    /// True if it is kept.
    pub fn keep(
        &self,
        mark: Mark,
        key: &SessionKey,
        session: Option<&Session>,
        read_at: Instant,
    ) -> bool {
        let packed = session.map(pack);
        // Held until it is kept: a revocation is either seen here, or comes after and removes it.
        let marks = self.lock();
        if marks.is_revoked_since(mark, &key.session) {
            return false;
        }
        match packed {
            Some(packed) => {
                self.sessions.insert(key.session, Kept { packed: packed.into(), read_at })
            }
            None => self.unknown.insert(key.clone(), read_at),
        }
        true
    }

    /// Forgets what is revoked, and does not keep what is being read of it.
    pub fn forget(&self, revocation: &Revocation) {
        #[cfg(debug_assertions)]
        if crate::broken::is("keeps-ended") {
            return;
        }
        match &revocation.subject {
            Subject::Session(id) => {
                self.lock().revoke(*id);
                self.sessions.remove(id);
            }
            Subject::Device(device) => self.forget_where(|session| session.device.id == *device),
            Subject::User(user) => self.forget_where(|session| {
                session.key.tenant == revocation.tenant
                    && digest(&session.key.tenant, &session.key.user) == *user
            }),
            Subject::Tenant => self.forget_where(|session| session.key.tenant == revocation.tenant),
            // Nothing of a session hangs on it.
            Subject::Key(_) | Subject::Callers => {}
        }
    }

    /// Forgets everything.
    pub fn forget_all(&self) {
        self.lock().revoke_all();
        self.sessions.clear();
        self.unknown.clear();
    }

    /// Sessions kept, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        (self.sessions.len(), self.sessions.weight())
    }

    fn forget_where(&self, concerned: impl Fn(&Session) -> bool) {
        self.lock().revoke_all();
        self.sessions.retain(|_, kept| unpack(&kept.packed).is_some_and(|s| !concerned(&s)));
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Nothing panics while holding it but an allocation that fails.
        self.marks.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Marks {
    fn is_revoked_since(&self, mark: Mark, id: &Uuid) -> bool {
        #[cfg(debug_assertions)]
        if crate::broken::is("no-guard") {
            return false;
        }
        mark.0 < self.floor || self.sessions.get(id).is_some_and(|at| *at > mark.0)
    }

    fn revoke(&mut self, id: Uuid) {
        self.heard += 1;
        self.sessions.insert(id, self.heard);
        self.order.push_back((id, self.heard));
        if self.order.len() > MOST_MARKS
            && let Some((oldest, at)) = self.order.pop_front()
        {
            self.floor = self.floor.max(at);
            if self.sessions.get(&oldest) == Some(&at) {
                self.sessions.remove(&oldest);
            }
        }
    }

    fn revoke_all(&mut self) {
        self.heard += 1;
        self.floor = self.heard;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::tests::session;

    fn known() -> Known {
        Known::new(1 << 20)
    }

    fn is_known(known: &Known, session: &Session) -> bool {
        let found = known.find(&session.key, Instant::now());
        found.is_some_and(|found| found.session.as_ref() == Some(session))
    }

    #[test]
    fn what_was_read_before_a_revocation_was_heard_of_is_not_kept() {
        let (known, session) = (known(), session());
        let others =
            |subject| Revocation::new(session.key.tenant.clone(), subject, session.created_at);
        let user = digest(&session.key.tenant, &session.key.user);
        for subject in [
            Subject::Session(session.key.session),
            Subject::Device(session.device.id),
            Subject::User(user),
            Subject::Tenant,
        ] {
            let mark = known.mark();
            known.forget(&others(subject.clone()));
            known.keep(mark, &session.key, Some(&session), Instant::now());
            assert!(!is_known(&known, &session), "{subject:?}");
            known.keep(known.mark(), &session.key, Some(&session), Instant::now());
            assert!(is_known(&known, &session), "what is read later is");
            known.forget(&others(subject.clone()));
            assert!(!is_known(&known, &session), "{subject:?}");
        }
    }

    #[test]
    fn what_was_revoked_longer_ago_than_is_remembered_is_not_kept_either() {
        let (known, session) = (known(), session());
        let mark = known.mark();
        known.lock().revoke(session.key.session);
        for _ in 0..MOST_MARKS {
            known.lock().revoke(Uuid::from_u128(1));
        }
        known.keep(mark, &session.key, Some(&session), Instant::now());
        assert!(!is_known(&known, &session));
        assert!(known.lock().sessions.len() <= MOST_MARKS);
    }

    #[test]
    fn memory_stays_within_its_bound_however_many_there_are() {
        let (known, mut session) = (known(), session());
        for number in 0..20_000 {
            session.key.session = Uuid::from_u128(number);
            known.keep(known.mark(), &session.key, Some(&session), Instant::now());
            let nobody =
                SessionKey { session: Uuid::from_u128(1 << 64 | number), ..session.key.clone() };
            known.keep(known.mark(), &nobody, None, Instant::now());
        }
        let (count, bytes) = known.size();
        assert!(count > 1000 && bytes <= 1 << 20, "{count} in {bytes}");
        assert!(known.unknown.len() <= MOST_UNKNOWN);
        assert!(is_known(&known, &session), "the newest is there");
    }

    #[test]
    fn nothing_is_known_for_ever() {
        let (known, session) = (known(), session());
        let long_ago = Instant::now().checked_sub(KNOWN_FOR).expect("a machine that is up");
        known.keep(known.mark(), &session.key, Some(&session), long_ago);
        assert!(!is_known(&known, &session));
    }
}
