//! Changes of alerts.

use super::Changes;
use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::Alert;

impl Changes {
    /// Raises an alert, or counts up the one that has its key already. The activity names the alert that it became.
    pub fn raise_alert(&mut self, alert: Alert) {
        let (at, by) = (alert.first_seen_at, alert.raised_by.clone());
        self.record_alert(at, ActivityKind::AlertRaised, &by, &alert);
        self.raised.push(alert);
    }

    /// Changes a locked alert whose incident happened again, found by `by`.
    pub fn repeat_alert(&mut self, alert: Alert, by: &str) {
        self.record_alert(alert.last_seen_at, ActivityKind::AlertRaised, by, &alert);
        self.updated_alerts.push(alert);
    }

    /// Moves a locked alert one step in its workflow; `kind` names the step.
    pub fn step_alert(&mut self, alert: Alert, kind: ActivityKind, by: &str) {
        self.record_alert(self.at, kind, by, &alert);
        self.updated_alerts.push(alert);
    }

    /// The alerts that are not over at the end of the transaction.
    pub fn open_incidents(&self) -> impl Iterator<Item = &Alert> {
        self.updated_alerts.iter().chain(&self.raised).filter(|alert| !alert.is_over)
    }

    fn record_alert(&mut self, at: Time, kind: ActivityKind, by: &str, alert: &Alert) {
        let id = self.clock.new_id();
        self.activities.push(Activity::of_alert(id, at, kind, by, alert));
    }
}
