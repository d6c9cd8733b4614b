//! The counts of alerts.

use std::collections::BTreeMap;

use chrono::Duration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::{Category, Severity};
use crate::model::statistics::{Owner, add, add_all, add_name, add_names, is_default};

/// What happened to alerts that are not suppressed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AlertCounts {
    /// Raised, not counting repetitions, by [`Category`].
    #[serde(skip_serializing_if = "is_default")]
    pub categories: BTreeMap<i16, u64>,
    /// The same by [`Severity`].
    #[serde(skip_serializing_if = "is_default")]
    pub severities: BTreeMap<i16, u64>,
    /// The same by rule; the empty name for those beyond [`crate::model::statistics::MAX_NAMES`].
    #[serde(skip_serializing_if = "is_default")]
    pub rules: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "is_default")]
    pub acknowledged: Took,
    #[serde(skip_serializing_if = "is_default")]
    pub resolved: Took,
    #[serde(skip_serializing_if = "is_default")]
    pub reopened: u64,
}

/// Steps, and how long they took together since their alerts were raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Took {
    pub count: u64,
    pub micros: i64,
}

/// What statistics need of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertFacts {
    pub owner: Owner,
    pub id: Uuid,
    pub category: Category,
    pub severity: Severity,
    pub rule_id: String,
    pub raised_at: Time,
    /// As of now: 1 open, 2 acknowledged, 3 resolved.
    pub state: i16,
    /// As of when it was counted; `None` = it never was.
    pub counted: Option<i16>,
}

impl AlertCounts {
    /// Counts an alert that was not counted before.
    pub fn raise(&mut self, alert: &AlertFacts) {
        add(&mut self.categories, alert.category as i16, 1);
        add(&mut self.severities, alert.severity as i16, 1);
        add_name(&mut self.rules, &alert.rule_id, 1);
    }

    /// Counts a step in the workflow of an alert.
    pub fn note(&mut self, activity: &Activity, alert: &AlertFacts) {
        let took = activity.occurred_at - alert.raised_at;
        let took = Took { count: 1, micros: took.num_microseconds().unwrap_or(0).max(0) };
        match activity.kind {
            ActivityKind::AlertAcknowledged => self.acknowledged.add(took),
            ActivityKind::AlertResolved => self.resolved.add(took),
            ActivityKind::AlertReopened => self.reopened += 1,
            _ => {}
        }
    }

    /// Adds what came after.
    pub(super) fn add(&mut self, after: &AlertCounts) {
        add_all(&mut self.categories, &after.categories);
        add_all(&mut self.severities, &after.severities);
        add_names(&mut self.rules, &after.rules);
        self.acknowledged.add(after.acknowledged);
        self.resolved.add(after.resolved);
        self.reopened += after.reopened;
    }
}

impl Took {
    fn add(&mut self, other: Took) {
        self.count += other.count;
        self.micros = self.micros.saturating_add(other.micros);
    }

    /// The mean; `None` of nothing.
    pub fn mean(&self) -> Option<Duration> {
        let count = i64::try_from(self.count).ok().filter(|count| *count > 0)?;
        Some(Duration::microseconds(self.micros / count))
    }
}
