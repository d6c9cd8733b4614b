//! The operator's commands: set, list and remove principals and API keys. A change is effective on all replicas within
//! the staleness bound.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::caller::directory::MOST;
use crate::caller::key;
use crate::caller::permissions::Role;
use crate::clock::{Clock, Time};
use crate::model::caller::operator::Operator;
use crate::model::caller::principal::check_name;
use crate::model::caller::scope::Scope;
use crate::model::ids::{ALL_TENANTS, TenantId};
use crate::store::callers::{self, StoredApiKey, StoredPrincipal};
use crate::store::changes::Changes;
use crate::store::changes::administration::Administration;
use crate::store::listener;
use crate::store::pool::{Database, Transaction};

/// The most live keys of a principal: the current one, and its successor.
pub const LIVE_KEYS: usize = 2;
/// How long an ended key stays in the list.
const LISTED_FOR: chrono::Duration = chrono::Duration::days(90);
/// The most tenants and audiences of a principal.
const TENANTS: usize = 100;
const AUDIENCES: usize = 16;

/// Manages the callers of `db`.
pub struct Manage {
    db: Database,
    clock: Clock,
    by: Operator,
}

/// The permissions of a principal.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub roles: Vec<Role>,
    pub scopes: Vec<Scope>,
    /// Tenant ids, or `*` for all; at least one.
    pub tenants: Vec<String>,
    /// The audiences that validated tokens must have; empty = any.
    pub audiences: Vec<String>,
    /// Client certificates that name it prove it, as well as its API keys.
    pub accepts_certificates: bool,
}

/// A created key. Has no `Debug`.
pub struct NewKey {
    pub id: String,
    /// Shown once, and not stored.
    pub text: String,
    pub expires_at: Time,
}

/// Whether a key is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyState {
    Live,
    Expired,
    Revoked,
}

impl ApiKeyState {
    /// The state of `key` at `now`.
    pub fn of(key: &StoredApiKey, now: Time) -> ApiKeyState {
        match key.revoked_at {
            Some(_) => ApiKeyState::Revoked,
            None if now < key.expires_at => ApiKeyState::Live,
            None => ApiKeyState::Expired,
        }
    }

    /// The name in lists.
    pub fn name(self) -> &'static str {
        match self {
            ApiKeyState::Live => "live",
            ApiKeyState::Expired => "expired",
            ApiKeyState::Revoked => "revoked",
        }
    }
}

impl Manage {
    /// Works on `db` in the name of `by`.
    pub fn new(db: Database, clock: Clock, by: Operator) -> Manage {
        Manage { db, clock, by }
    }

    /// Adds the principal, or replaces its permissions.
    ///
    /// # Errors
    /// If a rule is broken, or the database cannot be reached.
    pub async fn set_principal(&self, name: &str, grant: &Grant) -> Result<()> {
        let (mut tx, mut changes) = self.begin().await?;
        let known = callers::principals(&mut tx).await?;
        self.grant(&mut changes, &known, name, grant)?;
        self.finish(tx, changes).await
    }

    /// Deletes the principal and its keys.
    ///
    /// # Errors
    /// If there is no such principal, or the database cannot be reached.
    pub async fn remove_principal(&self, name: &str) -> Result<()> {
        let (mut tx, mut changes) = self.begin().await?;
        let known = callers::principals(&mut tx).await?;
        let before = known.into_iter().find(|known| known.name == name);
        let before = before
            .ok_or_else(|| anyhow!("there is no principal {name:?}: sessiond principal list"))?;
        let keys = callers::keys(&mut tx).await?.into_iter();
        let keys = keys.filter(|key| key.principal == name).map(|key| key.key_id).collect();
        changes.administer(Administration::RemovePrincipal { before, keys }, &self.by);
        self.finish(tx, changes).await
    }

    /// Creates a key that is valid for `life`. With `grant`, also creates its principal, which must not exist.
    ///
    /// # Errors
    /// If a rule is broken, or the database cannot be reached.
    pub async fn create_key(
        &self,
        principal: &str,
        life: Duration,
        grant: Option<&Grant>,
    ) -> Result<NewKey> {
        let (mut tx, mut changes) = self.begin().await?;
        let now = changes.at();
        let known = callers::principals(&mut tx).await?;
        let tenants = match (known.iter().find(|known| known.name == principal), grant) {
            (Some(known), None) => known.tenants.clone(),
            (Some(_), Some(_)) => bail!(
                "the principal {principal:?} exists already; sessiond principal set changes it"
            ),
            (None, Some(grant)) => {
                self.grant(&mut changes, &known, principal, grant)?;
                grant.tenants.clone()
            }
            (None, None) => bail!(
                "there is no principal {principal:?}: sessiond principal set, or say here what it \
                 may do (--role, --tenant)"
            ),
        };
        callers::prune_keys(&mut tx, now - LISTED_FOR).await?;
        let mut live = callers::keys(&mut tx).await?;
        live.retain(|key| ApiKeyState::of(key, now) == ApiKeyState::Live);
        ensure!(live.len() < MOST, "there are {MOST} live keys, the most there may be");
        let own: Vec<&str> = live
            .iter()
            .filter(|key| key.principal == principal)
            .map(|key| key.key_id.as_str())
            .collect();
        ensure!(
            own.len() < LIVE_KEYS,
            "{principal:?} has {LIVE_KEYS} live keys, the most there may be ({}): sessiond api-key \
             revoke one of them",
            own.join(", ")
        );
        let (made, text) = key::generate()?;
        let life = chrono::Duration::from_std(life).context("a shorter life")?;
        let stored = StoredApiKey {
            key_id: made.id.as_str().to_owned(),
            principal: principal.to_owned(),
            secret_sha256: made.hash.bytes().to_vec(),
            created_at: now,
            expires_at: now + life,
            revoked_at: None,
        };
        let new = NewKey { id: stored.key_id.clone(), text, expires_at: stored.expires_at };
        changes.administer(Administration::CreateApiKey { key: stored, tenants }, &self.by);
        self.finish(tx, changes).await?;
        Ok(new)
    }

