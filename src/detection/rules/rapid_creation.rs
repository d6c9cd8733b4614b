//! A user gets sessions faster than people log in.

use super::finding;
use crate::detection::Finding;
use crate::detection::memory::{UserMemory, note};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::alert::{Category, Severity};
use crate::model::detection::DetectionSettings;

/// Counts sessions created.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    if activity.kind != ActivityKind::Created {
        return None;
    }
    let rule = settings.rapid_creation;
    let at = activity.occurred_at;
    note(&mut user.creations, at, at - rule.within, rule.count);
    let count = user.creations.len();
    (count >= rule.count).then(|| {
        let minutes = rule.within.num_minutes();
        Finding {
            window: rule.within,
            ..finding(
                activity,
                "rapid_creation",
                (Category::Concurrency, Severity::Low),
                (
                    "Many new sessions of a user",
                    format!("{count} or more sessions were created within {minutes} minutes."),
                ),
                &[
                    ("count", count.to_string()),
                    ("threshold", rule.count.to_string()),
                    ("window_seconds", rule.within.num_seconds().to_string()),
                ],
            )
        }
    })
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
