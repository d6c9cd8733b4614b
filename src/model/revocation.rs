//! Revocations: they withdraw tokens, and invalidate cached records of sessions and of what else tokens name.

use aws_lc_rs::digest::{Context, SHA256};
use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::{TenantId, UserId};
use crate::model::policy::ranges;
use crate::model::session::Session;

/// The longest time for which a session is cached, from its read on, also without a revocation.
pub const CACHED_FOR: std::time::Duration = std::time::Duration::from_secs(60);

/// Tokens of every generation.
pub const ALL: u32 = i32::MAX.unsigned_abs();
/// Tokens of no generation: only cached records of the session are invalid.
pub const NONE: u32 = 1;

/// Tokens that must not be accepted by their signature alone any more, and sessions that must be read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    pub tenant: TenantId,
    pub subject: Subject,
    /// Of a session: its tokens of lower generations, from [`NONE`] to [`ALL`]. Of anything else [`ALL`].
    pub below: u32,
    /// Tokens that were issued later are not concerned, unless it is a session's or a key's.
    pub at: Time,
    /// From then on no token that it concerns can be in date.
    pub evict_at: Time,
}

/// What is revoked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    Session(Uuid),
    Device(Uuid),
    /// By [`digest`].
    User(String),
    /// All of the tenant.
    Tenant,
    /// A signing key, by its id.
    Key(String),
    /// No tokens: principals or API keys have changed.
    Callers,
}

impl Revocation {
    /// Of all present tokens of an active session: they claim more than is true now.
    pub fn of_tokens(session: &Session, at: Time) -> Revocation {
        let subject = Subject::Session(session.key.session);
        let below = session.chain.generation + 1;
        Revocation { below, ..Revocation::new(session.key.tenant.clone(), subject, at) }
    }

    /// Of all tokens of a session, whatever their generation: it has ended, or what is left of it is withdrawn.
    pub fn of_all_tokens(session: &Session, at: Time) -> Revocation {
        let subject = Subject::Session(session.key.session);
        Revocation::new(session.key.tenant.clone(), subject, at)
    }

    /// Of the tokens from before a re-authentication, unless the session waits for another one: then of its present
    /// tokens.
    pub fn of_superseded(session: &Session, at: Time) -> Revocation {
        if session.step_up_at.is_some() {
            return Revocation::of_tokens(session, at);
        }
        let subject = Subject::Session(session.key.session);
        let below = session.chain.min_generation;
        Revocation { below, ..Revocation::new(session.key.tenant.clone(), subject, at) }
    }

    /// Of what replicas cache of a session that changed; its tokens stay good.
    pub fn of_cached(session: &Session, at: Time) -> Revocation {
        let subject = Subject::Session(session.key.session);
        Revocation::of_knowledge(session.key.tenant.clone(), subject, at)
    }

    /// Of everything that this key signed, and of the cached keys.
    pub fn of_key(kid: &str, at: Time) -> Revocation {
        Revocation::new(TenantId::default(), Subject::Key(kid.to_owned()), at)
    }

    /// Of the cached keys, since this one was added or changed; no token is concerned.
    pub fn of_key_set(kid: &str, at: Time) -> Revocation {
        Revocation::of_knowledge(TenantId::default(), Subject::Key(kid.to_owned()), at)
    }

    /// Of the cached callers; no token is concerned.
    pub fn of_callers(at: Time) -> Revocation {
        Revocation::of_knowledge(TenantId::default(), Subject::Callers, at)
    }

    /// Of cached records of the subject, not of tokens: no replica caches them for longer than [`CACHED_FOR`].
    fn of_knowledge(tenant: TenantId, subject: Subject, at: Time) -> Revocation {
        let evict_at = at + Duration::from_std(CACHED_FOR).unwrap_or(Duration::MAX);
        Revocation { tenant, subject, below: NONE, at, evict_at }
    }

    /// Of everything that names the subject and was issued by `at`.
    pub fn new(tenant: TenantId, subject: Subject, at: Time) -> Revocation {
        // A policy may have been shortened since the last token was issued: the longest that any can be in date.
        let evict_at = at + Duration::seconds(ranges::ACCESS_TOKEN_TTL.max_seconds());
        Revocation { tenant, subject, below: ALL, at, evict_at }
    }
}

impl Revocation {
    /// Extends it to cover what `other`, of the same subject, covers.
    pub fn widen(&mut self, other: &Revocation) {
        self.below = self.below.max(other.below);
        self.at = self.at.max(other.at);
        self.evict_at = self.evict_at.max(other.evict_at);
    }

    /// True if it concerns what a key signed, of every tenant.
    pub fn is_of_key(&self) -> bool {
        matches!(self.subject, Subject::Key(_))
    }
}

/// Stands for a user without naming them: SHA-256 of tenant, a zero byte and user, in lower-case hex.
pub fn digest(tenant: &TenantId, user: &UserId) -> String {
    digest_of(tenant, user.as_str())
}

/// The same; no user is empty, so that stands for none.
pub(super) fn digest_of(tenant: &TenantId, user: &str) -> String {
    let mut hash = Context::new(&SHA256);
    for part in [tenant.as_str().as_bytes(), &[0], user.as_bytes()] {
        hash.update(part);
    }
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
