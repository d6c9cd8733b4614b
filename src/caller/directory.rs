//! All principals and valid API keys, which every replica caches; resolves credentials to a principal.

use std::collections::HashMap;
use std::sync::Arc;

use crate::caller::account::{Account, Accounts};
use crate::caller::key::{KeyId, PresentedKey, SecretHash};
use crate::caller::permissions::Role;
use crate::clock::Time;
use crate::error::{Error, Result};
use crate::model::caller::Identity;
use crate::model::caller::connection::CallerConnection;
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
    /// Proves an identity by its certificate, if it has one.
    pub connection: Arc<CallerConnection>,
    pub key: Option<PresentedKey>,
}

/// All principals and their live keys.
#[derive(Default)]
pub struct Directory {
    /// Those that certificates prove, by name.
    by_certificate: HashMap<String, Arc<KnownCaller>>,
    keys: HashMap<KeyId, LiveKey>,
}

/// A principal with its account on this replica.
pub struct KnownCaller {
    pub caller: Caller,
    pub account: Arc<Account>,
}

struct LiveKey {
    caller: Arc<KnownCaller>,
    hash: SecretHash,
    expires_at: Time,
}

impl Credentials {
    /// True if the call has no credentials.
    pub fn is_empty(&self) -> bool {
        *self.connection.identity() == Identity::Unknown && self.key.is_none()
    }
}

impl Directory {
    /// Reads the directory, without the keys that had expired at `now`.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn read(db: &Database, now: Time, accounts: &Accounts) -> Result<Directory> {
        let mut conn = db.acquire().await?;
        // At most `MOST` principals and `MOST` keys; more can only come from outside sessiond.
        let most = i64::try_from(2 * MOST).unwrap_or(i64::MAX);
        let known = callers::known(&mut conn, now, most + 1).await?;
        if known.len() > 2 * MOST {
            tracing::error!(most, "more principals and keys than there may be; some are not known");
        }
        Ok(Directory::of(known, accounts))
    }

    fn of(known: Vec<PrincipalWithKey>, accounts: &Accounts) -> Directory {
        let (mut directory, mut callers) = (Directory::default(), HashMap::new());
        let accounts = accounts.of(known.iter().map(|known| known.principal.name.as_str()));
        for (PrincipalWithKey { principal, key }, account) in known.into_iter().zip(accounts) {
            let (name, accepts_certificates) =
                (principal.name.clone(), principal.accepts_certificates);
            let known = || {
                let caller = Caller::new(Arc::new(understood(principal)));
                Arc::new(KnownCaller { caller, account })
            };
            let caller = callers.entry(name.clone()).or_insert_with(known).clone();
            if accepts_certificates {
                directory.by_certificate.insert(name, caller.clone());
            }
            let Some((id, hash, expires_at)) = key else { continue };
            if let (Some(id), Some(hash)) = (KeyId::parse(&id), SecretHash::from_bytes(&hash)) {
                directory.keys.insert(id, LiveKey { caller, hash, expires_at });
            }
        }
        directory
    }

    /// The caller that these credentials prove at `now`. Where both a certificate and a key are shown, they name the
    /// same principal. A certificate alone proves a principal that accepts certificates.
    ///
    /// # Errors
    /// [`Error::UnknownCaller`] if a credential is invalid, the two disagree, or there is none.
    pub fn caller(&self, credentials: &Credentials, now: Time) -> Result<Arc<KnownCaller>> {
        let by_key = match &credentials.key {
            None => None,
            Some(key) => Some(self.holder(key, now).ok_or(Error::UnknownCaller)?),
        };
        let proven = match (by_key, credentials.connection.identity()) {
            (Some(known), Identity::Unknown) => Some(known),
            (Some(known), Identity::Certificate(name)) if known.caller.name == *name => Some(known),
            (None, Identity::Certificate(name)) => self.by_certificate.get(name),
            (None, Identity::Unknown) | (_, Identity::Nameless(_) | Identity::Certificate(_)) => {
                None
            }
        };
        proven.cloned().ok_or(Error::UnknownCaller)
    }

    fn holder(&self, key: &PresentedKey, now: Time) -> Option<&Arc<KnownCaller>> {
        let live = self.keys.get(&key.id)?;
        (live.hash.matches(&key.hash) && now < live.expires_at).then_some(&live.caller)
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
