//! The rules, one a file, each with its tests at the bottom.

pub mod dormant_account;
pub mod failed_logins;
pub mod failed_logins_network;
pub mod impossible_travel;
pub mod limit_conflicts;
pub mod new_country;
pub mod new_device;
pub mod rapid_creation;
pub mod refused_tokens;
pub mod session_hijack;
pub mod simultaneous_countries;

use chrono::Duration;

use super::Finding;
use super::memory::note;
use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::RuleSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::{Burst, Evidence, TypedEvidence};

/// A finding about the user of `activity`, to be completed by the rule.
fn finding(
    activity: &Activity,
    rule: Rule,
    description: String,
    evidence: TypedEvidence,
    values: &[(&str, String)],
) -> Finding {
    let values = values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Finding {
        tenant: activity.tenant.clone(),
        user: activity.user.clone(),
        session: activity.session,
        device: activity.device,
        at: activity.occurred_at,
        rule,
        description,
        evidence: Evidence { values, typed: Some(evidence) },
        dedup_key: rule.id().to_owned(),
        window: Duration::hours(1),
        suppression: None,
        action: None,
    }
}

/// Adds `activity` to `times`, and finds a burst if there are enough; `many` names them.
fn burst(
    activity: &Activity,
    rule: Rule,
    set: RuleSettings,
    times: &mut Vec<Time>,
    many: &str,
) -> Option<Finding> {
    let at = activity.occurred_at;
    // An observation may stand for many; counting more than the threshold is not needed.
    for _ in 0..activity.times().min(set.count as usize) {
        note(times, at, at - set.within, set.count);
    }
    let first = *times.first()?;
    (times.len() >= set.count as usize).then(|| {
        let evidence = Burst::new(times.len(), set.count, set.within, first);
        let minutes = set.within.num_minutes();
        let text = format!("{} or more {many} within {minutes} minutes.", times.len());
        let values = of_burst(&evidence);
        let evidence = TypedEvidence::Burst(evidence);
        Finding { window: set.within, ..finding(activity, rule, text, evidence, &values) }
    })
}

fn of_burst(burst: &Burst) -> [(&'static str, String); 4] {
    [
        ("count", burst.count.to_string()),
        ("threshold", burst.threshold.to_string()),
        ("window_seconds", burst.window_seconds.to_string()),
        ("first_time", burst.first_at.to_rfc3339()),
    ]
}

/// True for an activity that needs the user's credentials or tokens.
fn is_presence(activity: &Activity) -> bool {
    match activity.kind {
        ActivityKind::Created
        | ActivityKind::Refreshed
        | ActivityKind::Reauthenticated
        | ActivityKind::LoginSucceeded
        | ActivityKind::ContextChanged => true,
        // A request with a refused token is not activity of a user.
        ActivityKind::ApiRequest => activity.session.is_some(),
        ActivityKind::StepUp => activity.report.as_ref().is_none_or(|report| report.success),
        _ => false,
    }
}

/// True for the end of a session.
pub(super) fn is_end(activity: &Activity) -> bool {
    matches!(activity.kind, ActivityKind::Terminated | ActivityKind::Expired)
}
