//! The thresholds of each rule, their names and ranges.

use serde::{Deserialize, Serialize};

use crate::model::detection::rule::Rule;

/// What a threshold measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// How many.
    Count,
    /// How far back, in seconds.
    Within,
    /// In km/h.
    Speed,
    /// In km.
    Distance,
    /// In km.
    Accuracy,
}

/// A threshold of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threshold {
    pub kind: Kind,
    /// Its field in a policy.
    pub name: &'static str,
    /// The least value.
    pub min: i64,
    /// The greatest value.
    pub max: i64,
}

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

const fn threshold(kind: Kind, name: &'static str, min: i64, max: i64) -> Threshold {
    Threshold { kind, name, min, max }
}

/// The memory of a user holds no more, and that of a network covers no longer time.
const BURST: &[Threshold] =
    &[threshold(Kind::Count, "count", 1, 100), threshold(Kind::Within, "window", 1, DAY)];
const NEW_COUNTRY: &[Threshold] = &[threshold(Kind::Within, "baseline", DAY, 730 * DAY)];
const TRAVEL: &[Threshold] = &[
    threshold(Kind::Speed, "speed_kmh", 100, 10_000),
    threshold(Kind::Distance, "distance_km", 0, 20_000),
    threshold(Kind::Accuracy, "accuracy_km", 0, 5_000),
];
/// The memory has the location of a session with a time up to an hour too early, and for so many sessions.
const COUNTRIES: &[Threshold] = &[
    threshold(Kind::Count, "countries", 2, 32),
    threshold(Kind::Within, "window", 2 * HOUR, 30 * DAY),
];
const DORMANT: &[Threshold] = &[threshold(Kind::Within, "silence", DAY, 730 * DAY)];

impl Rule {
    /// Its thresholds.
    pub fn thresholds(self) -> &'static [Threshold] {
        match self {
            Rule::NewDevice | Rule::SessionHijack => &[],
            Rule::NewCountry => NEW_COUNTRY,
            Rule::ImpossibleTravel => TRAVEL,
            Rule::SimultaneousCountries => COUNTRIES,
            Rule::DormantAccount => DORMANT,
            Rule::FailedLogins
            | Rule::FailedLoginsNetwork
            | Rule::RapidCreation
            | Rule::RefusedTokens
            | Rule::LimitConflicts => BURST,
        }
    }
}

impl Threshold {
    /// True if it may be set to `value`.
    pub fn holds(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }

    /// Its range, as text.
    pub fn range(&self) -> String {
        let Threshold { min, max, .. } = self;
        match self.kind {
            Kind::Within => format!("whole seconds, {min}s to {max}s"),
            _ => format!("{min} to {max}"),
        }
    }
}
