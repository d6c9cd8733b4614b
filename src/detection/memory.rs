//! The memory of a user and of a network: bounded, and all that the rules know of the past.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::Duration;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;
use crate::detection::sightings::Sighting;
use crate::model::evidence::{GeoPoint, SeenClient};

/// The most countries and devices in the memory of a user, and users in that of a network; the
/// oldest are evicted first.
const MOST: usize = 128;
/// The most sessions in the memory of a user; those unseen for longest are evicted first.
const MAX_SESSIONS: usize = 32;
/// A time of the last use is updated only when it is this old, so that a busy user is not written with every request.
const COARSE: Duration = Duration::hours(1);

/// The memory of a user, stored as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserMemory {
    /// The first activity of the user.
    pub first_at: Option<Time>,
    /// The last activity of the user, up to an hour too early.
    pub last_at: Option<Time>,
    /// The latest, oldest first.
    pub failed_logins: Vec<Time>,
    /// The latest, oldest first.
    pub creations: Vec<Time>,
    /// The latest, oldest first.
    pub refused_tokens: Vec<Time>,
    /// The latest, oldest first.
    pub limit_conflicts: Vec<Time>,
    /// When the user last began a session on a device.
    pub devices: BTreeMap<Uuid, Time>,
    /// When the user was last in a country.
    pub countries: BTreeMap<String, Time>,
    /// The last location, as an older release stored it.
    #[serde(skip_serializing)]
    pub place: Option<GeoPoint>,
    /// The locations of the user, by network, oldest first.
    pub sightings: Vec<Sighting>,
    /// The client of the last use of each session.
    pub clients: BTreeMap<Uuid, SeenClient>,
    /// The country of the last use of each session, up to an hour too early.
    pub whereabouts: BTreeMap<Uuid, (String, Time)>,
}

/// The memory of a network, stored as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkMemory {
    /// When a login last failed, by a short hash of the user.
    pub failed_logins: BTreeMap<String, Time>,
    /// Refusals without a known user. The latest, oldest first.
    pub refused_tokens: Vec<Time>,
}

/// The network of an address: itself in IPv4; in IPv6 its /64, which is what one customer has (RFC 6177).
pub fn network(ip: IpAddr) -> IpNet {
    around(ip, 32, 64)
}

/// The network of so many bits around an address.
pub(super) fn around(ip: IpAddr, v4: u8, v6: u8) -> IpNet {
    let bits = if ip.is_ipv4() { v4 } else { v6 };
    IpNet::new(ip, bits).expect("a length that fits the address").trunc()
}

/// Adds `at` to the latest times and drops those before `since`, and more than `most`.
pub(super) fn note(times: &mut Vec<Time>, at: Time, since: Time, most: u32) {
    times.push(at);
    times.sort_unstable();
    times.retain(|time| *time > since);
    let excess = times.len().saturating_sub(most as usize);
    times.drain(..excess);
}

/// Records when `name` was last seen, and evicts those before `since`, and the oldest beyond the capacity.
pub(super) fn see<K: Ord + Clone>(seen: &mut BTreeMap<K, Time>, name: K, at: Time, since: Time) {
    let last = seen.entry(name).or_insert(at);
    *last = at.max(*last);
    seen.retain(|_, time| *time > since);
    drop_oldest(seen, MOST, |time| *time);
}

/// Records a value of a session, and evicts the sessions beyond the capacity.
pub(super) fn of_session<V>(
    known: &mut BTreeMap<Uuid, V>,
    session: Uuid,
    value: V,
    at: impl Fn(&V) -> Time,
) {
    known.insert(session, value);
    drop_oldest(known, MAX_SESSIONS, at);
}

/// True if a coarse time is old enough to be updated.
pub(super) fn is_stale(noted: Time, at: Time) -> bool {
    at >= noted + COARSE
}

fn drop_oldest<K: Ord + Clone, V>(
    known: &mut BTreeMap<K, V>,
    most: usize,
    at: impl Fn(&V) -> Time,
) {
    while known.len() > most {
        let oldest = known.iter().min_by_key(|(_, value)| at(value)).map(|(key, _)| key.clone());
        oldest.and_then(|key| known.remove(&key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at, from, placed};
    use crate::detection::{Context, observe};
    use crate::model::activity::ActivityKind;
    use crate::model::detection::DetectionSettings;
    use crate::model::ids::UserId;

    /// What a month of the busiest attacker leaves: everything different all the time.
    #[test]
    fn a_memory_stays_bounded_whatever_happens() {
        let settings = DetectionSettings::default();
        let (mut user, mut network) = <(UserMemory, NetworkMemory)>::default();
        let kinds = [
            ActivityKind::Created,
            ActivityKind::Refreshed,
            ActivityKind::LoginFailed,
            ActivityKind::TokenRefused,
            ActivityKind::LimitConflict,
            ActivityKind::ApiRequest,
        ];
        for n in 0..6_000_u32 {
            let kind = kinds[n as usize % kinds.len()];
            let [_, _, c, d] = n.to_be_bytes();
            let mut seen = from(activity(kind, at(f64::from(n) / 100.0)), &format!("10.0.{c}.{d}"));
            seen = placed(seen, &format!("{n:04}"), Some((f64::from(n % 90), 0.0)));
            seen.session = Some(Uuid::from_u128(n.into()));
            seen.device = Some(Uuid::from_u128(n.into()));
            let browser = Some("b".repeat(64));
            let context = Context { browser, ..Context::default() };
            // Half of the refused tokens are nobody's.
            if kind == ActivityKind::TokenRefused && n % 4 == 3 {
                seen.user = None;
            } else if kind == ActivityKind::LoginFailed {
                seen.user = UserId::parse(&format!("user-{n}")).ok();
            }
            observe(&seen, &context, &settings, &mut user, &mut network);
        }
        assert_eq!((user.devices.len(), user.countries.len()), (MOST, MOST));
        assert_eq!((user.clients.len(), user.whereabouts.len()), (MAX_SESSIONS, MAX_SESSIONS));
        assert!(user.clients.contains_key(&Uuid::from_u128(5_999)), "the oldest go");
        let size = |json: Result<String, serde_json::Error>| json.expect("plain data").len();
        let (user, network) = (serde_json::to_string(&user), serde_json::to_string(&network));
        assert!(size(user) < 30_000);
        assert!(size(network) < 10_000);
    }

    #[test]
    fn what_an_older_release_remembered_is_still_read() {
        let old = r#"{"first_at": "2026-01-01T00:00:00Z", "failed_logins": [], "creations": [],
            "countries": {"DE": "2026-01-01T00:00:00Z"},
            "place": {"at": "2026-01-01T00:00:00Z", "coordinates": [52.5, 13.4]}}"#;
        let user: UserMemory = serde_json::from_str(old).expect("a memory");
        assert_eq!((user.countries.len(), user.last_at, user.devices.len()), (1, None, 0));
        let network: NetworkMemory = serde_json::from_str("{\"failed_logins\": {}}").expect("one");
        assert_eq!(network, NetworkMemory::default());
    }
}
