//! What a tenant states of detection; everything else is built in. Kept as JSON.

use std::collections::BTreeMap;

use chrono::Duration;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::model::detection::rule::Rule;
use crate::model::detection::threshold::Kind;
use crate::model::detection::{Action, DetectionSettings, Mode, RuleSettings};

/// The values that are stated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DetectionOverrides {
    /// In seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_period: Option<i64>,
    /// Never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_networks: Option<Vec<IpNet>>,
    /// Every rule in it states something.
    #[serde(deserialize_with = "known")]
    pub rules: BTreeMap<Rule, RuleOverrides>,
}

/// What is stated of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleOverrides {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Only thresholds of the rule, within their ranges.
    #[serde(deserialize_with = "known")]
    pub thresholds: BTreeMap<Kind, i64>,
}

/// A part that an update replaces as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    LearningPeriod,
    TrustedNetworks,
    Rule(Rule),
}

impl DetectionOverrides {
    /// Takes `part` over from `other`; absent there, it is built in from now on.
    pub fn take(&mut self, part: Part, other: &DetectionOverrides) {
        match part {
            Part::LearningPeriod => self.learning_period = other.learning_period,
            Part::TrustedNetworks => self.trusted_networks = other.trusted_networks.clone(),
            Part::Rule(rule) => {
                self.rules.remove(&rule);
                self.rules.extend(other.rules.get(&rule).map(|set| (rule, set.clone())));
            }
        }
    }

    /// All of `settings`, stated.
    pub fn all(settings: &DetectionSettings) -> DetectionOverrides {
        let rule = |rule: Rule| {
            let set = settings[rule];
            let thresholds = rule.thresholds().iter().map(|one| (one.kind, set.get(one.kind)));
            let (mode, action) = (Some(set.mode), Some(set.action));
            (rule, RuleOverrides { mode, action, thresholds: thresholds.collect() })
        };
        DetectionOverrides {
            learning_period: Some(settings.learning_period.num_seconds()),
            trusted_networks: Some(settings.trusted_networks.clone()),
            rules: Rule::ALL.into_iter().map(rule).collect(),
        }
    }

    /// Every value that is stated, by the name of its field below `detection`.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        names.extend(self.learning_period.map(|_| "learning_period".to_owned()));
        names.extend(self.trusted_networks.as_ref().map(|_| "trusted_networks".to_owned()));
        for (rule, set) in &self.rules {
            let id = rule.id();
            names.extend(set.mode.map(|_| format!("{id}.mode")));
            names.extend(set.action.map(|_| format!("{id}.action")));
            let stated =
                rule.thresholds().iter().filter(|one| set.thresholds.contains_key(&one.kind));
            names.extend(stated.map(|one| format!("{id}.{}", one.name)));
        }
        names
    }
}

impl DetectionSettings {
    /// These settings, overridden by what a tenant states.
    pub fn under(&self, stated: &DetectionOverrides) -> DetectionSettings {
        let mut settings = self.clone();
        if let Some(seconds) = stated.learning_period {
            settings.learning_period = Duration::seconds(seconds);
        }
        if let Some(networks) = &stated.trusted_networks {
            settings.trusted_networks.clone_from(networks);
        }
        for (rule, stated) in &stated.rules {
            let set: &mut RuleSettings = &mut settings[*rule];
            set.mode = stated.mode.unwrap_or(set.mode);
            set.action = stated.action.unwrap_or(set.action);
            for (kind, value) in &stated.thresholds {
                set.set(*kind, *value);
            }
        }
        settings
    }
}

/// Skips what only a newer release knows: this release must be able to read its level.
fn known<'de, D, K, V>(from: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: DeserializeOwned + Ord,
    V: DeserializeOwned,
{
    let all: BTreeMap<String, Value> = Deserialize::deserialize(from)?;
    let parse = |(name, value): (String, Value)| {
        Some((
            serde_json::from_value(Value::String(name)).ok()?,
            serde_json::from_value(value).ok()?,
        ))
    };
    Ok(all.into_iter().filter_map(parse).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stated_wins_value_by_value() {
        let travel = RuleOverrides {
            mode: Some(Mode::Enforce),
            action: None,
            thresholds: BTreeMap::from([(Kind::Speed, 800)]),
        };
        let stated = DetectionOverrides {
            learning_period: Some(0),
            trusted_networks: None,
            rules: BTreeMap::from([(Rule::ImpossibleTravel, travel)]),
        };
        let builtin = DetectionSettings::default();
        let got = builtin.under(&stated);
        let travel = got[Rule::ImpossibleTravel];
        assert_eq!((travel.mode, travel.speed, travel.distance), (Mode::Enforce, 800, 100));
        assert_eq!((got.learning_period, travel.action), (Duration::zero(), Action::StepUp));
        assert_eq!(got[Rule::NewCountry], builtin[Rule::NewCountry]);
        let names = ["learning_period", "impossible_travel.mode", "impossible_travel.speed_kmh"];
        assert_eq!(stated.names(), names);
        // Stored and read again.
        let json = serde_json::to_value(&stated).expect("plain data");
        assert_eq!(serde_json::from_value::<DetectionOverrides>(json).expect("the same"), stated);
    }

    #[test]
    fn all_of_the_settings_are_the_settings() {
        let settings = DetectionSettings::default();
        let all = DetectionOverrides::all(&settings);
        assert_eq!(DetectionSettings::off().under(&all), settings);
        assert_eq!(all.names().len(), 2 + 2 * 11 + 5 * 2 + 1 + 3 + 2 + 1);
    }

    #[test]
    fn what_a_newer_release_states_is_skipped() {
        let newer = r#"{"rules": {"mind_reading": {"mode": "alert"}, "new_device": {"mode": "off",
            "thresholds": {"mood": 3}}}, "colour": 1}"#;
        let got: DetectionOverrides = serde_json::from_str(newer).expect("what is known");
        assert_eq!(got.names(), ["new_device.mode"]);
    }

    #[test]
    fn a_threshold_is_read_as_it_was_set() {
        for rule in Rule::ALL {
            let mut set = DetectionSettings::default()[rule];
            for one in rule.thresholds() {
                let builtin = set.get(one.kind);
                assert!((one.min..=one.max).contains(&builtin), "{one:?} of {rule:?}");
                set.set(one.kind, one.max);
                assert_eq!(set.get(one.kind), one.max);
            }
        }
    }
}
