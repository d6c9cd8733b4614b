//! The rules by name, with their fixed properties, as a list of rules shows them.

use serde::{Deserialize, Serialize};

use crate::model::alert::{Category, Severity};

/// A rule of detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    NewDevice,
    NewCountry,
    ImpossibleTravel,
    SessionHijack,
    FailedLogins,
    FailedLoginsNetwork,
    RapidCreation,
    SimultaneousCountries,
    DormantAccount,
    RefusedTokens,
    LimitConflicts,
}

/// The fixed properties of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleDescription {
    /// Its `rule_id`, and its name in a policy.
    pub id: &'static str,
    /// From 1; counts changes of what it finds.
    pub version: i32,
    pub category: Category,
    pub severity: Severity,
    /// Of its alerts: one line.
    pub title: &'static str,
    /// What it finds: a sentence.
    pub finds: &'static str,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 11] = [
        Rule::NewDevice,
        Rule::NewCountry,
        Rule::ImpossibleTravel,
        Rule::SessionHijack,
        Rule::FailedLogins,
        Rule::FailedLoginsNetwork,
        Rule::RapidCreation,
        Rule::SimultaneousCountries,
        Rule::DormantAccount,
        Rule::RefusedTokens,
        Rule::LimitConflicts,
    ];

    /// Its `rule_id`.
    pub fn id(self) -> &'static str {
        self.about().id
    }

    /// Its field in a policy.
    pub fn field(self) -> &'static str {
        match self {
            Rule::NewDevice => "detection.new_device",
            Rule::NewCountry => "detection.new_country",
            Rule::ImpossibleTravel => "detection.impossible_travel",
            Rule::SessionHijack => "detection.session_hijack",
            Rule::FailedLogins => "detection.failed_logins",
            Rule::FailedLoginsNetwork => "detection.failed_logins_network",
            Rule::RapidCreation => "detection.rapid_creation",
            Rule::SimultaneousCountries => "detection.simultaneous_countries",
            Rule::DormantAccount => "detection.dormant_account",
            Rule::RefusedTokens => "detection.refused_tokens",
            Rule::LimitConflicts => "detection.limit_conflicts",
        }
    }

    /// Its fixed properties.
    pub fn about(self) -> RuleDescription {
        let about = |id, category, severity, title, finds| RuleDescription {
            id,
            version: 1,
            category,
            severity,
            title,
            finds,
        };
        match self {
            Rule::NewDevice => about(
                "new_device",
                Category::NewDevice,
                Severity::Low,
                "Session on a new device",
                "A user begins a session on a device that they did not use before.",
            ),
            Rule::NewCountry => about(
                "new_country",
                Category::AnomalousLocation,
                Severity::Medium,
                "Session from a new country",
                "A user begins a session in a country where they were not seen for long.",
            ),
            Rule::ImpossibleTravel => about(
                "impossible_travel",
                Category::AnomalousLocation,
                Severity::High,
                "Impossible travel",
                "A user is in two places that nobody reaches in the time between.",
            ),
            Rule::SessionHijack => about(
                "session_hijack",
                Category::SessionHijack,
                Severity::High,
                "A session in other hands",
                "A session goes on from a new network and with another browser or system.",
            ),
            Rule::FailedLogins => about(
                "failed_logins",
                Category::BruteForce,
                Severity::Medium,
                "Many failed logins of a user",
                "Somebody tries the credentials of one user.",
            ),
            Rule::FailedLoginsNetwork => about(
                "failed_logins_network",
                Category::CredentialStuffing,
                Severity::High,
                "Failed logins of many users from one network",
                "Somebody tries the credentials of many users from one network.",
            ),
            Rule::RapidCreation => about(
                "rapid_creation",
                Category::Concurrency,
                Severity::Low,
                "Many new sessions of a user",
                "A user gets sessions faster than people log in.",
            ),
            Rule::SimultaneousCountries => about(
                "simultaneous_countries",
                Category::Concurrency,
                Severity::High,
                "Sessions in several countries at once",
                "A user has live sessions in several countries at the same time.",
            ),
            Rule::DormantAccount => about(
                "dormant_account",
                Category::AccountTakeover,
                Severity::Medium,
                "A dormant account woke",
                "An account is used again after a long silence.",
            ),
            Rule::RefusedTokens => about(
                "refused_tokens",
                Category::TokenTheft,
                Severity::Medium,
                "Many refused tokens",
                "Forged or expired tokens are tried, of one user or from one network.",
            ),
            Rule::LimitConflicts => about(
                "limit_conflicts",
                Category::PolicyViolation,
                Severity::Low,
                "Session limits met again and again",
                "A user meets the limits of sessions again and again, as a shared account does.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_stored_and_set_by_its_id() {
        for rule in Rule::ALL {
            assert_eq!(serde_json::to_value(rule).expect("plain data"), rule.id());
            assert_eq!(rule.field(), format!("detection.{}", rule.id()));
        }
    }
}
