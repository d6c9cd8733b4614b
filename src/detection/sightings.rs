//! The last geolocation of a user in each network. Tells a user who moved from two geolocations of one place.
//!
//! Geolocations of addresses are guesses, and callers may state others. So one network counts as one place, whatever
//! its geolocations, and so do the IPv4 and the IPv6 network of one session.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::memory::{UserMemory, network};
use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::device::Location;

/// The most networks in the memory of a user.
const MOST: usize = 12;
/// The most further coordinates of one network.
const MAX_PLACES: usize = 4;
/// Coordinates nearer to 0,0 than this, in degrees, mean "unknown" in files and requests.
const NOWHERE: f64 = 0.01;

/// The last activity of a user in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    pub at: Time,
    /// `None` = the activity had no address.
    #[serde(default)]
    pub network: Option<IpNet>,
    #[serde(default)]
    pub session: Option<Uuid>,
    /// The country that was stated first for this place.
    #[serde(default)]
    pub country: Option<String>,
    #[serde(default)]
    pub spot: Option<Spot>,
}

/// Latitude and longitude, in degrees.
pub type Point = (f64, f64);

/// The coordinates of a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    pub coordinates: Point,
    /// The accuracy of the coordinates in km, if stated.
    pub accuracy_km: Option<u32>,
    /// The geolocation has more than a country, so the coordinates are not the center of a country.
    pub is_exact: bool,
    /// Other coordinates that were stated for the same place.
    #[serde(default)]
    pub others: Vec<Point>,
}

impl Sighting {
    /// The sighting of an activity. The country is the one remembered for the place, if any.
    pub fn of(activity: &Activity, user: &UserMemory) -> Sighting {
        Sighting {
            country: country(activity, user),
            spot: activity.location.as_ref().and_then(Spot::of),
            ..Sighting::bare(activity)
        }
    }

    fn bare(activity: &Activity) -> Sighting {
        Sighting {
            at: activity.occurred_at,
            network: activity.ip.map(network),
            session: activity.session,
            country: None,
            spot: None,
        }
    }

    /// A sighting in the form of an older release.
    pub fn before(at: Time, coordinates: (f64, f64)) -> Sighting {
        let spot = Spot { coordinates, accuracy_km: None, is_exact: true, others: Vec::new() };
        Sighting { at, network: None, session: None, country: None, spot: Some(spot) }
    }

    fn is_ipv4(&self) -> Option<bool> {
        self.network.map(|network| matches!(network, IpNet::V4(_)))
    }

    fn is_same_session(&self, other: &Sighting) -> bool {
        self.session.is_some() && self.session == other.session
    }

    /// True if both are in the same network; false if one has no address.
    pub fn is_same_network(&self, other: &Sighting) -> bool {
        self.network.is_some() && self.network == other.network
    }

    /// True if one is by IPv4 and the other by IPv6.
    fn is_other_family(&self, other: &Sighting) -> bool {
        let families = self.is_ipv4().zip(other.is_ipv4());
        families.is_some_and(|(one, other)| one != other)
    }

    /// True if both are of one session, one by IPv4 and the other by IPv6: a host uses both from one place.
    pub fn is_sibling(&self, other: &Sighting) -> bool {
        self.is_same_session(other) && self.is_other_family(other)
    }
}

impl Spot {
    /// `None` for no coordinates, and for 0,0, which means "unknown".
    fn of(place: &Location) -> Option<Spot> {
        let coordinates = place.coordinates?;
        if coordinates.0.abs() < NOWHERE && coordinates.1.abs() < NOWHERE {
            return None;
        }
        let accuracy_km = place.accuracy_km;
        let is_exact = accuracy_km.is_some() || place.city.is_some() || place.region.is_some();
        Some(Spot { coordinates, accuracy_km, is_exact, others: Vec::new() })
    }

    /// All coordinates that were stated for the place.
    pub fn all(&self) -> impl Iterator<Item = Point> {
        std::iter::once(self.coordinates).chain(self.others.iter().copied())
    }

    /// Adds the coordinates of `other`, which is the same place.
    pub fn join(&mut self, other: &Spot) {
        for place in other.all() {
            if !self.all().any(|known| known == place) {
                self.others.push(place);
            }
        }
        self.others.truncate(MAX_PLACES);
    }
}

/// The country of an activity: the one remembered for its place, else the one that the activity states.
pub fn country(activity: &Activity, user: &UserMemory) -> Option<String> {
    let stated = activity.location.as_ref()?.country_code.as_ref()?;
    let here = Sighting::bare(activity);
    let known = same_place(&user.sightings, &here).and_then(|known| known.country.as_ref());
    Some(known.unwrap_or(stated).clone())
}

/// The last sighting of the place of `here`: of its network; else of its session, if all sightings of the session are
/// of the other address family.
pub fn same_place<'a>(sightings: &'a [Sighting], here: &Sighting) -> Option<&'a Sighting> {
    let newest_first = || sightings.iter().rev();
    newest_first().find(|known| known.is_same_network(here)).or_else(|| {
        let mut of_session = newest_first().filter(|known| known.is_same_session(here));
        let last = of_session.next()?;
        std::iter::once(last)
            .chain(of_session)
            .all(|known| known.is_other_family(here))
            .then_some(last)
    })
}

/// Stores `here` as the latest sighting of its network. Keeps the earlier country and coordinates if `here` has none.
pub fn remember(sightings: &mut Vec<Sighting>, mut here: Sighting) {
    let known = sightings.iter().find(|known| known.is_same_network(&here));
    here.country = here.country.or_else(|| known?.country.clone());
    here.spot = here.spot.or_else(|| known?.spot.clone());
    if here.spot.is_none() && (here.country.is_none() || here.network.is_none()) {
        return;
    }
    sightings.retain(|known| known.network != here.network);
    sightings.push(here);
    let excess = sightings.len().saturating_sub(MOST);
    sightings.drain(..excess);
}
