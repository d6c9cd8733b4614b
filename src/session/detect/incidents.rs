//! One alert for each incident: a finding counts up the incident that goes on, or begins another.

use std::collections::BTreeMap;

use crate::clock::Clock;
use crate::detection::Finding;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::alert::{ActionTaken, Alert, AlertState, Suppression};
use crate::model::detection::rule::About;
use crate::model::ids::{TenantId, UserId};
use crate::session::detect::enforce::{Taken, session_of};
use crate::store::changes::Changes;
use crate::store::{Connection, alerts};

/// What makes an incident: nobody is told of a suppressed one, so it is not the same.
type Key = (TenantId, Option<UserId>, String, Option<Suppression>);

struct Incident {
    alert: Alert,
    /// Not in the database yet.
    is_new: bool,
    changed: bool,
}

/// Adds to `changes` what the findings, in the order of time, make of the alerts there are; `taken` is what was
/// done to the sessions of some.
pub(super) async fn raise(
    conn: &mut Connection,
    clock: &Clock,
    findings: Vec<Finding>,
    taken: &Taken,
    changes: &mut Changes,
) -> Result<()> {
    if findings.is_empty() {
        return Ok(());
    }
    let found: Vec<Alert> =
        findings.into_iter().map(|finding| alert(clock, finding, taken)).collect();
    let wanted: Vec<&Alert> = found.iter().collect();
    let mut going_on: BTreeMap<Key, Incident> = BTreeMap::new();
    for alert in alerts::current(conn, &wanted).await? {
        going_on.insert(key(&alert), Incident { alert, is_new: false, changed: false });
    }
    let mut over = Vec::new();
    for alert in found {
        let key = key(&alert);
        match going_on.get_mut(&key) {
            Some(incident) if goes_on(&incident.alert, &alert) => incident.count(alert),
            _ => {
                let new = Incident { alert, is_new: true, changed: true };
                over.extend(going_on.insert(key, new));
            }
        }
    }
    let closed: Vec<&Alert> =
        over.iter().filter(|incident| !incident.is_new).map(|incident| &incident.alert).collect();
    if !closed.is_empty() {
        alerts::close(conn, &closed).await?;
    }
    for mut incident in over {
        incident.alert.is_over = true;
        incident.settle(clock, changes);
    }
    for incident in going_on.into_values() {
        incident.settle(clock, changes);
    }
    Ok(())
}

impl Incident {
    fn count(&mut self, again: Alert) {
        let alert = &mut self.alert;
        alert.occurrence_count = alert.occurrence_count.saturating_add(1);
        alert.last_seen_at = alert.last_seen_at.max(again.last_seen_at);
        alert.dedup_until = alert.dedup_until.max(again.dedup_until);
        if again.action_taken != ActionTaken::None {
            alert.action_taken = again.action_taken;
        }
        self.changed = true;
    }

    fn settle(mut self, clock: &Clock, changes: &mut Changes) {
        let id = clock.new_id();
        if self.is_new {
            changes.raise(self.alert, id);
        } else if self.changed {
            self.alert.revision += 1;
            let (at, kind) = (self.alert.last_seen_at, ActivityKind::AlertRaised);
            changes.activities.push(Activity::of_alert(id, at, kind, SYSTEM, &self.alert));
            changes.worked.push(self.alert);
        }
    }
}

fn key(alert: &Alert) -> Key {
    (alert.tenant.clone(), alert.user.clone(), alert.dedup_key.clone(), alert.suppression)
}

/// True if `again` belongs to the same incident: in time, and nobody has closed it.
fn goes_on(alert: &Alert, again: &Alert) -> bool {
    let in_time = alert.dedup_until.is_none_or(|until| again.first_seen_at <= until);
    in_time && !matches!(alert.state, AlertState::Resolved { .. })
}

fn alert(clock: &Clock, finding: Finding, taken: &Taken) -> Alert {
    let session = session_of(&finding).filter(|_| finding.action.is_some());
    let action_taken = session.and_then(|key| taken.get(&key).copied());
    let About { id, version, category, severity, title, .. } = finding.rule.about();
    Alert {
        id: clock.new_id(),
        tenant: finding.tenant,
        user: finding.user,
        session: finding.session,
        device: finding.device,
        category,
        severity,
        rule_id: id.to_owned(),
        rule_version: version,
        title: title.to_owned(),
        description: finding.description,
        evidence: finding.evidence,
        dedup_key: finding.dedup_key,
        dedup_until: Some(finding.at + finding.window),
        is_over: false,
        suppression: finding.suppression,
        suppressed_until: None,
        raised_by: SYSTEM.to_owned(),
        occurrence_count: 1,
        first_seen_at: finding.at,
        last_seen_at: finding.at,
        action_taken: action_taken.unwrap_or(ActionTaken::None),
        state: AlertState::Open,
        notes: Vec::new(),
        revision: 1,
    }
}
