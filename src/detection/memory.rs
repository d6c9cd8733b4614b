//! What is remembered of a user and of a network: bounded, and all that the rules know of the past.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Time;

/// The most countries of a user, and users of a network, that are remembered; the oldest go first.
const MOST: usize = 128;

/// Of one user. Kept as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserMemory {
    /// The first activity that was seen.
    pub first_at: Option<Time>,
    /// The latest, oldest first.
    pub failed_logins: Vec<Time>,
    /// The latest, oldest first.
    pub creations: Vec<Time>,
    /// When the user was last in a country.
    pub countries: BTreeMap<String, Time>,
    pub place: Option<Place>,
}

/// Where a user was last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Place {
    pub at: Time,
    /// Latitude and longitude, in degrees.
    pub coordinates: (f64, f64),
}

/// Of one network: an IPv4 address or an IPv6 /64. Kept as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkMemory {
    /// When a login last failed, by a short hash of the user.
    pub failed_logins: BTreeMap<String, Time>,
}

/// Adds `at` to the latest times and drops those before `since`, and more than `most`.
pub(super) fn note(times: &mut Vec<Time>, at: Time, since: Time, most: usize) {
    times.push(at);
    times.sort_unstable();
    times.retain(|time| *time > since);
    let excess = times.len().saturating_sub(most);
    times.drain(..excess);
}

/// Notes when `name` was last seen, and drops those before `since`, and the oldest beyond what is kept.
pub(super) fn see(seen: &mut BTreeMap<String, Time>, name: String, at: Time, since: Time) {
    let last = seen.entry(name).or_insert(at);
    *last = at.max(*last);
    seen.retain(|_, time| *time > since);
    while seen.len() > MOST {
        let oldest = seen.iter().min_by_key(|(_, time)| **time).map(|(name, _)| name.clone());
        oldest.and_then(|name| seen.remove(&name));
    }
}
