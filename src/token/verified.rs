//! A cache of the access tokens that this replica has verified or signed. Their signature is not checked again.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::ids::{SessionKey, TenantId, UserId};
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::keyring::Keyring;

/// The cost of an entry besides its bytes: its key, its slots in the map and in the queue, the allocator.
const OVERHEAD: u64 = 120;
/// An estimate of an entry's size, for the initial capacity.
const USUAL: u64 = 200;

/// Tokens by the SHA-256 of the whole token. Only genuine tokens are cached, so only their holders can fill it; an
/// evicted one is verified once more.
pub(super) struct VerifiedTokens(Cache<Hash, VerifiedEntry, ClaimsWeight>);

/// A token's claims, and the key that proves them: they are valid while that key verifies.
pub(super) struct Proven {
    claims: AccessClaims,
    kid: Arc<str>,
}

#[derive(Clone)]
struct VerifiedEntry {
    packed: Arc<[u8]>,
    /// Shared by all tokens of the key.
    kid: Arc<str>,
}

impl Proven {
    /// The claims, if the key still verifies at `now`.
    ///
    /// `SignatureInvalid` if it does not.
    /// It does not.
    pub fn count(self, keyring: &Keyring, now: Time) -> Result<AccessClaims, InactiveReason> {
        let counts = keyring.verifying(&self.kid, now).is_some();
        if counts { Ok(self.claims) } else { Err(InactiveReason::SignatureInvalid) }
    }
}

type Hash = [u8; 32];

#[derive(Clone)]
struct ClaimsWeight;

impl Weighter<Hash, VerifiedEntry> for ClaimsWeight {
    fn weight(&self, _: &Hash, kept: &VerifiedEntry) -> u64 {
        kept.packed.len() as u64 + OVERHEAD
    }
}

impl VerifiedTokens {
    /// A cache of at most so many bytes.
    pub fn new(bytes: u64) -> VerifiedTokens {
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        VerifiedTokens(Cache::with_weighter(items, bytes, ClaimsWeight))
    }

    /// The cached claims of a token.
    pub fn get(&self, token: &str) -> Option<Proven> {
        let kept = self.0.get(&hash(token))?;
        Some(Proven { claims: unpack(&kept.packed)?, kid: kept.kid })
    }

    /// Caches a token that was verified or signed here.
    pub fn note(&self, token: &str, kid: &Arc<str>, claims: &AccessClaims) {
        self.0.insert(hash(token), VerifiedEntry { packed: pack(claims).into(), kid: kid.clone() });
    }
}

fn hash(token: &str) -> Hash {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The serialized form; the order of the fields is that of the bytes.
#[derive(Serialize, Deserialize)]
struct PackedClaims<'a> {
    key: (&'a str, &'a str, Uuid),
    device: Uuid,
    #[serde(borrow)]
    audiences: Vec<&'a str>,
    generation: u32,
    not_before: i64,
    expires_at: i64,
}

fn pack(claims: &AccessClaims) -> Vec<u8> {
    let AccessClaims { key, device, audiences, generation, not_before, expires_at } = claims;
    let packed = PackedClaims {
        key: (key.tenant.as_str(), key.user.as_str(), key.session),
        device: *device,
        audiences: audiences.iter().map(String::as_str).collect(),
        generation: *generation,
        not_before: *not_before,
        expires_at: *expires_at,
    };
    postcard::to_allocvec(&packed).expect("plain data")
}

/// `None` for bytes that [`pack`] did not make.
fn unpack(bytes: &[u8]) -> Option<AccessClaims> {
    let packed: PackedClaims<'_> = postcard::from_bytes(bytes).ok()?;
    let (tenant, user, session) = packed.key;
    let (tenant, user) = (TenantId::parse(tenant).ok()?, UserId::parse(user).ok()?);
    Some(AccessClaims {
        key: SessionKey { tenant, user, session },
        device: packed.device,
        audiences: packed.audiences.into_iter().map(str::to_owned).collect(),
        generation: packed.generation,
        not_before: packed.not_before,
        expires_at: packed.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> AccessClaims {
        let tenant = TenantId::parse("acme").expect("a tenant");
        let user = UserId::parse("ada").expect("a user");
        AccessClaims {
            key: SessionKey { tenant, user, session: Uuid::from_u128(1) },
            device: Uuid::from_u128(2),
            audiences: vec!["web".to_owned(), "api".to_owned()],
            generation: u32::MAX,
            not_before: i64::MIN,
            expires_at: i64::MAX,
        }
    }

    #[test]
    fn a_cached_token_is_found_only_by_its_whole_text() {
        let verified = VerifiedTokens::new(1 << 20);
        verified.note("head.body.signature", &"key-1".into(), &claims());
        let proven = verified.get("head.body.signature").expect("it was noted");
        assert_eq!((&*proven.kid, proven.claims), ("key-1", claims()));
        for other in ["head.body.signaturf", "head.body.", "head.body.signature "] {
            assert!(verified.get(other).is_none(), "{other}");
        }
    }

    #[test]
    fn memory_stays_within_its_bound_however_many_there_are() {
        let verified = VerifiedTokens::new(1 << 20);
        for number in 0..20_000 {
            verified.note(&number.to_string(), &"key-1".into(), &claims());
        }
        let (count, bytes) = (verified.0.len(), verified.0.weight());
        assert!(count > 4000 && bytes <= 1 << 20, "{count} in {bytes}");
        assert!(verified.get("19999").is_some(), "the newest is there");
    }
}
