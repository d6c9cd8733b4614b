//! Statistics: the counts of activities by hour, and their sums. Pure.

pub mod alerts;
pub mod window;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind, SYSTEM};
use crate::model::device::DeviceType;
use crate::model::ids::{TenantId, UserId};
use crate::model::revocation::digest_of;
use crate::model::statistics::alerts::AlertCounts;

/// Names kept apart in one row, of clients and of rules, which callers choose; those that come later
/// are counted together, under the empty name.
pub const MAX_NAMES: usize = 100;

/// Whose statistics: those of a tenant, or of one of its users.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub tenant: TenantId,
    pub user: Option<UserId>,
}

/// The present totals, as far as activities are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OpenCounts {
    /// Sessions that are not stored as ended.
    pub live: i64,
    pub open_alerts: i64,
    pub acknowledged_alerts: i64,
}

/// The present totals of a tenant or a user, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Of the tenant, or of the user within it.
    pub name: String,
    pub standing: OpenCounts,
    /// Of a user; 0 for a tenant.
    pub devices: i64,
}

/// What happened in some time. Maps from numbers have those of the enum named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    #[serde(skip_serializing_if = "is_default")]
    pub created: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub refreshed: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub reauthenticated: u64,
    /// By [`crate::model::session::EndReason`], expiries included.
    #[serde(skip_serializing_if = "is_default")]
    pub ended: BTreeMap<i16, u64>,
    /// Of created sessions, by [`DeviceType`].
    #[serde(skip_serializing_if = "is_default")]
    pub device_types: BTreeMap<i16, u64>,
    /// Of created sessions; the empty name for an unknown place.
    #[serde(skip_serializing_if = "is_default")]
    pub countries: BTreeMap<String, u64>,
    /// Of created sessions; the empty name for those beyond [`MAX_NAMES`].
    #[serde(skip_serializing_if = "is_default")]
    pub clients: BTreeMap<String, u64>,
    /// Reports of successes.
    #[serde(skip_serializing_if = "is_default")]
    pub succeeded: u64,
    #[serde(skip_serializing_if = "is_default")]
    pub failed: u64,
    pub level: StandingLevel,
    #[serde(skip_serializing_if = "is_default")]
    pub alerts: AlertCounts,
}

/// Live sessions over some time, in the order in which they were counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StandingLevel {
    pub first: i64,
    pub peak: i64,
    pub last: i64,
}

/// The hour that `at` lies in.
pub fn hour_of(at: Time) -> Time {
    let seconds = at.timestamp().div_euclid(3600) * 3600;
    Time::from_timestamp(seconds, 0).expect("earlier by less than an hour")
}

/// True if there is something to count of it.
pub fn is_counted(activity: &Activity) -> bool {
    use ActivityKind as Kind;
    let of_session = matches!(
        activity.kind,
        Kind::Created | Kind::Refreshed | Kind::Reauthenticated | Kind::Terminated | Kind::Expired
    );
    of_session || reported(activity).is_some() || is_of_alert(activity)
}

/// Whether a report is of a success. An observation of the service is no report.
fn reported(activity: &Activity) -> Option<bool> {
    let report = activity.report.as_ref().filter(|_| activity.principal != SYSTEM)?;
    Some(report.success)
}

/// True for a change to an alert.
pub fn is_of_alert(activity: &Activity) -> bool {
    use ActivityKind as Kind;
    matches!(
        activity.kind,
        Kind::AlertRaised | Kind::AlertAcknowledged | Kind::AlertResolved | Kind::AlertReopened
    ) && activity.alert.is_some()
}

impl Owner {
    /// Stands for the owner without naming a user.
    pub fn digest(&self) -> String {
        digest_of(&self.tenant, self.user.as_ref().map_or("", UserId::as_str))
    }

    /// All whose statistics count what concerns this tenant and user.
    pub fn all(tenant: &TenantId, user: Option<&UserId>) -> impl Iterator<Item = Owner> {
        let of_tenant = Owner { tenant: tenant.clone(), user: None };
        let of_user = user.map(|user| Owner { tenant: tenant.clone(), user: Some(user.clone()) });
        std::iter::once(of_tenant).chain(of_user)
    }
}