    /// Revokes a key, and returns its principal. Does nothing to a key that is already revoked.
    ///
    /// # Errors
    /// If there is no such key, or the database cannot be reached.
    pub async fn revoke_key(&self, id: &str) -> Result<String> {
        let (mut tx, mut changes) = self.begin().await?;
        let keys = callers::keys(&mut tx).await?;
        let key = keys.into_iter().find(|key| key.key_id == id);
        let key = key.ok_or_else(|| anyhow!("there is no key {id:?}: sessiond api-key list"))?;
        let principal = key.principal.clone();
        if key.revoked_at.is_none() {
            let known = callers::principals(&mut tx).await?.into_iter();
            let mut owner = known.filter(|known| known.name == principal);
            let tenants = owner.next().map(|owner| owner.tenants).unwrap_or_default();
            changes.administer(Administration::RevokeApiKey { key, tenants }, &self.by);
        }
        self.finish(tx, changes).await?;
        Ok(principal)
    }

    /// All principals, by name.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn principals(&self) -> Result<Vec<StoredPrincipal>> {
        Ok(callers::principals(&mut *self.db.acquire().await?).await?)
    }

    /// All keys with their states, by principal and age. Ended keys are listed for at least 90 days.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn keys(&self) -> Result<Vec<(StoredApiKey, ApiKeyState)>> {
        let keys = callers::keys(&mut *self.db.acquire().await?).await?;
        let now = self.clock.now();
        let state = |key: StoredApiKey| {
            let state = ApiKeyState::of(&key, now);
            (key, state)
        };
        Ok(keys.into_iter().map(state).collect())
    }

    /// Takes the lock of the callers, so that the counts stay true until the commit.
    async fn begin(&self) -> Result<(Transaction, Changes)> {
        let mut tx = self.db.begin().await?;
        callers::lock(&mut tx).await?;
        Ok((tx, Changes::new(&self.clock)))
    }

    /// Writes the changes, commits, and notifies the replicas.
    async fn finish(&self, mut tx: Transaction, changes: Changes) -> Result<()> {
        changes.write(&mut tx).await?;
        tx.commit().await.context("it is not known whether this was done: list, and try again")?;
        if let Err(error) = listener::notify(&self.db).await {
            tracing::debug!(%error, "the replicas find it by their own polls");
        }
        Ok(())
    }

    fn grant(
        &self,
        changes: &mut Changes,
        known: &[StoredPrincipal],
        name: &str,
        grant: &Grant,
    ) -> Result<()> {
        check_name(name).map_err(|rule| anyhow!("the name of a principal {rule}"))?;
        check(grant)?;
        let before = known.iter().find(|known| known.name == name).cloned();
        ensure!(
            before.is_some() || known.len() < MOST,
            "there are {MOST} principals, the most there may be"
        );
        let after = StoredPrincipal {
            name: name.to_owned(),
            roles: grant.roles.iter().map(|role| role.name().to_owned()).collect(),
            scopes: grant.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            tenants: grant.tenants.clone(),
            audiences: grant.audiences.clone(),
            accepts_certificates: grant.accepts_certificates,
            created_at: changes.at(),
            updated_at: changes.at(),
        };
        changes.administer(Administration::SetPrincipal { before, after }, &self.by);
        Ok(())
    }
}

fn check(grant: &Grant) -> Result<()> {
    ensure!(
        !grant.roles.is_empty() || !grant.scopes.is_empty(),
        "--role or --scope: a principal needs one at least"
    );
    ensure!(
        (1..=TENANTS).contains(&grant.tenants.len()),
        "--tenant: 1 to {TENANTS} are needed, or * for all"
    );
    for tenant in &grant.tenants {
        if tenant == ALL_TENANTS {
            ensure!(grant.tenants.len() == 1, "--tenant: * stands for all of them, so alone");
        } else if tenant.is_empty() {
            bail!("--tenant: must not be empty");
        } else {
            TenantId::parse(tenant).map_err(|rule| anyhow!("--tenant {tenant:?}: {rule}"))?;
        }
    }
    ensure!(grant.audiences.len() <= AUDIENCES, "--audience: at most {AUDIENCES}");
    for audience in &grant.audiences {
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        ensure!(
            (1..=256).contains(&audience.len()) && audience.bytes().all(plain),
            "--audience {audience:?}: must be 1 to 256 visible ASCII characters except \" and \\"
        );
    }
    let doubled = |list: &[&str]| (1..list.len()).any(|at| list[..at].contains(&list[at]));
    let tenants: Vec<&str> = grant.tenants.iter().map(String::as_str).collect();
    let audiences: Vec<&str> = grant.audiences.iter().map(String::as_str).collect();
    let roles: Vec<&str> = grant.roles.iter().map(|role| role.name()).collect();
    let scopes: Vec<&str> = grant.scopes.iter().map(|scope| scope.name()).collect();
    let twice = [roles, scopes, tenants, audiences].iter().any(|list| doubled(list));
    ensure!(!twice, "a role, scope, tenant or audience is named twice");
    Ok(())
}
