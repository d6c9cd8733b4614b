//! The client context of a create, at both edges of every limit: a value within is returned unchanged, a value beyond
//! is refused with the name of its field.

use sessiond::grpc::pb;
use sessiond::grpc::pb::device_context::Identity;

use crate::harness::creates::{UNPRINTABLE, assert_refused, create, kept, text};
use crate::harness::requests::NOBODY;
use crate::harness::start;

fn client(change: impl FnOnce(&mut pb::ClientContext)) -> pb::CreateSessionRequest {
    let mut client = pb::ClientContext::default();
    change(&mut client);
    create(|request| request.client = Some(client))
}

fn place(change: impl FnOnce(&mut pb::Location)) -> pb::CreateSessionRequest {
    let mut location = pb::Location::default();
    change(&mut location);
    client(|client| client.location = Some(location))
}

fn device(change: impl FnOnce(&mut pb::DeviceContext)) -> pb::CreateSessionRequest {
    let mut device = pb::DeviceContext::default();
    change(&mut device);
    client(|client| client.device = Some(device))
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_about_the_client_are_kept_up_to_their_limit() {
    let server = start().await;
    let session = kept(&server, client(|c| c.user_agent = text(1024))).await;
    assert_eq!(session.user_agent, text(1024));
    let request = place(|l| (l.region, l.city) = (text(128), text(128)));
    let place_kept = kept(&server, request).await.location.expect("a place");
    assert_eq!((place_kept.region, place_kept.city), (text(128), text(128)));
    let request =
        device(|d| (d.display_name, d.platform, d.app_version) = (text(128), text(64), text(64)));
    let device_kept = kept(&server, request).await.device.expect("a device");
    assert_eq!((device_kept.display_name, device_kept.platform), (text(128), text(64)));
    assert_eq!((device_kept.app_version, device_kept.os), (text(64), text(64)));

    let long = |length: usize| UNPRINTABLE.into_iter().map(str::to_owned).chain([text(length)]);
    for bad in long(1025) {
        assert_refused(&server, client(|c| c.user_agent = bad), "client.user_agent").await;
    }
    for bad in long(129) {
        let region = place(|l| l.region = bad.clone());
        assert_refused(&server, region, "client.location.region").await;
        assert_refused(&server, place(|l| l.city = bad.clone()), "client.location.city").await;
        assert_refused(&server, device(|d| d.display_name = bad), "client.device.display_name")
            .await;
    }
    for bad in long(65) {
        let platform = device(|d| d.platform = bad.clone());
        assert_refused(&server, platform, "client.device.platform").await;
        assert_refused(&server, device(|d| d.app_version = bad), "client.device.app_version").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_kept_in_one_form() {
    let server = start().await;
    let forms = [
        ("192.0.2.1", "192.0.2.1"),
        ("255.255.255.255", "255.255.255.255"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::FFFF:C000:0201", "192.0.2.1"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::", "::"),
        ("fe80::1", "fe80::1"),
        ("", ""),
    ];
    for (stated, kept_as) in forms {
        let session = kept(&server, client(|c| c.ip_address = stated.to_owned())).await;
        assert_eq!(session.ip_address, kept_as);
    }
    for bad in [
        "fe80::1%eth0",
        "fe80::1%1",
        "192.0.2.1:443",
        "[::1]",
        "192.0.2.0/24",
        "192.0.2.256",
        "192.0.2",
        "0192.0.2.1",
        "localhost",
        " 192.0.2.1",
        "192.0.2.1\0",
        ":::",
    ] {
        let request = client(|c| c.ip_address = bad.to_owned());
        assert_refused(&server, request, "client.ip_address").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_kept_exactly_and_lie_on_the_globe() {
    let server = start().await;
    let mut points = vec![(90.0, 180.0), (-90.0, -180.0), (0.0, 0.0), (f64::MIN_POSITIVE, -1e-300)];
    // Neighbouring floating-point numbers: coordinates must survive the database unchanged.
    let (mut north, mut east) = (52.520_008_f64, 13.404_954_f64);
    for _ in 0..200 {
        points.push((north, east));
        (north, east) = (north.next_up(), east.next_down());
    }
    for (latitude, longitude) in points {
        let request = place(|l| (l.latitude, l.longitude) = (Some(latitude), Some(longitude)));
        let location = kept(&server, request).await.location.expect("a place");
        assert_eq!((location.latitude, location.longitude), (Some(latitude), Some(longitude)));
    }
    for latitude in [90.0_f64.next_up(), -90.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let request = place(|l| (l.latitude, l.longitude) = (Some(latitude), Some(0.0)));
        assert_refused(&server, request, "client.location.latitude").await;
    }
    for longitude in [180.0_f64.next_up(), -180.1, f64::NAN, f64::INFINITY] {
        let request = place(|l| (l.latitude, l.longitude) = (Some(0.0), Some(longitude)));
        assert_refused(&server, request, "client.location.longitude").await;
    }
    let request = place(|l| l.latitude = Some(1.0));
    assert_refused(&server, request, "client.location.longitude").await;
    let request = place(|l| l.longitude = Some(1.0));
    assert_refused(&server, request, "client.location.latitude").await;

    let request = place(|l| (l.country_code, l.asn) = ("DE".to_owned(), Some(u32::MAX)));
    let location = kept(&server, request).await.location.expect("a place");
    assert_eq!((location.country_code.as_str(), location.asn), ("DE", Some(u32::MAX)));
    let numbers = |asn, accuracy_km| place(|l| (l.asn, l.accuracy_km) = (asn, accuracy_km));
    for (asn, km) in [(Some(1), Some(1)), (Some(7), Some(20_000)), (None, None)] {
        let location = kept(&server, numbers(asn, km)).await.location.unwrap_or_default();
        assert_eq!((location.asn, location.accuracy_km), (asn, km));
    }
    assert_refused(&server, numbers(Some(0), None), "client.location.asn").await;
    for bad in [0, 20_001] {
        let request = numbers(None, Some(bad));
        assert_refused(&server, request, "client.location.accuracy_km").await;
    }
    for bad in ["D", "DEU", "de", "D1", "ÜÜ", "\0\0"] {
        let request = place(|l| l.country_code = bad.to_owned());
        assert_refused(&server, request, "client.location.country_code").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_known_by_id_or_fingerprint_and_have_a_type() {
    let server = start().await;
    let by = |identity| device(|d| d.identity = Some(identity));
    let id = async |request| kept(&server, request).await.device.expect("a device").device_id;
    assert_eq!(id(by(Identity::DeviceId(NOBODY.to_owned()))).await, NOBODY);
    for bad in ["", "x", "00000000-0000-7000-8000-00000000000"] {
        let request = by(Identity::DeviceId(bad.to_owned()));
        assert_refused(&server, request, "client.device.device_id").await;
    }
    for length in [1, 256] {
        let request = || by(Identity::Fingerprint(text(length)));
        assert_eq!(id(request()).await, id(request()).await);
        let other = || pb::CreateSessionRequest { user_id: "bob".to_owned(), ..request() };
        assert_ne!(id(request()).await, id(other()).await);
    }
    let bad = [text(0), text(257)].into_iter().chain(UNPRINTABLE.map(str::to_owned));
    for bad in bad {
        let request = by(Identity::Fingerprint(bad));
        assert_refused(&server, request, "client.device.fingerprint").await;
    }
    assert_eq!(id(create(|_| {})).await, id(create(|_| {})).await);
    for number in 0..=8 {
        let session = kept(&server, device(|d| d.r#type = number)).await;
        assert_eq!(session.device.expect("a device").r#type, number);
    }
    for number in [9, -1, i32::MAX, i32::MIN] {
        assert_refused(&server, device(|d| d.r#type = number), "client.device.type").await;
    }
}
