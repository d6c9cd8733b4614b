//! A user meets the limits of sessions repeatedly, as a shared account does.

use super::burst;
use crate::detection::Finding;
use crate::detection::memory::UserMemory;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::session::EndReason;

/// Counts creates that a limit refused, and sessions that a limit ended instead.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    let refused = activity.kind == ActivityKind::LimitConflict && activity.user.is_some();
    if !refused && activity.end_reason != Some(EndReason::Limit) {
        return None;
    }
    let rule = settings[Rule::LimitConflicts];
    let many = "sessions were refused or ended by a limit";
    burst(activity, Rule::LimitConflicts, rule, &mut user.limit_conflicts, many)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at};

    fn meet(user: &mut UserMemory, kind: ActivityKind, minute: f64) -> bool {
        let mut activity = activity(kind, at(minute));
        activity.end_reason = Some(EndReason::Limit).filter(|_| kind == ActivityKind::Terminated);
        look(&activity, &DetectionSettings::default(), user).is_some()
    }

    #[test]
    fn the_tenth_of_an_hour_is_a_finding_whether_refused_or_ended() {
        let mut user = UserMemory::default();
        let kinds = [ActivityKind::LimitConflict, ActivityKind::Terminated];
        assert!((0..9).all(|n| !meet(&mut user, kinds[n % 2], n as f64 * 6.0)));
        assert!(meet(&mut user, ActivityKind::LimitConflict, 59.0));
    }

    #[test]
    fn slower_ones_and_other_ends_are_none() {
        let mut user = UserMemory::default();
        assert!((0..40).all(|n| !meet(&mut user, ActivityKind::LimitConflict, n as f64 * 7.0)));
        assert!((0..40).all(|n| !meet(&mut user, ActivityKind::Expired, n as f64)));
    }
}
