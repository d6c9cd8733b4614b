//! The cached sessions, in bounded memory, and the tombstones of revoked ones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use uuid::Uuid;

use super::record::{pack, unpack};
use crate::model::ids::SessionKey;
use crate::model::revocation::{CACHED_FOR, Revocation, Subject, digest};
use crate::model::session::Session;

/// How long it is cached that a session does not exist.
const ABSENT_FOR: Duration = Duration::from_secs(1);
/// The most absent sessions that are cached, about 1 MB.
const MAX_ABSENT: usize = 10_000;
/// The most tombstones, about 5 MB: more than can arrive while the longest read lasts. If more do, reads under way are
/// not cached.
const MAX_TOMBSTONES: usize = 65_536;
/// What an entry costs besides its bytes: its key, its slot in the map and in the queue, the allocator.
const OVERHEAD: u64 = 120;
/// An estimate of the size of an entry, for the initial capacity.
const TYPICAL_BYTES: u64 = 400;

/// Sessions by their id.
pub(super) struct SessionEntries {
    sessions: Cache<Uuid, CacheEntry, EntryWeight>,
    absent: Cache<SessionKey, Instant>,
    tombstones: Mutex<Tombstones>,
}

/// A session as it was read, packed.
#[derive(Clone)]
struct CacheEntry {
    packed: Arc<[u8]>,
    read_at: Instant,
}

/// A cached session.
pub(super) struct CachedSession {
    /// `None` = it does not exist.
    pub session: Option<Session>,
    /// When its read began, or a moment at which its transaction was still open.
    pub read_at: Instant,
}

/// A point in the order of revocations that the feed reported. What is read after it was taken may be cached, unless a
/// revocation that concerns it arrived since.
#[derive(Debug, Clone, Copy)]
pub struct FillStamp(u64);

#[derive(Default)]
struct Tombstones {
    count: u64,
    /// The last revocation of each session.
    sessions: HashMap<Uuid, u64>,
    order: VecDeque<(Uuid, u64)>,
    /// Nothing that was read before this is cached.
    floor: u64,
}

#[derive(Clone)]
struct EntryWeight;

impl Weighter<Uuid, CacheEntry> for EntryWeight {
    fn weight(&self, _: &Uuid, entry: &CacheEntry) -> u64 {
        entry.packed.len() as u64 + OVERHEAD
    }
}

