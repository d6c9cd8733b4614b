//! `session_activities`.

use std::net::IpAddr;

use chrono::Duration;
use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{are_possible, corrupt, from_generation, interval, is_possible, json, user_or_none};
use crate::clock::Time;
use crate::error::Error;
use crate::model::activity::{Activity, ActivityKind, ActivityReport};
use crate::model::device::DeviceType;
use crate::model::ids::{ClientId, TenantId, UserId};
use crate::model::session::EndReason;
use crate::store::schema::session_activities;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = session_activities, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct ActivityRow {
    tenant_id: String,
    user_id: String,
    occurred_at: Time,
    activity_id: Uuid,
    session_id: Option<Uuid>,
    device_id: Option<Uuid>,
    alert_id: Option<Uuid>,
    kind: i16,
    end_reason: Option<i16>,
    generation: Option<i32>,
    principal: String,
    ip_address: Option<ipnet::IpNet>,
    user_agent: Option<String>,
    client_id: Option<String>,
    device_type: Option<i16>,
    location: Option<Value>,
    name: Option<String>,
    endpoint: Option<String>,
    method: Option<String>,
    /// NULL unless it was reported.
    success: Option<bool>,
    error_code: Option<String>,
    #[serde(serialize_with = "interval")]
    latency: Option<Duration>,
    metadata: Option<Value>,
    /// NULL unless it was administrative.
    change: Option<Value>,
}

stored!(ActivityRow as session_activities::SqlType: "session_activities" by "activity_id", "occurred_at");

impl From<&Activity> for ActivityRow {
    fn from(activity: &Activity) -> ActivityRow {
        let report = activity.report.clone();
        let ActivityReport { name, endpoint, method, error_code, latency, metadata, .. } =
            report.unwrap_or_default();
        ActivityRow {
            tenant_id: activity.tenant.to_string(),
            user_id: activity.user.as_ref().map(UserId::to_string).unwrap_or_default(),
            occurred_at: activity.occurred_at,
            activity_id: activity.id,
            session_id: activity.session,
            device_id: activity.device,
            alert_id: activity.alert,
            kind: activity.kind as i16,
            end_reason: activity.end_reason.map(|reason| reason as i16),
            generation: activity.generation.map(from_generation),
            principal: activity.principal.clone(),
            ip_address: activity.ip.map(ipnet::IpNet::from),
            user_agent: activity.user_agent.clone(),
            client_id: activity.client.as_ref().map(ClientId::to_string),
            device_type: activity.device_type.map(|kind| kind as i16),
            location: activity.location.as_ref().map(json),
            name,
            endpoint,
            method,
            success: activity.report.as_ref().map(|report| report.success),
            error_code,
            latency,
            metadata: (!metadata.is_empty()).then(|| json(&metadata)),
            change: activity.change.as_ref().map(json),
        }
    }
}

impl TryFrom<ActivityRow> for Activity {
    type Error = Error;

    fn try_from(row: ActivityRow) -> Result<Activity, Error> {
        let id = row.activity_id;
        let bad = |column| move || corrupt("session_activities", column, id);
        if !are_possible([Some(row.occurred_at)]) || !is_possible(row.latency) {
            return Err(bad("occurred_at or latency")());
        }
        let report = row.success.map(|success| -> Result<ActivityReport, Error> {
            Ok(ActivityReport {
                name: row.name,
                endpoint: row.endpoint,
                method: row.method,
                success,
                error_code: row.error_code,
                latency: row.latency,
                metadata: match row.metadata {
                    Some(metadata) => {
                        serde_json::from_value(metadata).map_err(|_| bad("metadata")())?
                    }
                    None => Default::default(),
                },
            })
        });
        let end_reason =
            row.end_reason.map(|n| EndReason::from_number(n.into()).ok_or_else(bad("end_reason")));
        let device_type = row
            .device_type
            .map(|n| DeviceType::from_number(n.into()).ok_or_else(bad("device_type")));
        Ok(Activity {
            id,
            tenant: TenantId::parse_or_all(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
            user: user_or_none(&row.user_id).ok_or_else(bad("user_id"))?,
            occurred_at: row.occurred_at,
            session: row.session_id,
            device: row.device_id,
            alert: row.alert_id,
            kind: ActivityKind::from_number(row.kind.into()).ok_or_else(bad("kind"))?,
            end_reason: end_reason.transpose()?,
            generation: row
                .generation
                .map(u32::try_from)
                .transpose()
                .map_err(|_| bad("generation")())?,
            principal: row.principal,
            ip: row.ip_address.map(|net| -> IpAddr { net.addr() }),
            user_agent: row.user_agent,
            client: row
                .client_id
                .map(|id| ClientId::parse(&id))
                .transpose()
                .map_err(|_| bad("client_id")())?,
            device_type: device_type.transpose()?,
            location: row
                .location
                .map(serde_json::from_value)
                .transpose()
                .map_err(|_| bad("location")())?,
            report: report.transpose()?,
            change: row
                .change
                .map(serde_json::from_value)
                .transpose()
                .map_err(|_| bad("change")())?,
        })
    }
}
