//! `policies`.

use std::collections::BTreeMap;

use chrono::Duration;
use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;

use super::{corrupt, interval, json};
use crate::clock::Time;
use crate::error::Error;
use crate::model::detection::overrides::DetectionOverrides;
use crate::model::device::DeviceType;
use crate::model::ids::{ClientId, TenantId};
use crate::model::policy::overrides::{Overrides, PolicyLevel, PolicyScope};
use crate::model::policy::preset::Preset;
use crate::model::policy::{Limit, OnLimit};
use crate::store::schema::policies;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = policies, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct PolicyRow {
    tenant_id: String,
    client_id: String,
    preset: Option<i16>,
    #[serde(serialize_with = "interval")]
    idle_timeout: Option<Duration>,
    #[serde(serialize_with = "interval")]
    absolute_timeout: Option<Duration>,
    #[serde(serialize_with = "interval")]
    access_token_ttl: Option<Duration>,
    #[serde(serialize_with = "interval")]
    refresh_grace: Option<Duration>,
    #[serde(serialize_with = "interval")]
    lost_response_window: Option<Duration>,
    user_max: Option<i32>,
    user_on_limit: Option<i16>,
    client_max: Option<i32>,
    client_on_limit: Option<i16>,
    device_type_limits: Option<Value>,
    acr_levels: Option<Vec<String>>,
    revision: i64,
    updated_at: Option<Time>,
    updated_by: Option<String>,
    apply_at: Option<Time>,
    /// NULL where nothing of it is stated.
    detection: Option<Value>,
}

/// The client of a tenant's own level.
pub(in crate::store) const NO_CLIENT: &str = "";

impl From<&PolicyLevel> for PolicyRow {
    fn from(level: &PolicyLevel) -> PolicyRow {
        let PolicyLevel { scope, overrides, .. } = level;
        let max = |limit: Option<Limit>| limit.map(|limit| from_max(limit.max));
        let on_limit = |limit: Option<Limit>| limit.map(|limit| limit.on_limit as i16);
        let of_type =
            |(kind, limit): (&DeviceType, &Limit)| (*kind as i16, limit.max, limit.on_limit as i16);
        let types = overrides.device_type_limits.as_ref();
        PolicyRow {
            tenant_id: scope.tenant.to_string(),
            client_id: scope.client.as_ref().map_or(NO_CLIENT, ClientId::as_str).to_owned(),
            preset: overrides.preset.map(|preset| preset as i16),
            idle_timeout: overrides.idle_timeout,
            absolute_timeout: overrides.absolute_timeout,
            access_token_ttl: overrides.access_token_ttl,
            refresh_grace: overrides.refresh_grace,
            lost_response_window: overrides.lost_response_window,
            user_max: max(overrides.user_limit),
            user_on_limit: on_limit(overrides.user_limit),
            client_max: max(overrides.client_limit),
            client_on_limit: on_limit(overrides.client_limit),
            device_type_limits: types
                .map(|types| json(&types.iter().map(of_type).collect::<Vec<_>>())),
            acr_levels: overrides.acr_levels.clone(),
            revision: level.revision,
            updated_at: level.updated.as_ref().map(|(at, _)| *at),
            updated_by: level.updated.as_ref().map(|(_, by)| by.clone()),
            apply_at: level.apply_at,
            detection: Some(&overrides.detection)
                .filter(|detection| **detection != DetectionOverrides::default())
                .map(json),
        }
    }
}

impl TryFrom<PolicyRow> for PolicyLevel {
    type Error = Error;

    fn try_from(row: PolicyRow) -> Result<PolicyLevel, Error> {
        let name = &format!("{} of {}", row.client_id, row.tenant_id);
        let bad = |column| move || corrupt("policies", column, name);
        let client = Some(row.client_id.as_str()).filter(|client| *client != NO_CLIENT);
        let preset = |number: i16| Preset::from_number(number.into()).ok_or_else(bad("preset"));
        Ok(PolicyLevel {
            scope: PolicyScope {
                tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
                client: client.map(ClientId::parse).transpose().map_err(|_| bad("client_id")())?,
            },
            overrides: Overrides {
                preset: row.preset.map(preset).transpose()?,
                idle_timeout: row.idle_timeout,
                absolute_timeout: row.absolute_timeout,
                access_token_ttl: row.access_token_ttl,
                refresh_grace: row.refresh_grace,
                lost_response_window: row.lost_response_window,
                user_limit: limit(row.user_max, row.user_on_limit)
                    .ok_or_else(bad("user_on_limit"))?,
                client_limit: limit(row.client_max, row.client_on_limit)
                    .ok_or_else(bad("client_on_limit"))?,
                device_type_limits: row
                    .device_type_limits
                    .map(|value| device_types(value).ok_or_else(bad("device_type_limits")))
                    .transpose()?,
                acr_levels: row.acr_levels,
                detection: row
                    .detection
                    .map(serde_json::from_value)
                    .transpose()
                    .map_err(|_| bad("detection")())?
                    .unwrap_or_default(),
            },
            revision: row.revision,
            updated: row.updated_at.zip(row.updated_by),
            apply_at: row.apply_at,
        })
    }
}

fn from_max(max: u32) -> i32 {
    i32::try_from(max).unwrap_or(i32::MAX)
}

/// Inside: absent where both are.
fn limit(max: Option<i32>, on_limit: Option<i16>) -> Option<Option<Limit>> {
    let (Some(max), Some(on_limit)) = (max, on_limit) else {
        return (max.is_none() && on_limit.is_none()).then_some(None);
    };
    let on_limit = OnLimit::from_number(on_limit.into())?;
    Some(Some(Limit { max: u32::try_from(max).ok()?, on_limit }))
}

fn device_types(value: Value) -> Option<BTreeMap<DeviceType, Limit>> {
    let rows: Vec<(i32, u32, i32)> = serde_json::from_value(value).ok()?;
    rows.into_iter()
        .map(|(kind, max, on_limit)| {
            let on_limit = OnLimit::from_number(on_limit)?;
            Some((DeviceType::from_number(kind)?, Limit { max, on_limit }))
        })
        .collect()
}
