//! The geolocation of an address: the caller's, else that of the geolocation files.

use std::path::{Path, PathBuf};

use sessiond::grpc::pb;
use sessiond::session::location::Locator;

use crate::harness::creates::{create, kept};
use crate::harness::{TestServer, audit, start_with, wait};

const LINKOPING: &str = "89.160.20.128";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/geoip").join(name)
}

/// A server with geolocation files and a file of autonomous systems.
async fn located() -> TestServer {
    let (places, networks) = (file("GeoIP2-City-Test.mmdb"), file("GeoLite2-ASN-Test.mmdb"));
    let locator = Locator::open(Some(places), Some(networks)).expect("sound files");
    start_with(|settings| settings.locator = locator).await
}

fn client(ip: &str, location: Option<pb::Location>) -> pb::ClientContext {
    pb::ClientContext { ip_address: ip.to_owned(), location, ..Default::default() }
}

async fn created(server: &TestServer, ip: &str, place: Option<pb::Location>) -> pb::Session {
    kept(server, create(|request| request.client = Some(client(ip, place)))).await
}

fn city(session: &pb::Session) -> Option<&str> {
    session.location.as_ref().map(|place| place.city.as_str())
}

fn stated(city: &str) -> Option<pb::Location> {
    Some(pb::Location { city: city.to_owned(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_alone_gets_its_place() {
    let server = located().await;
    let place = created(&server, LINKOPING, None).await.location.expect("a place");
    let linkoping = pb::Location {
        country_code: "SE".to_owned(),
        region: "Östergötland County".to_owned(),
        city: "Linköping".to_owned(),
        latitude: Some(58.4167),
        longitude: Some(15.6167),
        asn: Some(29518),
        accuracy_km: Some(76),
    };
    assert_eq!(place, linkoping);
    let mapped = created(&server, "::ffff:89.160.20.128", None).await;
    assert_eq!((&*mapped.ip_address, mapped.location), (LINKOPING, Some(linkoping.clone())));
    let empty = created(&server, LINKOPING, Some(pb::Location::default())).await;
    assert_eq!(empty.location, Some(linkoping), "an empty one counts as unset");
    let v6 = created(&server, "2001:480:10::7", None).await;
    assert_eq!(city(&v6), Some("San Diego"));
    for unknown in ["10.0.0.1", "192.0.2.1", "fe80::1", ""] {
        assert_eq!(created(&server, unknown, None).await.location, None, "{unknown}");
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stated_place_stands_whole() {
    let server = located().await;
    let graz = created(&server, LINKOPING, stated("Graz")).await;
    assert_eq!(graz.location, stated("Graz"), "nothing of the file is mixed in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_from_another_address_is_at_the_place_of_that_address() {
    let server = located().await;
    let request = create(|request| request.client = Some(client(LINKOPING, stated("Graz"))));
    let mut tokens = server.try_create(request).await.expect("a session").tokens;
    for (said, expected) in [
        // The same address: the geolocation that was stated first still holds.
        (client(LINKOPING, None), Some("Graz")),
        (client("216.160.83.56", None), Some("Milton")),
        (client("", None), Some("Milton")),
        (client("10.0.0.1", None), None),
        (client("10.0.0.1", stated("the office")), Some("the office")),
        (client("2001:480:10::7", None), Some("San Diego")),
    ] {
        let refresh_token = tokens.take().expect("tokens").refresh_token;
        let request = pb::RefreshSessionRequest { refresh_token, client: Some(said.clone()) };
        let answer = server.sessions().refresh_session(request).await.expect("ok").into_inner();
        assert_eq!(city(answer.session.as_ref().expect("a session")), expected, "{said:?}");
        tokens = answer.tokens;
    }
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_reads_a_replaced_file_and_keeps_the_old_over_a_damaged_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (place, next) = (dir.path().join("city.mmdb"), dir.path().join("next"));
    let whole = std::fs::read(file("GeoIP2-City-Test.mmdb")).expect("the file");
    let mut renamed = whole.clone();
    for at in 0..renamed.len() {
        if renamed[at..].starts_with("Linköping".as_bytes()) {
            renamed[at] = b'W';
        }
    }
    std::fs::write(&place, &whole).expect("a file");
    let locator = Locator::open(Some(place.clone()), None).expect("a sound file");
    let server = start_with(|settings| settings.locator = locator).await;
    assert_eq!(city(&created(&server, LINKOPING, None).await), Some("Linköping"));

    // Overwritten in place, and truncated: nothing may crash, and the old file stays in use.
    std::fs::write(&place, &whole[..whole.len() / 3]).expect("a file");
    assert_eq!(city(&created(&server, LINKOPING, None).await), Some("Linköping"));
    std::fs::write(&next, &renamed).expect("a file");
    std::fs::rename(&next, &place).expect("the usual way of updating");
    wait::until(async || city(&created(&server, LINKOPING, None).await) == Some("Winköping")).await;
}
