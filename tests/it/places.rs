//! Contradicting geolocations of users who did not move: no finding, and no session ends.

use std::path::Path;

use chrono::Duration;
use sessiond::grpc::pb;
use sessiond::model::detection::{Action, DetectionSettings, Mode, rule::Rule};
use sessiond::session::location::Locator;

use crate::detect::{alerts, settled};
use crate::harness::calls::{new_session, parts};
use crate::harness::{TestServer, audit, start_with, wait};

const BERLIN: (f64, f64) = (52.52, 13.405);
const VIENNA: (f64, f64) = (48.2082, 16.3738);
const MADRID: (f64, f64) = (40.4168, -3.7038);
const V4: &str = "198.51.100.7";
const V6: &str = "2001:db8:7::1";
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0";

/// A server whose rules about geolocation end sessions.
async fn strict(locator: Locator) -> TestServer {
    start_with(|settings| {
        settings.detection = DetectionSettings::off();
        settings.locator = locator;
        for rule in [
            Rule::ImpossibleTravel,
            Rule::NewCountry,
            Rule::SimultaneousCountries,
            Rule::SessionHijack,
        ] {
            settings.detection[rule].mode = Mode::Enforce;
            settings.detection[rule].action = Action::Terminate;
        }
        settings.detection.learning_period = Duration::zero();
    })
    .await
}

fn at(country: &str, city: &str, (latitude, longitude): (f64, f64)) -> Option<pb::Location> {
    Some(pb::Location {
        country_code: country.to_owned(),
        city: city.to_owned(),
        latitude: Some(latitude),
        longitude: Some(longitude),
        ..Default::default()
    })
}

fn client(ip: &str, location: Option<pb::Location>) -> Option<pb::ClientContext> {
    let (ip_address, user_agent) = (ip.to_owned(), AGENT.to_owned());
    Some(pb::ClientContext { ip_address, user_agent, location, ..Default::default() })
}

/// Creates a session of ada: its id and refresh token.
async fn create(server: &TestServer, ip: &str, place: Option<pb::Location>) -> (String, String) {
    let request = pb::CreateSessionRequest { client: client(ip, place), ..new_session("ada") };
    let (id, _, token) = parts(&server.try_create(request).await.expect("a session"));
    server.advance(Duration::seconds(10));
    (id, token)
}

/// Refreshes; returns the next refresh token.
async fn refresh(
    server: &TestServer,
    refresh_token: String,
    ip: &str,
    place: Option<pb::Location>,
) -> String {
    let request = pb::RefreshSessionRequest { refresh_token, client: client(ip, place) };
    let answer = server.sessions().refresh_session(request).await.expect("a refresh");
    server.advance(Duration::seconds(10));
    answer.into_inner().tokens.expect("tokens").refresh_token
}

/// Reports that the session was used.
async fn report(server: &TestServer, session: &str, ip: &str, place: Option<pb::Location>) {
    let activity = pb::ReportedActivity {
        kind: pb::ActivityKind::ApiRequest.into(),
        user_id: "ada".to_owned(),
        session_id: session.to_owned(),
        client: client(ip, place),
        success: Some(true),
        ..Default::default()
    };
    let request = pb::RecordActivitiesRequest { activities: vec![activity], ..Default::default() };
    server.sessions().record_activities(request).await.expect("a report");
    server.advance(Duration::seconds(10));
}

/// The rules with a finding about ada, suppressed or not, newest first.
async fn found(server: &TestServer) -> Vec<String> {
    settled(server).await;
    alerts(server, "ada").await.into_iter().map(|alert| alert.rule_id).collect()
}

