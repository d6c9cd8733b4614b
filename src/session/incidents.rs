//! One alert for each incident: a finding increments the count of the open incident, or begins
//! another. A finding that matches an earlier false positive is suppressed.

use std::collections::BTreeMap;

use crate::clock::Time;
use crate::error::Result;
use crate::model::alert::{ActionTaken, Alert, AlertState, Suppression};
use crate::model::ids::{TenantId, UserId};
use crate::store::changes::Changes;
use crate::store::{Connection, alerts};

/// The key of an incident. A suppressed one has a key of its own, because it is not published.
type IncidentKey = (TenantId, Option<UserId>, String, Option<Suppression>);

struct Incident {
    alert: Alert,
    /// The principal of the last finding.
    by: String,
    /// True if it is not in the database yet.
    is_new: bool,
    changed: bool,
}

/// Adds to `changes` the new and updated alerts for `found`, in the order of time.
///
/// # Errors
/// [`crate::error::Error::Unavailable`].
pub async fn raise(conn: &mut Connection, found: Vec<Alert>, changes: &mut Changes) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    let wanted: Vec<&Alert> = found.iter().collect();
    let mut going_on: BTreeMap<IncidentKey, Incident> = BTreeMap::new();
    for alert in alerts::current(conn, &wanted).await? {
        going_on.insert(key(&alert), Incident::of(alert, false));
    }
    let mut over = Vec::new();
    for alert in found {
        let key = key(&alert);
        match going_on.get_mut(&key) {
            Some(incident) if goes_on(&incident.alert, &alert) => incident.count(alert),
            _ => {
                over.extend(going_on.insert(key, Incident::of(alert, true)));
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
        incident.settle(changes);
    }
    for incident in going_on.into_values() {
        incident.settle(changes);
    }
    Ok(())
}

impl Incident {
    fn of(alert: Alert, is_new: bool) -> Incident {
        Incident { by: alert.raised_by.clone(), alert, is_new, changed: is_new }
    }

    fn count(&mut self, again: Alert) {
        let alert = &mut self.alert;
        alert.occurrence_count = alert.occurrence_count.saturating_add(1);
        alert.last_seen_at = alert.last_seen_at.max(again.last_seen_at);
        alert.dedup_until = alert.dedup_until.max(again.dedup_until);
        if again.action_taken != ActionTaken::None {
            alert.action_taken = again.action_taken;
        }
        self.by = again.raised_by;
        self.changed = true;
    }

    fn settle(mut self, changes: &mut Changes) {
        if self.is_new {
            changes.raise_alert(self.alert);
        } else if self.changed {
            self.alert.revision += 1;
            changes.repeat_alert(self.alert, &self.by);
        }
    }
}

fn key(alert: &Alert) -> IncidentKey {
    (alert.tenant.clone(), alert.user.clone(), alert.dedup_key.clone(), alert.suppression)
}

/// True if `again` belongs to the same incident: within the window, and the alert is not resolved.
fn goes_on(alert: &Alert, again: &Alert) -> bool {
    let in_time = alert.dedup_until.is_none_or(|until| again.first_seen_at <= until);
    in_time && !matches!(alert.state, AlertState::Resolved { .. })
}

/// The false positives that suppress findings of some users.
pub struct Silences(Vec<Alert>);

impl Silences {
    /// The false positives of these users, or of no user, that hold after `after`.
    ///
    /// # Errors
    /// [`crate::error::Error::Unavailable`].
    pub async fn of(
        conn: &mut Connection,
        users: &[(&TenantId, Option<&UserId>)],
        after: Time,
    ) -> Result<Silences> {
        Ok(Silences(alerts::silencing(conn, users, after).await?))
    }

    /// True if one of them covers a finding with this key at that time.
    pub fn cover(&self, of: (&TenantId, Option<&UserId>), dedup_key: &str, at: Time) -> bool {
        let (tenant, user) = of;
        self.0.iter().any(|alert| {
            (&alert.tenant, alert.user.as_ref()) == (tenant, user)
                && alert.dedup_key == dedup_key
                && alert.suppressed_until.is_some_and(|until| at < until)
        })
    }
}
