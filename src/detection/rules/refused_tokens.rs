//! Forged or expired tokens are tried, of one user or from one network.

use super::{burst, of_burst};
use crate::detection::Finding;
use crate::detection::memory::{NetworkMemory, UserMemory, network as network_of};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::TypedEvidence;

/// Counts refused tokens of the user, if known, and of the network otherwise.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
    network: &mut NetworkMemory,
) -> Option<Finding> {
    if activity.kind != ActivityKind::TokenRefused {
        return None;
    }
    let rule = settings[Rule::RefusedTokens];
    let many = "tokens were refused";
    if activity.user.is_some() {
        return burst(activity, Rule::RefusedTokens, rule, &mut user.refused_tokens, many);
    }
    let place = network_of(activity.ip?).to_string();
    let found = burst(activity, Rule::RefusedTokens, rule, &mut network.refused_tokens, many)?;
    let mut evidence = found.evidence;
    if let Some(TypedEvidence::Burst(burst)) = &mut evidence.typed {
        burst.network = Some(place.clone());
        evidence.values = of_burst(burst).map(|(name, text)| (name.to_owned(), text)).into();
        evidence.values.insert("network".to_owned(), place.clone());
    }
    Some(Finding {
        session: None,
        device: None,
        dedup_key: format!("refused_tokens:{place}"),
        evidence,
        ..found
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at, from};
    use crate::model::activity::{ActivityReport, SYSTEM};

    type Memories = (UserMemory, NetworkMemory);

    fn refuse((user, network): &mut Memories, known: bool, second: u32) -> Option<Finding> {
        let mut activity = activity(ActivityKind::TokenRefused, at(f64::from(second) / 60.0));
        activity.user = activity.user.filter(|_| known);
        let activity = from(activity, "2001:db8::1");
        look(&activity, &DetectionSettings::default(), user, network)
    }

    #[test]
    fn the_twentieth_of_a_user_within_ten_minutes_is_a_finding() {
        let mut memories = Memories::default();
        assert!((0..19).all(|n| refuse(&mut memories, true, n * 31).is_none()));
        let found = refuse(&mut memories, true, 599).expect("a finding");
        assert_eq!((found.dedup_key.as_str(), found.user.is_some()), ("refused_tokens", true));
        assert_eq!(memories.1, NetworkMemory::default());
    }

    #[test]
    fn of_nobody_known_they_count_for_the_network() {
        let mut memories = Memories::default();
        assert!((0..19).all(|n| refuse(&mut memories, false, n).is_none()));
        assert!(refuse(&mut memories, true, 19).is_none(), "a user's own");
        let found = refuse(&mut memories, false, 20).expect("a finding");
        assert_eq!(found.dedup_key, "refused_tokens:2001:db8::/64");
        assert_eq!(found.evidence.values["network"], "2001:db8::/64");
    }

    #[test]
    fn one_activity_may_stand_for_many() {
        for (count, expected) in [("19", false), ("20", true), ("4000000000", true)] {
            let mut activity = activity(ActivityKind::TokenRefused, at(0.0));
            activity.principal = SYSTEM.to_owned();
            let metadata = [("count".to_owned(), count.to_owned())].into();
            activity.report = Some(ActivityReport { metadata, ..ActivityReport::default() });
            let (mut user, mut network) = Memories::default();
            let found = look(&activity, &DetectionSettings::default(), &mut user, &mut network);
            assert_eq!(found.is_some(), expected, "{count}");
            assert!(user.refused_tokens.len() <= 20);
        }
    }

    #[test]
    fn slower_ones_are_none() {
        let mut memories = Memories::default();
        assert!((0..60).all(|n| refuse(&mut memories, n % 2 == 0, n * 16).is_none()));
    }
}
