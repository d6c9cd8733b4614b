//! A user begins a session in a country where they were not seen for a long time.

use super::finding;
use crate::detection::memory::{UserMemory, see};
use crate::detection::{Finding, sightings};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::DetectionSettings;
use crate::model::detection::rule::Rule;
use crate::model::evidence::TypedEvidence;

/// Compares the country of a new session with those in memory. The first country raises nothing, an
/// unknown one is skipped, and another country for a known place is not new.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    if activity.kind != ActivityKind::Created {
        return None;
    }
    let stated = activity.location.as_ref()?.country_code.clone()?;
    let country = sightings::country(activity, user)?;
    let at = activity.occurred_at;
    let baseline = settings[Rule::NewCountry].within;
    let since = at - baseline;
    let recent = user.countries.iter().filter(|(_, time)| **time > since);
    let known: Vec<String> = recent.map(|(name, _)| name.clone()).collect();
    let is_new = !known.is_empty() && !known.contains(&country);
    let found = is_new.then(|| {
        let text = format!("The user was not seen in {country} before.");
        let values = [
            ("country", country.clone()),
            ("known_countries", known.join(",")),
            ("baseline_days", baseline.num_days().to_string()),
        ];
        let baseline_seconds = baseline.num_seconds();
        let evidence =
            TypedEvidence::NewCountry { country: country.clone(), known, baseline_seconds };
        Finding {
            dedup_key: format!("new_country:{country}"),
            ..finding(activity, Rule::NewCountry, text, evidence, &values)
        }
    });
    // What is said of a known place now may be right from now on.
    if !is_new && stated != country {
        see(&mut user.countries, stated, at, since);
    }
    see(&mut user.countries, country, at, since);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at, placed};

    const DAY: f64 = 24.0 * 60.0;

    fn create(user: &mut UserMemory, country: &str, day: f64) -> bool {
        let activity = placed(activity(ActivityKind::Created, at(day * DAY)), country, None);
        look(&activity, &DetectionSettings::default(), user).is_some()
    }

    #[test]
    fn the_first_is_silent_the_second_is_new_once() {
        let mut user = UserMemory::default();
        assert!(!create(&mut user, "DE", 0.0));
        assert!(create(&mut user, "FR", 1.0));
        assert!(!create(&mut user, "FR", 2.0));
        assert!(!create(&mut user, "DE", 3.0));
    }

    #[test]
    fn a_country_is_forgotten_after_the_baseline() {
        let mut user = UserMemory::default();
        create(&mut user, "DE", 0.0);
        create(&mut user, "FR", 1.0);
        assert!(!create(&mut user, "DE", 170.0));
        assert!(create(&mut user, "FR", 182.0));
    }

    #[test]
    fn an_unknown_place_is_no_country() {
        let mut user = UserMemory::default();
        create(&mut user, "DE", 0.0);
        let nowhere = activity(ActivityKind::Created, at(1.0));
        assert!(look(&nowhere, &DetectionSettings::default(), &mut user).is_none());
    }
}
