//! What looks wrong: pure rules over the activities of a user and of a network. No I/O, no clock.
//!
//! An activity is shown to each rule in turn, together with what is remembered of its user and of the
//! network it came from. A rule looks, and then remembers what it will need.

pub mod memory;
mod rules;
#[cfg(test)]
mod samples;

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::alert::{Category, Evidence, Severity, Suppression};
use crate::model::detection::{DetectionSettings, Mode};
use crate::model::ids::{TenantId, UserId};
use memory::{NetworkMemory, UserMemory};
use rules::{failed_logins, failed_logins_network, impossible_travel, new_country, rapid_creation};

/// Something that a rule found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub tenant: TenantId,
    /// `None` for a finding about a network.
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    /// When what was found happened.
    pub at: Time,
    /// Such as `impossible_travel`.
    pub rule_id: &'static str,
    pub rule_version: i32,
    pub category: Category,
    pub severity: Severity,
    pub title: String,
    pub description: String,
    pub evidence: Evidence,
    /// Unique by user and incident: a repetition within `window` of the last is the same incident.
    pub dedup_key: String,
    pub window: Duration,
    /// Why nobody is to be told; `None` = somebody is.
    pub suppression: Option<Suppression>,
}

/// What else a rule must know of an activity.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    /// The device of the activity is one that the user trusts.
    pub device_is_trusted: bool,
}

/// Shows an activity to the rules. Activities of a user come in the order in which they happened; each once.
pub fn observe(
    activity: &Activity,
    context: Context,
    settings: &DetectionSettings,
    user: &mut UserMemory,
    network: &mut NetworkMemory,
) -> Vec<Finding> {
    let first_at = *user.first_at.get_or_insert(activity.occurred_at);
    let learning = activity.occurred_at < first_at + settings.learning_period;
    let from_configured =
        activity.ip.is_some_and(|ip| settings.trusted_networks.iter().any(|net| net.contains(&ip)));
    let configured = from_configured.then_some(Suppression::ConfiguredNetwork);
    let trusted = configured.or(context.device_is_trusted.then_some(Suppression::TrustedDevice));
    // Countries are habits, which have to be learnt first; nobody has a habit of impossible travel.
    let unfamiliar = trusted.or(learning.then_some(Suppression::LearningPeriod));
    // Where a VPN comes out the user was not, so coming back from there is no travel either.
    let places = from_configured.then(|| (user.countries.clone(), user.place.clone()));
    let found = [
        told(settings.new_country.mode, new_country::look(activity, settings, user), unfamiliar),
        told(
            settings.impossible_travel.mode,
            impossible_travel::look(activity, settings, user),
            trusted,
        ),
        told(
            settings.failed_logins.mode,
            failed_logins::look(activity, settings, user),
            configured,
        ),
        told(
            settings.rapid_creation.mode,
            rapid_creation::look(activity, settings, user),
            configured,
        ),
        told(
            settings.failed_logins_network.mode,
            failed_logins_network::look(activity, settings, network),
            configured,
        ),
    ];
    if let Some(places) = places {
        (user.countries, user.place) = places;
    }
    found.into_iter().flatten().collect()
}

/// The finding as the mode of its rule wants it; `why` suppresses it.
fn told(mode: Mode, finding: Option<Finding>, why: Option<Suppression>) -> Option<Finding> {
    let suppression = match mode {
        Mode::Off => return None,
        Mode::Shadow => Some(Suppression::Shadow),
        Mode::Alert => why,
    };
    finding.map(|finding| Finding { suppression, ..finding })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::activity::ActivityKind;
    use samples::{activity, at, placed};

    const DAY: f64 = 24.0 * 60.0;
    const BERLIN: (f64, f64) = (52.52, 13.405);
    const TOKYO: (f64, f64) = (35.68, 139.69);

    /// Rules and suppressions of what is found in a session in Tokyo, an hour after one in Berlin on `day`.
    fn travel(
        day: f64,
        settings: &DetectionSettings,
        context: Context,
        user: &mut UserMemory,
    ) -> Vec<(&'static str, Option<Suppression>)> {
        let mut see = |country, place, minute| {
            let mut activity =
                placed(activity(ActivityKind::Created, at(minute)), country, Some(place));
            activity.ip = if country == "JP" { "192.0.2.1".parse().ok() } else { None };
            observe(&activity, context, settings, user, &mut NetworkMemory::default())
        };
        see("DE", BERLIN, 0.0);
        see("DE", BERLIN, day * DAY);
        let found = see("JP", TOKYO, day * DAY + 60.0);
        found.into_iter().map(|finding| (finding.rule_id, finding.suppression)).collect()
    }

    fn both(why: Option<Suppression>) -> Vec<(&'static str, Option<Suppression>)> {
        vec![("new_country", why), ("impossible_travel", why)]
    }

    #[test]
    fn countries_are_learnt_for_a_week_and_travel_is_not() {
        let settings = DetectionSettings::default();
        let found = |day| travel(day, &settings, Context::default(), &mut UserMemory::default());
        let learning = Some(Suppression::LearningPeriod);
        assert_eq!(found(6.9), [("new_country", learning), ("impossible_travel", None)]);
        assert_eq!(found(7.0), both(None));
    }

    #[test]
    fn a_trusted_device_suppresses_both_and_says_so() {
        let context = Context { device_is_trusted: true };
        let found = travel(9.0, &DetectionSettings::default(), context, &mut UserMemory::default());
        assert_eq!(found, both(Some(Suppression::TrustedDevice)));
    }

    #[test]
    fn where_a_configured_network_comes_out_the_user_was_not() {
        let settings = DetectionSettings {
            trusted_networks: vec!["192.0.2.0/24".parse().expect("a network")],
            ..DetectionSettings::default()
        };
        let mut user = UserMemory::default();
        let found = travel(9.0, &settings, Context::default(), &mut user);
        assert_eq!(found, both(Some(Suppression::ConfiguredNetwork)));
        assert_eq!(user.place.expect("a place").coordinates, BERLIN);
        assert!(!user.countries.contains_key("JP"));
    }

    #[test]
    fn shadow_keeps_what_is_found_and_off_finds_nothing() {
        let mut settings = DetectionSettings::off();
        settings.new_country.mode = Mode::Shadow;
        let found = travel(9.0, &settings, Context::default(), &mut UserMemory::default());
        assert_eq!(found, [("new_country", Some(Suppression::Shadow))]);
    }
}
