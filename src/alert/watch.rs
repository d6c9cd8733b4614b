//! WatchAlerts: events of alerts, as they are committed.

use crate::cache::feed::{ActivityBatch, Hub, Subscription as Feed};
use crate::clock::Time;
use crate::error::Result;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::{Alert, AlertFilter};
use crate::model::feed::Position;
use crate::model::ids::TenantId;
use uuid::Uuid;

/// Watches alerts.
pub struct WatchAlerts {
    hub: Hub,
}

/// An event of an alert.
#[derive(Debug, Clone)]
pub struct AlertEvent {
    /// The id of the activity.
    pub id: Uuid,
    pub kind: AlertEventKind,
    pub at: Time,
    /// The principal that caused it.
    pub principal: String,
    /// The alert when the event was read, perhaps with later changes.
    pub alert: Alert,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertEventKind {
    Raised,
    /// The finding was repeated.
    Repeated,
    Acknowledged,
    Resolved,
    Reopened,
    Noted,
}

impl WatchAlerts {
    /// Watches the feed of `hub`.
    pub fn new(hub: Hub) -> WatchAlerts {
        WatchAlerts { hub }
    }

    /// Watches the alerts of a tenant, or of all tenants, after a position; without one, from now on.
    ///
    /// # Errors
    /// [`crate::error::Error::InvalidCursor`], [`crate::error::Error::Overloaded`],
    /// [`crate::error::Error::Unavailable`].
    pub async fn watch(
        &self,
        tenant: Option<TenantId>,
        filter: AlertFilter,
        from: Option<Position>,
    ) -> Result<Feed<AlertEvent>> {
        let pick = Box::new(move |activity: &Activity, batch: &ActivityBatch| {
            let is_meant = tenant.as_ref().is_none_or(|tenant| activity.tenant == *tenant);
            let alert = batch.alert_of(activity).filter(|_| is_meant)?;
            let kind = kind(activity, alert)?;
            filter.matches(alert).then(|| AlertEvent {
                id: activity.id,
                kind,
                at: activity.occurred_at,
                principal: activity.principal.clone(),
                alert: alert.clone(),
            })
        });
        self.hub.watch(from, pick).await
    }
}

fn kind(activity: &Activity, alert: &Alert) -> Option<AlertEventKind> {
    Some(match activity.kind {
        // A repeated finding leaves the first time of the alert unchanged.
        ActivityKind::AlertRaised if activity.occurred_at > alert.first_seen_at => {
            AlertEventKind::Repeated
        }
        ActivityKind::AlertRaised => AlertEventKind::Raised,
        ActivityKind::AlertAcknowledged => AlertEventKind::Acknowledged,
        ActivityKind::AlertResolved => AlertEventKind::Resolved,
        ActivityKind::AlertReopened => AlertEventKind::Reopened,
        ActivityKind::AlertNoted => AlertEventKind::Noted,
        _ => return None,
    })
}