impl OpenCounts {
    /// Takes over what an activity changes; a change to an alert is for [`OpenCounts::move_alert`].
    pub fn note(&mut self, activity: &Activity) {
        match activity.kind {
            ActivityKind::Created => self.live += 1,
            ActivityKind::Terminated | ActivityKind::Expired => self.live -= 1,
            _ => {}
        }
    }

    /// An alert that was counted in one state is in another.
    pub fn move_alert(&mut self, from: Option<i16>, to: i16) {
        for (state, by) in [(from, -1), (Some(to), 1)] {
            match state {
                Some(1) => self.open_alerts += by,
                Some(2) => self.acknowledged_alerts += by,
                _ => {}
            }
        }
    }

    /// Subtracts the totals of another owner.
    pub fn without(self, other: OpenCounts) -> OpenCounts {
        OpenCounts {
            live: self.live - other.live,
            open_alerts: self.open_alerts - other.open_alerts,
            acknowledged_alerts: self.acknowledged_alerts - other.acknowledged_alerts,
        }
    }
}

impl Counts {
    /// Nothing yet, with `live` sessions.
    pub fn from(live: i64) -> Counts {
        let level = StandingLevel { first: live, peak: live, last: live };
        Counts { level, ..Counts::default() }
    }

    /// Counts an activity, after which there are `live` sessions.
    pub fn note(&mut self, activity: &Activity, live: i64) {
        match activity.kind {
            ActivityKind::Created => {
                self.created += 1;
                let kind = activity.device_type.unwrap_or(DeviceType::Unspecified);
                add(&mut self.device_types, kind as i16, 1);
                let place = activity.location.as_ref();
                let country = place.and_then(|place| place.country_code.clone());
                add(&mut self.countries, country.unwrap_or_default(), 1);
                let client = activity.client.as_ref().map_or("", |client| client.as_str());
                add_name(&mut self.clients, client, 1);
            }
            ActivityKind::Refreshed => self.refreshed += 1,
            ActivityKind::Reauthenticated => self.reauthenticated += 1,
            ActivityKind::Terminated | ActivityKind::Expired => {
                let reason = activity.end_reason.map_or(0, |reason| reason as i16);
                add(&mut self.ended, reason, 1);
            }
            _ => {}
        }
        match reported(activity) {
            Some(true) => self.succeeded += 1,
            Some(false) => self.failed += 1,
            None => {}
        }
        self.reach(live);
    }

    /// There are `live` sessions now.
    pub fn reach(&mut self, live: i64) {
        self.level.last = live;
        self.level.peak = self.level.peak.max(live);
    }

    /// Adds what came after.
    pub fn add(&mut self, after: &Counts) {
        self.created += after.created;
        self.refreshed += after.refreshed;
        self.reauthenticated += after.reauthenticated;
        add_all(&mut self.ended, &after.ended);
        add_all(&mut self.device_types, &after.device_types);
        add_all(&mut self.countries, &after.countries);
        add_names(&mut self.clients, &after.clients);
        self.succeeded += after.succeeded;
        self.failed += after.failed;
        self.level.peak = self.level.peak.max(after.level.peak);
        self.level.last = after.level.last;
        self.alerts.add(&after.alerts);
    }
}

fn add<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K, by: u64) {
    *counts.entry(key).or_default() += by;
}

fn add_all<K: Ord + Clone>(counts: &mut BTreeMap<K, u64>, more: &BTreeMap<K, u64>) {
    for (key, by) in more {
        add(counts, key.clone(), *by);
    }
}

fn add_name(counts: &mut BTreeMap<String, u64>, name: &str, by: u64) {
    let named = counts.len() - usize::from(counts.contains_key(""));
    let fits = named < MAX_NAMES || counts.contains_key(name);
    add(counts, if fits { name.to_owned() } else { String::new() }, by);
}

fn add_names(counts: &mut BTreeMap<String, u64>, more: &BTreeMap<String, u64>) {
    for (name, by) in more {
        add_name(counts, name, *by);
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
