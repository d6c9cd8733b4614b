//! Somebody guesses the credentials of one user.

use super::burst;
use crate::detection::Finding;
use crate::detection::memory::UserMemory;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;

/// Counts failed logins from any address.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    if activity.kind != ActivityKind::LoginFailed || activity.user.is_none() {
        return None;
    }
    let rule = settings[Rule::FailedLogins];
    burst(activity, Rule::FailedLogins, rule, &mut user.failed_logins, "logins failed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at};

    fn fail(user: &mut UserMemory, minute: f64) -> Option<Finding> {
        let activity = activity(ActivityKind::LoginFailed, at(minute));
        look(&activity, &DetectionSettings::default(), user)
    }

    #[test]
    fn the_tenth_within_a_quarter_of_an_hour_is_a_finding() {
        let mut user = UserMemory::default();
        assert!((0..9).all(|minute| fail(&mut user, f64::from(minute)).is_none()));
        let found = fail(&mut user, 14.9).expect("a finding");
        assert_eq!(found.evidence.values["count"], "10");
        assert!(fail(&mut user, 14.95).is_some(), "it goes on");
    }

    #[test]
    fn slower_ones_are_none_and_other_kinds_do_not_count() {
        let mut user = UserMemory::default();
        assert!((0..50).all(|n| fail(&mut user, f64::from(n) * 1.7).is_none()));
        let login = activity(ActivityKind::LoginSucceeded, at(0.0));
        let mut other = UserMemory::default();
        assert!((0..50).all(|_| look(&login, &DetectionSettings::default(), &mut other).is_none()));
    }
}
