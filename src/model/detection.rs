//! The settings of detection: rules, their modes and thresholds.

pub mod overrides;
pub mod rule;
pub mod threshold;

use std::ops::{Index, IndexMut};

use chrono::Duration;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use rule::Rule;
use threshold::Kind;

numbered! {
    /// What a rule does with a finding. `Shadow` stores it without an alert; `Enforce` raises an alert and takes the
    /// rule's action.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Mode { Off = 1, Shadow = 2, Alert = 3, Enforce = 4 }
}
numbered! {
    /// The action on the session of a finding.
    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    Action {
        /// It waits for a re-authentication.
        StepUp = 1,
        /// It ends.
        Terminate = 2,
    }
}

/// The settings of a rule. A threshold that it does not have is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSettings {
    pub mode: Mode,
    /// In [`Mode::Enforce`] only.
    pub action: Action,
    /// So many are a finding.
    pub count: u32,
    /// The window of the rule: the time of a burst, the time for which a country counts as known, or the silence after
    /// which an account is dormant.
    pub within: Duration,
    /// In km/h: faster is a finding.
    pub speed: u32,
    /// In km: nearer is no travel, whatever the speed.
    pub distance: u32,
    /// In km: the uncertainty assumed for a location, unless it states a greater one.
    pub accuracy: u32,
}

/// The settings for all rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectionSettings {
    /// From a user's first activity: new devices and countries in it raise no alert.
    pub learning_period: Duration,
    /// Findings from these, such as the exit of a VPN, raise no alert.
    pub trusted_networks: Vec<IpNet>,
    /// In the order of [`Rule::ALL`].
    rules: [RuleSettings; Rule::ALL.len()],
}

impl Default for DetectionSettings {
    fn default() -> DetectionSettings {
        DetectionSettings::all(Mode::Alert)
    }
}

impl DetectionSettings {
    /// No rule runs.
    pub fn off() -> DetectionSettings {
        DetectionSettings::all(Mode::Off)
    }

    /// The built-in thresholds, with every rule in `mode`.
    pub fn all(mode: Mode) -> DetectionSettings {
        DetectionSettings {
            learning_period: Duration::days(7),
            trusted_networks: Vec::new(),
            rules: Rule::ALL.map(|rule| builtin(rule, mode)),
        }
    }
}

/// The default thresholds of a rule.
fn builtin(rule: Rule, mode: Mode) -> RuleSettings {
    let none = RuleSettings {
        mode,
        action: Action::StepUp,
        count: 0,
        within: Duration::zero(),
        speed: 0,
        distance: 0,
        accuracy: 0,
    };
    let burst = |count, within| RuleSettings { count, within, ..none };
    match rule {
        Rule::NewDevice => none,
        Rule::SessionHijack => RuleSettings { action: Action::Terminate, ..none },
        Rule::NewCountry => RuleSettings { within: Duration::days(180), ..none },
        // An airliner cruises at about 900 km/h. Places from addresses are rarely nearer than a city; 50 km is a
        // choice, not a measurement.
        Rule::ImpossibleTravel => RuleSettings { speed: 900, distance: 100, accuracy: 50, ..none },
        Rule::FailedLogins => burst(10, Duration::minutes(15)),
        Rule::FailedLoginsNetwork => burst(15, Duration::hours(3)),
        Rule::RapidCreation | Rule::LimitConflicts => burst(10, Duration::hours(1)),
        Rule::SimultaneousCountries => burst(3, Duration::hours(24)),
        Rule::DormantAccount => RuleSettings { within: Duration::days(90), ..none },
        Rule::RefusedTokens => burst(20, Duration::minutes(10)),
    }
}

impl RuleSettings {
    /// A threshold; durations in seconds.
    pub fn get(&self, kind: Kind) -> i64 {
        match kind {
            Kind::Count => self.count.into(),
            Kind::Within => self.within.num_seconds(),
            Kind::Speed => self.speed.into(),
            Kind::Distance => self.distance.into(),
            Kind::Accuracy => self.accuracy.into(),
        }
    }

    /// Sets a threshold to a value within its range.
    pub fn set(&mut self, kind: Kind, value: i64) {
        let number = u32::try_from(value).unwrap_or(0);
        match kind {
            Kind::Count => self.count = number,
            Kind::Within => self.within = Duration::seconds(value),
            Kind::Speed => self.speed = number,
            Kind::Distance => self.distance = number,
            Kind::Accuracy => self.accuracy = number,
        }
    }
}

impl Index<Rule> for DetectionSettings {
    type Output = RuleSettings;

    fn index(&self, rule: Rule) -> &RuleSettings {
        &self.rules[rule as usize]
    }
}

impl IndexMut<Rule> for DetectionSettings {
    fn index_mut(&mut self, rule: Rule) -> &mut RuleSettings {
        &mut self.rules[rule as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_own_settings() {
        for (at, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, at);
        }
        assert_eq!(DetectionSettings::default()[Rule::RefusedTokens].count, 20);
    }
}
