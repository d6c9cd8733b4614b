//! Where a session was opened: the device, the address, the location.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

numbered! {
    /// The kind of a device.
    DeviceType {
        Unspecified = 0, Web = 1, Mobile = 2, Desktop = 3, Tablet = 4, Tv = 5, Bot = 6, Api = 7,
        Other = 8,
    }
}

/// A device as a session stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Named by the caller, or derived (`session/device/identity.rs`).
    pub id: Uuid,
    pub kind: DeviceType,
    pub details: DeviceDetails,
}

/// What is known of a device: `name` in at most 128 characters, the others in 64. `name`, `platform` and `app_version`
/// are as stated, `os`, `browser` and `model` as parsed from the user agent. Unknown stays `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub browser: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// How a caller names the device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DeviceIdentity {
    /// Not at all: its details identify it.
    #[default]
    Unknown,
    /// By an id that an earlier session had.
    Id(Uuid),
    /// Opaque text, 1 to 256 characters; equal texts of a user are one device.
    Fingerprint(String),
}

/// A location. Every part may be unknown. `country_code` as ISO 3166-1 writes it, in capitals; `region` and `city` of
/// at most 128 characters; `coordinates` are latitude (-90 to 90) and longitude (-180 to 180), in degrees; `asn` is the
/// number of the autonomous system.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Location {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub city: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coordinates: Option<(f64, f64)>,
    /// The uncertainty of the coordinates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_km: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

/// The end user's side, as the calling service states it. Never taken from transport metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientContext {
    /// An IPv4 address mapped into IPv6 is stored as IPv4.
    pub ip: Option<IpAddr>,
    /// At most 1024 characters.
    pub user_agent: Option<String>,
    pub location: Option<Location>,
    pub identity: DeviceIdentity,
    pub device_type: DeviceType,
    pub device: DeviceDetails,
}