/// Asserts that nothing was found, and that every session is active.
async fn assert_silent(server: &TestServer) {
    assert_eq!(found(server).await, [] as [&str; 0]);
    assert!(server.list("ada").await.iter().all(|session| session.end_time.is_none()));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_is_in_one_place_whatever_is_stated() {
    let server = strict(Locator::default()).await;
    let (id, token) = create(&server, V4, at("DE", "Berlin", BERLIN)).await;
    create(&server, V4, at("ES", "Madrid", MADRID)).await;
    create(&server, V4, at("AT", "Vienna", VIENNA)).await;
    let token = refresh(&server, token, V4, at("ES", "Madrid", MADRID)).await;
    report(&server, &id, V4, at("AT", "Vienna", VIENNA)).await;
    // Another address, for which one of the geolocations is right.
    create(&server, "203.0.113.5", at("DE", "Berlin", BERLIN)).await;
    refresh(&server, token, V4, at("AT", "Vienna", VIENNA)).await;
    // In IPv6 that is the network of one customer.
    for (last, country, place) in [("1", "DE", BERLIN), ("ffff", "ES", MADRID)] {
        let request = pb::CreateSessionRequest {
            client: client(&format!("2001:db8:9::{last}"), at(country, "there", place)),
            ..new_session("bob")
        };
        server.try_create(request).await.expect("a session");
        server.advance(Duration::seconds(10));
    }
    assert_silent(&server).await;
    assert_eq!(alerts(&server, "bob").await, []);
    create(&server, "192.0.2.99", at("JP", "Tokyo", (35.68, 139.69))).await;
    let mut rules = found(&server).await;
    rules.sort();
    assert_eq!(rules, ["impossible_travel", "new_country"], "who really is elsewhere is found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_by_both_families_from_one_place() {
    let server = strict(Locator::default()).await;
    let (id, mut token) = create(&server, V4, at("AT", "Vienna", VIENNA)).await;
    for _ in 0..2 {
        token = refresh(&server, token, V6, at("DE", "Berlin", BERLIN)).await;
        report(&server, &id, V4, at("AT", "Vienna", VIENNA)).await;
        token = refresh(&server, token, V4, at("AT", "Vienna", VIENNA)).await;
        report(&server, &id, V6, at("DE", "Berlin", BERLIN)).await;
    }
    // Other sessions of the same host, and one by mobile network nearby.
    create(&server, V6, at("DE", "Berlin", BERLIN)).await;
    create(&server, V4, at("AT", "Vienna", VIENNA)).await;
    create(&server, "203.0.113.5", at("AT", "Vienna", VIENNA)).await;
    refresh(&server, token, V6, at("DE", "Berlin", BERLIN)).await;
    assert_silent(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_on_far_away_in_the_same_family_is_found() {
    let server = strict(Locator::default()).await;
    let (id, token) = create(&server, V4, at("AT", "Vienna", VIENNA)).await;
    let token = refresh(&server, token, V6, at("DE", "Berlin", BERLIN)).await;
    refresh(&server, token, "203.0.113.5", at("JP", "Tokyo", (35.68, 139.69))).await;
    assert_eq!(found(&server).await, ["impossible_travel"]);
    let ended = server.get(&id).await.expect("a session");
    assert_eq!(ended.end_reason(), pb::EndReason::SuspiciousActivity);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_distance_within_the_accuracy_is_no_travel() {
    let server = strict(Locator::default()).await;
    let within = |km, place| {
        let place: Option<pb::Location> = place;
        place.map(|place| pb::Location { accuracy_km: Some(km), ..place })
    };
    create(&server, "192.0.2.1", within(5, at("DE", "Berlin", BERLIN))).await;
    create(&server, "192.0.2.20", within(1000, at("DE", "", (47.5, 9.7)))).await;
    create(&server, "192.0.2.30", at("DE", "", (0.0, 0.0))).await;
    create(&server, "192.0.2.40", within(5, at("DE", "Berlin", BERLIN))).await;
    // One geolocation is the center of the country, without a city.
    create(&server, "192.0.2.50", at("DE", "", (47.5, 9.7))).await;
    create(&server, "192.0.2.60", at("DE", "Berlin", BERLIN)).await;
    assert_silent(&server).await;
    create(&server, "192.0.2.70", within(100, at("DE", "Munich", (48.1372, 11.5755)))).await;
    assert_eq!(found(&server).await, ["impossible_travel"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_file_of_places_and_a_country_alone_move_nobody() {
    let dir = tempfile::tempdir().expect("a directory");
    let (place, next) = (dir.path().join("city.mmdb"), dir.path().join("next"));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/geoip/GeoIP2-City-Test.mmdb");
    let whole = std::fs::read(Path::new(source)).expect("the file");
    let (old, new) = (58.4167_f64.to_be_bytes(), 38.4167_f64.to_be_bytes());
    let found_at: Vec<usize> =
        (0..whole.len() - 8).filter(|at| whole[*at..*at + 8] == old).collect();
    assert!(!found_at.is_empty(), "the latitude stands in the file");
    let mut moved = whole.clone();
    for at in found_at {
        moved[at..at + 8].copy_from_slice(&new);
    }
    std::fs::write(&place, &whole).expect("a file");
    let locator = Locator::open(Some(place.clone()), None).expect("a sound file");
    let server = strict(locator.clone()).await;
    let (id, token) = create(&server, "89.160.20.128", None).await;
    std::fs::write(&next, &moved).expect("a file");
    std::fs::rename(&next, &place).expect("the usual way of updating");
    let ip = "89.160.20.128".parse().expect("an address");
    let latitude = || locator.locate(ip).and_then(|place| place.coordinates).map(|point| point.0);
    wait::until(async || latitude() == Some(38.4167)).await;
    create(&server, "89.160.20.128", None).await;
    refresh(&server, token, "89.160.20.128", None).await;
    report(&server, &id, "89.160.20.128", None).await;
    // For this address the file has the country and its center.
    let lone = create(&server, "2001:220::1", None).await.0;
    let lone = server.get(&lone).await.expect("a session").location.expect("a place");
    assert_eq!((&*lone.country_code, lone.latitude, lone.accuracy_km), ("KR", None, None));
    assert_eq!(found(&server).await, ["new_country"], "where nobody was before");
}
