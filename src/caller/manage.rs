//! What operators do: principals and API keys are set up, listed and taken away. A change counts on all replicas within
//! the staleness bound.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};

use crate::caller::directory::MOST;
use crate::caller::key;
use crate::caller::permissions::Role;
use crate::clock::{Clock, Time};
use crate::model::caller::principal::check_name;
use crate::model::caller::scope::Scope;
use crate::model::ids::TenantId;
use crate::store::callers::{self, ALL_TENANTS, StoredKey, StoredPrincipal};
use crate::store::changes::Changes;
use crate::store::listener;
use crate::store::pool::{Database, Transaction};

/// The most keys of a principal that are live at once: one in use, and the next.
pub const LIVE_KEYS: usize = 2;
/// How long an ended key stays in the list.
const LISTED_FOR: chrono::Duration = chrono::Duration::days(90);
/// The most tenants, and audiences, that a principal names.
const TENANTS: usize = 100;
const AUDIENCES: usize = 16;

/// Sets up who may call `db`.
pub struct Manage {
    db: Database,
    clock: Clock,
}

/// What a principal may do.
#[derive(Debug, Clone, Default)]
pub struct Grant {
    pub roles: Vec<Role>,
    pub scopes: Vec<Scope>,
    /// Tenant ids, or `*` for all; at least one.
    pub tenants: Vec<String>,
    /// Whom tokens that it validates must be meant for; empty = anybody.
    pub audiences: Vec<String>,
}

/// A key that was made. Has no `Debug`.
pub struct NewKey {
    pub id: String,
    /// To be shown once; it is kept nowhere.
    pub text: String,
    pub expires_at: Time,
}

/// What a key is good for at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    Live,
    Expired,
    Revoked,
}

impl KeyState {
    /// That of `key` at `now`.
    pub fn of(key: &StoredKey, now: Time) -> KeyState {
        match key.revoked_at {
            Some(_) => KeyState::Revoked,
            None if now < key.expires_at => KeyState::Live,
            None => KeyState::Expired,
        }
    }

    /// As it is listed.
    pub fn name(self) -> &'static str {
        match self {
            KeyState::Live => "live",
            KeyState::Expired => "expired",
            KeyState::Revoked => "revoked",
        }
    }
}

impl Manage {
    /// Works on `db`, by its time.
    pub fn new(db: Database, clock: Clock) -> Manage {
        Manage { db, clock }
    }

    /// Adds the principal, or replaces what it may do.
    ///
    /// # Errors
    /// A rule that is broken, in words, or an outage.
    pub async fn set_principal(&self, name: &str, grant: &Grant) -> Result<()> {
        let (mut tx, now) = self.begin().await?;
        self.write_principal(&mut tx, name, grant, now).await?;
        self.finish(tx).await
    }

    /// Deletes the principal and its keys.
    ///
    /// # Errors
    /// There is none, or an outage.
    pub async fn remove_principal(&self, name: &str) -> Result<()> {
        let (mut tx, _) = self.begin().await?;
        ensure!(
            callers::remove_principal(&mut tx, name).await?,
            "there is no principal {name:?}: sessiond principal list"
        );
        self.finish(tx).await
    }

    /// Makes a key that lasts for `life`. With `grant`, a principal that is not there is added.
    ///
    /// # Errors
    /// A rule that is broken, in words, or an outage.
    pub async fn create_key(
        &self,
        principal: &str,
        life: Duration,
        grant: Option<&Grant>,
    ) -> Result<NewKey> {
        let (mut tx, now) = self.begin().await?;
        let known = callers::principals(&mut tx).await?;
        match (known.iter().any(|known| known.name == principal), grant) {
            (true, None) => {}
            (true, Some(_)) => bail!(
                "the principal {principal:?} exists already; sessiond principal set changes it"
            ),
            (false, Some(grant)) => self.write_principal(&mut tx, principal, grant, now).await?,
            (false, None) => bail!(
                "there is no principal {principal:?}: sessiond principal set, or say here what it \
                 may do (--role, --tenant)"
            ),
        }
        callers::prune_keys(&mut tx, now - LISTED_FOR).await?;
        let mut live = callers::keys(&mut tx).await?;
        live.retain(|key| KeyState::of(key, now) == KeyState::Live);
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
        let stored = StoredKey {
            key_id: made.id.as_str().to_owned(),
            principal: principal.to_owned(),
            secret_sha256: made.hash.bytes().to_vec(),
            created_at: now,
            expires_at: now + life,
            revoked_at: None,
        };
        callers::add_key(&mut tx, &stored).await?;
        self.finish(tx).await?;
        Ok(NewKey { id: stored.key_id, text, expires_at: stored.expires_at })
    }

    /// Revokes a key; one that was revoked before is fine. Whose it is.
    ///
    /// # Errors
    /// There is none, or an outage.
    pub async fn revoke_key(&self, id: &str) -> Result<String> {
        let (mut tx, now) = self.begin().await?;
        let keys = callers::keys(&mut tx).await?;
        let key = keys.into_iter().find(|key| key.key_id == id);
        let key = key.ok_or_else(|| anyhow!("there is no key {id:?}: sessiond api-key list"))?;
        callers::revoke_key(&mut tx, id, now).await?;
        self.finish(tx).await?;
        Ok(key.principal)
    }

    /// All principals, by name.
    ///
    /// # Errors
    /// An outage.
    pub async fn principals(&self) -> Result<Vec<StoredPrincipal>> {
        Ok(callers::principals(&mut *self.db.acquire().await?).await?)
    }

    /// All keys with what they are good for, by principal and age; ended ones for 90 days or longer.
    ///
    /// # Errors
    /// An outage.
    pub async fn keys(&self) -> Result<Vec<(StoredKey, KeyState)>> {
        let keys = callers::keys(&mut *self.db.acquire().await?).await?;
        let now = self.clock.now();
        let state = |key: StoredKey| {
            let state = KeyState::of(&key, now);
            (key, state)
        };
        Ok(keys.into_iter().map(state).collect())
    }

    /// One at a time: what is counted stands still until the commit.
    async fn begin(&self) -> Result<(Transaction, Time)> {
        let mut tx = self.db.begin().await?;
        callers::lock(&mut tx).await?;
        Ok((tx, self.clock.now()))
    }

    /// Commits, and has all replicas read anew.
    async fn finish(&self, mut tx: Transaction) -> Result<()> {
        let mut changes = Changes::new(&self.clock);
        changes.change_callers();
        changes.write(&mut tx).await?;
        tx.commit().await.context("it is not known whether this was done: list, and try again")?;
        if let Err(error) = listener::tell(&self.db).await {
            tracing::debug!(%error, "others will hear of it by themselves");
        }
        Ok(())
    }

    async fn write_principal(
        &self,
        tx: &mut Transaction,
        name: &str,
        grant: &Grant,
        now: Time,
    ) -> Result<()> {
        check_name(name).map_err(|rule| anyhow!("the name of a principal {rule}"))?;
        check(grant)?;
        let known = callers::principals(tx).await?;
        let is_new = !known.iter().any(|known| known.name == name);
        ensure!(
            !is_new || known.len() < MOST,
            "there are {MOST} principals, the most there may be"
        );
        let stored = StoredPrincipal {
            name: name.to_owned(),
            roles: grant.roles.iter().map(|role| role.name().to_owned()).collect(),
            scopes: grant.scopes.iter().map(|scope| scope.name().to_owned()).collect(),
            tenants: grant.tenants.clone(),
            audiences: grant.audiences.clone(),
            created_at: now,
            updated_at: now,
        };
        Ok(callers::set_principal(tx, &stored).await?)
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
