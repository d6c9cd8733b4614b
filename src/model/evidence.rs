//! The evidence of an alert, in the form of its rule. Kept as JSON.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chrono::Duration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Time;

/// The evidence of a finding.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Evidence {
    /// Facts as text, for rules without a shape of their own and for display.
    pub values: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typed: Option<TypedEvidence>,
}

/// Evidence with a fixed shape, per rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TypedEvidence {
    /// A refresh token was replayed.
    RefreshReuse(RefreshReuse),
    /// A refresh token was of a later generation than the row: `presented` > `current`.
    DataRegression {
        presented_generation: u32,
        current_generation: u32,
    },
    ImpossibleTravel(Travel),
    NewCountry {
        country: String,
        known: Vec<String>,
        baseline_seconds: i64,
    },
    NewDevice {
        device: Uuid,
        known: u32,
    },
    SessionHijack {
        before: SeenClient,
        after: SeenClient,
    },
    SimultaneousCountries {
        countries: Vec<String>,
        threshold: u32,
        window_seconds: i64,
    },
    DormantAccount {
        last_seen: Time,
        threshold_seconds: i64,
    },
    Burst(Burst),
}

/// A refresh token was presented again after its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshReuse {
    pub presented_generation: u32,
    /// The session's at that moment; greater than the one presented.
    pub current_generation: u32,
    /// When the session reached that generation.
    pub rotated_at: Time,
    /// As stated in the refresh.
    pub presenter_ip: Option<String>,
    /// As stated in the refresh.
    pub presenter_user_agent: Option<String>,
    /// As known before.
    pub session_ip: Option<String>,
    /// As known before.
    pub session_user_agent: Option<String>,
}

/// Two places, and how fast one would have to travel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Travel {
    pub from: GeoPoint,
    pub to: GeoPoint,
    /// In km, over the ground.
    pub distance: f64,
    /// In km: the same, less the uncertainty of both locations.
    pub certain_distance: f64,
    /// In km/h, over the certain distance.
    pub speed: f64,
    /// In km/h.
    pub speed_threshold: u32,
    /// In km.
    pub distance_threshold: u32,
}

/// Where a user was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeoPoint {
    pub at: Time,
    /// Latitude and longitude, in degrees.
    pub coordinates: (f64, f64),
}

/// The user agent and the location of a use of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenClient {
    pub at: Time,
    pub ip: IpAddr,
    /// Its autonomous system, where known.
    pub asn: Option<u32>,
    /// Without a version; `None` = unknown.
    pub browser: Option<String>,
    /// Without a version; `None` = unknown.
    pub system: Option<String>,
}

/// Many of a kind in a short time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Burst {
    /// A lower bound; a rule stops counting at its threshold.
    pub count: u32,
    pub threshold: u32,
    pub window_seconds: i64,
    /// The first of those that count.
    pub first_at: Time,
    /// An IPv4 address or an IPv6 /64, where the finding is about one.
    pub network: Option<String>,
}

impl Burst {
    /// What counts as one, over `window`.
    pub fn new(count: usize, threshold: u32, window: Duration, first_at: Time) -> Burst {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Burst { count, threshold, window_seconds: window.num_seconds(), first_at, network: None }
    }
}
