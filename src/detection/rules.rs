//! The rules, one a file, each with its tests at the bottom.

pub mod failed_logins;
pub mod failed_logins_network;
pub mod impossible_travel;
pub mod new_country;
pub mod rapid_creation;

use chrono::Duration;

use super::Finding;
use crate::model::activity::Activity;
use crate::model::alert::{Category, Evidence, Severity};

/// A finding about the user of `activity`, to be completed by the rule.
fn finding(
    activity: &Activity,
    rule_id: &'static str,
    (category, severity): (Category, Severity),
    (title, description): (&str, String),
    evidence: &[(&str, String)],
) -> Finding {
    let values = evidence.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Finding {
        tenant: activity.tenant.clone(),
        user: activity.user.clone(),
        session: activity.session,
        device: activity.device,
        at: activity.occurred_at,
        rule_id,
        rule_version: 1,
        category,
        severity,
        title: title.to_owned(),
        description,
        evidence: Evidence { values, typed: None },
        dedup_key: rule_id.to_owned(),
        window: Duration::hours(1),
        suppression: None,
    }
}
