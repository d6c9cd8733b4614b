//! An account is used again after a long silence.

use super::{finding, is_presence};
use crate::detection::Finding;
use crate::detection::memory::{UserMemory, is_stale};
use crate::model::activity::Activity;
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::TypedEvidence;

/// Compares with the last activity of the user. A failed login does not count.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    if !is_presence(activity) {
        return None;
    }
    let at = activity.occurred_at;
    let last = *user.last_at.get_or_insert(at);
    if is_stale(last, at) {
        user.last_at = Some(at);
    }
    let threshold = settings[Rule::DormantAccount].within;
    let silence = at - last;
    (silence >= threshold).then(|| {
        let text = format!("The user was not seen for {} days.", silence.num_days());
        let threshold_seconds = threshold.num_seconds();
        let evidence = TypedEvidence::DormantAccount { last_seen: last, threshold_seconds };
        let values = [
            ("last_seen_time", last.to_rfc3339()),
            ("silent_days", silence.num_days().to_string()),
            ("threshold_days", threshold.num_days().to_string()),
        ];
        finding(activity, Rule::DormantAccount, text, evidence, &values)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at};
    use crate::model::activity::ActivityKind;

    const DAY: f64 = 24.0 * 60.0;

    fn see(user: &mut UserMemory, kind: ActivityKind, day: f64) -> bool {
        look(&activity(kind, at(day * DAY)), &DetectionSettings::default(), user).is_some()
    }

    #[test]
    fn ninety_days_of_silence_are_dormant_and_less_are_not() {
        let mut user = UserMemory::default();
        assert!(!see(&mut user, ActivityKind::LoginSucceeded, 0.0), "the first is silent");
        assert!(!see(&mut user, ActivityKind::Created, 89.9));
        assert!(see(&mut user, ActivityKind::Created, 179.9));
        assert!(!see(&mut user, ActivityKind::Refreshed, 180.0), "it is awake");
    }

    #[test]
    fn a_failed_login_and_a_sessions_end_are_no_sign_of_life() {
        let mut user = UserMemory::default();
        see(&mut user, ActivityKind::Created, 0.0);
        assert!(!see(&mut user, ActivityKind::LoginFailed, 60.0));
        assert!(!see(&mut user, ActivityKind::Expired, 100.0));
        assert!(see(&mut user, ActivityKind::LoginSucceeded, 101.0));
    }

    #[test]
    fn a_busy_user_is_written_once_an_hour() {
        let mut user = UserMemory::default();
        see(&mut user, ActivityKind::Created, 0.0);
        let first = user.last_at;
        see(&mut user, ActivityKind::Refreshed, 0.9 / 24.0);
        assert_eq!(user.last_at, first);
        see(&mut user, ActivityKind::Refreshed, 1.0 / 24.0);
        assert_ne!(user.last_at, first);
    }
}
