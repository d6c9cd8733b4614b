//! A user begins a session on a device that they did not use before.

use chrono::{DateTime, Duration, Utc};

use super::finding;
use crate::detection::Finding;
use crate::detection::memory::{UserMemory, see};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::rule::Rule;
use crate::model::evidence::TypedEvidence;

/// Compares the device of a new session with those in memory. The first raises nothing; a revoked one is new again.
pub fn look(activity: &Activity, user: &mut UserMemory) -> Option<Finding> {
    let device = activity.device?;
    if activity.kind == ActivityKind::DeviceRevoked {
        user.devices.remove(&device);
    }
    if activity.kind != ActivityKind::Created {
        return None;
    }
    let known = user.devices.len();
    let is_new = known > 0 && !user.devices.contains_key(&device);
    // A device stays in memory until it is evicted for room.
    see(&mut user.devices, device, activity.occurred_at, DateTime::<Utc>::MIN_UTC);
    is_new.then(|| {
        let text = format!("The user did not use this device before, and {known} others.");
        let evidence =
            TypedEvidence::NewDevice { device, known: u32::try_from(known).unwrap_or(0) };
        let values = [("device_id", device.to_string()), ("known_devices", known.to_string())];
        Finding {
            dedup_key: format!("new_device:{device}"),
            window: Duration::days(1),
            ..finding(activity, Rule::NewDevice, text, evidence, &values)
        }
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::detection::samples::{activity, at};

    fn on(user: &mut UserMemory, kind: ActivityKind, device: u128, minute: f64) -> Option<Finding> {
        let mut activity = activity(kind, at(minute));
        activity.device = Some(Uuid::from_u128(device));
        look(&activity, user)
    }

    #[test]
    fn the_first_is_silent_and_the_second_is_new_once() {
        let mut user = UserMemory::default();
        assert!(on(&mut user, ActivityKind::Created, 1, 0.0).is_none());
        let found = on(&mut user, ActivityKind::Created, 2, 1.0).expect("a finding");
        assert_eq!(found.evidence.values["known_devices"], "1");
        assert!(on(&mut user, ActivityKind::Created, 2, 2.0).is_none());
        assert!(on(&mut user, ActivityKind::Created, 1, 1e6).is_none(), "known for good");
    }

    #[test]
    fn one_that_was_revoked_is_new_again_and_a_refresh_shows_none() {
        let mut user = UserMemory::default();
        on(&mut user, ActivityKind::Created, 1, 0.0);
        assert!(on(&mut user, ActivityKind::Refreshed, 2, 1.0).is_none());
        on(&mut user, ActivityKind::Created, 2, 2.0);
        on(&mut user, ActivityKind::DeviceRevoked, 2, 3.0);
        assert!(on(&mut user, ActivityKind::Created, 2, 4.0).is_some());
    }

    #[test]
    fn a_session_without_a_device_says_nothing() {
        let mut user = UserMemory::default();
        on(&mut user, ActivityKind::Created, 1, 0.0);
        let none = activity(ActivityKind::Created, at(1.0));
        assert!(look(&none, &mut user).is_none());
    }
}
