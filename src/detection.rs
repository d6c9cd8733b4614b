//! Detection of suspicious activity: pure rules over the activities of a user and of a network. No I/O, no clock.
//!
//! Each rule reads an activity, with the memories of its user and of its network, and then updates the memories.

pub mod memory;
mod rules;
#[cfg(test)]
mod samples;
pub mod sightings;

use chrono::Duration;
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::alert::Suppression;
use crate::model::detection::rule::Rule;
use crate::model::detection::{Action, DetectionSettings, Mode};
use crate::model::evidence::Evidence;
use crate::model::ids::{TenantId, UserId};
use memory::{NetworkMemory, UserMemory};
use rules::{
    dormant_account, failed_logins, failed_logins_network, impossible_travel, limit_conflicts,
    new_country, new_device, rapid_creation, refused_tokens, session_hijack,
    simultaneous_countries,
};

/// A finding of a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    pub tenant: TenantId,
    /// `None` for a finding about a network.
    pub user: Option<UserId>,
    pub session: Option<Uuid>,
    pub device: Option<Uuid>,
    /// When the activity happened.
    pub at: Time,
    pub rule: Rule,
    pub description: String,
    pub evidence: Evidence,
    /// Unique by user and incident: a repetition within `window` of the last is the same incident.
    pub dedup_key: String,
    pub window: Duration,
    /// Why the finding is not published; `None` = it is.
    pub suppression: Option<Suppression>,
    /// The action on `session`; `None` = none.
    pub action: Option<Action>,
}

/// The context of an activity for the rules.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// The device of the activity is one that the user trusts.
    pub device_is_trusted: bool,
    /// From the user agent, without a version: at most 64 characters.
    pub browser: Option<String>,
    /// From the user agent, without a version: at most 64 characters.
    pub system: Option<String>,
}

/// The reasons that may suppress the findings of a rule. Each includes those before it.
#[derive(Clone, Copy)]
enum Excuse {
    /// The activity came from a configured network.
    Network,
    /// It is on a device that the user trusts.
    Device,
    /// The user is new, and in the learning period.
    Learning,
}

/// Applies the rules to an activity. Activities of a user come in the order of time, each once.
pub fn observe(
    activity: &Activity,
    context: &Context,
    settings: &DetectionSettings,
    user: &mut UserMemory,
    network: &mut NetworkMemory,
) -> Vec<Finding> {
    let first_at = *user.first_at.get_or_insert(activity.occurred_at);
    let learning = activity.occurred_at < first_at + settings.learning_period;
    let from_configured =
        activity.ip.is_some_and(|ip| settings.trusted_networks.iter().any(|net| net.contains(&ip)));
    // The exit of a VPN is not where the user is, so the next activity elsewhere is not travel.
    let before = (from_configured && !rules::is_end(activity)).then(|| user.clone());
    let found = [
        new_device::look(activity, user),
        new_country::look(activity, settings, user),
        impossible_travel::look(activity, settings, user),
        session_hijack::look(activity, context, user),
        failed_logins::look(activity, settings, user),
        failed_logins_network::look(activity, settings, network),
        rapid_creation::look(activity, settings, user),
        simultaneous_countries::look(activity, settings, user),
        dormant_account::look(activity, settings, user),
        refused_tokens::look(activity, settings, user, network),
        limit_conflicts::look(activity, settings, user),
    ];
    if let Some(UserMemory { countries, place, sightings, clients, whereabouts, .. }) = before {
        let rest = std::mem::take(user);
        *user = UserMemory { countries, place, sightings, clients, whereabouts, ..rest };
    }
    let why = |excuse| match excuse {
        _ if from_configured => Some(Suppression::ConfiguredNetwork),
        Excuse::Device | Excuse::Learning if context.device_is_trusted => {
            Some(Suppression::TrustedDevice)
        }
        Excuse::Learning if learning => Some(Suppression::LearningPeriod),
        _ => None,
    };
    let told = |finding: Finding| {
        let set = settings[finding.rule];
        let suppression = match set.mode {
            Mode::Off => return None,
            Mode::Shadow => Some(Suppression::Shadow),
            Mode::Alert | Mode::Enforce => why(excuse(finding.rule)),
        };
        let acts = set.mode == Mode::Enforce && suppression.is_none();
        Some(Finding { suppression, action: acts.then_some(set.action), ..finding })
    };
    found.into_iter().flatten().filter_map(told).collect()
}

