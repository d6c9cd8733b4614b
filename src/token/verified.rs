//! Access tokens whose signature was checked, or made, by this replica: it is not checked again.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::clock::Time;
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::keyring::Keyring;

/// What an entry costs besides the texts of its claims: the claims, their counts, the place in the cache. The key's id is
/// shared.
const OVERHEAD: u64 = 336;
/// A guess at the size of an entry, to make room for as many from the start.
const USUAL: u64 = 400;

/// Claims by the SHA-256 of the whole token. Only genuine tokens have a place, so whoever fills it holds them all; what
/// is dropped is checked once more.
pub(super) struct Verified(Cache<Hash, Proven, Bytes>);

/// What a token says, and the key that proves it: it counts while that verifies.
#[derive(Clone)]
pub(super) struct Proven {
    pub claims: Arc<AccessClaims>,
    pub kid: Arc<str>,
}

impl Proven {
    /// The claims, if the key still verifies at `now`.
    ///
    /// # Errors
    /// It does not.
    pub fn count(self, keyring: &Keyring, now: Time) -> Result<Arc<AccessClaims>, InactiveReason> {
        let counts = keyring.verifying(&self.kid, now).is_some();
        if counts { Ok(self.claims) } else { Err(InactiveReason::SignatureInvalid) }
    }
}

type Hash = [u8; 32];

#[derive(Clone)]
struct Bytes;

impl Weighter<Hash, Proven> for Bytes {
    fn weight(&self, _: &Hash, Proven { claims, .. }: &Proven) -> u64 {
        let audiences = claims.audiences.iter().map(|audience| audience.len() + 24);
        let names = claims.key.tenant.as_str().len() + claims.key.user.as_str().len();
        OVERHEAD + (audiences.sum::<usize>() + names) as u64
    }
}

impl Verified {
    /// In at most so many bytes.
    pub fn new(bytes: u64) -> Verified {
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX);
        Verified(Cache::with_weighter(items, bytes, Bytes))
    }

    /// What a token says that was proven before.
    pub fn get(&self, token: &str) -> Option<Proven> {
        self.0.get(&hash(token))
    }

    /// Notes a token that was proven, or made, here.
    pub fn note(&self, token: &str, kid: &Arc<str>, claims: AccessClaims) -> Arc<AccessClaims> {
        let claims = Arc::new(claims);
        self.0.insert(hash(token), Proven { claims: claims.clone(), kid: kid.clone() });
        claims
    }
}

fn hash(token: &str) -> Hash {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}
