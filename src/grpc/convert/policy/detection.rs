//! The detection settings of a policy. Every rule message is converted to the same set of values, and back.

use std::collections::BTreeMap;

use chrono::Duration;
use ipnet::IpNet;

use crate::grpc::convert::check::Check;
use crate::grpc::convert::session::network;
use crate::grpc::convert::time::{duration, duration_to_pb};
use crate::grpc::pb;
use crate::model::detection::overrides::{DetectionOverrides, RuleOverrides};
use crate::model::detection::rule::Rule;
use crate::model::detection::threshold::{Kind, Threshold};
use crate::model::detection::{Action, Mode};

/// The most networks that a tenant may trust.
const MAX_NETWORKS: usize = 64;
/// The longest learning period, in seconds.
const LONGEST_LEARNING: i64 = 365 * 86_400;

type Length = Option<prost_types::Duration>;

/// The values of a rule message of any type.
#[derive(Default)]
struct Given {
    mode: i32,
    action: i32,
    within: Length,
    count: Option<u32>,
    speed: Option<u32>,
    distance: Option<u32>,
    accuracy: Option<u32>,
}

/// Checks the detection settings at `path` of a request.
pub fn overrides(check: &mut Check, path: &str, given: pb::DetectionPolicy) -> DetectionOverrides {
    let of_rules = [
        (Rule::NewDevice, given.new_device.map(Given::from)),
        (Rule::NewCountry, given.new_country.map(Given::from)),
        (Rule::ImpossibleTravel, given.impossible_travel.map(Given::from)),
        (Rule::SessionHijack, given.session_hijack.map(Given::from)),
        (Rule::FailedLogins, given.failed_logins.map(Given::from)),
        (Rule::FailedLoginsNetwork, given.failed_logins_network.map(Given::from)),
        (Rule::RapidCreation, given.rapid_creation.map(Given::from)),
        (Rule::SimultaneousCountries, given.simultaneous_countries.map(Given::from)),
        (Rule::DormantAccount, given.dormant_account.map(Given::from)),
        (Rule::RefusedTokens, given.refused_tokens.map(Given::from)),
        (Rule::LimitConflicts, given.limit_conflicts.map(Given::from)),
    ];
    let learning = format!("{path}.learning_period");
    let rule = format!("must be whole seconds, 0s to {LONGEST_LEARNING}s");
    let mut stated = DetectionOverrides {
        learning_period: seconds(
            check,
            &learning,
            given.learning_period,
            |seconds| (0..=LONGEST_LEARNING).contains(&seconds),
            &rule,
        ),
        trusted_networks: networks(check, path, &given.trusted_networks),
        rules: BTreeMap::new(),
    };
    for (rule, given) in of_rules {
        let set = given.map(|given| of_rule(check, path, rule, given)).unwrap_or_default();
        if set != RuleOverrides::default() {
            stated.rules.insert(rule, set);
        }
    }
    stated
}

fn of_rule(check: &mut Check, path: &str, rule: Rule, given: Given) -> RuleOverrides {
    let field = format!("{path}.{}", rule.id());
    let mut set = RuleOverrides {
        mode: check.value(&format!("{field}.mode"), given.mode, Mode::from_number),
        action: check.value(&format!("{field}.action"), given.action, Action::from_number),
        thresholds: BTreeMap::new(),
    };
    for one in rule.thresholds() {
        let field = format!("{field}.{}", one.name);
        let value = match one.kind {
            Kind::Within => {
                let fits = |seconds| one.holds(seconds);
                let rule = format!("must be {}", one.range());
                seconds(check, &field, given.within, fits, &rule)
            }
            Kind::Count => number(check, &field, given.count, one),
            Kind::Speed => number(check, &field, given.speed, one),
            Kind::Distance => number(check, &field, given.distance, one),
            Kind::Accuracy => number(check, &field, given.accuracy, one),
        };
        set.thresholds.extend(value.map(|value| (one.kind, value)));
    }
    set
}

