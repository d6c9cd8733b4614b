//! Where a user was seen, by network: what tells a movement from another word on the same place.
//!
//! Locations of addresses are guesses, and callers may state others. So one address is in one place, whatever is
//! said of it, and so are the IPv4 and the IPv6 address of one session.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::memory::{UserMemory, network};
use crate::clock::Time;
use crate::model::activity::Activity;
use crate::model::device::Location;

/// The most networks in the memory of a user.
const MOST: usize = 12;
/// The most other places of one network.
const MAX_PLACES: usize = 4;
/// Nearer to 0,0 than this, in degrees, is what files and callers write for "unknown".
const NOWHERE: f64 = 0.01;

/// The last activity of a user in a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    pub at: Time,
    /// `None` = from no known address.
    #[serde(default)]
    pub network: Option<IpNet>,
    #[serde(default)]
    pub session: Option<Uuid>,
    /// The first that was said of the place.
    #[serde(default)]
    pub country: Option<String>,
    #[serde(default)]
    pub spot: Option<Spot>,
}

/// Latitude and longitude, in degrees.
pub type Point = (f64, f64);

/// A point that was said of a place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spot {
    pub coordinates: Point,
    /// How far off they may be in km, where that was said.
    pub accuracy_km: Option<u32>,
    /// More than the country is known, so it is not the middle of one.
    pub is_exact: bool,
    /// Other coordinates that were said of the same place.
    #[serde(default)]
    pub others: Vec<Point>,
}

impl Sighting {
    /// What an activity says of where its user is; its country as known from before.
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

    /// As an older release remembered it.
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

    /// In one network; without an address nothing is known of that.
    pub fn is_same_network(&self, other: &Sighting) -> bool {
        self.network.is_some() && self.network == other.network
    }

    /// By IPv4 the one and by IPv6 the other.
    fn is_other_family(&self, other: &Sighting) -> bool {
        let families = self.is_ipv4().zip(other.is_ipv4());
        families.is_some_and(|(one, other)| one != other)
    }

    /// Of one session, by IPv4 the one and by IPv6 the other: a host uses both from one place.
    pub fn is_sibling(&self, other: &Sighting) -> bool {
        self.is_same_session(other) && self.is_other_family(other)
    }
}

impl Spot {
    /// `None` for no coordinates, and for 0,0, which is no place.
    fn of(place: &Location) -> Option<Spot> {
        let coordinates = place.coordinates?;
        if coordinates.0.abs() < NOWHERE && coordinates.1.abs() < NOWHERE {
            return None;
        }
        let accuracy_km = place.accuracy_km;
        let is_exact = accuracy_km.is_some() || place.city.is_some() || place.region.is_some();
        Some(Spot { coordinates, accuracy_km, is_exact, others: Vec::new() })
    }

    /// All coordinates that were said of the place.
    pub fn all(&self) -> impl Iterator<Item = Point> {
        std::iter::once(self.coordinates).chain(self.others.iter().copied())
    }

    /// It may be where the other is as well.
    pub fn join(&mut self, other: &Spot) {
        for place in other.all() {
            if !self.all().any(|known| known == place) {
                self.others.push(place);
            }
        }
        self.others.truncate(MAX_PLACES);
    }
}

/// The country of an activity: what was first said of its place, else what the activity says.
pub fn country(activity: &Activity, user: &UserMemory) -> Option<String> {
    let stated = activity.location.as_ref()?.country_code.as_ref()?;
    let here = Sighting::bare(activity);
    let known = same_place(&user.sightings, &here).and_then(|known| known.country.as_ref());
    Some(known.unwrap_or(stated).clone())
}

/// The last sighting of the place where `here` is: of its network; else of its session, if that was seen by the other
/// family alone.
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

/// Stores `here` as the latest sighting of its network. Values that are unknown now stay.
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
