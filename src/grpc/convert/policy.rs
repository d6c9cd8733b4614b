//! Policies, GetPolicyRequest and the response of UpdatePolicy.

pub mod detection;
mod update;

use chrono::Duration;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::session::{to_caller, to_pb_watermark};
use crate::grpc::convert::time::{duration_to_pb, to_pb};
use crate::grpc::pb;
use crate::model::caller::principal::Caller;
use crate::model::caller::scope::Scope;
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::ids::{ClientId, TenantId};
use crate::model::policy::Limit;
use crate::model::policy::overrides::{self, Field, Overrides, PolicyLevel};
use crate::model::policy::preset::Excess;
use crate::model::policy::resolve::{Effective, Origin};
use crate::session::get_policy::Detection;
use crate::session::update_policy::Updated;

pub use update::update;

/// Checks a request for a policy; returns its level.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn scope(request: &pb::GetPolicyRequest) -> Result<overrides::PolicyScope> {
    let mut check = Check::default();
    let scope = level(&mut check, "", &request.tenant_id, &request.client_id);
    let Some(scope) = scope else { return Err(check.failed()) };
    check.done()?;
    Ok(scope)
}

fn level(
    check: &mut Check,
    path: &str,
    tenant: &str,
    client: &str,
) -> Option<overrides::PolicyScope> {
    let tenant = check.take(&format!("{path}tenant_id"), TenantId::parse(tenant));
    let client = match client {
        "" => Some(None),
        text => check.take(&format!("{path}client_id"), ClientId::parse(text)).map(Some),
    };
    Some(overrides::PolicyScope { tenant: tenant?, client: client? })
}

/// The settings that a level states, as a protobuf message.
pub fn to_pb_policy(level: PolicyLevel) -> pb::Policy {
    let PolicyLevel { scope, overrides, revision, updated, .. } = level;
    let (time, by) = updated.unzip();
    let types = overrides.device_type_limits.unwrap_or_default();
    pb::Policy {
        tenant_id: scope.tenant.to_string(),
        client_id: scope.client.map(|client| client.to_string()).unwrap_or_default(),
        preset: overrides.preset.map_or(0, |preset| i32::from(preset as i16)),
        idle_timeout: overrides.idle_timeout.map(duration_to_pb),
        absolute_timeout: overrides.absolute_timeout.map(duration_to_pb),
        access_token_ttl: overrides.access_token_ttl.map(duration_to_pb),
        refresh_grace: overrides.refresh_grace.map(duration_to_pb),
        lost_response_window: overrides.lost_response_window.map(duration_to_pb),
        user_limit: overrides.user_limit.map(to_pb_limit),
        client_limit: overrides.client_limit.map(to_pb_limit),
        device_type_limits: types
            .into_iter()
            .map(|(kind, limit)| pb::DeviceTypeLimit {
                device_type: i32::from(kind as i16),
                max: limit.max,
                strategy: i32::from(limit.on_limit as i16),
            })
            .collect(),
        acr_levels: overrides.acr_levels.unwrap_or_default(),
        detection: detection::to_pb(&overrides.detection),
        etag: revision.to_string(),
        update_time: time.map(to_pb),
        updated_by: by.unwrap_or_default(),
    }
}

/// The effective settings of a level with their origins, as a protobuf message.
pub fn to_pb_effective(
    level: PolicyLevel,
    effective: Effective,
    detection: Detection,
) -> pb::GetPolicyResponse {
    let advice = advice(effective.exceeded());
    let Effective { policy, preset, origins } = effective;
    let all = Overrides {
        preset,
        idle_timeout: Some(policy.idle_timeout.unwrap_or_else(Duration::zero)),
        absolute_timeout: Some(policy.absolute_timeout),
        access_token_ttl: Some(policy.access_token_ttl),
        refresh_grace: Some(policy.refresh_grace),
        lost_response_window: Some(policy.lost_response_window),
        user_limit: Some(policy.limits.user),
        client_limit: Some(policy.limits.client),
        device_type_limits: Some(policy.limits.device_types),
        acr_levels: Some(policy.acr_levels),
        detection: DetectionOverrides::all(&detection.settings),
    };
    // The origins of detection are listed for each value instead of each rule.
    let of_level = origins.into_iter().filter(|(field, _)| !matches!(field, Field::Detection(_)));
    let of_level = of_level.map(|(field, origin)| (field.name().to_owned(), origin));
    let stated = detection.stated.names();
    let of_detection = all.detection.names().into_iter().map(|name| {
        let by = if stated.contains(&name) { Origin::Tenant } else { Origin::BuiltIn };
        (format!("detection.{name}"), by)
    });
    let origins = of_level.chain(of_detection).collect::<Vec<_>>();
    pb::GetPolicyResponse {
        policy: Some(to_pb_policy(PolicyLevel { overrides: all, ..level })),
        origins: origins
            .into_iter()
            .map(|(name, origin)| (name, i32::from(origin as i16)))
            .collect(),
        advice,
    }
}

/// The result of an update, as far as the caller may read it: a caller with only `detection.write` gets only the
/// detection settings.
pub fn to_pb_updated(updated: Updated, caller: &Caller) -> pb::UpdatePolicyResponse {
    let Updated { mut level, advice: mut exceeded, mut ended } = updated;
    let sees = |scope| [Scope::PolicyWrite, scope].iter().any(|held| caller.scopes.has(*held));
    if !sees(Scope::PolicyRead) {
        let detection = std::mem::take(&mut level.overrides.detection);
        level.overrides = Overrides { detection, ..Overrides::default() };
        exceeded.clear();
    }
    if !sees(Scope::SessionRead) {
        ended.sample.clear();
    }
    pb::UpdatePolicyResponse {
        policy: Some(to_pb_policy(level)),
        terminated_count: ended.count,
        sample: ended.sample.into_iter().map(|session| to_caller(session, caller)).collect(),
        complete: ended.complete,
        watermark: to_pb_watermark(ended.watermark),
        advice: advice(exceeded),
    }
}

/// One sentence for each excess.
fn advice(exceeded: Vec<Excess>) -> Vec<String> {
    exceeded.into_iter().map(|excess| format!("{} {}", excess.field, excess.text)).collect()
}

fn to_pb_limit(limit: Limit) -> pb::SessionLimit {
    pb::SessionLimit { max: limit.max, strategy: i32::from(limit.on_limit as i16) }
}
