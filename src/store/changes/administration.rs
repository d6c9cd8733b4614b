//! Changes of principals, API keys and signing keys. [`Changes::administer`] is the only way to write them, so that
//! each has its rows in the audit trail.

use std::collections::{BTreeMap, BTreeSet};

use super::Changes;
use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::administration::AdministrativeChange;
use crate::model::caller::operator::Operator;
use crate::model::ids::{ALL_TENANTS, TenantId};
use crate::model::revocation::Revocation;
use crate::store::callers::{self, StoredApiKey, StoredPrincipal};
use crate::store::keys::{self, StoredSigningKey as SigningKey};
use crate::store::pool::Transaction;

/// A change of one principal, API key or signing key, decided under the lock of its table.
pub enum Administration {
    /// Adds a principal, or replaces what it may do.
    SetPrincipal { before: Option<StoredPrincipal>, after: StoredPrincipal },
    /// Deletes a principal, and these keys of it.
    RemovePrincipal { before: StoredPrincipal, keys: Vec<String> },
    /// Adds a key of a principal of these tenants.
    CreateApiKey { key: StoredApiKey, tenants: Vec<String> },
    /// Revokes a key, which is not revoked, of a principal of these tenants.
    RevokeApiKey { key: StoredApiKey, tenants: Vec<String> },
    /// Adds a signing key.
    PublishKey(SigningKey),
    /// Changes the times of a signing key, or removes it.
    UpdateKey { before: SigningKey, after: SigningKey },
    /// Deletes a signing key.
    ForgetKey(SigningKey),
}

type Facts = BTreeMap<String, String>;

impl Changes {
    /// Makes the change, records it in the audit trail of each tenant that it concerns, and makes all replicas read the
    /// table again.
    pub fn administer(&mut self, change: Administration, by: &Operator) {
        for tenant in change.tenants() {
            let activity = self.activity(change.kind(), by.as_str(), &tenant, None);
            let change = Some(change.shown_to(&tenant, self.at));
            self.activities.push(Activity { change, ..activity });
        }
        self.revoke(match (&change, change.kind()) {
            (Administration::UpdateKey { after, .. }, ActivityKind::SigningKeyRemoved) => {
                Revocation::of_key(&after.kid, self.at)
            }
            (
                Administration::PublishKey(key)
                | Administration::UpdateKey { after: key, .. }
                | Administration::ForgetKey(key),
                _,
            ) => Revocation::of_key_set(&key.kid, self.at),
            _ => Revocation::of_callers(self.at),
        });
        self.administered.push(change);
    }
}

impl Administration {
    /// The name of the change in the audit trail.
    pub fn kind(&self) -> ActivityKind {
        match self {
            Administration::SetPrincipal { .. } => ActivityKind::PrincipalSet,
            Administration::RemovePrincipal { .. } => ActivityKind::PrincipalRemoved,
            Administration::CreateApiKey { .. } => ActivityKind::ApiKeyCreated,
            Administration::RevokeApiKey { .. } => ActivityKind::ApiKeyRevoked,
            Administration::PublishKey(_) => ActivityKind::SigningKeyPublished,
            Administration::UpdateKey { before, after }
                if before.removed_at != after.removed_at =>
            {
                ActivityKind::SigningKeyRemoved
            }
            Administration::UpdateKey { .. } => ActivityKind::SigningKeyRescheduled,
            Administration::ForgetKey(_) => ActivityKind::SigningKeyForgotten,
        }
    }

    pub(super) async fn apply(&self, tx: &mut Transaction, at: Time) -> Result<()> {
        match self {
            Administration::SetPrincipal { after, .. } => callers::set_principal(tx, after).await,
            Administration::RemovePrincipal { before, .. } => {
                callers::remove_principal(tx, &before.name).await
            }
            Administration::CreateApiKey { key, .. } => callers::add_key(tx, key).await,
            Administration::RevokeApiKey { key, .. } => {
                callers::revoke_key(tx, &key.key_id, at).await
            }
            Administration::PublishKey(key) => keys::add(tx, key).await,
            Administration::UpdateKey { after, .. } => keys::put(tx, after).await,
            Administration::ForgetKey(key) => keys::forget(tx, &key.kid).await,
        }
    }

