//! `session_activities`: only written here.

use serde::Serialize;
use uuid::Uuid;

use super::from_generation;
use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::ids::UserId;

#[derive(Serialize)]
pub(in crate::store) struct ActivityRow<'a> {
    tenant_id: &'a str,
    user_id: &'a str,
    occurred_at: Time,
    activity_id: Uuid,
    session_id: Option<Uuid>,
    device_id: Option<Uuid>,
    alert_id: Option<Uuid>,
    kind: i16,
    end_reason: Option<i16>,
    generation: Option<i32>,
    principal: &'a str,
    ip_address: Option<std::net::IpAddr>,
    user_agent: Option<&'a str>,
}

impl<'a> From<&'a Activity> for ActivityRow<'a> {
    fn from(activity: &'a Activity) -> ActivityRow<'a> {
        ActivityRow {
            tenant_id: activity.tenant.as_str(),
            user_id: activity.user.as_ref().map_or("", UserId::as_str),
            occurred_at: activity.occurred_at,
            activity_id: activity.id,
            session_id: activity.session,
            device_id: activity.device,
            alert_id: activity.alert,
            kind: activity.kind as i16,
            end_reason: activity.end_reason.map(|reason| reason as i16),
            generation: activity.generation.map(from_generation),
            principal: &activity.principal,
            ip_address: activity.ip,
            user_agent: activity.user_agent.as_deref(),
        }
    }
}