impl SessionEntries {
    /// A cache of at most so many bytes.
    pub fn new(bytes: u64) -> SessionEntries {
        let items = usize::try_from(bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        SessionEntries {
            sessions: Cache::with_weighter(items, bytes, EntryWeight),
            absent: Cache::new(MAX_ABSENT),
            tombstones: Mutex::default(),
        }
    }

    /// The cached record, if it was not read too long ago.
    pub fn find(&self, key: &SessionKey, now: Instant) -> Option<CachedSession> {
        let fresh = |read_at: Instant, most| now.saturating_duration_since(read_at) < most;
        let entry = self.sessions.get(&key.session);
        if let Some(entry) = entry.filter(|entry| fresh(entry.read_at, CACHED_FOR)) {
            // The id may be that of another user's session: then this is a miss.
            let session = unpack(&entry.packed).filter(|session| session.key == *key)?;
            return Some(CachedSession { session: Some(session), read_at: entry.read_at });
        }
        let read_at = self.absent.get(key).filter(|read_at| fresh(*read_at, ABSENT_FOR))?;
        Some(CachedSession { session: None, read_at })
    }

    /// Taken before a read.
    pub fn stamp(&self) -> FillStamp {
        FillStamp(self.lock().count)
    }

    /// Caches what was read after `stamp`, unless it was revoked since: it may have been read before that. True if it
    /// is cached.
    pub fn insert(
        &self,
        stamp: FillStamp,
        key: &SessionKey,
        session: Option<&Session>,
        read_at: Instant,
    ) -> bool {
        let packed = session.map(pack);
        // Locked until it is inserted: a revocation is either seen here, or arrives later and removes it.
        let tombstones = self.lock();
        if tombstones.is_revoked_since(stamp, &key.session) {
            return false;
        }
        match packed {
            Some(packed) => {
                self.sessions.insert(key.session, CacheEntry { packed: packed.into(), read_at })
            }
            None => self.absent.insert(key.clone(), read_at),
        }
        true
    }

    /// Invalidates what is revoked, and keeps fills under way from caching it.
    pub fn invalidate(&self, revocation: &Revocation) {
        #[cfg(debug_assertions)]
        if crate::broken::is("keeps-ended") {
            return;
        }
        match &revocation.subject {
            Subject::Session(id) => {
                self.lock().revoke(*id);
                self.sessions.remove(id);
            }
            Subject::Device(device) => {
                self.invalidate_where(|session| session.device.id == *device)
            }
            Subject::User(user) => self.invalidate_where(|session| {
                session.key.tenant == revocation.tenant
                    && digest(&session.key.tenant, &session.key.user) == *user
            }),
            Subject::Tenant => {
                self.invalidate_where(|session| session.key.tenant == revocation.tenant)
            }
            // No cached session depends on it.
            Subject::Key(_) | Subject::Callers => {}
        }
    }

    /// Invalidates everything.
    pub fn invalidate_all(&self) {
        self.lock().revoke_all();
        self.sessions.clear();
        self.absent.clear();
    }

    /// The number of cached sessions, and their bytes.
    pub fn size(&self) -> (usize, u64) {
        (self.sessions.len(), self.sessions.weight())
    }

    fn invalidate_where(&self, concerned: impl Fn(&Session) -> bool) {
        self.lock().revoke_all();
        self.sessions.retain(|_, entry| unpack(&entry.packed).is_some_and(|s| !concerned(&s)));
    }

    fn lock(&self) -> MutexGuard<'_, Tombstones> {
        // Nothing panics while holding it but an allocation that fails.
        self.tombstones.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Tombstones {
    fn is_revoked_since(&self, stamp: FillStamp, id: &Uuid) -> bool {
        #[cfg(debug_assertions)]
        if crate::broken::is("no-guard") {
            return false;
        }
        stamp.0 < self.floor || self.sessions.get(id).is_some_and(|at| *at > stamp.0)
    }

    fn revoke(&mut self, id: Uuid) {
        self.count += 1;
        self.sessions.insert(id, self.count);
        self.order.push_back((id, self.count));
        if self.order.len() > MAX_TOMBSTONES
            && let Some((oldest, at)) = self.order.pop_front()
        {
            self.floor = self.floor.max(at);
            if self.sessions.get(&oldest) == Some(&at) {
                self.sessions.remove(&oldest);
            }
        }
    }

    fn revoke_all(&mut self) {
        self.count += 1;
        self.floor = self.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session::tests::session;

    fn entries() -> SessionEntries {
        SessionEntries::new(1 << 20)
    }

    fn is_cached(entries: &SessionEntries, session: &Session) -> bool {
        let found = entries.find(&session.key, Instant::now());
        found.is_some_and(|found| found.session.as_ref() == Some(session))
    }

    #[test]
    fn a_read_from_before_a_revocation_is_not_cached() {
        let (entries, session) = (entries(), session());
        let others =
            |subject| Revocation::new(session.key.tenant.clone(), subject, session.created_at);
        let user = digest(&session.key.tenant, &session.key.user);
        for subject in [
            Subject::Session(session.key.session),
            Subject::Device(session.device.id),
            Subject::User(user),
            Subject::Tenant,
        ] {
            let stamp = entries.stamp();
            entries.invalidate(&others(subject.clone()));
            entries.insert(stamp, &session.key, Some(&session), Instant::now());
            assert!(!is_cached(&entries, &session), "{subject:?}");
            entries.insert(entries.stamp(), &session.key, Some(&session), Instant::now());
            assert!(is_cached(&entries, &session), "a later read is");
            entries.invalidate(&others(subject.clone()));
            assert!(!is_cached(&entries, &session), "{subject:?}");
        }
    }

    #[test]
    fn a_read_from_before_the_oldest_tombstone_is_not_cached() {
        let (entries, session) = (entries(), session());
        let stamp = entries.stamp();
        entries.lock().revoke(session.key.session);
        for _ in 0..MAX_TOMBSTONES {
            entries.lock().revoke(Uuid::from_u128(1));
        }
        entries.insert(stamp, &session.key, Some(&session), Instant::now());
        assert!(!is_cached(&entries, &session));
        assert!(entries.lock().sessions.len() <= MAX_TOMBSTONES);
    }

    #[test]
    fn memory_stays_within_its_bound_however_many_sessions_there_are() {
        let (entries, mut session) = (entries(), session());
        for number in 0..20_000 {
            session.key.session = Uuid::from_u128(number);
            entries.insert(entries.stamp(), &session.key, Some(&session), Instant::now());
            let nobody =
                SessionKey { session: Uuid::from_u128(1 << 64 | number), ..session.key.clone() };
            entries.insert(entries.stamp(), &nobody, None, Instant::now());
        }
        let (count, bytes) = entries.size();
        assert!(count > 1000 && bytes <= 1 << 20, "{count} in {bytes}");
        assert!(entries.absent.len() <= MAX_ABSENT);
        assert!(is_cached(&entries, &session), "the newest is there");
    }

    #[test]
    fn every_record_expires() {
        let (entries, session) = (entries(), session());
        let long_ago = Instant::now().checked_sub(CACHED_FOR).expect("a machine that is up");
        entries.insert(entries.stamp(), &session.key, Some(&session), long_ago);
        assert!(!is_cached(&entries, &session));
    }
}
