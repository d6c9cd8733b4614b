//! The context of the end user's client, as the caller states it.

use std::net::IpAddr;

use crate::grpc::convert::check::Check;
use crate::grpc::pb;
use crate::model::device::{
    ClientContext, Device, DeviceDetails, DeviceIdentity, DeviceType, Location,
};
use crate::model::ids::text_of;

/// Reads a context; an absent one is empty.
pub fn context(check: &mut Check, client: Option<pb::ClientContext>) -> ClientContext {
    let client = client.unwrap_or_default();
    let device = client.device.unwrap_or_default();
    ClientContext {
        ip: Some(client.ip_address)
            .filter(|text| !text.is_empty())
            .and_then(|text| check.take("client.ip_address", ip(&text))),
        user_agent: check.text("client.user_agent", &client.user_agent, 1024),
        location: client
            .location
            .map(|place| location(check, place))
            .filter(|place| *place != Location::default()),
        identity: identity(check, device.identity),
        device_type: check
            .value("client.device.type", device.r#type, DeviceType::from_number)
            .unwrap_or(DeviceType::Unspecified),
        device: DeviceDetails {
            name: check.text("client.device.display_name", &device.display_name, 128),
            platform: check.text("client.device.platform", &device.platform, 64),
            app_version: check.text("client.device.app_version", &device.app_version, 64),
            ..DeviceDetails::default()
        },
    }
}

/// Parses an address in canonical form: an IPv4-mapped IPv6 address becomes IPv4.
pub fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse::<IpAddr>()
        .map(|address| address.to_canonical())
        .map_err(|_| "must be an IPv4 or IPv6 address without port or zone".to_owned())
}

fn identity(check: &mut Check, identity: Option<pb::device_context::Identity>) -> DeviceIdentity {
    use pb::device_context::Identity;
    match identity {
        None => DeviceIdentity::Unknown,
        Some(Identity::DeviceId(id)) => check
            .required_uuid("client.device.device_id", &id)
            .map_or(DeviceIdentity::Unknown, DeviceIdentity::Id),
        Some(Identity::Fingerprint(text)) => check
            .take("client.device.fingerprint", text_of(&text, 1, 256))
            .map_or(DeviceIdentity::Unknown, DeviceIdentity::Fingerprint),
    }
}

fn location(check: &mut Check, place: pb::Location) -> Location {
    let code = place.country_code;
    let is_country = code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    if !code.is_empty() && !is_country {
        check.broken("client.location.country_code", "must be two upper-case letters (ISO 3166-1)");
    }
    let beyond = |value: Option<f64>, limit: f64| {
        value.is_some_and(|value| !(-limit..=limit).contains(&value))
    };
    if beyond(place.latitude, 90.0) {
        check.broken("client.location.latitude", "must be from -90 to 90");
    }
    if beyond(place.longitude, 180.0) {
        check.broken("client.location.longitude", "must be from -180 to 180");
    }
    if place.asn == Some(0) {
        check.broken("client.location.asn", "must be at least 1");
    }
    if place.accuracy_km.is_some_and(|km| !(1..=20_000).contains(&km)) {
        check.broken("client.location.accuracy_km", "must be 1 to 20000");
    }
    let coordinates = match (place.latitude, place.longitude) {
        (None, None) => None,
        (Some(latitude), Some(longitude)) => Some((latitude, longitude)),
        (None, Some(_)) => {
            check.broken("client.location.latitude", "is required with longitude");
            None
        }
        (Some(_), None) => {
            check.broken("client.location.longitude", "is required with latitude");
            None
        }
    };
    Location {
        country_code: Some(code).filter(|code| !code.is_empty()),
        region: check.text("client.location.region", &place.region, 128),
        city: check.text("client.location.city", &place.city, 128),
        coordinates,
        accuracy_km: place.accuracy_km,
        asn: place.asn,
    }
}

/// A geolocation as a protobuf message.
pub fn location_to_pb(place: Location) -> pb::Location {
    pb::Location {
        country_code: place.country_code.unwrap_or_default(),
        region: place.region.unwrap_or_default(),
        city: place.city.unwrap_or_default(),
        latitude: place.coordinates.map(|(latitude, _)| latitude),
        longitude: place.coordinates.map(|(_, longitude)| longitude),
        asn: place.asn,
        accuracy_km: place.accuracy_km,
    }
}

/// A device as a protobuf message.
pub fn device_to_pb(device: Device) -> pb::Device {
    let DeviceDetails { name, platform, app_version, os, browser, model } = device.details;
    pb::Device {
        device_id: device.id.to_string(),
        display_name: name.unwrap_or_default(),
        r#type: i32::from(device.kind as i16),
        os: platform.clone().or(os).unwrap_or_default(),
        browser: browser.unwrap_or_default(),
        model: model.unwrap_or_default(),
        platform: platform.unwrap_or_default(),
        app_version: app_version.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_location_counts_as_unset() {
        let of = |place: pb::Location| {
            let client = pb::ClientContext { location: Some(place), ..Default::default() };
            context(&mut Check::default(), Some(client)).location
        };
        assert_eq!(of(pb::Location::default()), None);
        assert!(of(pb::Location { asn: Some(1), ..Default::default() }).is_some());
    }

    #[test]
    fn addresses_have_one_form() {
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_eq!(ip("2001:DB8:0:0::1"), ip("2001:db8::1"));
        for wrong in ["fe80::1%eth0", "192.0.2.1:80", "[::1]", "192.0.2.256", "1.2.3", "x"] {
            assert!(ip(wrong).is_err(), "{wrong}");
        }
    }
}
