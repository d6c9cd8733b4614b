//! `security_alerts`.

use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{corrupt, json};
use crate::clock::Time;
use crate::error::Error;
use crate::model::alert::{ActionTaken, Alert, AlertState, Category, Mark, Resolution, Severity};
use crate::model::ids::{TenantId, UserId};
use crate::store::schema::security_alerts;

#[derive(Queryable, Selectable, Serialize)]
#[diesel(table_name = security_alerts, check_for_backend(diesel::pg::Pg))]
pub(in crate::store) struct AlertRow {
    tenant_id: String,
    user_id: String,
    alert_id: Uuid,
    session_id: Option<Uuid>,
    device_id: Option<Uuid>,
    category: i16,
    severity: i16,
    rule_id: String,
    rule_version: i32,
    title: String,
    description: String,
    evidence: Value,
    dedup_key: String,
    occurrence_count: i32,
    first_seen_at: Time,
    last_seen_at: Time,
    action_taken: i16,
    state: i16,
    acknowledged_by: Option<String>,
    acknowledged_at: Option<Time>,
    resolved_by: Option<String>,
    resolved_at: Option<Time>,
    resolution: Option<i16>,
    notes: Value,
    revision: i32,
}

impl From<&Alert> for AlertRow {
    fn from(alert: &Alert) -> AlertRow {
        let (acknowledged, resolved, resolution) = match &alert.state {
            AlertState::Open => (None, None, None),
            AlertState::Acknowledged(mark) => (Some(mark), None, None),
            AlertState::Resolved { acknowledged, resolved, resolution } => {
                (acknowledged.as_ref(), Some(resolved), Some(*resolution))
            }
        };
        AlertRow {
            tenant_id: alert.tenant.to_string(),
            user_id: alert.user.to_string(),
            alert_id: alert.id,
            session_id: alert.session,
            device_id: alert.device,
            category: alert.category as i16,
            severity: alert.severity as i16,
            rule_id: alert.rule_id.clone(),
            rule_version: alert.rule_version,
            title: alert.title.clone(),
            description: alert.description.clone(),
            evidence: json(&alert.evidence),
            dedup_key: alert.dedup_key.clone(),
            occurrence_count: alert.occurrence_count,
            first_seen_at: alert.first_seen_at,
            last_seen_at: alert.last_seen_at,
            action_taken: alert.action_taken as i16,
            state: alert.state.number(),
            acknowledged_by: acknowledged.map(|mark| mark.by.clone()),
            acknowledged_at: acknowledged.map(|mark| mark.at),
            resolved_by: resolved.map(|mark| mark.by.clone()),
            resolved_at: resolved.map(|mark| mark.at),
            resolution: resolution.map(|resolution| resolution as i16),
            notes: json(&alert.notes),
            revision: alert.revision,
        }
    }
}

impl TryFrom<AlertRow> for Alert {
    type Error = Error;

    fn try_from(row: AlertRow) -> Result<Alert, Error> {
        let id = row.alert_id;
        let bad = |column| move || corrupt("security_alerts", column, id);
        let mark = |by: Option<String>, at: Option<Time>| Some(Mark { by: by?, at: at? });
        let acknowledged = mark(row.acknowledged_by, row.acknowledged_at);
        let resolved = mark(row.resolved_by, row.resolved_at);
        let resolution = row.resolution.and_then(|n| Resolution::from_number(n.into()));
        let state = match (row.state, acknowledged, resolved, resolution) {
            (1, None, None, None) => AlertState::Open,
            (2, Some(mark), None, None) => AlertState::Acknowledged(mark),
            (3, acknowledged, Some(resolved), Some(resolution)) => {
                AlertState::Resolved { acknowledged, resolved, resolution }
            }
            _ => return Err(bad("state")()),
        };
        Ok(Alert {
            id,
            tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
            user: UserId::parse(&row.user_id).map_err(|_| bad("user_id")())?,
            session: row.session_id,
            device: row.device_id,
            category: Category::from_number(row.category.into()).ok_or_else(bad("category"))?,
            severity: Severity::from_number(row.severity.into()).ok_or_else(bad("severity"))?,
            rule_id: row.rule_id,
            rule_version: row.rule_version,
            title: row.title,
            description: row.description,
            evidence: serde_json::from_value(row.evidence).map_err(|_| bad("evidence")())?,
            dedup_key: row.dedup_key,
            occurrence_count: row.occurrence_count,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            action_taken: ActionTaken::from_number(row.action_taken.into())
                .ok_or_else(bad("action_taken"))?,
            state,
            notes: serde_json::from_value(row.notes).map_err(|_| bad("notes")())?,
            revision: row.revision,
        })
    }
}
