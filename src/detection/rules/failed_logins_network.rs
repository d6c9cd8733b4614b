//! Somebody tries the credentials of many users from one network.

use aws_lc_rs::digest;

use super::{finding, of_burst};
use crate::detection::Finding;
use crate::detection::memory::{NetworkMemory, network as network_of, see};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::{Burst, TypedEvidence};
use crate::model::ids::UserId;

/// Counts the users whose logins failed from the network.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    network: &mut NetworkMemory,
) -> Option<Finding> {
    let (ip, user) = (activity.ip?, activity.user.as_ref()?);
    if activity.kind != ActivityKind::LoginFailed {
        return None;
    }
    let rule = settings[Rule::FailedLoginsNetwork];
    let at = activity.occurred_at;
    see(&mut network.failed_logins, short(user), at, at - rule.within);
    let users = network.failed_logins.len();
    (users >= rule.count as usize).then(|| {
        let place = network_of(ip).to_string();
        let text = format!("Logins of {users} or more users failed from the network of {ip}.");
        let first = network.failed_logins.values().min().copied().unwrap_or(at);
        let evidence = Burst::new(users, rule.count, rule.within, first);
        let [_, threshold, window, first] = of_burst(&evidence);
        let values = [
            ("ip_address", ip.to_string()),
            ("network", place.clone()),
            ("users", users.to_string()),
            threshold,
            window,
            first,
        ];
        let evidence = TypedEvidence::Burst(Burst { network: Some(place.clone()), ..evidence });
        Finding {
            user: None,
            session: None,
            device: None,
            dedup_key: format!("failed_logins_network:{place}"),
            window: rule.within,
            ..finding(activity, Rule::FailedLoginsNetwork, text, evidence, &values)
        }
    })
}

/// Tells users apart without naming them: 64 bits of SHA-256.
fn short(user: &UserId) -> String {
    let hash = digest::digest(&digest::SHA256, user.as_str().as_bytes());
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at};

    fn fail(network: &mut NetworkMemory, user: u32, minute: f64) -> Option<Finding> {
        let mut activity = activity(ActivityKind::LoginFailed, at(minute));
        activity.user = UserId::parse(&format!("user-{user}")).ok();
        activity.ip = "192.0.2.1".parse().ok();
        look(&activity, &DetectionSettings::default(), network)
    }

    #[test]
    fn the_fifteenth_user_in_three_hours_is_a_finding_about_nobody() {
        let mut network = NetworkMemory::default();
        assert!((0..14).all(|user| fail(&mut network, user, f64::from(user)).is_none()));
        assert!((0..99).all(|_| fail(&mut network, 3, 20.0).is_none()), "the same user again");
        let found = fail(&mut network, 14, 179.0).expect("a finding");
        assert_eq!((found.user, found.evidence.values["users"].as_str()), (None, "15"));
    }

    #[test]
    fn users_of_long_ago_do_not_count_and_none_is_named() {
        let mut network = NetworkMemory::default();
        assert!((0..40).all(|user| fail(&mut network, user, f64::from(user) * 13.0).is_none()));
        let kept = serde_json::to_string(&network).expect("plain data");
        assert!(!kept.contains("user-"));
    }
}
