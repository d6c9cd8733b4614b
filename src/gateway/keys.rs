//! The service's public keys.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::grpc::pb;
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::access;
use crate::token::jwk::{PublicKey, VerifyingKey};

/// A key id that is not in a key set fetched so recently is not the service's, since keys are published before they
/// sign. Not so after a removal, since another key may have taken over at once.
const SURE_FOR: Duration = Duration::from_secs(1);

/// The keys by key id.
#[derive(Default)]
pub(super) struct KeySet {
    known: Mutex<KnownKeys>,
    /// Notified when a token has a key that is not cached.
    pub wanted: Notify,
}

#[derive(Default)]
struct KnownKeys {
    keys: HashMap<String, Arc<VerifyingKey>>,
    fetched: Option<Instant>,
    /// When the last removal of a key arrived.
    removed: Option<Instant>,
}

impl KeySet {
    /// Replaces all keys by those of an answer, requested at `asked`. Skips keys of kinds that this release does not
    /// know.
    pub fn replace(&self, set: &pb::GetJsonWebKeySetResponse, asked: Instant) {
        let parsed = set.keys.iter().filter_map(|key| {
            let verifying = public_key(key)?.verifying().ok()?;
            Some((key.kid.clone(), Arc::new(verifying)))
        });
        let keys = parsed.collect();
        let mut known = self.lock();
        (known.keys, known.fetched) = (keys, Some(asked));
    }

    /// A key was removed, so a new key may sign.
    pub fn doubt(&self) {
        self.lock().removed = Some(Instant::now());
        self.wanted.notify_one();
    }

    /// Verifies a token and returns its key id; `None` if its key is not cached but may be new.
    ///
    /// # Errors
    /// The reason why the token is invalid.
    pub fn verify(
        &self,
        issuer: &str,
        token: &str,
    ) -> Result<Option<(String, AccessClaims)>, InactiveReason> {
        let kid = access::key_of(token)?;
        let key = {
            let known = self.lock();
            let sure = known.fetched.is_some_and(|at| {
                at.elapsed() < SURE_FOR && known.removed.is_none_or(|removed| removed < at)
            });
            match known.keys.get(&kid) {
                Some(key) => key.clone(),
                None if sure => return Err(InactiveReason::SignatureInvalid),
                None => {
                    self.wanted.notify_one();
                    return Ok(None);
                }
            }
        };
        let claims = access::prove(&key, issuer, token)?;
        Ok(Some((kid, claims)))
    }

    fn lock(&self) -> MutexGuard<'_, KnownKeys> {
        // Nothing panics while holding it.
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The key of a set; `None` if it is of a kind that this release does not know.
fn public_key(key: &pb::JsonWebKey) -> Option<PublicKey> {
    let (x, y) = (key.x.clone(), key.y.clone());
    Some(match (key.kty.as_str(), key.crv.as_str(), key.alg.as_str()) {
        ("OKP", "Ed25519", "EdDSA") => PublicKey::Ed25519 { x },
        ("EC", "P-256", "ES256") => PublicKey::P256 { x, y },
        ("RSA", "", "RS256") => PublicKey::Rsa { n: key.n.clone(), e: key.e.clone() },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_key_whose_type_curve_and_algorithm_belong_together_is_one() {
        let kinds = [("OKP", "Ed25519", "EdDSA"), ("EC", "P-256", "ES256"), ("RSA", "", "RS256")];
        for (kty, _, _) in kinds {
            for (_, crv, _) in kinds {
                for alg in ["EdDSA", "ES256", "RS256", "HS256", "none", ""] {
                    let (kty, crv, alg) = (kty.to_owned(), crv.to_owned(), alg.to_owned());
                    let known = kinds.contains(&(&*kty, &*crv, &*alg));
                    let key = pb::JsonWebKey { kty, crv, alg, ..Default::default() };
                    assert_eq!(public_key(&key).is_some(), known, "{key:?}");
                }
            }
        }
    }
}
