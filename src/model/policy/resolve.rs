//! Resolves one policy from its levels: the client's over the tenant's over the built-in one, field by field. Pure and
//! total: any levels resolve to a consistent policy.

use std::collections::BTreeMap;

use crate::error::Violation;
use crate::model::policy::Policy;
use crate::model::policy::overrides::{Field, Overrides};
use crate::model::policy::preset::Preset;

numbered! {
    /// Which level a value comes from.
    Origin {
        BuiltIn = 1,
        Tenant = 2,
        /// The preset that the tenant's level names.
        TenantPreset = 3,
        Client = 4,
        /// The preset that the client's level names.
        ClientPreset = 5,
    }
}

/// A policy with every level of it resolved, and where its values come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub policy: Policy,
    /// The nearest one that is named.
    pub preset: Option<Preset>,
    /// For every field.
    pub origins: BTreeMap<Field, Origin>,
}

/// What applies under these levels. A timeout without activity that is longer than the absolute one is cut to it, the
/// life of access tokens to the timeout without activity, which services that verify tokens by themselves do not see,
/// and a refresh grace to the lost-response window: an inherited value must not block a shorter one that a level
/// states.
pub fn resolve(builtin: &Policy, tenant: &Overrides, client: &Overrides) -> Effective {
    let mut effective = stack(builtin, tenant, client);
    let Effective { policy, origins, .. } = &mut effective;
    if policy.idle_timeout.is_some_and(|idle| idle > policy.absolute_timeout) {
        policy.idle_timeout = Some(policy.absolute_timeout);
        origins.insert(Field::IdleTimeout, origins[&Field::AbsoluteTimeout]);
    }
    if let Some(idle) = policy.idle_timeout.filter(|idle| policy.access_token_ttl > *idle) {
        policy.access_token_ttl = idle;
        origins.insert(Field::AccessTokenTtl, origins[&Field::IdleTimeout]);
    }
    if policy.refresh_grace > policy.lost_response_window {
        policy.refresh_grace = policy.lost_response_window;
        origins.insert(Field::RefreshGrace, origins[&Field::LostResponseWindow]);
    }
    effective
}

/// Checks the rules between fields that a level states itself. `client` is empty where the tenant's level is meant.
///
/// # Errors
/// Every broken rule, by proto field.
pub fn check(
    builtin: &Policy,
    tenant: &Overrides,
    client: Option<&Overrides>,
) -> Result<(), Vec<Violation>> {
    let stated = client.unwrap_or(tenant);
    let given = stack(builtin, tenant, client.unwrap_or(&Overrides::default()));
    let mut broken = Vec::new();
    let mut rule = |field: &str, rule: String| {
        broken.push(Violation { field: format!("policy.{field}"), rule });
    };
    let absolute = given.policy.absolute_timeout;
    if stated.idle_timeout.is_some() && given.policy.idle_timeout.is_some_and(|i| i > absolute) {
        let text = format!("must be at most the absolute timeout of {}s", absolute.num_seconds());
        rule("idle_timeout", text);
    }
    let idle = given.policy.idle_timeout.map(|idle| idle.min(absolute));
    if let (Some(ttl), Some(idle)) = (stated.access_token_ttl, idle)
        && ttl > idle
    {
        let text = format!("must be at most the idle timeout of {}s", idle.num_seconds());
        rule("access_token_ttl", text);
    }
    let window = given.policy.lost_response_window;
    if stated.refresh_grace.is_some_and(|grace| grace > window) {
        let text = format!("must be at most the lost response window of {}s", window.num_seconds());
        rule("refresh_grace", text);
    }
    for excess in given.exceeded().into_iter().filter(|excess| excess.forbidden) {
        rule(excess.field, excess.text);
    }
    if broken.is_empty() { Ok(()) } else { Err(broken) }
}

impl Effective {
    /// Where this goes beyond what its preset says.
    pub fn exceeded(&self) -> Vec<super::preset::Excess> {
        self.preset.map(|preset| preset.exceeded(&self.policy)).unwrap_or_default()
    }

    /// Puts a level on top.
    fn put(&mut self, level: &Overrides, origin: Origin, by_preset: Origin) {
        let Effective { policy, preset, origins } = self;
        if let Some(named) = level.preset {
            *preset = Some(named);
            policy.absolute_timeout = named.absolute();
            policy.idle_timeout = named.idle();
            origins.insert(Field::AbsoluteTimeout, by_preset);
            origins.insert(Field::IdleTimeout, by_preset);
        }
        origins.extend(level.stated().into_iter().map(|field| (field, origin)));
        if let Some(idle) = level.idle_timeout {
            policy.idle_timeout = Some(idle).filter(|idle| !idle.is_zero());
        }
        fn over<T: Clone>(value: &mut T, stated: &Option<T>) {
            if let Some(stated) = stated {
                value.clone_from(stated);
            }
        }
        over(&mut policy.absolute_timeout, &level.absolute_timeout);
        over(&mut policy.access_token_ttl, &level.access_token_ttl);
        over(&mut policy.refresh_grace, &level.refresh_grace);
        over(&mut policy.lost_response_window, &level.lost_response_window);
        over(&mut policy.limits.user, &level.user_limit);
        over(&mut policy.limits.client, &level.client_limit);
        over(&mut policy.limits.device_types, &level.device_type_limits);
        over(&mut policy.acr_levels, &level.acr_levels);
    }
}

fn stack(builtin: &Policy, tenant: &Overrides, client: &Overrides) -> Effective {
    let origins = Field::ALL.map(|field| (field, Origin::BuiltIn)).into_iter().collect();
    let mut effective = Effective { policy: builtin.clone(), preset: None, origins };
    effective.put(tenant, Origin::Tenant, Origin::TenantPreset);
    effective.put(client, Origin::Client, Origin::ClientPreset);
    effective
}

#[cfg(test)]
mod tests;
