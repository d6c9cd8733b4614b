//! Activities for the tests of rules.

use chrono::{DateTime, Duration};
use uuid::Uuid;

use crate::clock::Time;
use crate::model::activity::{Activity, ActivityKind};
use crate::model::device::Location;
use crate::model::ids::{TenantId, UserId};

/// So many minutes after some moment.
pub fn at(minutes: f64) -> Time {
    let start = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    start + Duration::milliseconds((minutes * 60_000.0) as i64)
}

/// An activity of a user.
pub fn activity(kind: ActivityKind, at: Time) -> Activity {
    let (tenant, user) = (TenantId::parse("t").expect("a name"), UserId::parse("ada").ok());
    Activity::new(Uuid::nil(), at, kind, "test", &tenant, user.as_ref())
}

/// The same in a country, at these coordinates.
pub fn placed(activity: Activity, country: &str, coordinates: Option<(f64, f64)>) -> Activity {
    let country_code = Some(country.to_owned());
    Activity {
        location: Some(Location { country_code, coordinates, ..Location::default() }),
        ..activity
    }
}

/// The same from an address.
pub fn from(activity: Activity, ip: &str) -> Activity {
    Activity { ip: Some(ip.parse().expect("an address")), ..activity }
}
