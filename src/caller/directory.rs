//! All principals and valid API keys, which every replica caches; resolves credentials to a principal.

use std::collections::HashMap;
use std::sync::Arc;

use crate::caller::key::{KeyId, PresentedKey, SecretHash};
use crate::caller::permissions::Role;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::caller::Identity;
use crate::model::caller::principal::{Caller, Principal, Tenants};
use crate::model::caller::scope::{Scope, Scopes};
use crate::model::ids::{ALL_TENANTS, TenantId};
use crate::store::callers::{self, PrincipalWithKey, StoredPrincipal};
use crate::store::pool::Database;

/// The most principals, and the most live keys of all principals.
pub const MOST: usize = 10_000;

/// The credentials of a call. Has no `Debug`.
#[derive(Clone)]
pub struct Credentials {
    pub identity: Identity,
    pub key: Option<PresentedKey>,
}

/// All principals and their live keys.
#[derive(Default)]
pub struct Directory {
    /// Those that certificates prove, by name.
    by_certificate: HashMap<String, Arc<Principal>>,
    keys: HashMap<KeyId, LiveKey>,
}

struct LiveKey {
    principal: Arc<Principal>,
    hash: SecretHash,
    expires_at: Time,
}

impl Credentials {
    /// True if the call has no credentials.
    pub fn is_empty(&self) -> bool {
        self.identity == Identity::Unknown && self.key.is_none()
    }
}

impl Directory {
    /// Reads the directory, without the keys that had expired at `now`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn read(db: &Database, now: Time) -> Result<Directory> {
        let mut conn = db.acquire().await?;
        // At most `MOST` principals and `MOST` keys; more can only come from outside sessiond.
        let most = i64::try_from(2 * MOST).unwrap_or(i64::MAX);
        let known = callers::known(&mut conn, now, most + 1).await?;
        if known.len() > 2 * MOST {
            tracing::error!(most, "more principals and keys than there may be; some are not known");
        }
        Ok(Directory::of(known))
    }

    fn of(known: Vec<PrincipalWithKey>) -> Directory {
        let (mut directory, mut principals) = (Directory::default(), HashMap::new());
        for PrincipalWithKey { principal, key } in known {
            let (name, accepts_certificates) =
                (principal.name.clone(), principal.accepts_certificates);
            let principal = principals
                .entry(name.clone())
                .or_insert_with(|| Arc::new(understood(principal)))
                .clone();
            if accepts_certificates {
                directory.by_certificate.insert(name, principal.clone());
            }
            let Some((id, hash, expires_at)) = key else { continue };
            if let (Some(id), Some(hash)) = (KeyId::parse(&id), SecretHash::from_bytes(&hash)) {
                directory.keys.insert(id, LiveKey { principal, hash, expires_at });
            }
        }
        directory
    }

    /// The caller that these credentials prove at `now`. Where both a certificate and a key are shown, they name the
    /// same principal. A certificate alone proves a principal that accepts certificates.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`] if a credential is invalid, the two disagree, or there is none.
    pub fn caller(&self, credentials: &Credentials, now: Time) -> Result<Caller> {
        let by_key = match &credentials.key {
            None => None,
            Some(key) => Some(self.holder(key, now).ok_or(Error::UnknownCaller)?),
        };
        let proven = match (by_key, &credentials.identity) {
            (Some(principal), Identity::Unknown) => Some(principal),
            (Some(principal), Identity::Certificate(name)) if principal.name == *name => {
                Some(principal)
            }
            (None, Identity::Certificate(name)) => self.by_certificate.get(name),
            (None, Identity::Unknown) | (_, Identity::Nameless(_) | Identity::Certificate(_)) => {
                None
            }
        };
        proven.map(|principal| Caller::new(principal.clone())).ok_or(Error::UnknownCaller)
    }

    fn holder(&self, key: &PresentedKey, now: Time) -> Option<&Arc<Principal>> {
        let live = self.keys.get(&key.id)?;
        (live.hash.matches(&key.hash) && now < live.expires_at).then_some(&live.principal)
    }
}

/// The principal of a row. Roles, scopes and tenants that this release does not know grant nothing.
fn understood(stored: StoredPrincipal) -> Principal {
    let roles = stored.roles.iter().filter_map(|name| Role::parse(name));
    let scopes: Vec<Scope> = stored.scopes.iter().filter_map(|name| Scope::parse(name)).collect();
    let scopes = roles.fold(Scopes::of(&scopes), |all, role| all.with(role.scopes()));
    let tenants = match stored.tenants.iter().any(|tenant| tenant == ALL_TENANTS) {
        true => Tenants::All,
        false => {
            let tenants = stored.tenants.iter().filter(|tenant| !tenant.is_empty());
            Tenants::Named(tenants.filter_map(|tenant| TenantId::parse(tenant).ok()).collect())
        }
    };
    Principal { name: stored.name, scopes, tenants, audiences: stored.audiences }
}

#[cfg(test)]
mod tests;