/// The reasons that may suppress a rule. A trusted device does not show who holds the token of its
/// session, nor who tries a password.
fn excuse(rule: Rule) -> Excuse {
    match rule {
        Rule::NewDevice | Rule::NewCountry => Excuse::Learning,
        // The learning period does not apply: impossible travel is no habit.
        Rule::ImpossibleTravel | Rule::DormantAccount => Excuse::Device,
        Rule::SessionHijack
        | Rule::FailedLogins
        | Rule::FailedLoginsNetwork
        | Rule::RapidCreation
        | Rule::SimultaneousCountries
        | Rule::RefusedTokens
        | Rule::LimitConflicts => Excuse::Network,
    }
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
        context: &Context,
        user: &mut UserMemory,
    ) -> Vec<(Rule, Option<Suppression>)> {
        let mut see = |country, place, minute| {
            let mut activity =
                placed(activity(ActivityKind::Created, at(minute)), country, Some(place));
            activity.ip = if country == "JP" { "192.0.2.1".parse().ok() } else { None };
            observe(&activity, context, settings, user, &mut NetworkMemory::default())
        };
        see("DE", BERLIN, 0.0);
        see("DE", BERLIN, day * DAY);
        let found = see("JP", TOKYO, day * DAY + 60.0);
        found.into_iter().map(|finding| (finding.rule, finding.suppression)).collect()
    }

    fn both(why: Option<Suppression>) -> Vec<(Rule, Option<Suppression>)> {
        vec![(Rule::NewCountry, why), (Rule::ImpossibleTravel, why)]
    }

    #[test]
    fn countries_are_learnt_for_a_week_and_travel_is_not() {
        let settings = DetectionSettings::default();
        let found = |day| travel(day, &settings, &Context::default(), &mut UserMemory::default());
        let learning = Some(Suppression::LearningPeriod);
        assert_eq!(found(6.9), [(Rule::NewCountry, learning), (Rule::ImpossibleTravel, None)]);
        assert_eq!(found(7.0), both(None));
    }

    #[test]
    fn a_trusted_device_suppresses_both_and_says_so() {
        let context = Context { device_is_trusted: true, ..Context::default() };
        let found =
            travel(9.0, &DetectionSettings::default(), &context, &mut UserMemory::default());
        assert_eq!(found, both(Some(Suppression::TrustedDevice)));
    }

    #[test]
    fn where_a_configured_network_comes_out_the_user_was_not() {
        let mut settings = DetectionSettings::default();
        settings.trusted_networks = vec!["192.0.2.0/24".parse().expect("a network")];
        let mut user = UserMemory::default();
        let found = travel(9.0, &settings, &Context::default(), &mut user);
        assert_eq!(found, both(Some(Suppression::ConfiguredNetwork)));
        let last = user.sightings.last().and_then(|seen| seen.spot.as_ref()).expect("a place");
        assert_eq!(last.coordinates, BERLIN);
        assert!(!user.countries.contains_key("JP"));
    }

    #[test]
    fn shadow_keeps_what_is_found_and_off_finds_nothing() {
        let mut settings = DetectionSettings::off();
        settings[Rule::NewCountry].mode = Mode::Shadow;
        let found = travel(9.0, &settings, &Context::default(), &mut UserMemory::default());
        assert_eq!(found, [(Rule::NewCountry, Some(Suppression::Shadow))]);
    }
    #[test]
    fn only_what_is_told_is_enforced() {
        let mut settings = DetectionSettings::off();
        settings[Rule::ImpossibleTravel].mode = Mode::Enforce;
        let found = |device_is_trusted| {
            let context = Context { device_is_trusted, ..Context::default() };
            let (mut user, mut network) = Default::default();
            let mut see = |place, minute| {
                let activity = activity(ActivityKind::Created, at(minute));
                let activity = placed(activity, "", Some(place));
                observe(&activity, &context, &settings, &mut user, &mut network)
            };
            see(BERLIN, 0.0);
            see(TOKYO, 1.0).remove(0).action
        };
        assert_eq!(found(false), Some(Action::StepUp));
        assert_eq!(found(true), None);
    }
}
