//! The service's public keys.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::grpc::pb::session as pb;
use crate::model::token::{AccessClaims, InactiveReason};
use crate::token::access;
use crate::token::keyring::VerifyingKey;

/// A key that was not among those fetched so recently is not one of the service.
const SURE_FOR: Duration = Duration::from_secs(1);

/// By key id.
#[derive(Default)]
pub(super) struct Keys {
    known: Mutex<Known>,
    /// A token named a key that is not known.
    pub wanted: Notify,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, std::sync::Arc<VerifyingKey>>,
    fetched: Option<Instant>,
}

impl Keys {
    /// Takes the keys of an answer in place of all others. What is no key of this release's kinds is left out.
    pub fn replace(&self, set: &pb::GetJsonWebKeySetResponse) {
        let usable = set.keys.iter().filter(|key| key.kty == "OKP" && key.crv == "Ed25519");
        let parsed = usable.filter_map(|key| {
            Some((key.kid.clone(), std::sync::Arc::new(VerifyingKey::ed25519(&key.x).ok()?)))
        });
        let keys = parsed.collect();
        *self.lock() = Known { keys, fetched: Some(Instant::now()) };
    }

    /// Proves a token and says which key did; `None` if it names a key that may be too new to be known.
    ///
    /// # Errors
    /// Why it opens nothing.
    pub fn verify(
        &self,
        issuer: &str,
        token: &str,
    ) -> Result<Option<(String, AccessClaims)>, InactiveReason> {
        let kid = access::key_of(token)?;
        let key = {
            let known = self.lock();
            let sure = known.fetched.is_some_and(|at| at.elapsed() < SURE_FOR);
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

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while holding it.
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
