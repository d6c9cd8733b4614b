//! A user gets sessions faster than people log in.

use super::burst;
use crate::detection::Finding;
use crate::detection::memory::UserMemory;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;

/// Counts sessions created.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    if activity.kind != ActivityKind::Created {
        return None;
    }
    let rule = settings[Rule::RapidCreation];
    burst(activity, Rule::RapidCreation, rule, &mut user.creations, "sessions were created")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at};

    #[test]
    fn the_tenth_session_of_an_hour_is_a_finding_and_one_every_seven_minutes_none() {
        for (pause, expected) in [(6.5, 1), (7.0, 0)] {
            let mut user = UserMemory::default();
            let found = (0..10).filter_map(|n| {
                let activity = activity(ActivityKind::Created, at(f64::from(n) * pause));
                look(&activity, &DetectionSettings::default(), &mut user)
            });
            assert_eq!(found.count(), expected, "every {pause} minutes");
        }
    }
}
