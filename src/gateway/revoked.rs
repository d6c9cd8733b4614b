//! The revocations in force, and the tokens that they withdraw.

use std::collections::HashMap;

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::grpc::pb;
use crate::model::revocation::digest;
use crate::model::token::AccessClaims;

/// How much later than its revocation a token may have been issued and still be covered: replicas read their clocks at
/// different moments.
const LEEWAY: Duration = Duration::seconds(5);

/// The revocations in force, in bounded memory.
pub(super) struct RevocationSet {
    sessions: HashMap<Uuid, (u32, Time)>,
    devices: HashMap<Uuid, (i64, Time)>,
    users: HashMap<String, (i64, Time)>,
    tenant: Option<(i64, Time)>,
    keys: HashMap<String, Time>,
    most: usize,
    /// There are more than fit, so every token may be revoked.
    full: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Withdrawn {
    No,
    Yes,
}

impl RevocationSet {
    /// An empty set with room for `most`.
    pub fn new(most: usize) -> RevocationSet {
        RevocationSet {
            sessions: HashMap::new(),
            devices: HashMap::new(),
            users: HashMap::new(),
            tenant: None,
            keys: HashMap::new(),
            most,
            full: false,
        }
    }

    /// True if there are more revocations than fit.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Adds a revocation. One that this release cannot read makes the set full, so that it withdraws every token.
    pub fn add(&mut self, revocation: &pb::Revocation) {
        if self.len() >= self.most || self.try_add(revocation).is_none() {
            self.full = true;
        }
    }

    fn try_add(&mut self, revocation: &pb::Revocation) -> Option<()> {
        let evict_at = time(revocation.evict_time.as_ref()?)?;
        let until = (time(revocation.revoke_time.as_ref()?)? + LEEWAY).timestamp();
        let subject = &revocation.subject;
        let later = |old: &mut (i64, Time)| *old = (old.0.max(until), old.1.max(evict_at));
        match pb::RevocationLevel::try_from(revocation.level).ok()? {
            pb::RevocationLevel::Unspecified => return None,
            pb::RevocationLevel::Session => {
                let below = match revocation.below_generation {
                    0 => u32::MAX,
                    below => below,
                };
                let kept = self.sessions.entry(subject.parse().ok()?).or_insert((below, evict_at));
                *kept = (kept.0.max(below), kept.1.max(evict_at));
            }
            pb::RevocationLevel::Device => {
                let device = self.devices.entry(subject.parse().ok()?);
                device.and_modify(later).or_insert((until, evict_at));
            }
            pb::RevocationLevel::User => {
                let user = self.users.entry(subject.clone());
                user.and_modify(later).or_insert((until, evict_at));
            }
            pb::RevocationLevel::Tenant => later(self.tenant.get_or_insert((until, evict_at))),
            pb::RevocationLevel::Key => {
                let kept = self.keys.entry(subject.clone()).or_insert(evict_at);
                *kept = (*kept).max(evict_at);
            }
        }
        Some(())
    }

    /// Removes the revocations that concern no unexpired token.
    pub fn evict(&mut self, now: Time) {
        self.sessions.retain(|_, (_, evict_at)| *evict_at > now);
        self.devices.retain(|_, (_, evict_at)| *evict_at > now);
        self.users.retain(|_, (_, evict_at)| *evict_at > now);
        self.tenant = self.tenant.filter(|(_, evict_at)| *evict_at > now);
        self.keys.retain(|_, evict_at| *evict_at > now);
    }

    /// Whether a revocation matches the token, which key `kid` signed.
    pub fn withdraws(&self, claims: &AccessClaims, kid: &str) -> Withdrawn {
        let issued_by = |until: &(i64, Time)| claims.not_before <= until.0;
        let session = self.sessions.get(&claims.key.session);
        let user = || digest(&claims.key.tenant, &claims.key.user);
        let matched = self.full
            || session.is_some_and(|(below, _)| claims.generation < *below)
            || self.tenant.as_ref().is_some_and(issued_by)
            || self.devices.get(&claims.device).is_some_and(issued_by)
            || self.keys.contains_key(kid)
            || (!self.users.is_empty() && self.users.get(&user()).is_some_and(issued_by));
        if matched { Withdrawn::Yes } else { Withdrawn::No }
    }

