//! The values that one level of policy states. It inherits the others.

use std::collections::BTreeMap;

use chrono::Duration;

use crate::clock::Time;
use crate::model::detection::overrides::{DetectionOverrides, Part};
use crate::model::detection::rule::Rule;
use crate::model::device::DeviceType;
use crate::model::ids::{ClientId, TenantId};
use crate::model::policy::Limit;
use crate::model::policy::preset::Preset;

/// The values that a level states. `None` = inherited.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overrides {
    /// The preset for the timeouts that this level does not state itself.
    pub preset: Option<Preset>,
    /// Zero = never by idleness.
    pub idle_timeout: Option<Duration>,
    pub absolute_timeout: Option<Duration>,
    pub access_token_ttl: Option<Duration>,
    pub refresh_grace: Option<Duration>,
    pub lost_response_window: Option<Duration>,
    pub user_limit: Option<Limit>,
    pub client_limit: Option<Limit>,
    /// As a whole: a type that is not in it has no limit. Never empty.
    pub device_type_limits: Option<BTreeMap<DeviceType, Limit>>,
    /// Never empty.
    pub acr_levels: Option<Vec<String>>,
    /// Of a tenant's own level only. Rules concern a user, whichever client they use.
    pub detection: DetectionOverrides,
}

/// A value that a level may state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Preset,
    IdleTimeout,
    AbsoluteTimeout,
    AccessTokenTtl,
    RefreshGrace,
    LostResponseWindow,
    UserLimit,
    ClientLimit,
    DeviceTypeLimits,
    AcrLevels,
    Detection(Part),
}

impl Field {
    /// All of them.
    pub const ALL: [Field; 12 + Rule::ALL.len()] = [
        Field::Preset,
        Field::IdleTimeout,
        Field::AbsoluteTimeout,
        Field::AccessTokenTtl,
        Field::RefreshGrace,
        Field::LostResponseWindow,
        Field::UserLimit,
        Field::ClientLimit,
        Field::DeviceTypeLimits,
        Field::AcrLevels,
        Field::Detection(Part::LearningPeriod),
        Field::Detection(Part::TrustedNetworks),
        Field::Detection(Part::Rule(Rule::NewDevice)),
        Field::Detection(Part::Rule(Rule::NewCountry)),
        Field::Detection(Part::Rule(Rule::ImpossibleTravel)),
        Field::Detection(Part::Rule(Rule::SessionHijack)),
        Field::Detection(Part::Rule(Rule::FailedLogins)),
        Field::Detection(Part::Rule(Rule::FailedLoginsNetwork)),
        Field::Detection(Part::Rule(Rule::RapidCreation)),
        Field::Detection(Part::Rule(Rule::SimultaneousCountries)),
        Field::Detection(Part::Rule(Rule::DormantAccount)),
        Field::Detection(Part::Rule(Rule::RefusedTokens)),
        Field::Detection(Part::Rule(Rule::LimitConflicts)),
    ];

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Field::Preset => "preset",
            Field::IdleTimeout => "idle_timeout",
            Field::AbsoluteTimeout => "absolute_timeout",
            Field::AccessTokenTtl => "access_token_ttl",
            Field::RefreshGrace => "refresh_grace",
            Field::LostResponseWindow => "lost_response_window",
            Field::UserLimit => "user_limit",
            Field::ClientLimit => "client_limit",
            Field::DeviceTypeLimits => "device_type_limits",
            Field::AcrLevels => "acr_levels",
            Field::Detection(Part::LearningPeriod) => "detection.learning_period",
            Field::Detection(Part::TrustedNetworks) => "detection.trusted_networks",
            Field::Detection(Part::Rule(rule)) => rule.field(),
        }
    }
}

impl Overrides {
    /// Takes `field` over from `other`; absent there, it is inherited from now on.
    pub fn take(&mut self, field: Field, other: &Overrides) {
        match field {
            Field::Preset => self.preset = other.preset,
            Field::IdleTimeout => self.idle_timeout = other.idle_timeout,
            Field::AbsoluteTimeout => self.absolute_timeout = other.absolute_timeout,
            Field::AccessTokenTtl => self.access_token_ttl = other.access_token_ttl,
            Field::RefreshGrace => self.refresh_grace = other.refresh_grace,
            Field::LostResponseWindow => self.lost_response_window = other.lost_response_window,
            Field::UserLimit => self.user_limit = other.user_limit,
            Field::ClientLimit => self.client_limit = other.client_limit,
            Field::DeviceTypeLimits => self.device_type_limits = other.device_type_limits.clone(),
            Field::AcrLevels => self.acr_levels = other.acr_levels.clone(),
            Field::Detection(part) => self.detection.take(part, &other.detection),
        }
    }

    /// The fields that are stated.
    pub fn stated(&self) -> Vec<Field> {
        let unset = Overrides::default();
        let differs = |field: &Field| {
            let mut only = Overrides::default();
            only.take(*field, self);
            only != unset
        };
        Field::ALL.into_iter().filter(differs).collect()
    }

    /// True if no timeout is inherited.
    pub fn decides_timeouts(&self) -> bool {
        self.preset.is_some() || (self.idle_timeout.is_some() && self.absolute_timeout.is_some())
    }

    /// True if a change from `self` to `other` may shorten the life of sessions.
    pub fn timeouts_differ(&self, other: &Overrides) -> bool {
        self.preset != other.preset
            || self.idle_timeout != other.idle_timeout
            || self.absolute_timeout != other.absolute_timeout
    }
}

/// The scope of a level: a tenant, or one of its clients.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyScope {
    pub tenant: TenantId,
    /// `None` = the tenant's own.
    pub client: Option<ClientId>,
}

impl PolicyScope {
    /// The client; the empty text for the tenant's own.
    pub fn client_name(&self) -> &str {
        self.client.as_ref().map_or("", ClientId::as_str)
    }
}

/// A level as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyLevel {
    pub scope: PolicyScope,
    pub overrides: Overrides,
    /// Counts changes; the etag. 0 = never written.
    pub revision: i64,
    /// When and by whom it was changed last.
    pub updated: Option<(Time, String)>,
    /// When it is next applied to active sessions; `None` = that is done.
    pub apply_at: Option<Time>,
}

impl PolicyLevel {
    /// A level that was never written.
    pub fn unwritten(scope: PolicyScope) -> PolicyLevel {
        PolicyLevel {
            scope,
            overrides: Overrides::default(),
            revision: 0,
            updated: None,
            apply_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::detection::DetectionSettings;

    #[test]
    fn every_field_is_found_by_its_name_and_taken_alone() {
        let limit = Some(Limit::default());
        let all = Overrides {
            preset: Some(Preset::Aal2),
            idle_timeout: Some(Duration::zero()),
            absolute_timeout: Some(Duration::hours(1)),
            access_token_ttl: Some(Duration::minutes(1)),
            refresh_grace: Some(Duration::seconds(1)),
            lost_response_window: Some(Duration::minutes(2)),
            user_limit: limit,
            client_limit: limit,
            device_type_limits: Some(BTreeMap::from([(DeviceType::Tv, Limit::default())])),
            acr_levels: Some(vec!["low".to_owned()]),
            detection: DetectionOverrides::all(&DetectionSettings::default()),
        };
        assert_eq!(all.stated(), Field::ALL);
        for field in Field::ALL {
            let mut one = Overrides::default();
            one.take(field, &all);
            assert_eq!(one.stated(), [field]);
            one.take(field, &Overrides::default());
            assert_eq!(one.stated(), []);
        }
    }
}