    /// The tenants whose audit trail has the change: those before and after it. A principal without a tenant that this
    /// release knows concerns all.
    fn tenants(&self) -> BTreeSet<TenantId> {
        let (before, after): (&[String], &[String]) = match self {
            Administration::SetPrincipal { before, after } => {
                (before.as_ref().map_or(&[], |before| &before.tenants), &after.tenants)
            }
            Administration::RemovePrincipal { before, .. } => (&before.tenants, &[]),
            Administration::CreateApiKey { tenants, .. }
            | Administration::RevokeApiKey { tenants, .. } => (tenants, &[]),
            Administration::PublishKey(_)
            | Administration::UpdateKey { .. }
            | Administration::ForgetKey(_) => (&[], &[]),
        };
        let named = before.iter().chain(after).map(|tenant| TenantId::parse_or_all(tenant));
        let mut tenants: BTreeSet<TenantId> = named.filter_map(Result::ok).collect();
        if tenants.is_empty() {
            tenants.extend(TenantId::parse_or_all(ALL_TENANTS));
        }
        tenants
    }

    fn shown_to(&self, tenant: &TenantId, at: Time) -> AdministrativeChange {
        let none = AdministrativeChange::default();
        let of_api = |key: &StoredApiKey, before, after| AdministrativeChange {
            principal: Some(key.principal.clone()),
            key: Some(key.key_id.clone()),
            before,
            after,
        };
        match self {
            Administration::SetPrincipal { before, after } => AdministrativeChange {
                principal: Some(after.name.clone()),
                before: before.as_ref().map(|it| of_grant(it, tenant)).unwrap_or_default(),
                after: of_grant(after, tenant),
                ..none
            },
            Administration::RemovePrincipal { before, keys } => {
                let keys = (!keys.is_empty()).then(|| ("key_ids".to_owned(), keys.join(",")));
                AdministrativeChange {
                    principal: Some(before.name.clone()),
                    before: of_grant(before, tenant).into_iter().chain(keys).collect(),
                    ..none
                }
            }
            Administration::CreateApiKey { key, .. } => {
                of_api(key, Facts::new(), of_api_key(key, key.revoked_at))
            }
            Administration::RevokeApiKey { key, .. } => {
                of_api(key, of_api_key(key, key.revoked_at), of_api_key(key, Some(at)))
            }
            Administration::PublishKey(key) => AdministrativeChange {
                key: Some(key.kid.clone()),
                after: of_signing_key(key),
                ..none
            },
            Administration::UpdateKey { before, after } => AdministrativeChange {
                key: Some(after.kid.clone()),
                before: of_signing_key(before),
                after: of_signing_key(after),
                ..none
            },
            Administration::ForgetKey(key) => AdministrativeChange {
                key: Some(key.kid.clone()),
                before: of_signing_key(key),
                ..none
            },
        }
    }
}

/// A tenant's audit trail names no other tenant.
fn of_grant(principal: &StoredPrincipal, tenant: &TenantId) -> Facts {
    let tenant = tenant.as_str();
    let shown =
        |named: &&String| tenant == ALL_TENANTS || *named == tenant || *named == ALL_TENANTS;
    let tenants: Vec<String> = principal.tenants.iter().filter(shown).cloned().collect();
    let lists = [
        ("roles", &principal.roles),
        ("scopes", &principal.scopes),
        ("tenants", &tenants),
        ("audiences", &principal.audiences),
    ];
    let mut all =
        facts(lists.map(|(name, list)| (name, (!list.is_empty()).then(|| list.join(",")))));
    let accepts = principal.accepts_certificates.then(|| "true".to_owned());
    all.extend(facts([("accepts_certificates", accepts)]));
    all
}

fn of_api_key(key: &StoredApiKey, revoked_at: Option<Time>) -> Facts {
    facts([("expire_time", Some(text(key.expires_at))), ("revoke_time", revoked_at.map(text))])
}

fn of_signing_key(key: &SigningKey) -> Facts {
    let purpose = if key.purpose == 1 { "access" } else { "refresh" };
    facts([
        ("purpose", Some(purpose.to_owned())),
        ("algorithm", Some(key.algorithm.clone())),
        ("sign_time", key.signs_from.map(text)),
        ("retire_time", key.retires_at.map(text)),
        ("remove_time", key.removed_at.map(text)),
    ])
}

fn facts<const N: usize>(facts: [(&str, Option<String>); N]) -> Facts {
    facts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn text(at: Time) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}