    fn len(&self) -> usize {
        self.sessions.len() + self.devices.len() + self.users.len() + self.keys.len()
    }
}

/// Converts a time of the service.
pub(super) fn time(time: &prost_types::Timestamp) -> Option<Time> {
    chrono::DateTime::from_timestamp(time.seconds, u32::try_from(time.nanos).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::{SessionKey, TenantId, UserId};

    fn claims(session: u128, generation: u32, issued_at: i64) -> AccessClaims {
        let tenant = TenantId::parse("").expect("one");
        let user = UserId::parse("ada").expect("one");
        AccessClaims {
            key: SessionKey { tenant, user, session: Uuid::from_u128(session) },
            device: Uuid::from_u128(9),
            audiences: vec![],
            generation,
            not_before: issued_at,
            expires_at: issued_at + 300,
        }
    }

    fn revocation(level: pb::RevocationLevel, subject: &str, below: u32) -> pb::Revocation {
        let stamp = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        pb::Revocation {
            level: level.into(),
            subject: subject.to_owned(),
            below_generation: below,
            revoke_time: stamp(1000),
            evict_time: stamp(2000),
        }
    }

    fn withdraws(revocation: pb::Revocation, claims: &AccessClaims) -> bool {
        let mut revoked = RevocationSet::new(10);
        revoked.add(&revocation);
        assert!(!revoked.is_full());
        let yes = revoked.withdraws(claims, "kid") == Withdrawn::Yes;
        revoked.evict(chrono::DateTime::from_timestamp(2000, 0).expect("a time"));
        assert_eq!(revoked.withdraws(claims, "kid"), Withdrawn::No, "its time is over");
        yes
    }

    #[test]
    fn each_level_matches_its_tokens_and_no_others() {
        use pb::RevocationLevel::{Device, Key, Session, Tenant, User};
        let id = Uuid::from_u128(1).to_string();
        for (generation, below, yes) in [(1, 0, true), (7, 0, true), (2, 3, true), (3, 3, false)] {
            let token = claims(1, generation, 1_000_000);
            assert_eq!(withdraws(revocation(Session, &id, below), &token), yes);
        }
        assert!(!withdraws(revocation(Session, &id, 0), &claims(2, 1, 0)));
        let own = claims(1, 1, 0).key;
        let (device, user) = (Uuid::from_u128(9).to_string(), digest(&own.tenant, &own.user));
        for (level, subject) in [(Device, device.as_str()), (User, &user), (Tenant, "")] {
            assert!(withdraws(revocation(level, subject, 0), &claims(1, 1, 1005)), "{level:?}");
            assert!(!withdraws(revocation(level, subject, 0), &claims(1, 1, 1006)), "{level:?}");
        }
        assert!(withdraws(revocation(Key, "kid", 0), &claims(1, 1, 9_999)));
        assert!(!withdraws(revocation(Key, "other", 0), &claims(1, 1, 0)));
    }

    #[test]
    fn revocations_that_do_not_fit_or_cannot_be_read_withdraw_everything() {
        let mut revoked = RevocationSet::new(2);
        for session in 1..=3 {
            let id = Uuid::from_u128(session).to_string();
            revoked.add(&revocation(pb::RevocationLevel::Session, &id, 0));
        }
        assert_eq!(revoked.withdraws(&claims(77, 1, 0), "kid"), Withdrawn::Yes);
        let mut revoked = RevocationSet::new(2);
        let mut later = revocation(pb::RevocationLevel::Session, "", 0);
        later.level = 99;
        revoked.add(&later);
        assert_eq!(revoked.withdraws(&claims(77, 1, 0), "kid"), Withdrawn::Yes);
    }
}
