//! UpdatePolicyRequest.

use std::collections::BTreeMap;

use prost_types::FieldMask;

use crate::error::Result;
use crate::grpc::convert::check::Check;
use crate::grpc::convert::mask;
use crate::grpc::convert::policy::{detection, level};
use crate::grpc::convert::request::request_id;
use crate::grpc::convert::time::duration;
use crate::grpc::pb;
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::device::DeviceType;
use crate::model::policy::overrides::{Field, Overrides};
use crate::model::policy::preset::Preset;
use crate::model::policy::ranges::{self, Range};
use crate::model::policy::{Limit, OnLimit, acr};
use crate::session::update_policy::PolicyUpdate;

/// The path of all detection settings.
const DETECTION: &str = "detection";

/// Checks a change of a level. Rules between values are checked later, since they need the levels above.
///
/// # Errors
/// [`crate::error::Error::Invalid`].
pub fn update(mut request: pb::UpdatePolicyRequest, principal: String) -> Result<PolicyUpdate> {
    let mut check = Check::default();
    let id = std::mem::take(&mut request.request_id);
    let remember = request_id(&mut check, &principal, "UpdatePolicy", &id, &request);
    let before = check.count();
    let Some(mut policy) = request.policy else {
        let fields = Field::ALL.iter().map(|field| field.name());
        let names: Vec<&str> = fields.chain([DETECTION]).collect();
        mask::names_only(&mut check, request.update_mask.as_ref(), &names);
        return Err(check.missing("policy"));
    };
    let etag = std::mem::take(&mut policy.etag);
    let scope = level(&mut check, "policy.", &policy.tenant_id, &policy.client_id);
    let is_clients = !policy.client_id.is_empty();
    let overrides = overrides(&mut check, policy);
    if is_clients {
        let rule =
            "must be stated by the tenant itself: rules look at users, whichever client they use";
        if overrides.detection != DetectionOverrides::default() {
            check.broken("policy.detection", rule);
        } else if names_detection(request.update_mask.as_ref()) {
            check.broken(
                "update_mask",
                format!("must not name {DETECTION} for a client, it {rule}"),
            );
        }
    }
    let stated = overrides.stated();
    let mut populated: Vec<(&str, bool)> =
        Field::ALL.iter().map(|field| (field.name(), stated.contains(field))).collect();
    // The path of the whole message can be named, and sets all fields in it.
    populated.push((DETECTION, false));
    // Invalid fields are populated, but missing from `stated`: skip the check that something is populated.
    let is_populated = request.update_mask.is_none() && check.count() > before;
    let named = match is_populated {
        true => Vec::new(),
        false => mask::chosen(&mut check, request.update_mask, &populated),
    };
    let is_named = |field: &Field| {
        named.contains(&field.name())
            || (matches!(field, Field::Detection(_)) && named.contains(&DETECTION))
    };
    let Some(scope) = scope else { return Err(check.failed()) };
    check.done()?;
    Ok(PolicyUpdate {
        scope,
        fields: Field::ALL.into_iter().filter(is_named).collect(),
        overrides,
        etag: Some(etag).filter(|etag| !etag.is_empty()),
        dry_run: request.dry_run,
        request: remember,
        principal,
    })
}

fn overrides(check: &mut Check, policy: pb::Policy) -> Overrides {
    let mut length = |field: &str, given, range: &Range| {
        let field = format!("policy.{field}");
        let length = duration(check, &field, given)?;
        if !range.holds(length) {
            check.broken(&field, format!("must be {}", range.rule));
        }
        Some(length)
    };
    Overrides {
        idle_timeout: length("idle_timeout", policy.idle_timeout, &ranges::IDLE_TIMEOUT),
        absolute_timeout: length(
            "absolute_timeout",
            policy.absolute_timeout,
            &ranges::ABSOLUTE_TIMEOUT,
        ),
        access_token_ttl: length(
            "access_token_ttl",
            policy.access_token_ttl,
            &ranges::ACCESS_TOKEN_TTL,
        ),
        refresh_grace: length("refresh_grace", policy.refresh_grace, &ranges::REFRESH_GRACE),
        lost_response_window: length(
            "lost_response_window",
            policy.lost_response_window,
            &ranges::LOST_RESPONSE_WINDOW,
        ),
        preset: check.value("policy.preset", policy.preset, Preset::from_number),
        user_limit: policy
            .user_limit
            .map(|given| limit(check, "policy.user_limit", given.max, given.strategy)),
        client_limit: policy
            .client_limit
            .map(|given| limit(check, "policy.client_limit", given.max, given.strategy)),
        device_type_limits: device_types(check, policy.device_type_limits),
        acr_levels: acr_levels(check, policy.acr_levels),
        detection: detection::overrides(
            check,
            "policy.detection",
            policy.detection.unwrap_or_default(),
        ),
    }
}

