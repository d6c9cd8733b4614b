//! A user is in two places that nobody can reach in the time between.

use super::finding;
use crate::detection::Finding;
use crate::detection::memory::UserMemory;
use crate::detection::sightings::{self, Point, Sighting, Spot};
use crate::model::activity::{Activity, ActivityKind};
use crate::model::detection::rule::Rule;
use crate::model::detection::{DetectionSettings, RuleSettings};
use crate::model::evidence::{GeoPoint, Travel, TypedEvidence};

/// Mean radius of the Earth in km (IUGG).
const EARTH: f64 = 6371.0088;

/// Compares the place where a session begins, goes on or is used with the one before. Unknown places are skipped, and
/// so is what is said of a place where the user already was. A country alone may be meant by its middle, so that is
/// compared with its like only.
pub fn look(
    activity: &Activity,
    settings: &DetectionSettings,
    user: &mut UserMemory,
) -> Option<Finding> {
    let is_seen = matches!(
        activity.kind,
        ActivityKind::Created
            | ActivityKind::Refreshed
            | ActivityKind::Reauthenticated
            | ActivityKind::ContextChanged
    );
    if !is_seen {
        return None;
    }
    let mut here = Sighting::of(activity, user);
    if let Some(GeoPoint { at, coordinates }) = user.place.take() {
        user.sightings.insert(0, Sighting::before(at, coordinates));
    }
    let known = sightings::same_place(&user.sightings, &here);
    if let (Some(spot), Some(known)) = (&mut here.spot, known.and_then(|known| known.spot.as_ref()))
    {
        spot.join(known);
    }
    let found = compare(activity, settings[Rule::ImpossibleTravel], &user.sightings, &here);
    sightings::remember(&mut user.sightings, here);
    found
}

/// Compares `here` with the place before, unless they are one.
fn compare(
    activity: &Activity,
    rule: RuleSettings,
    sightings: &[Sighting],
    here: &Sighting,
) -> Option<Finding> {
    let to = here.spot.as_ref()?;
    let places = sightings.iter().rev().filter_map(|known| Some((known, known.spot.as_ref()?)));
    let (before, from) = places
        .filter(|(known, _)| !known.is_sibling(here))
        .find(|(_, spot)| spot.is_exact == to.is_exact)?;
    if before.is_same_network(here) {
        return None;
    }
    let (distance, from_point, to_point) = nearest(from, to)?;
    // Both positions may be inaccurate towards each other.
    let off = |spot: &Spot| f64::from(rule.accuracy.max(spot.accuracy_km.unwrap_or(0)));
    let certain_distance = distance - off(from) - off(to);
    let (from, to) = (
        GeoPoint { at: before.at, coordinates: from_point },
        GeoPoint { at: here.at, coordinates: to_point },
    );
    let hours = (to.at - from.at).as_seconds_f64().abs() / 3600.0;
    // At the same moment any distance is too far; a second keeps the speed a number.
    let speed = certain_distance / hours.max(1.0 / 3600.0);
    let is_impossible =
        certain_distance > f64::from(rule.distance) && speed > f64::from(rule.speed);
    is_impossible.then(|| {
        let text =
            format!("{certain_distance:.0} km in {hours:.2} hours, which is {speed:.0} km/h.");
        let point =
            |place: &GeoPoint| format!("{:.4},{:.4}", place.coordinates.0, place.coordinates.1);
        let values = [
            ("from", point(&from)),
            ("from_time", from.at.to_rfc3339()),
            ("to", point(&to)),
            ("to_time", to.at.to_rfc3339()),
            ("distance_km", format!("{certain_distance:.0}")),
            ("speed_kmh", format!("{speed:.0}")),
            ("threshold_kmh", rule.speed.to_string()),
        ];
        let evidence = TypedEvidence::ImpossibleTravel(Travel {
            from,
            to,
            distance,
            certain_distance,
            speed,
            speed_threshold: rule.speed,
            distance_threshold: rule.distance,
        });
        finding(activity, Rule::ImpossibleTravel, text, evidence, &values)
    })
}

/// The least distance between the stated points of two places, and these points.
fn nearest(from: &Spot, to: &Spot) -> Option<(f64, Point, Point)> {
    let pairs = from.all().flat_map(|one| to.all().map(move |other| (one, other)));
    pairs
        .map(|(one, other)| (kilometres(one, other), one, other))
        .min_by(|one, other| one.0.total_cmp(&other.0))
}

/// The distance over the ground, by the haversine formula (Sinnott, Sky and Telescope 68, 1984).
fn kilometres(from: (f64, f64), to: (f64, f64)) -> f64 {
    let (latitude, other) = (from.0.to_radians(), to.0.to_radians());
    let half = |angle: f64| (angle.to_radians() / 2.0).sin().powi(2);
    let chord = half(to.0 - from.0) + latitude.cos() * other.cos() * half(to.1 - from.1);
    2.0 * EARTH * chord.clamp(0.0, 1.0).sqrt().asin()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detection::samples::{activity, at, placed};

    const BERLIN: (f64, f64) = (52.52, 13.405);
    const PARIS: (f64, f64) = (48.8566, 2.3522);
    const POTSDAM: (f64, f64) = (52.3906, 13.0645);

    fn seen(user: &mut UserMemory, place: (f64, f64), minute: f64) -> Option<Finding> {
        let activity = placed(activity(ActivityKind::Created, at(minute)), "XX", Some(place));
        look(&activity, &DetectionSettings::default(), user)
    }

    #[test]
    fn the_distance_is_that_of_the_map() {
        assert!((kilometres(BERLIN, PARIS) - 878.0).abs() < 3.0);
        assert!(kilometres((0.0, 179.9), (0.0, -179.9)) < 23.0);
    }

    #[test]
    fn an_hour_from_berlin_to_paris_passes_and_half_of_it_does_not() {
        let mut user = UserMemory::default();
        assert!(seen(&mut user, BERLIN, 0.0).is_none());
        assert!(seen(&mut user, PARIS, 60.0).is_none());
        let found = seen(&mut user, BERLIN, 90.0).expect("a finding");
        assert_eq!(found.evidence.values["distance_km"], "777");
    }

    #[test]
    fn a_near_place_is_no_travel_and_an_unknown_one_is_skipped() {
        let mut user = UserMemory::default();
        seen(&mut user, BERLIN, 0.0);
        assert!(seen(&mut user, POTSDAM, 0.0).is_none());
        let nowhere = activity(ActivityKind::Created, at(1.0));
        assert!(look(&nowhere, &DetectionSettings::default(), &mut user).is_none());
        assert!(seen(&mut user, PARIS, 2.0).is_some());
    }
    #[test]
    fn a_stolen_access_token_travels_too_and_a_failed_login_does_not() {
        for (kind, expected) in
            [(ActivityKind::ContextChanged, true), (ActivityKind::LoginFailed, false)]
        {
            let mut user = UserMemory::default();
            seen(&mut user, BERLIN, 0.0);
            let elsewhere = placed(activity(kind, at(10.0)), "XX", Some(PARIS));
            let found = look(&elsewhere, &DetectionSettings::default(), &mut user);
            assert_eq!(found.is_some(), expected, "{kind:?}");
        }
    }
}
