//! The location of an address, from files in MaxMind's format. What they do not contain stays unknown.
//!
//! A file is read into memory, never mapped: truncating a mapped file would crash the server. A new
//! file is verified completely before it replaces the old one.

mod source;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use maxminddb::path;

use crate::model::device::Location;
use crate::model::ids::text_of;
use source::{LocationEntry, LocationSource};

/// Finds the location of addresses. Cheap to clone; clones share the files.
#[derive(Clone, Default)]
pub struct Locator {
    places: Option<Arc<LocationSource>>,
    networks: Option<Arc<LocationSource>>,
}

impl Locator {
    /// Reads the given files: `places` is a database of cities or countries, `networks` one of autonomous systems.
    ///
    /// # Errors
    /// A sentence that names the flag and the file.
    pub fn open(places: Option<PathBuf>, networks: Option<PathBuf>) -> anyhow::Result<Locator> {
        let places = places.map(|file| {
            LocationSource::open("--geoip-database", &["City", "Country", "Enterprise"], file)
                .map(Arc::new)
        });
        let networks = networks.map(|file| {
            LocationSource::open("--geoip-asn-database", &["ASN", "ISP"], file).map(Arc::new)
        });
        Ok(Locator { places: places.transpose()?, networks: networks.transpose()? })
    }

    /// The location of `ip`; `None` if nothing is known about it. Costs microseconds.
    pub fn locate(&self, ip: IpAddr) -> Option<Location> {
        let mut found = Location::default();
        if let Some(source) = &self.places {
            source.read().entry(ip, |entry| found = place(entry));
        }
        if let Some(source) = &self.networks {
            source.read().entry(ip, |entry| {
                found.asn = entry.part(&path!["autonomous_system_number"]).filter(|asn| *asn != 0);
            });
        }
        Some(found).filter(|found| *found != Location::default())
    }

    /// Reads changed files again. One that cannot be used is logged, and its last good content
    /// stays. Blocks while it reads.
    pub fn reload(&self) {
        for source in [&self.places, &self.networks].into_iter().flatten() {
            source.reload();
        }
    }
}

/// The location of a record, within the limits for what a caller may state.
fn place(entry: &LocationEntry<'_>) -> Location {
    let name = |text: Option<&str>| text.and_then(|text| text_of(text, 1, 128).ok());
    let code: Option<&str> = entry.part(&path!["country", "iso_code"]);
    let is_code = |code: &&str| code.len() == 2 && code.bytes().all(|b| b.is_ascii_uppercase());
    let degrees = |field, limit: f64| {
        let value: Option<f64> = entry.part(&path!["location", field]);
        value.filter(|value| (-limit..=limit).contains(value))
    };
    let region = name(entry.part(&path!["subdivisions", 0, "names", "en"]));
    let city = name(entry.part(&path!["city", "names", "en"]));
    let point = degrees("latitude", 90.0).zip(degrees("longitude", 180.0));
    // The coordinates of a country alone are its middle, where nobody is; and some files write 0,0 for "unknown".
    let is_known = region.is_some() || city.is_some();
    let coordinates = point.filter(|point| is_known && *point != (0.0, 0.0));
    let radius: Option<u16> = entry.part(&path!["location", "accuracy_radius"]);
    Location {
        country_code: code.filter(is_code).map(str::to_owned),
        region,
        city,
        coordinates,
        accuracy_km: radius.filter(|km| coordinates.is_some() && *km <= 20_000).map(u32::from),
        asn: None,
    }
}

#[cfg(test)]
mod tests;