fn number(check: &mut Check, field: &str, given: Option<u32>, one: &Threshold) -> Option<i64> {
    let value = i64::from(given?);
    let rule = || format!("must be {}", one.range());
    check.take(field, Some(value).filter(|value| one.holds(*value)).ok_or_else(rule))
}

fn seconds(
    check: &mut Check,
    field: &str,
    given: Length,
    fits: impl Fn(i64) -> bool,
    rule: &str,
) -> Option<i64> {
    let length = duration(check, field, given)?;
    let seconds = length.num_seconds();
    let is_whole = Duration::seconds(seconds) == length;
    check.take(field, Some(seconds).filter(|s| is_whole && fits(*s)).ok_or(rule.to_owned()))
}

fn networks(check: &mut Check, path: &str, given: &[String]) -> Option<Vec<IpNet>> {
    let field = format!("{path}.trusted_networks");
    if given.len() > MAX_NETWORKS {
        check.broken(&field, format!("must be at most {MAX_NETWORKS}"));
    }
    let mut networks = Vec::new();
    for (i, text) in given.iter().enumerate().take(MAX_NETWORKS) {
        networks.extend(check.take(&format!("{field}[{i}]"), network(text)));
    }
    Some(networks).filter(|networks| !networks.is_empty())
}

/// The stated settings as a protobuf message; `None` if there are none.
pub fn to_pb(stated: &DetectionOverrides) -> Option<pb::DetectionPolicy> {
    if *stated == DetectionOverrides::default() {
        return None;
    }
    let networks = stated.trusted_networks.iter().flatten();
    Some(pb::DetectionPolicy {
        learning_period: stated.learning_period.map(length),
        trusted_networks: networks.map(IpNet::to_string).collect(),
        new_device: rule(stated, Rule::NewDevice),
        new_country: rule(stated, Rule::NewCountry),
        impossible_travel: rule(stated, Rule::ImpossibleTravel),
        session_hijack: rule(stated, Rule::SessionHijack),
        failed_logins: rule(stated, Rule::FailedLogins),
        failed_logins_network: rule(stated, Rule::FailedLoginsNetwork),
        rapid_creation: rule(stated, Rule::RapidCreation),
        simultaneous_countries: rule(stated, Rule::SimultaneousCountries),
        dormant_account: rule(stated, Rule::DormantAccount),
        refused_tokens: rule(stated, Rule::RefusedTokens),
        limit_conflicts: rule(stated, Rule::LimitConflicts),
    })
}

fn rule<M: From<Given>>(stated: &DetectionOverrides, rule: Rule) -> Option<M> {
    let set = stated.rules.get(&rule)?;
    let number = |kind| set.thresholds.get(&kind).and_then(|value| u32::try_from(*value).ok());
    Some(M::from(Given {
        mode: set.mode.map_or(0, |mode| i32::from(mode as i16)),
        action: set.action.map_or(0, |action| i32::from(action as i16)),
        within: set.thresholds.get(&Kind::Within).map(|seconds| length(*seconds)),
        count: number(Kind::Count),
        speed: number(Kind::Speed),
        distance: number(Kind::Distance),
        accuracy: number(Kind::Accuracy),
    }))
}

fn length(seconds: i64) -> prost_types::Duration {
    duration_to_pb(Duration::seconds(seconds))
}

/// Converts a rule message: names its fields and the values that they hold.
macro_rules! message {
    ($name:ident { $($field:ident = $value:ident),* }) => {
        impl From<pb::$name> for Given {
            fn from(given: pb::$name) -> Given {
                let pb::$name { mode, action $(, $field)* } = given;
                Given { mode, action $(, $value: $field)*, ..Given::default() }
            }
        }

        impl From<Given> for pb::$name {
            fn from(set: Given) -> pb::$name {
                pb::$name { mode: set.mode, action: set.action $(, $field: set.$value)* }
            }
        }
    };
}
message!(PlainRule {});
message!(NewCountryRule { baseline = within });
message!(ImpossibleTravelRule {
    speed_kmh = speed,
    distance_km = distance,
    accuracy_km = accuracy
});
message!(BurstRule { count = count, window = within });
message!(SimultaneousCountriesRule { countries = count, window = within });
message!(DormantAccountRule { silence = within });
