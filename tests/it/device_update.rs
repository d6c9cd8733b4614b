//! UpdateDevice: the fields it sets, where they show, and calls that change nothing.

use chrono::Duration;
use sessiond::grpc::pb;
use tonic::Code;

use crate::harness::calls::{parts, reason, violations};
use crate::harness::creates::{UNPRINTABLE, text};
use crate::harness::devices::{mask, on, set_device, update};
use crate::harness::requests::NOBODY;
use crate::harness::{TestServer, audit, start};

const UPDATED: i16 = 9;

fn named(user: &str, device: &str, name: &str) -> pb::UserDevice {
    pb::UserDevice { display_name: name.to_owned(), ..update(user, device) }
}

/// The name and type of the device in a session as read.
async fn shown(server: &TestServer, session: &str) -> (String, pb::DeviceType) {
    let device = server.get(session).await.expect("a session").device.expect("a device");
    (device.display_name.clone(), device.r#type())
}

#[tokio::test(flavor = "multi_thread")]
async fn name_and_type_show_on_the_device_and_in_its_live_sessions_only() {
    let server = start().await;
    let mut request = on("ada", "print", "192.0.2.1");
    let device = request.client.as_mut().and_then(|client| client.device.as_mut());
    device.expect("a device").display_name = "Pixel".to_owned();
    let (ended, _) = server.create_on(request.clone()).await;
    server.terminate(&parts(&ended).0).await.expect("ok");
    let (first, id) = server.create_on(request.clone()).await;
    let (second, _) = server.create_on(request).await;
    let (elsewhere, _) = server.create_on(on("ada", "other", "192.0.2.1")).await;
    let (of_bob, _) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    let before = server.device("ada", &id).await;

    let request = set_device(pb::UserDevice {
        r#type: pb::DeviceType::Tablet.into(),
        trusted: Some(true),
        ..named("ada", &id, "Kitchen")
    });
    let updated = server.update_device(request.clone()).await.expect("a device");
    let expected = pb::UserDevice {
        display_name: "Kitchen".to_owned(),
        r#type: pb::DeviceType::Tablet.into(),
        trusted: Some(true),
        etag: updated.etag.clone(),
        ..before.clone()
    };
    assert_eq!(updated, expected);
    assert_ne!(updated.etag, before.etag);
    assert_eq!(server.device("ada", &id).await, updated);
    for session in [&first, &second] {
        let shown = shown(&server, &parts(session).0).await;
        assert_eq!(shown, ("Kitchen".to_owned(), pb::DeviceType::Tablet));
    }
    for (session, name) in [(&ended, "Pixel"), (&elsewhere, ""), (&of_bob, "")] {
        let shown = shown(&server, &parts(session).0).await;
        assert_eq!(shown, (name.to_owned(), pb::DeviceType::Unspecified));
    }
    assert_eq!(server.activities(UPDATED).await, 1);

    // The same update again changes nothing.
    assert_eq!(server.update_device(request).await.expect("a device"), updated);
    assert_eq!(server.activities(UPDATED).await, 1);

    let back = pb::UpdateDeviceRequest {
        update_mask: mask(["display_name", "type", "trusted"]),
        ..set_device(update("ada", &id))
    };
    let cleared = server.update_device(back).await.expect("a device");
    assert_eq!(cleared, pb::UserDevice { etag: cleared.etag.clone(), ..before });
    let shown = shown(&server, &parts(&first).0).await;
    assert_eq!(shown, ("Pixel".to_owned(), pb::DeviceType::Unspecified));
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_survives_creates_refreshes_and_ends() {
    let server = start().await;
    let (first, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let request = set_device(pb::UserDevice {
        trusted: Some(true),
        r#type: pb::DeviceType::Tv.into(),
        ..named("ada", &id, "Kitchen")
    });
    let set = server.update_device(request).await.expect("a device");
    server.advance(Duration::seconds(1));
    let mut again = on("ada", "print", "192.0.2.2");
    let device = again.client.as_mut().and_then(|client| client.device.as_mut());
    let device = device.expect("a device");
    (device.display_name, device.r#type) = ("Pixel".to_owned(), pb::DeviceType::Mobile.into());
    server.create_on(again).await;
    server.refresh(&parts(&first).2).await.expect("a successor");
    server.terminate(&parts(&first).0).await.expect("ok");

    let now = server.device("ada", &id).await;
    assert_eq!((&*now.display_name, now.trusted()), ("Kitchen", true));
    assert_eq!((now.r#type(), now.etag.as_str()), (pb::DeviceType::Tv, set.etag.as_str()));
    assert_eq!(now.last_seen_ip_address, "192.0.2.2");
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mask_says_what_is_set_and_without_one_what_is_populated() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let all = set_device(pb::UserDevice {
        trusted: Some(true),
        r#type: pb::DeviceType::Tv.into(),
        ..named("ada", &id, "Kitchen")
    });
    let request = pb::UpdateDeviceRequest { update_mask: mask(["trusted"]), ..all.clone() };
    let device = server.update_device(request).await.expect("a device");
    assert_eq!((&*device.display_name, device.trusted()), ("", true));
    assert_eq!(device.r#type(), pb::DeviceType::Unspecified);
    let request =
        set_device(pb::UserDevice { trusted: Some(false), ..named("ada", &id, "Kitchen") });
    let device = server.update_device(request).await.expect("a device");
    assert_eq!((&*device.display_name, device.trusted()), ("Kitchen", false));

    for wrong in [mask(["display_name", "etag"]), mask(["*"]), mask([""]), mask(["displayName"])] {
        let request = pb::UpdateDeviceRequest { update_mask: wrong, ..all.clone() };
        let refusal = server.update_device(request).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["update_mask"]);
    }
    for empty in [None, mask([])] {
        let request =
            pb::UpdateDeviceRequest { update_mask: empty, ..set_device(update("ada", &id)) };
        let refusal = server.update_device(request).await.expect_err("nothing to set");
        assert_eq!(violations(&refusal), ["update_mask"]);
    }
    assert_eq!(server.activities(UPDATED).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_display_name_has_128_characters_at_most_and_all_violations_are_told() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    for length in [1, 128] {
        let device = server.update_device(set_device(named("ada", &id, &text(length)))).await;
        assert_eq!(device.expect("a device").display_name, text(length));
    }
    for bad in [text(129)].into_iter().chain(UNPRINTABLE.map(str::to_owned)) {
        let refusal =
            server.update_device(set_device(named("ada", &id, &bad))).await.expect_err("a refusal");
        assert_eq!(violations(&refusal), ["device.display_name"]);
    }
    let request = pb::UpdateDeviceRequest {
        request_id: "x".to_owned(),
        update_mask: mask(["x"]),
        ..set_device(pb::UserDevice {
            tenant_id: "a b".to_owned(),
            r#type: 9,
            ..named("", "x", &text(129))
        })
    };
    let refusal = server.update_device(request).await.expect_err("a refusal");
    let fields = ["tenant_id", "user_id", "device_id", "display_name", "type"]
        .map(|f| format!("device.{f}"));
    let fields = [&["request_id".to_owned()], &fields[..], &["update_mask".to_owned()]].concat();
    assert_eq!(violations(&refusal), fields);
    let bare = pb::UpdateDeviceRequest { update_mask: mask(["x"]), ..Default::default() };
    let refusal = server.update_device(bare).await.expect_err("a refusal");
    assert_eq!(violations(&refusal), ["update_mask", "device"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_editors_the_second_is_told_to_read_again() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let etag = server.device("ada", &id).await.etag;
    let with = |name: &str, etag: &str| {
        set_device(pb::UserDevice { etag: etag.to_owned(), ..named("ada", &id, name) })
    };
    let (one, two) = tokio::join!(
        server.update_device(with("a", &etag)),
        server.update_device(with("b", &etag))
    );
    let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
    let (won, lost) = (won.expect("one of them"), lost.expect_err("the other"));
    assert_eq!((lost.code(), reason(&lost).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    assert_eq!(server.device("ada", &id).await, won);
    let next = server.update_device(with("c", &won.etag)).await.expect("it is the current one");
    assert_eq!(next.display_name, "c");
    assert_eq!(server.activities(UPDATED).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_update_sets_nothing_again() {
    let server = start().await;
    let (_, id) = server.create_on(on("ada", "print", "192.0.2.1")).await;
    let request = pb::UpdateDeviceRequest {
        request_id: NOBODY.to_owned(),
        ..set_device(named("ada", &id, "Kitchen"))
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut client, request) = (server.sessions(), request.clone());
        calls.spawn(async move { client.update_device(request).await.expect("ok").into_inner() });
    }
    for answer in calls.join_all().await {
        assert_eq!(answer.device.expect("a device").display_name, "Kitchen");
    }
    let renamed =
        server.update_device(set_device(named("ada", &id, "Hall"))).await.expect("a device");
    let again = server.update_device(request.clone()).await.expect("the present state");
    assert_eq!(again, renamed, "a late retry turns nothing back");
    let other = pb::UserDevice { trusted: Some(true), ..named("ada", &id, "Kitchen") };
    let other = pb::UpdateDeviceRequest { device: Some(other), ..request };
    let refusal = server.update_device(other).await.expect_err("another body");
    assert_eq!(
        (refusal.code(), reason(&refusal).as_str()),
        (Code::AlreadyExists, "REQUEST_ID_REUSED")
    );
    assert_eq!(server.activities(UPDATED).await, 2);
    audit::check(&server.db).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_device_cannot_be_updated() {
    let server = start().await;
    let (_, id) = server.create_on(on("bob", "print", "192.0.2.1")).await;
    let tenant_id = "acme".to_owned();
    let foreign = pb::UserDevice { tenant_id, ..named("bob", &id, "mine") };
    for device in [named("ada", &id, "mine"), named("bob", NOBODY, "mine"), foreign] {
        let refusal = server.update_device(set_device(device)).await.expect_err("a refusal");
        assert_eq!(
            (refusal.code(), reason(&refusal).as_str()),
            (Code::NotFound, "DEVICE_NOT_FOUND")
        );
    }
    assert_eq!(server.device("bob", &id).await.display_name, "");
}
