//! `security_alerts`.

use diesel::prelude::{Queryable, Selectable};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{are_possible, corrupt, json};
use crate::clock::Time;
use crate::error::Error;
use crate::model::alert::{
    ActionTaken, Alert, AlertState, Attribution, Category, MAX_NOTES, Note, Resolution, Severity,
    Suppression,
};
use crate::model::ids::TenantId;
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
    dedup_until: Option<Time>,
    suppression: i16,
    suppressed_until: Option<Time>,
    raised_by: String,
    assignee: Option<String>,
}

stored!(AlertRow as security_alerts::SqlType: "security_alerts" by "alert_id");

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
            user_id: alert.user.as_ref().map(ToString::to_string).unwrap_or_default(),
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
            dedup_key: stored_key(alert),
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
            dedup_until: alert.dedup_until,
            suppression: alert.suppression.map_or(0, |why| why as i16),
            suppressed_until: alert.suppressed_until,
            raised_by: alert.raised_by.clone(),
            assignee: alert.assignee.clone(),
        }
    }
}

impl TryFrom<AlertRow> for Alert {
    type Error = Error;

    fn try_from(row: AlertRow) -> Result<Alert, Error> {
        let id = row.alert_id;
        let bad = |column| move || corrupt("security_alerts", column, id);
        let times = [Some(row.first_seen_at), Some(row.last_seen_at), row.acknowledged_at];
        let more = [row.resolved_at, row.dedup_until, row.suppressed_until];
        if !are_possible(times.into_iter().chain(more)) {
            return Err(bad("times")());
        }
        if row.revision == i32::MAX || row.occurrence_count == i32::MAX {
            return Err(bad("revision or occurrence_count")());
        }
        let mark = |by: Option<String>, at: Option<Time>| Some(Attribution { by: by?, at: at? });
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
        let suppression = match row.suppression {
            0 => None,
            n => Some(Suppression::from_number(n.into()).ok_or_else(bad("suppression"))?),
        };
        let (dedup_key, is_over) = plain_key(&row.dedup_key, suppression, id);
        Ok(Alert {
            id,
            tenant: TenantId::parse(&row.tenant_id).map_err(|_| bad("tenant_id")())?,
            user: super::user_or_none(&row.user_id).ok_or_else(bad("user_id"))?,
            session: row.session_id,
            device: row.device_id,
            category: Category::from_number(row.category.into()).ok_or_else(bad("category"))?,
            severity: Severity::from_number(row.severity.into()).ok_or_else(bad("severity"))?,
            rule_id: row.rule_id,
            rule_version: row.rule_version,
            title: row.title,
            description: row.description,
            evidence: serde_json::from_value(row.evidence).map_err(|_| bad("evidence")())?,
            dedup_key,
            is_over,
            dedup_until: row.dedup_until,
            suppression,
            suppressed_until: row.suppressed_until,
            raised_by: row.raised_by,
            assignee: row.assignee,
            occurrence_count: row.occurrence_count,
            first_seen_at: row.first_seen_at,
            last_seen_at: row.last_seen_at,
            action_taken: ActionTaken::from_number(row.action_taken.into())
                .ok_or_else(bad("action_taken"))?,
            state,
            notes: latest(serde_json::from_value(row.notes).map_err(|_| bad("notes")())?),
            revision: row.revision,
        })
    }
}

/// Earlier releases kept any number: more than fit into an answer.
fn latest(mut notes: Vec<Note>) -> Vec<Note> {
    let excess = notes.len().saturating_sub(MAX_NOTES);
    notes.drain(..excess);
    notes
}

/// The key with which a row is unique: a suppressed finding does not count up an alert that is shown, and an incident
/// that is over is not counted up.
pub(in crate::store) fn stored_key(alert: &Alert) -> String {
    let mut key = alert.dedup_key.clone();
    if let Some(why) = alert.suppression {
        key.push_str(&format!("~{}", why as i16));
    }
    if alert.is_over {
        key.push_str(&format!("#{}", alert.id));
    }
    key
}

fn plain_key(stored: &str, suppression: Option<Suppression>, id: Uuid) -> (String, bool) {
    let of_incident = stored.strip_suffix(&format!("#{id}"));
    let key = of_incident.unwrap_or(stored);
    let mark = suppression.map(|why| format!("~{}", why as i16)).unwrap_or_default();
    (key.strip_suffix(&mark).unwrap_or(key).to_owned(), of_incident.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_was() {
        let id = Uuid::from_u128(7);
        for key in ["plain", "with~5", "with#00000000-0000-0000-0000-000000000008", ""] {
            for (mark, why) in [("", None), ("~1", Some(Suppression::Shadow))] {
                let current = format!("{key}{mark}");
                assert_eq!(plain_key(&current, why, id), (key.to_owned(), false));
                assert_eq!(plain_key(&format!("{current}#{id}"), why, id), (key.to_owned(), true));
            }
        }
    }
}