fn names_detection(mask: Option<&FieldMask>) -> bool {
    let mut paths = mask.iter().flat_map(|mask| &mask.paths);
    paths.any(|path| path.split('.').next() == Some(DETECTION))
}

/// Levels of authentication; none = absent.
fn acr_levels(check: &mut Check, levels: Vec<String>) -> Option<Vec<String>> {
    if levels.is_empty() {
        return None;
    }
    for (index, rule) in acr::violations(&levels) {
        let index = index.map(|index| format!("[{index}]")).unwrap_or_default();
        check.broken(&format!("policy.acr_levels{index}"), rule);
    }
    Some(levels)
}

fn limit(check: &mut Check, field: &str, max: u32, strategy: i32) -> Limit {
    if max > ranges::MAX_SESSIONS {
        check.broken(&format!("{field}.max"), format!("must be at most {}", ranges::MAX_SESSIONS));
    }
    let on_limit = check.value(&format!("{field}.strategy"), strategy, OnLimit::from_number);
    Limit { max, on_limit: on_limit.unwrap_or_default() }
}

fn device_types(
    check: &mut Check,
    given: Vec<pb::DeviceTypeLimit>,
) -> Option<BTreeMap<DeviceType, Limit>> {
    const FIELD: &str = "policy.device_type_limits";
    let mut limits = BTreeMap::new();
    // There are fewer than 16 types, so any further entry repeats one.
    for (i, entry) in given.iter().enumerate().take(16) {
        let field = format!("{FIELD}[{i}]");
        let limit = limit(check, &field, entry.max, entry.strategy);
        let kind = DeviceType::from_number(entry.device_type)
            .filter(|kind| *kind != DeviceType::Unspecified);
        let kind = kind.ok_or_else(|| "must be a type of device".to_owned());
        let Some(kind) = check.take(&format!("{field}.device_type"), kind) else { continue };
        if limits.insert(kind, limit).is_some() {
            check.broken(&format!("{field}.device_type"), "must stand in one entry only");
        }
    }
    if given.len() > 16 {
        check.broken(FIELD, "must be at most one entry a type");
    }
    Some(limits).filter(|limits| !limits.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn broken(policy: Option<pb::Policy>, paths: &[&str]) -> Vec<String> {
        let paths = paths.iter().map(ToString::to_string).collect();
        let update_mask = Some(FieldMask { paths }).filter(|mask| !mask.paths.is_empty());
        let request = pb::UpdatePolicyRequest { policy, update_mask, ..Default::default() };
        match update(request, String::new()) {
            Err(Error::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            Err(error) => panic!("{error:?}"),
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn a_bad_mask_is_named_beside_the_missing_policy() {
        assert_eq!(broken(None, &["x"]), ["update_mask", "policy"]);
        assert_eq!(broken(None, &["detection"]), ["policy"]);
    }

    #[test]
    fn a_client_cannot_reset_detection() {
        let of = |client: &str| {
            let tenant_id = "default".to_owned();
            Some(pb::Policy { tenant_id, client_id: client.to_owned(), ..Default::default() })
        };
        for path in ["detection", "detection.new_device"] {
            assert_eq!(broken(of("web"), &[path]), ["update_mask"], "{path}");
        }
        assert!(broken(of("web"), &["idle_timeout"]).is_empty());
        assert!(broken(of(""), &["detection"]).is_empty());
    }

    #[test]
    fn an_invalid_level_is_named_by_its_index() {
        let with = |levels: &[&str]| {
            let acr_levels = levels.iter().map(ToString::to_string).collect();
            let tenant_id = "default".to_owned();
            broken(Some(pb::Policy { tenant_id, acr_levels, ..Default::default() }), &[])
        };
        assert!(with(&["1", "2"]).is_empty());
        let named = ["policy.acr_levels[1]", "policy.acr_levels[2]", "policy.acr_levels[4]"];
        assert_eq!(with(&["1", "a\"b", "a\\b", "2", "1"]), named);
        assert_eq!(with(&["1", "", "3"]), ["policy.acr_levels[1]"]);
        let many: Vec<String> = (0..17).map(|i| i.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(with(&many), ["policy.acr_levels"]);
    }
}
