//! A user has live sessions in several countries at the same time: the account is shared or stolen.

use std::collections::BTreeSet;

use super::{finding, is_end, is_presence};
use crate::detection::memory::{UserMemory, is_stale, of_session};
use crate::detection::{Finding, sightings};
use crate::model::activity::Activity;
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::TypedEvidence;

/// Counts the countries of the sessions that were used lately and have not ended. Found when a country comes
/// in addition, not with every use after that.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    let session = activity.session?;
    if is_end(activity) {
        user.whereabouts.remove(&session);
    }
    let here = sightings::country(activity, user).filter(|_| is_presence(activity))?;
    let (rule, at) = (settings[Rule::SimultaneousCountries], activity.occurred_at);
    user.whereabouts.retain(|_, (_, seen)| *seen > at - rule.within);
    let was_there = user.whereabouts.values().any(|(country, _)| *country == here);
    let moved = user.whereabouts.get(&session).is_none_or(|(known, _)| *known != here);
    if moved || is_stale(user.whereabouts[&session].1, at) {
        of_session(&mut user.whereabouts, session, (here, at), |(_, seen)| *seen);
    }
    let countries: BTreeSet<&String> =
        user.whereabouts.values().map(|(country, _)| country).collect();
    (!was_there && countries.len() >= rule.count as usize).then(|| {
        let countries: Vec<String> = countries.into_iter().cloned().collect();
        let list = countries.join(",");
        let text = format!("Sessions of the user are in use in {list}.");
        let values = [
            ("countries", list),
            ("threshold", rule.count.to_string()),
            ("window_seconds", rule.within.num_seconds().to_string()),
        ];
        let evidence = TypedEvidence::SimultaneousCountries {
            countries,
            threshold: rule.count,
            window_seconds: rule.within.num_seconds(),
        };
        Finding {
            window: rule.within,
            ..finding(activity, Rule::SimultaneousCountries, text, evidence, &values)
        }
    })
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::detection::samples::{activity, at, placed};
    use crate::model::activity::ActivityKind;

    fn see(
        user: &mut UserMemory,
        kind: ActivityKind,
        session: u128,
        country: &str,
        minute: f64,
    ) -> Option<Finding> {
        let mut activity = placed(activity(kind, at(minute)), country, None);
        activity.session = Some(Uuid::from_u128(session));
        look(&activity, &DetectionSettings::default(), user)
    }

    #[test]
    fn the_third_country_is_a_finding_once_and_the_fourth_is_more_of_it() {
        let mut user = UserMemory::default();
        assert!(see(&mut user, ActivityKind::Created, 1, "DE", 0.0).is_none());
        assert!(see(&mut user, ActivityKind::Created, 2, "FR", 1.0).is_none());
        let found = see(&mut user, ActivityKind::ApiRequest, 3, "IT", 2.0).expect("a finding");
        assert_eq!(found.evidence.values["countries"], "DE,FR,IT");
        assert!(see(&mut user, ActivityKind::Refreshed, 3, "IT", 3.0).is_none(), "no news");
        assert!(see(&mut user, ActivityKind::Created, 4, "ES", 4.0).is_some());
    }

    #[test]
    fn a_session_that_moves_or_ended_or_slept_is_in_no_third_country() {
        let mut user = UserMemory::default();
        see(&mut user, ActivityKind::Created, 1, "DE", 0.0);
        see(&mut user, ActivityKind::Created, 2, "FR", 1.0);
        assert!(see(&mut user, ActivityKind::Refreshed, 2, "IT", 2.0).is_none(), "it moved");
        see(&mut user, ActivityKind::Terminated, 2, "IT", 3.0);
        assert!(see(&mut user, ActivityKind::Created, 3, "ES", 4.0).is_none());
        assert!(see(&mut user, ActivityKind::Created, 4, "PT", 24.0 * 60.0 + 1.0).is_none());
        assert_eq!(user.whereabouts.len(), 2);
    }
}
